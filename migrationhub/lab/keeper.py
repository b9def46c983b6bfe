"""Keeps one program of the lab running, apart from whoever started it.

Run as a file, with nothing but the standard library: `python keeper.py /path/keeper.json`. It returns 0 as soon
as the keeper stands on its own and holds the lock, 3 when another keeper holds it already.

What runs is told by the lock, never by a file that somebody wrote: the kernel names the holder of a POSIX lock
and drops the lock at the holder's death, whatever the cause.

keeper.json:
  lock    path of the lock file
  before  commands (lists of arguments) before every start; one that fails ends the keeper
  argv    the program
  after   commands after every end, and first of all for what a killed keeper left; failures are ignored
  again   exit codes after which the program is started again (133: a guest that rebooted)
  ended   file that is made when the program ended by itself with 0; "" for none
  cgroup  name below each cgroup hierarchy that systemd manages, "" for none
  log     file that gets the output
  cwd     directory to run in
The file is read again before every start, so a change to it counts from the next one on.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

ALREADY = 3
PR_SET_PDEATHSIG = 1
FLOCK = "hhqqi4x"  # struct flock on 64-bit Linux: type, whence, start, length, pid


def holder(lock: Path) -> int | None:
    """The process id of the keeper that holds the lock, asked of the kernel; None when there is none."""
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        asked = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack(FLOCK, fcntl.fcntl(handle, fcntl.F_GETLK, asked))
    finally:
        os.close(handle)
    return int(pid) if kind != fcntl.F_UNLCK else None


def cgroup_mounts() -> list[Path]:
    """Where systemd's own hierarchies are: one on a unified machine, two on a hybrid one."""
    top = Path("/sys/fs/cgroup")
    if (top / "cgroup.procs").exists():
        return [top]
    return [path for path in (top / "systemd", top / "unified") if (path / "cgroup.procs").exists()]


def remove_cgroup(name: str) -> None:
    """Remove the group with all below it, and the parents that are empty then."""
    for mount in cgroup_mounts():
        group = mount / name
        for directory, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                Path(directory).rmdir()
        for parent in group.parents:
            if parent == mount:
                break
            try:
                parent.rmdir()
            except OSError:
                break


def kill_cgroup(name: str, seconds: float = 5.0) -> None:
    """Kill every process in the group and below it, and remove it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        pids = {
            int(pid)
            for mount in cgroup_mounts()
            for path in (mount / name).rglob("cgroup.procs")
            for pid in path.read_text().split()
        }
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not pids:
            break
        time.sleep(0.05)
    remove_cgroup(name)


class Keeper:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.spec: dict[str, Any] = json.loads(path.read_text())
        self.child: subprocess.Popen[bytes] | None = None
        self.ending = False

    def take_lock(self) -> bool:
        self.lock = os.open(self.spec["lock"], os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def run(self) -> None:
        signal.signal(signal.SIGTERM, self.end)
        signal.signal(signal.SIGINT, self.end)
        code = 0
        while not self.ending:
            self.spec = json.loads(self.path.read_text())
            self.clear()
            try:
                if not all(self.command(argv) for argv in self.spec.get("before", [])):
                    break
                code = self.once()
            finally:
                self.clear()
            if code == 0 and self.spec.get("ended"):
                Path(self.spec["ended"]).touch()
            if code not in self.spec.get("again", []):
                break
        self.say(f"ended with {code}")

    def clear(self) -> None:
        for argv in self.spec.get("after", []):
            self.command(argv, quiet=True)

    def once(self) -> int:
        if self.ending:
            return 0
        self.say("starting " + self.spec["argv"][0])
        self.child = subprocess.Popen(
            self.spec["argv"],
            stdin=subprocess.DEVNULL,
            cwd=self.spec.get("cwd") or "/",
            preexec_fn=self.enter,
        )
        if self.ending:  # asked to end while it was being started
            self.child.send_signal(signal.SIGTERM)
        return self.child.wait()

    def enter(self) -> None:
        # No program outlives its keeper: a keeper that is killed is a machine that lost power.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if name := self.spec.get("cgroup"):
            for mount in cgroup_mounts():
                group = mount / name
                group.mkdir(parents=True, exist_ok=True)
                (group / "cgroup.procs").write_text("0")

    def end(self, number: int, frame: FrameType | None) -> None:
        self.ending = True
        if self.child is not None and self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)

    def command(self, argv: list[str], quiet: bool = False) -> bool:
        try:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired) as error:
            self.say(f"{' '.join(argv)}: {error}")
            return False
        if done.returncode != 0 and not quiet:
            self.say(f"{' '.join(argv)}: {done.stderr.strip()}")
        return done.returncode == 0

    def say(self, text: str) -> None:
        print(time.strftime("%FT%TZ", time.gmtime()), "keeper:", text, flush=True)


def main(argument: str) -> int:
    keeper = Keeper(Path(argument))
    ready, told = os.pipe()
    if os.fork():
        os.close(told)
        return {b"+": 0, b"=": ALREADY}.get(os.read(ready, 1), 1)
    os.setsid()
    os.close(ready)
    if not keeper.take_lock():
        os.write(told, b"=")
        return ALREADY
    log = os.open(keeper.spec["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    empty = os.open(os.devnull, os.O_RDONLY)
    for source, number in ((empty, 0), (log, 1), (log, 2)):
        os.dup2(source, number)
    os.chdir("/")
    os.write(told, b"+")
    os.close(told)
    keeper.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
