"""Virtual machines of the lab: what a container hides (boot, kernel modules, device mapper) is shown in QEMU.

A guest's disk is made from a root directory, such as a host of the lab that is off, and booted with the kernel and
initramfs that lie in its own /boot. Its network is QEMU's own, laid so that the addresses which the guest has
configured for itself are right: the guest reaches what this machine reaches, and ports of this machine's loopback
lead to its. Without KVM it runs in emulation, a tenth as fast.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from migrationhub.lab.network import WITH_US, run
from migrationhub.lab.state import LabProblem

PROGRAM = "qemu-system-x86_64"
SIZE = "4G"  # of a root disk; sparse
MEMORY = 768  # MiB
# Interfaces are named as in the lab's containers. A busy machine makes the guest's own limits too short.
COMMAND_LINE = "console=ttyS0 net.ifnames=0 mitigations=off systemd.default_timeout_start_sec=900"


@dataclass(frozen=True)
class Address:
    """The guest's own first interface, as its root directory configures it."""

    network: str  # "10.77.1.0/24"
    own: str
    gateway: str


class Guest:
    """One virtual machine in a directory of its own; as a context it runs, and is gone at the end."""

    def __init__(self, directory: Path, address: Address, *, label: str = "root", ports: Sequence[int] = (22,)) -> None:
        self.directory = directory
        self.address = address
        self.label = label  # of the root file system
        self.root_image = directory / "root.img"
        self.log = directory / "console.log"
        self.disks: list[Path] = []
        self.ports = {port: free_port() for port in ports}  # guest's port → port on 127.0.0.1
        self._process: subprocess.Popen[bytes] | None = None
        self.version = ""

    # -- disks ----------------------------------------------------------------------------------------------

    def make_root(self, root: Path, size: str = SIZE) -> None:
        """Write `root` into a new disk, and take its newest whole kernel. Nothing may write to it meanwhile."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.version = newest_kernel(root)
        for name in ("vmlinuz", "initrd.img"):
            shutil.copyfile(root / "boot" / f"{name}-{self.version}", self.directory / name)
        run(["truncate", "-s", size, str(self.root_image)])
        made = subprocess.run(
            [*WITH_US, "mkfs.ext4", "-q", "-F", "-L", self.label, "-d", str(root), str(self.root_image)],
            capture_output=True,
            text=True,
        )
        if made.returncode != 0:
            raise LabProblem(
                f"No disk could be made of {root}: {made.stderr.strip()[-400:]}",
                "Give the disk a larger size.",
                code="lab.qemu-disk",
            )

    def add_disk(self, name: str, size: str) -> None:
        """An empty disk; the guest sees /dev/vdb, /dev/vdc, … in order."""
        path = self.directory / f"{name}.img"
        run(["truncate", "-s", size, str(path)])
        self.disks.append(path)

    # -- power ----------------------------------------------------------------------------------------------

    def __enter__(self) -> Guest:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.pull_the_plug()

    def start(self) -> None:
        if not shutil.which(PROGRAM):
            raise LabProblem(f"{PROGRAM} is not installed.", "Install qemu-system-x86.", code="lab.qemu")
        self.log.touch()
        self._process = subprocess.Popen(
            [*WITH_US, PROGRAM, *self._arguments()],
            stdin=subprocess.DEVNULL,
            stdout=(self.directory / "qemu.log").open("wb"),
            stderr=subprocess.STDOUT,
        )

    def pull_the_plug(self) -> None:
        """Off at once, whatever it was doing."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _arguments(self) -> list[str]:
        forward = ",".join(
            f"hostfwd=tcp:127.0.0.1:{here}-{self.address.own}:{port}" for port, here in self.ports.items()
        )
        net = f"user,id=net,net={self.address.network},host={self.address.gateway},{forward}"
        arguments = ["-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35,accel=tcg"]
        # A plain processor: for a newer one the guest loads and tests drivers, slowly.
        arguments += ["-cpu", "qemu64", "-smp", "1", "-m", str(MEMORY), "-device", "virtio-rng-pci"]
        arguments += ["-kernel", str(self.directory / "vmlinuz"), "-initrd", str(self.directory / "initrd.img")]
        arguments += ["-append", f"root=LABEL={self.label} ro {COMMAND_LINE}"]
        arguments += ["-serial", f"file:{self.log}", "-netdev", net, "-device", "virtio-net-pci,netdev=net,romfile="]
        for disk in (self.root_image, *self.disks):
            arguments += ["-drive", f"file={disk},format=raw,if=virtio,cache=unsafe"]
        return arguments

    # -- what it says ---------------------------------------------------------------------------------------

    def console(self, lines: int = 40) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).splitlines()[-lines:])

    def wait_for_ssh(self, port: int = 22, seconds: float = 900.0) -> None:
        """Until an sshd greets on the guest's port. Raises `LabProblem` with its console's last lines."""
        deadline = time.monotonic() + seconds
        while not self.greets(port):
            code = self._process.poll() if self._process else 0
            if code is not None or time.monotonic() > deadline:
                said = (self.directory / "qemu.log").read_text(errors="replace")[-500:]
                state = f"ended with {code}" if code is not None else f"shows, after {seconds:.0f} s,"
                raise LabProblem(
                    f"The virtual machine in {self.directory} {state} no sshd on its port {port}:\n"
                    f"{said}{self.console()}",
                    "Look at its console.",
                    code="lab.qemu",
                )
            time.sleep(0.3)

    def greets(self, port: int) -> bool:
        """Whether an sshd answers on the guest's port now."""
        return greeting(self.ports[port]).startswith("SSH-")


def newest_kernel(root: Path) -> str:
    """Version of the newest kernel in `root` that has its initramfs and modules. Raises `LabProblem`."""
    found = [path.name.removeprefix("vmlinuz-") for path in root.glob("boot/vmlinuz-*")]
    whole = [
        version
        for version in found
        if (root / "boot" / f"initrd.img-{version}").exists()
        and (root / "usr/lib/modules" / version / "kernel").is_dir()
    ]
    if not whole:
        raise LabProblem(
            f"No kernel in {root}/boot has both an initramfs and modules; found: {', '.join(found) or 'none'}.",
            "Make the host of an image with a kernel, such as debian-virtual.",
            code="lab.qemu-kernel",
        )
    return max(whole, key=lambda version: [int(number) for number in re.findall(r"\d+", version)])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def greeting(port: int) -> str:
    """What a server on this machine's loopback says first; "" for nothing. QEMU accepts before the guest listens."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
        connection.settimeout(3)
        return connection.recv(64).decode("ascii", "replace")
    return ""
