"""The hub of the demo: a fresh database in a directory of its own, web, workers and controller beside each other."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import requests

from migrationhub.lab import process_table
from migrationhub.lab.process_table import Process
from migrationhub.lab.state import REPOSITORY, LabProblem

START_SECONDS = 300  # one that died is told at once; a crowded machine takes its time
STOP_SECONDS = 60
HUB_WORDS = {"up", "qcluster", "controller", "migrationhub.wsgi"}
# What a user set up for their own hub must not reach the demo's.
FOREIGN = (
    *("DATABASE_URL", "DATABASE_URL_FILE", "SECRET_KEY", "SECRET_KEY_FILE", "CREDENTIAL_KEYS", "CREDENTIAL_KEYS_FILE"),
    *("ALLOWED_HOSTS", "CSRF_TRUSTED_ORIGINS", "HTTPS", "BEHIND_PROXY", "DEBUG", "DJANGO_SETTINGS_MODULE"),
)


def environment(directory: Path) -> dict[str, str]:
    """The environment of everything that belongs to the demo's hub."""
    kept = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    return {**kept, "MIGRATIONHUB_VAR": str(directory), "PYTHONUNBUFFERED": "1"}


def left_behind(directory: Path) -> list[Process]:
    """Processes of a hub with this directory that a killed demo left. A person's own shell there is none of them."""
    found = process_table.with_environment("MIGRATIONHUB_VAR", str(directory), os.geteuid())
    return [process for process in found if HUB_WORDS & set(_arguments(process.pid))]


def _arguments(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return []


class Hub:
    """`manage.py up` as a process of its own; its output goes to `hub.log`."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory, self.port = directory, port
        self.url = f"http://127.0.0.1:{port}"
        self.log = directory / "hub.log"
        self.process: subprocess.Popen[bytes] | None = None

    def check_port(self) -> None:
        """Raises LabProblem where the port cannot be had: better now than after the lab is up."""
        with socket.socket() as link:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                link.bind(("127.0.0.1", self.port))
            except OSError as error:
                raise LabProblem(
                    f"Port {self.port} of 127.0.0.1 cannot be used: {error.strerror}.",
                    "End what listens there, or give another one (make demo PORT=8080).",
                    code="demo.port",
                ) from error

    def start(self) -> None:
        self.check_port()
        argv = [sys.executable, str(REPOSITORY / "manage.py"), "up", "--bind", f"127.0.0.1:{self.port}"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                argv,
                cwd=REPOSITORY,
                env=environment(self.directory),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal is ours to pass on
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise LabProblem(
                    f"The hub did not start:\n{self.last_words()}", f"Look at {self.log}.", code="demo.hub"
                )
            time.sleep(0.3)

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def _answers(self) -> bool:
        with contextlib.suppress(requests.RequestException):
            return requests.get(f"{self.url}/accounts/login/", timeout=5).status_code == 200
        return False

    def stop(self) -> None:
        """Ask it to end, and wait: workers finish the act in hand."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def last_words(self, lines: int = 15) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""
