"""`manage.py bench`: how long our syncs take beside plain rsync."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from migrationhub.lab.bench import report
from migrationhub.lab.bench.run import bench
from migrationhub.lab.state import Lab
from migrationhub.lib.findings import Problem


class Command(BaseCommand):
    help = (
        "Measure our rsync mover against plain rsync -aHAX --numeric-ids --delete over the same SSH: nothing changed, "
        "some changes, initial copy, and a final sync against rsync with a dry run by checksum after it; interleaved, "
        "medians of all rounds, in seconds."
    )
    requires_system_checks: list[str] = []  # it needs no database

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--files", type=int, default=300_000)
        parser.add_argument("--rounds", type=int, default=5)
        parser.add_argument("--out", type=Path, default=None, help="where the figures go; var/bench.json by default")
        parser.add_argument("--lab", default="bench", help="name of the lab that is made for it and removed")

    def handle(self, *args: Any, **options: Any) -> None:
        out = options["out"] or Path(settings.VAR_DIR) / "bench.json"
        before = signal.signal(signal.SIGTERM, _interrupt)
        try:
            cases = bench(Lab(options["lab"]), options["files"], options["rounds"], self.stderr.write)
        except Problem as problem:
            raise CommandError(str(problem)) from problem
        except KeyboardInterrupt:
            raise CommandError("interrupted: no figures are written", returncode=130) from None
        finally:
            signal.signal(signal.SIGTERM, before)
        figures = report.write(out, cases)
        for line in report.table(figures):
            self.stdout.write(line)
        self.stdout.write(f"\nThe figures are in {out}.")


def _interrupt(number: int, frame: Any) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one must not stop the removal of the lab
    raise KeyboardInterrupt
