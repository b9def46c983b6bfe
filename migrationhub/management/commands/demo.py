"""`manage.py demo`: the whole workflow on real lab servers, driven through the web pages."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from migrationhub.lab import process_table
from migrationhub.lab.demo.hub import environment, left_behind
from migrationhub.lab.state import REPOSITORY, Lab
from migrationhub.lib.findings import Problem

HOME = "MIGRATIONHUB_DEMO_HOME"  # set in the second of the two processes


class Command(BaseCommand):
    help = (
        "Bring a lab up, set a project up through the web pages as its people would, move three servers through all "
        "seven steps, verify it from outside, and serve the dashboard until Ctrl-C."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--exit", action="store_true", help="end after the table; 0 only if every check held")
        parser.add_argument("--kind", choices=("auto", "nspawn", "process"), default="auto", help="kind of lab hosts")
        parser.add_argument("--port", type=int, default=8000, help="of the dashboard on 127.0.0.1")
        parser.add_argument("--lab", default="", help="name of the lab; MIGRATIONHUB_LAB or “demo” by default")

    def handle(self, *args: Any, **options: Any) -> None:
        if HOME not in os.environ:
            self.begin_anew()
        # Imported late: it uses models, and those must be on the demo's own database.
        from migrationhub.lab.demo.run import Demo

        signal.signal(signal.SIGTERM, _interrupt)
        home = Path(os.environ[HOME])
        name = options["lab"] or os.environ.get("MIGRATIONHUB_LAB") or "demo"
        try:
            demo = Demo(home, Lab(name, home), port=options["port"], ends=options["exit"], write=self.say)
            status = demo.run(options["kind"])
        except Problem as problem:
            raise CommandError(str(problem)) from problem
        sys.exit(status)

    def say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()

    def begin_anew(self) -> None:
        """Go on as a process whose settings point to an empty directory of the demo's own; never returns.

        The lock on it outlives the change of the program, as its file stays open.
        """
        home = Path(settings.VAR_DIR).resolve()
        directory = home / "demo"
        home.mkdir(parents=True, exist_ok=True)
        handle = os.open(home / "demo.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError(f"Another demo runs with {directory}. End it first (Ctrl-C where it runs).") from None
        os.set_inheritable(handle, True)
        process_table.end(lambda: left_behind(directory), grace=30)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(mode=0o700)
        variables = {**environment(directory), HOME: str(home)}
        os.execve(sys.executable, [sys.executable, str(REPOSITORY / "manage.py"), *sys.argv[1:]], variables)  # noqa: S606


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt
