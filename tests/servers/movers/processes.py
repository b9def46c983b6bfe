"""What a sync has running on its target, which is a process host and so part of this machine."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tests.fixtures_lab import ProcessHost

RSYNC = b"rsync\0--server"


def at_work(target: ProcessHost, words: bytes) -> list[int]:
    """Process numbers of what was started for a sync and works below the target's directory."""
    found = []
    for one in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if words in (one / "cmdline").read_bytes() and (one / "cwd").readlink().is_relative_to(target.root):
                found.append(int(one.name))
    return found


def log_in_of(pid: int) -> int:
    """The sshd above a process."""
    while not Path(f"/proc/{pid}/comm").read_text().startswith("sshd"):
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid
