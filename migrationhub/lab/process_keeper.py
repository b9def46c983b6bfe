"""The keeper of one process host: its power supply. `python -m migrationhub.lab.process_keeper CONTROL DIRECTORY`.

It starts the host's sshd and supervisord, keeps them running, and adopts whatever they leave behind (it is their
subreaper), so that power off ends every process of the host. It outlives the command that started it. SIGTERM:
orderly power off; SIGINT: the plug is pulled. `sbin/poweroff` and `sbin/reboot` inside write to `run/power`.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from migrationhub.lab import process_table
from migrationhub.lab.process_account import SYSTEM_PATH, Account
from migrationhub.lab.process_table import Process

PORT = 2222
SSHD = "/usr/sbin/sshd"
SUPERVISORD = "/usr/bin/supervisord"
STOP_SECONDS = 60.0  # for services to stop; then they are killed
RESTART_SECONDS = 1.0  # before a daemon that ended by itself is started again
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
LIBC = ctypes.CDLL(None, use_errno=True)

# run/ and tmp/ are new at each boot, as they are in memory on a real host; what a host owns once is made once.
PREPARE = """
set -eu
umask 022
rm -rf run tmp
mkdir -p run var/log var/lib/first-boot etc/ssh
mkdir -m 700 tmp
mkfifo -m 600 run/power
cat /proc/sys/kernel/random/uuid > run/boot_id
[ -s etc/machine-id ] || tr -d - < /proc/sys/kernel/random/uuid > etc/machine-id
for type in $HOST_KEYS; do
  [ -s "etc/ssh/ssh_host_${type}_key" ] ||
    ssh-keygen -q -t "$type" -N '' -C "$HOST_NAME" -f "etc/ssh/ssh_host_${type}_key"
done
"""
# Once in a host's life, after its network is up, as cloud-init does.
FIRST_BOOT = """
cd var/lib/first-boot
sh ./user-data > output.log 2>&1 < /dev/null
echo "$?" > done
"""


@dataclass(frozen=True)
class Host:
    """What the keeper must know of its host, as `process.py` wrote it down."""

    name: str
    root: Path
    account: Account
    addresses: tuple[str, ...]
    resolver: str
    host_keys: str = "ed25519 ecdsa"

    @classmethod
    def read(cls, control: Path) -> Host:
        data = json.loads((control / "host.json").read_text())
        return cls(
            data["name"],
            Path(data["root"]),
            Account(**data["account"]),
            tuple(data["addresses"]),
            data["resolver"],
            data["host_keys"],
        )

    def environment(self) -> dict[str, str]:
        """The environment of everything that runs on the host. The first PATH entry holds the trap commands."""
        return {
            "PATH": f"{self.root}/sbin/traps:{SYSTEM_PATH}",
            "HOME": str(self.root),
            "LANG": "C.UTF-8",
            "USER": self.account.name,
            "TMPDIR": f"{self.root}/tmp",
            "HOST_NAME": self.name,
            "HOST_DIR": str(self.root),
            "HOST_ADDRESS": self.addresses[0] if self.addresses else "",
            "HOST_RESOLVER": self.resolver,
        }

    def processes(self) -> list[Process]:
        return processes_of(self.root, self.account)

    def daemons(self) -> dict[str, list[str]]:
        root = self.root
        supervisord = [SUPERVISORD, "-n", "-c", f"{root}/etc/supervisord.conf"]
        if not self.addresses:  # without a ListenAddress sshd would listen everywhere
            return {"supervisord": supervisord}
        environment = " ".join(f"{key}={value}" for key, value in self.environment().items() if value)
        sshd = [SSHD, "-D", "-e", "-f", f"{root}/etc/ssh/sshd_config", "-o", f"SetEnv={environment}"]
        # Since OpenSSH 9.8 an address that fails to log in is shut out for a while; all of ours are the same one.
        patience = ["-o", "PerSourcePenalties=no"]
        if subprocess.run([*sshd, "-t", *patience], capture_output=True, check=False).returncode == 0:
            sshd += patience
        for address in self.addresses:
            sshd += ["-o", f"ListenAddress={address}:{PORT}"]
        return {"supervisord": supervisord, "sshd": sshd}


def processes_of(root: Path, account: Account) -> list[Process]:
    """Every process that was started on a host, wherever it went since."""
    started = process_table.with_environment("HOST_DIR", str(root), account.uid)
    return [*started, *process_table.sshd_with(f"{root}/etc/ssh/sshd_config", account.uid)]


class Keeper:
    def __init__(self, host: Host) -> None:
        self.host = host
        self.running: dict[str, int] = {}  # daemon → pid
        self.again: dict[str, float] = {}  # daemon → when to start it again
        self.request = ""  # poweroff | reboot | plug
        self.power = -1
        self.wake, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, lambda *_: self.ask("poweroff"))
        signal.signal(signal.SIGINT, lambda *_: self.ask("plug"))
        signal.signal(signal.SIGCHLD, lambda *_: None)
        if LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")

    def ask(self, request: str) -> None:
        # A pulled plug is final; an order from outside outdoes one from inside.
        if self.request != "plug" and not (request == "reboot" and self.request):
            self.request = request

    def run(self) -> None:
        while True:
            self.boot()
            while not self.request:
                self.wait()
            request = self.request
            self.shut_down(orderly=request != "plug")
            if self.request != "reboot":
                say(f"off ({self.request})")
                return
            self.request = ""

    # -- boot -----------------------------------------------------------------------------------------------

    def boot(self) -> None:
        say(f"booting {self.host.name} on {', '.join(self.host.addresses) or 'no address'}")
        process_table.end(self.host.processes, grace=0)  # of a keeper that was killed
        self.child(["sh", "-c", PREPARE], wait=True, HOST_KEYS=self.host.host_keys)
        self.power = os.open(self.host.root / "run/power", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        for name in self.host.daemons():
            self.start(name)
        first = self.host.root / "var/lib/first-boot"
        if (first / "user-data").exists() and not (first / "done").exists():
            say("running user data")
            self.child(["sh", "-c", FIRST_BOOT])

    def start(self, name: str) -> None:
        self.again.pop(name, None)
        self.running[name] = self.child(self.host.daemons()[name])

    def child(self, command: list[str], *, wait: bool = False, **environment: str) -> int:
        """Start a command as the host's account; it is told to end if the keeper is killed."""
        process = subprocess.Popen(
            command,
            cwd=self.host.root,
            env={**self.host.environment(), **environment},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=lambda: LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0),
            **self.host.account.popen(),
        )
        if wait and process.wait():
            raise SystemExit(f"{' '.join(command)[:200]} ended with status {process.returncode}")
        process.returncode = 0  # reaped by `reap`, with everything else
        return process.pid

    # -- while it is on -------------------------------------------------------------------------------------

    def wait(self) -> None:
        """Sleep until something happens, then see to it."""
        now = time.monotonic()
        timeout = max(0.0, min(self.again.values()) - now) if self.again else None
        ready, _, _ = select.select([self.wake, self.power], [], [], timeout)
        for handle in ready:
            words = os.read(handle, 4096)
            if handle == self.power:
                for word in words.decode(errors="replace").split():
                    if word in ("poweroff", "reboot"):
                        self.ask(word)
        for name in self.reap():
            say(f"{name} ended by itself")
            self.again[name] = time.monotonic() + RESTART_SECONDS
        for name, due in list(self.again.items()):
            if due <= time.monotonic() and not self.request:
                self.start(name)

    def reap(self) -> list[str]:
        """Wait for every child that has ended; the names of daemons among them."""
        ended = []
        with contextlib.suppress(ChildProcessError):
            while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                for name in [name for name, known in self.running.items() if known == pid]:
                    del self.running[name]
                    ended.append(name)
        return ended

    # -- power off ------------------------------------------------------------------------------------------

    def shut_down(self, *, orderly: bool) -> None:
        """End everything that runs on the host: services by supervisord first, then the rest."""
        say("shutting down" if orderly else "the plug was pulled")
        self.again.clear()
        if orderly:
            for pid in self.running.values():
                os.kill(pid, signal.SIGTERM)  # our own child, not reaped: the number cannot be another's
            self.until(lambda: "supervisord" not in self.running, STOP_SECONDS)
        if not process_table.end(self.everything, grace=2 if orderly and self.request != "plug" else 0):
            say(f"still there: {self.everything()}")
        self.reap()
        self.running.clear()
        os.close(self.power)

    def until(self, done: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not done() and self.request != "plug" and time.monotonic() < deadline:
            self.reap()
            time.sleep(0.02)

    def everything(self) -> list[Process]:
        self.reap()
        return list({*process_table.descendants(os.getpid()), *self.host.processes()})


def say(text: str) -> None:
    print(time.strftime("%H:%M:%S"), "keeper:", text, flush=True)


def record(control: Path) -> None:
    """Leave word who keeps this host; whoever reads it asks the kernel whether it is still true."""
    me: Any = process_table.find(os.getpid())
    temporary = control / ".keeper.json"
    temporary.write_text(json.dumps(me._asdict()))
    temporary.replace(control / "keeper.json")


def main() -> None:
    control = Path(sys.argv[1])
    if os.fork():  # the one who started us waits for this process only
        os._exit(0)
    os.chdir("/")
    record(control)
    Keeper(Host.read(control)).run()


if __name__ == "__main__":
    main()
