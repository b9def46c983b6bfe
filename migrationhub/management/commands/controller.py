"""`manage.py controller`: the one loop beside web and qcluster."""

from __future__ import annotations

import signal
from typing import Any

from django.core.management.base import BaseCommand

from migrationhub.controller import Controller


class Command(BaseCommand):
    help = "Run the controller: starts what is due, watches what runs, advances steps. Stops cleanly on SIGTERM."

    def handle(self, *args: Any, **options: Any) -> None:
        controller = Controller()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: controller.stopping.set())
        controller.run()
