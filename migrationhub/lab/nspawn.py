"""nspawn hosts: real Debian with systemd as their first process, each in its own network namespace.

A host is a directory `hosts/<name>/` of the lab: `root/`, `host.json` (what it was created as, and its
interfaces), `keeper.json`, `console.log` and the keeper's lock. The keeper (keeper.py) runs systemd-nspawn and
starts it again when the guest reboots.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from migrationhub.lab import keeper
from migrationhub.lab.daemon import launch, write_json
from migrationhub.lab.hosts import ExecResult, HostSpec, Nic
from migrationhub.lab.images import Images
from migrationhub.lab.network import WITH_US, Network, mac_address, run
from migrationhub.lab.nspawn_root import Disk, personalise
from migrationhub.lab.recipes import recipe
from migrationhub.lab.state import NAME, Lab, LabProblem

REBOOT = 133  # systemd-nspawn's exit code when the guest asked for a reboot
POWER_OFF = signal.SIGRTMIN + 4
OFF = "off"  # file of a host that was switched off, by whomever: nobody starts it again but who is told to
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class NspawnBackend:
    """`HostBackend` by systemd-nspawn. Needs root and `Network(lab).up()`."""

    kind = "nspawn"

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.network = Network(lab)
        self.images = Images(lab.cache)
        self.hosts = lab.dir / "hosts"

    # -- making and removing --------------------------------------------------------------------------------

    def create(self, spec: HostSpec) -> None:
        if not NAME.fullmatch(spec.name):
            raise LabProblem(
                f"“{spec.name}” is no name for a host.",
                "Use 1 to 31 small letters, digits and hyphens.",
                code="lab.host-name",
            )
        with self._lock(spec.name):
            if not self._exists(spec.name):
                self._create(spec)

    def _create(self, spec: HostSpec) -> None:
        self._sweep(spec.name)
        building = self.hosts / f".new-{spec.name}"
        building.mkdir(parents=True, mode=0o700)
        disk = Disk(building, spec.options.get("disk") or recipe(spec.image).disk)
        try:
            with self.images.image(spec.image) as image:
                disk.make()
                run([*WITH_US, "cp", "-a", "--reflink=auto", f"{image}/.", str(building / "root")])
            personalise(building / "root", spec, self.network)
            write_json(building / "host.json", asdict(spec) | {"disk": disk.kind})
        except BaseException:
            disk.remove()
            raise
        (building / OFF).touch()
        building.rename(self.hosts / spec.name)

    def delete(self, name: str) -> None:
        with self._lock(name):
            self._stop(name, hard=True)
            if self._exists(name):
                # Out of sight first: half a host must never be taken for a whole one.
                (self.hosts / name).rename(self.hosts / f".old-{name}")
            self._sweep(name)

    def down(self) -> None:
        """Delete every host, and whatever else a crash left of one."""
        for name in self.names():
            self.delete(name)
        # Guests whose directory somebody deleted by hand: no lock leads to them any more.
        keeper.kill_cgroup(f"migrationhub-lab/{self.lab.tag}")
        for left in Path("/run/systemd/nspawn/propagate").glob(f"{self.lab.tag}-*"):
            with contextlib.suppress(OSError):
                left.rmdir()
        for left in self.hosts.glob(".[no][el][wd]-*"):
            self._sweep(left.name[5:])

    def _sweep(self, name: str) -> None:
        for left in (self.hosts / f".new-{name}", self.hosts / f".old-{name}"):
            if left.is_dir():
                Disk(left).remove()

    def names(self) -> list[str]:
        return sorted(path.parent.name for path in self.hosts.glob("[!.]*/host.json"))

    def root(self, name: str) -> Path:
        directory = self._directory(name)
        Disk(directory).mount()
        return directory / "root"

    # -- power ----------------------------------------------------------------------------------------------

    def power(self, name: str) -> str:
        if not self._exists(name):
            return "absent"
        return "on" if keeper.holder(self.hosts / name / "lock") else "off"

    def should_run(self, name: str) -> bool:
        """Off, but neither it nor anybody else switched it off: its keeper was killed or this machine restarted."""
        return self.power(name) == "off" and not (self.hosts / name / OFF).exists()

    def start(self, name: str) -> None:
        with self._lock(name):
            self._start(name)

    def _start(self, name: str) -> None:
        directory = self._directory(name)
        if self.power(name) == "on":
            return
        Disk(directory).mount()
        self._clear(name)
        self._write_keeper(name)
        (directory / OFF).unlink(missing_ok=True)
        launch(directory / "keeper.json")
        deadline = time.monotonic() + 120
        while self.init(name) is None:
            if self.power(name) != "on" or time.monotonic() > deadline:
                self._failed(name, self.console(name, 5))
            time.sleep(0.05)

    def stop(self, name: str, *, hard: bool = False, timeout: float = 90.0) -> None:
        """Power off. Orderly: the guest's init is asked, again every three seconds, for `timeout` seconds."""
        self._directory(name)
        with self._lock(name):
            self._stop(name, hard=hard, timeout=timeout)

    def _stop(self, name: str, *, hard: bool, timeout: float = 90.0) -> None:
        if self.power(name) == "on":
            deadline = time.monotonic() + (10 if hard else timeout)
            asked = 0.0
            while self.power(name) == "on" and time.monotonic() < deadline:
                # An init that is only just starting, or rebooting, does not hear the first time.
                if time.monotonic() - asked > 3:
                    self._signal(name, signal.SIGKILL if hard else POWER_OFF)
                    asked = time.monotonic()
                time.sleep(0.05)
            if self.power(name) == "on" and not hard:
                raise LabProblem(
                    f"“{name}” did not power off within {timeout:.0f} seconds.",
                    "Look at its console, or pull the plug (hard).",
                    code="lab.stop",
                )
            if pid := keeper.holder(self.hosts / name / "lock"):
                os.kill(pid, signal.SIGKILL)  # its guest dies with it
                time.sleep(0.2)
        if self._exists(name):
            (self.hosts / name / OFF).touch()
            self._clear(name)

    def _signal(self, name: str, number: int) -> None:
        pid = self.init(name)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def init(self, name: str) -> int | None:
        """The guest's first process as this machine sees it: keeper → systemd-nspawn → init."""
        pid = keeper.holder(self.hosts / name / "lock")
        for _ in range(2):
            if pid is None:
                return None
            pid = next(iter(_children(pid)), None)
        return pid

    def _clear(self, name: str) -> None:
        """Take away what a guest leaves on this machine, also one whose keeper was killed."""
        for argv in self.network.unwiring(name):
            run(argv, check=False)
        keeper.remove_cgroup(self._cgroup(name))
        with contextlib.suppress(OSError):
            Path("/run/systemd/nspawn/propagate", self._machine(name)).rmdir()
        (self.hosts / name / ".#root.lck").unlink(missing_ok=True)
        self._remove_inode_lock(self.hosts / name / "root")

    @staticmethod
    def _remove_inode_lock(root: Path) -> None:
        found = root.stat()
        path = Path(f"/run/systemd/nspawn/locks/inode-{found.st_dev}:{found.st_ino}")
        path.unlink(missing_ok=True)

    def _failed(self, name: str, words: str) -> None:
        raise LabProblem(
            f"“{name}” did not start: {words.strip() or 'systemd-nspawn said nothing'}",
            "`manage.py lab status` tells whether the lab's network is up; `manage.py lab up` repairs it.",
            code="lab.start",
        )

    def _write_keeper(self, name: str) -> None:
        directory = self.hosts / name
        spec = self._spec(name)
        nics = [
            (nic.network, mac_address(self.lab, name, number, nic.network), spec.options.get("rate", ""))
            for number, nic in enumerate(spec.nics)
        ]
        # Entered twice: /sys shows the interfaces of the namespace in which systemd-nspawn itself was started.
        namespace = f"/run/netns/{self.network.namespace(name)}"
        argv = [
            "nsenter",
            f"--net={namespace}",
            "systemd-nspawn",
            "--quiet",
            "--register=no",
            "--keep-unit",
            "--private-users=no",
        ]
        argv += [f"--machine={self._machine(name)}", "--kill-signal=SIGRTMIN+4", "--capability=CAP_NET_ADMIN"]
        argv += [f"--network-namespace-path={namespace}"]
        argv += ["--resolv-conf=off", "--timezone=off", "--link-journal=no", "-b", "-D", str(directory / "root")]
        settings = {
            "lock": str(directory / "lock"),
            "before": self.network.wiring(name, nics),
            "argv": argv,
            "after": self.network.unwiring(name),
            "again": [REBOOT],
            "ended": str(directory / OFF),
            "cgroup": self._cgroup(name),
            "log": str(directory / "console.log"),
        }
        write_json(directory / "keeper.json", settings)

    def _machine(self, name: str) -> str:
        return f"{self.lab.tag}-{name}"

    def _cgroup(self, name: str) -> str:
        return f"migrationhub-lab/{self.lab.tag}/{name}"

    # -- interfaces -----------------------------------------------------------------------------------------

    def attach(self, name: str, nics: tuple[Nic, ...]) -> None:
        directory = self._directory(name)
        kept = json.loads((directory / "host.json").read_text())
        write_json(directory / "host.json", kept | {"nics": [asdict(nic) for nic in nics]})
        if (directory / "keeper.json").exists():
            self._write_keeper(name)

    def nics(self, name: str) -> tuple[Nic, ...]:
        """The interfaces that the host has from the next power-on."""
        return self._spec(name).nics

    # -- inside the guest -----------------------------------------------------------------------------------

    def execute(self, name: str, script: str, timeout: float = 120.0) -> ExecResult:
        pid = self.init(name) if self.power(name) == "on" else None
        if pid is None:
            raise LabProblem(f"“{name}” is {self.power(name)}.", "Start it first.", code="lab.off")
        argv = ["nsenter", f"--target={pid}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]
        argv += ["--root", "--wd", "/usr/bin/env", "-i", f"PATH={PATH}", "HOME=/root", "LC_ALL=C.UTF-8"]
        process = subprocess.Popen(
            # The script comes by stdin: it may hold a secret, and argv is everybody's to read.
            [*argv, "/bin/sh", "-c", 'script=$(cat); eval "$script"'],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(script.encode(), timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise LabProblem(
                f"A script in “{name}” was not done within {timeout:.0f} seconds.",
                "Give it more time, or let it do less.",
                code="lab.execute",
            ) from None
        return ExecResult(
            process.returncode, out.decode(errors="backslashreplace"), err.decode(errors="backslashreplace")
        )

    def console(self, name: str, lines: int = 50) -> str:
        path = self._directory(name) / "console.log"
        if not path.exists():
            return ""
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])

    # -- snapshots ------------------------------------------------------------------------------------------

    def snapshot(self, name: str, snapshot: str) -> None:
        """A copy of the disk, all of one moment: a running guest is frozen while it is made."""
        directory = self._directory(name)
        kept = directory / "snapshots" / snapshot
        if kept.is_dir():
            return
        making = directory / "snapshots" / f".{snapshot}"
        with self._lock(name), self._frozen(name):
            Disk(directory).copy_to(making)
        making.rename(kept)

    def revert(self, name: str, snapshot: str) -> None:
        directory = self._directory(name)
        kept = directory / "snapshots" / snapshot
        if not kept.is_dir():
            raise LabProblem(
                f"“{name}” has no snapshot “{snapshot}”.", "Choose one that was taken.", code="lab.snapshot"
            )
        with self._lock(name):
            was = self.power(name)
            self._stop(name, hard=True)
            Disk(directory).copy_from(kept)
            if was == "on":
                self._start(name)

    @contextlib.contextmanager
    def _frozen(self, name: str) -> Iterator[None]:
        groups = [mount / self._cgroup(name) / "cgroup.freeze" for mount in keeper.cgroup_mounts()]
        switches = [path for path in groups if path.exists()]
        try:
            for path in switches:
                path.write_text("1")
                while "frozen 1" not in path.with_name("cgroup.events").read_text():
                    time.sleep(0.01)
            yield
        finally:
            for path in switches:
                path.write_text("0")

    # -- files ----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        """One change to a host at a time: the platform, `lab up` and a person are different processes."""
        self.hosts.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.hosts / f".lock-{name}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _exists(self, name: str) -> bool:
        return (self.hosts / name / "host.json").exists()

    def _directory(self, name: str) -> Path:
        if not self._exists(name):
            raise LabProblem(
                f"The lab “{self.lab.name}” has no host “{name}”.",
                f"It has: {', '.join(self.names()) or 'none'}.",
                code="lab.host",
            )
        return self.hosts / name

    def _spec(self, name: str) -> HostSpec:
        kept = json.loads((self._directory(name) / "host.json").read_text())
        kept.pop("disk", None)
        spec = HostSpec(**kept)
        return replace(spec, nics=tuple(Nic(**nic) for nic in kept["nics"]))


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, task.read_text().split())
    return found
