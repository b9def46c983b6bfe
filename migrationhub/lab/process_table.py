"""What the kernel knows about processes: found by what they are, never believed from a pid file alone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")


class Process(NamedTuple):
    """A process as no other can be: its number and its start time (clock ticks after the boot of the machine)."""

    pid: int
    started: int


class _Status(NamedTuple):
    state: str
    parent: int
    started: int


def find(pid: int) -> Process | None:
    """The process with this number now; None if there is none or it only waits to be reaped."""
    status = _status(pid)
    return None if status is None or status.state in "ZX" else Process(pid, status.started)


def alive(process: Process) -> bool:
    return find(process.pid) == process


def send(process: Process, number: int) -> bool:
    """Signal exactly this process; False if it is gone. A pidfd keeps a successor with its number safe."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        if not alive(process):
            return False
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def descendants(pid: int) -> list[Process]:
    """Children of a process, their children and so on; nearest first."""
    children: dict[int, list[Process]] = {}
    for number in _pids():
        status = _status(number)
        if status is not None and status.state not in "ZX":
            children.setdefault(status.parent, []).append(Process(number, status.started))
    found: list[Process] = []
    queue = [pid]
    while queue:
        for child in children.get(queue.pop(0), ()):
            found.append(child)
            queue.append(child.pid)
    return found


def of_user(uid: int) -> list[Process]:
    return _matching(uid, "cmdline", lambda words: True)


def with_environment(variable: str, value: str, uid: int) -> list[Process]:
    """Processes of a user that were started with `variable=value`."""
    wanted = os.fsencode(f"{variable}={value}")
    return _matching(uid, "environ", lambda words: wanted in words)


def with_arguments(arguments: Iterable[str], uid: int) -> list[Process]:
    """Processes of a user whose command line ends with these arguments."""
    wanted = [os.fsencode(argument) for argument in arguments]
    return _matching(uid, "cmdline", lambda words: words[-len(wanted) - 1 : -1] == wanted)


def sshd_with(configuration: str, uid: int) -> list[Process]:
    """sshd listeners of a user: they write their title over their environment, but it names the configuration."""
    wanted = os.fsencode(configuration)
    return _matching(uid, "cmdline", lambda words: words[0].startswith(b"sshd") and wanted in b" ".join(words))


def end(look: Callable[[], list[Process]], *, grace: float, limit: float = 10.0) -> bool:
    """End what `look` finds, again and again until it finds nothing: SIGTERM, `grace` seconds later SIGKILL.

    False if something is still there `limit` seconds after that.
    """
    begun = time.monotonic()
    asked: set[Process] = set()
    while processes := look():
        waited = time.monotonic() - begun
        if waited > grace + limit:
            return False
        for process in processes:
            if waited >= grace:
                send(process, signal.SIGKILL)
            elif process not in asked:
                asked.add(process)
                send(process, signal.SIGTERM)
        time.sleep(0.02)
    return True


def wait_for(done: Callable[[], bool], seconds: float) -> bool:
    """Look again and again until it is so; False after `seconds`."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.03)
    return True


def _pids() -> list[int]:
    return [int(path.name) for path in PROC.iterdir() if path.name.isdigit()]


def _status(pid: int) -> _Status | None:
    try:
        text = (PROC / str(pid) / "stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(b")") + 2 :].split()  # the name before it may hold spaces and brackets
    return _Status(fields[0].decode(), int(fields[1]), int(fields[19]))


def _matching(uid: int, file: str, matches: Callable[[list[bytes]], bool]) -> list[Process]:
    found = []
    own = (PROC / "self/ns/pid").readlink()
    for pid in _pids():
        path = PROC / str(pid)
        try:
            # A container's guest shares the machine's user ids: its processes are not this user's.
            if path.stat().st_uid != uid or (path / "ns/pid").readlink() != own:
                continue
            if not matches((path / file).read_bytes().split(b"\0")):
                continue
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        process = find(pid)
        if process is not None:
            found.append(process)
    return found
