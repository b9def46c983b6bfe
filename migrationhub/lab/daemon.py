"""A program of the lab that outlives the command which started it: started, found and ended by its keeper's lock."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from migrationhub.lab import keeper
from migrationhub.lab.state import LabProblem


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write atomically, readable by this user alone."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    new.touch(0o600)
    new.write_text(json.dumps(content, indent=1))
    new.replace(path)


def launch(settings: Path) -> None:
    """Start the keeper of a keeper.json; nothing happens where one holds the lock already."""
    argv = [sys.executable, "-I", keeper.__file__, str(settings)]
    started = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if started.returncode not in (0, keeper.ALREADY):
        raise LabProblem(
            f"The keeper of {settings} did not start: {started.stderr.strip()}",
            "Run `manage.py lab down`, then `manage.py lab up`.",
            code="lab.keeper",
        )


class Daemon:
    """One program with a directory of its own: keeper.json, lock and log are in it."""

    def __init__(self, directory: Path, name: str, cgroup: str = "") -> None:
        self.cgroup = cgroup  # "" where this user may make none
        self.directory = directory
        self.settings = directory / f"{name}.keeper.json"
        self.lock = directory / f"{name}.lock"
        self.log = directory / f"{name}.log"

    def pid(self) -> int | None:
        """Process id of the keeper, None when it does not run."""
        return keeper.holder(self.lock)

    def start(self, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        if self.pid():
            return
        # env(1) sets what is asked for and gives its place to the program.
        words = ["env", *(f"{name}={value}" for name, value in (environment or {}).items()), *argv]
        spec = {
            "lock": str(self.lock),
            "argv": words,
            "cgroup": self.cgroup,
            "log": str(self.log),
        }
        self.directory.mkdir(parents=True, exist_ok=True)
        write_json(self.settings, spec)
        launch(self.settings)

    def stop(self, timeout: float = 15.0) -> None:
        """Ask it to end (SIGTERM), after `timeout` seconds kill it."""
        pid = self.pid()
        if pid is None:
            return
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + timeout
        while self.pid() == pid:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)  # its program dies with it
            time.sleep(0.05)
        if self.cgroup:
            keeper.remove_cgroup(self.cgroup)

    def last_words(self, lines: int = 8) -> str:
        """The end of its log, for an error message."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""
