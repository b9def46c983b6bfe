"""The hub as real processes over a database that the test reads and writes as well: a SQLite file, or PostgreSQL."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection, connections

from tests.conftest import MIGRATED

ROOT = Path(__file__).resolve().parent.parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def group_of(pid: int) -> list[int]:
    """Processes of a process group that are alive."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError, IndexError):
            state, _, group = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:3]
            if int(group) == pid and state not in "ZX":
                found.append(int(entry.name))
    return found


def stop_group(group: int, database: Path) -> None:
    """SIGSTOP to a process group while nobody holds the database: stopped in a transaction of SQLite, it would keep all
    others from writing, which is another fault than a program that is paused."""
    while True:
        for pid in group_of(group):
            os.kill(pid, signal.SIGSTOP)
        probe = sqlite3.connect(database, timeout=1, isolation_level=None)
        with contextlib.closing(probe), contextlib.suppress(sqlite3.OperationalError):
            probe.execute("BEGIN IMMEDIATE")
            probe.execute("ROLLBACK")
            return
        for pid in group_of(group):
            os.kill(pid, signal.SIGCONT)
        time.sleep(0.05)


def until(ready: Callable[[], object], seconds: float, what: str | Callable[[], str]) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s: {what if isinstance(what, str) else what()}")
        time.sleep(0.005)


class HubProcesses:
    """A directory with a database, and the programs that a test starts on it."""

    def __init__(self, directory: Path, url: str = "") -> None:
        self.directory = directory
        self.database = directory / "db.sqlite3"
        self.url = url or f"sqlite:///{self.database}"
        self.log = directory / "log"
        self.port = free_port()
        self.up: subprocess.Popen[bytes] | None = None
        self.started: list[subprocess.Popen[bytes]] = []
        self.groups: set[int] = set()

    def environment(self, **over: str) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MIGRATIONHUB_")}
        return {
            **inherited,
            "DJANGO_SETTINGS_MODULE": "migrationhub.settings",
            "MIGRATIONHUB_VAR": str(self.directory),
            "DATABASE_URL": self.url,
            "CREDENTIAL_KEYS": ",".join(settings.CREDENTIAL_KEYS),  # what the test encrypts, the workers read
            "SECRET_KEY": "of this test",
            "WORKERS": "2",
            "CONTROLLER_LEASE": "2",
            "CONTROLLER_TICK": "0.2",
            "TASK_PATIENCE": "5",
            **over,
        }

    def manage(self, *arguments: str, **over: str) -> subprocess.Popen[bytes]:
        """Start `manage.py …` with its output in the log."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, str(ROOT / "manage.py"), *arguments],
                cwd=ROOT,
                env=self.environment(**over),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def start_up(self) -> None:
        """`manage.py up`, until its page answers."""
        self.up = self.manage("up", "--bind", f"127.0.0.1:{self.port}")
        until(self.answers, 300, lambda: f"{self.port} answers: {self.words()}")
        until(lambda: all(self.pid(name) for name in ("web", "qcluster", "controller")), 300, "three children")

    def answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def pid(self, name: str) -> int:
        """Of a child of `up`; 0 where there is none yet."""
        with contextlib.suppress(OSError, ValueError):
            pid = int((self.directory / "pids" / name).read_text())
            self.groups.add(pid)
            return pid
        return 0

    def kill_group(self, name: str) -> int:
        """SIGKILL a child of `up` with everything that it started; the number of processes."""
        pid = self.pid(name)
        members = group_of(pid)
        os.killpg(pid, signal.SIGKILL)
        until(lambda: not group_of(pid), 60, f"{name} is gone")
        return len(members)

    def words(self) -> str:
        return self.log.read_text(errors="replace")[-8000:] if self.log.exists() else ""

    def end(self) -> None:
        """Nothing of it is left, whatever the test did."""
        if self.up is not None and self.up.poll() is None:
            self.up.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.up.wait(60)
        for name in ("web", "qcluster", "controller"):
            self.pid(name)
        for group in self.groups | {process.pid for process in self.started}:
            if group_of(group):
                os.killpg(group, signal.SIGKILL)
        for process in self.started:
            process.wait(60)


@cache
def migrated() -> bytes:
    """A SQLite file with all tables, made once."""
    if MIGRATED.exists():
        return MIGRATED.read_bytes()
    with tempfile.TemporaryDirectory() as directory:
        hub = HubProcesses(Path(directory))
        try:
            if hub.manage("migrate", "--no-input", "-v", "0").wait(300):
                pytest.fail(hub.words())
            return hub.database.read_bytes()
        finally:
            hub.end()


@contextlib.contextmanager
def hub_processes(directory: Path) -> Iterator[HubProcesses]:
    """A migrated SQLite file that is the test's own database meanwhile; with PostgreSQL, the test's own database."""
    default = connections["default"]
    if default.vendor == "postgresql":
        own = default.settings_dict
        hub = HubProcesses(directory, f"postgres://{own['USER']}@/{own['NAME']}?host={own['HOST']}")
        try:
            yield hub
        finally:
            hub.end()
        return
    hub = HubProcesses(directory)
    hub.database.write_bytes(migrated())
    before, name = default.connection, default.settings_dict["NAME"]
    default.connection, default.settings_dict["NAME"] = None, str(hub.database)
    try:
        yield hub
    finally:
        hub.end()
        connection.close()
        default.connection, default.settings_dict["NAME"] = before, name
