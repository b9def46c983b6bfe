"""`manage.py up`: web, task workers and controller under one supervisor, for one machine."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser
from django.db import Error, connection

from servers import tasks

MANAGE = str(Path(settings.BASE_DIR) / "manage.py")
# Workers finish the act in hand; acts are short, and a message that nobody finished is found again.
STOP_LIMIT = 30
MOST_PATIENCE = 16
PR_SET_PDEATHSIG = 1  # prctl(2)
LIBC = ctypes.CDLL(None, use_errno=True)


def ends_with_us() -> None:
    """In the child before it starts: it is told to end when `up` dies, however that dies."""
    if LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


class Child:
    """One supervised program in a process group of its own; started again when it ends, ever more slowly."""

    def __init__(self, name: str, argv: list[str]) -> None:
        self.name = name
        self.argv = argv
        self.process: subprocess.Popen[bytes] | None = None
        self.started = 0.0
        self.delay = 0.5

    def start(self) -> None:
        self.process = subprocess.Popen(self.argv, start_new_session=True, preexec_fn=ends_with_us)
        self.started = time.monotonic()
        pids = Path(settings.VAR_DIR) / "pids"
        pids.mkdir(parents=True, exist_ok=True)
        new = pids / f"{self.name}.new"
        new.write_text(f"{self.process.pid}\n")
        new.replace(pids / self.name)  # whoever reads it in this moment finds a whole number

    def ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def due(self) -> bool:
        if self.age() > 30:
            self.delay = 0.5
        return self.age() > self.delay

    def age(self) -> float:
        """Seconds since it was started last."""
        return time.monotonic() - self.started

    def signal(self, number: int) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)


class Command(BaseCommand):
    help = "Run web (gunicorn), task workers (qcluster) and controller together; stop them cleanly on SIGTERM."

    look_at = 0.0  # when to look for stuck workers next
    patience = 1  # with workers that were started, in times of TASK_PATIENCE

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--bind", default="127.0.0.1:8000", help="address:port of the web pages")

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("migrate", interactive=False, verbosity=0)
        call_command("collectstatic", interactive=False, verbosity=0)
        manage = [sys.executable, MANAGE]
        web = [sys.executable, "-m", "gunicorn", "migrationhub.wsgi", "--bind", options["bind"], "--no-control-socket"]
        # One of its workers that is told to stop while it starts does not hear it, and is killed after this time.
        web += ["--graceful-timeout", str(STOP_LIMIT // 2)]
        children = [
            Child("web", [*web, "--worker-class", "gthread", "--workers", "2", "--threads", "4", "--timeout", "60"]),
            Child("qcluster", [*manage, "qcluster"]),
            Child("controller", [*manage, "controller"]),
        ]
        stopping: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda got, _: stopping.append(got))
        for child in children:
            child.start()
        self.stdout.write(f"migrationhub is at http://{options['bind']}")
        while not stopping:
            for child in children:
                if child.ended() and child.due():
                    child.delay = min(child.delay * 2, 30)
                    child.signal(signal.SIGKILL)  # what a killed parent left behind of its group
                    self.stderr.write(f"{child.name} ended; it is started again.")
                    child.start()
            self.free_stuck(children[1])
            time.sleep(0.2)
        self.stop(children)

    def free_stuck(self, workers: Child) -> None:
        """End task workers that wait beside messages; the loop starts them again.

        Each time they are given longer: on a machine so busy that they take that long to start, they would never do.
        """
        young = workers.age() < settings.TASK_PATIENCE * self.patience
        if time.monotonic() < self.look_at or workers.ended() or young:
            return
        self.look_at = time.monotonic() + settings.TASK_PATIENCE / 6
        try:
            if tasks.stalled():
                self.stderr.write("Messages wait and no worker takes them; the workers are started anew.")
                workers.signal(signal.SIGKILL)
                self.patience = min(self.patience * 2, MOST_PATIENCE)
            else:
                self.patience = 1
        except Error as error:
            self.stderr.write(f"The database does not answer: {error}")
        finally:
            connection.close()

    def stop(self, children: list[Child]) -> None:
        for child in children:
            # qcluster's sentinel stops its own workers: only the parent is told.
            if child.process is not None and child.process.poll() is None:
                child.process.terminate()
        deadline = time.monotonic() + STOP_LIMIT
        for child in children:
            if child.process is not None:
                try:
                    child.process.wait(max(0.1, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    self.stderr.write(f"{child.name} did not stop in {STOP_LIMIT} s and is killed.")
            child.signal(signal.SIGKILL)
