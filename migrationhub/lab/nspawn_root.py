"""The disk of an nspawn host, and what is written on it at the host's creation, as a hypervisor's tools would."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

from migrationhub.lab.hosts import HostSpec
from migrationhub.lab.network import ALL_WITH_US, WITH_US, Network, run
from migrationhub.lab.recipes import recipe
from migrationhub.lab.state import LabProblem

BTRFS_SIZE = "8G"  # sparse: takes what is written
DOMAIN = "shop.lab"


class Disk:
    """`root/` of a host's directory: plain, or a btrfs in a file where the guest must be able to take snapshots."""

    def __init__(self, directory: Path, kind: str = "") -> None:
        self.directory = directory
        self.root = directory / "root"
        self.image = directory / "disk.img"
        self.kind = kind or ("btrfs" if self.image.exists() else "directory")
        if self.kind not in ("directory", "btrfs"):
            raise LabProblem(
                f"“{kind}” is no kind of disk.", "Use “directory” or “btrfs” as the option disk.", code="lab.disk"
            )

    def make(self) -> None:
        self.root.mkdir(mode=0o755)
        if self.kind == "btrfs":
            run(["truncate", "-s", BTRFS_SIZE, str(self.image)])
            run(["mkfs.btrfs", "-q", "-m", "single", str(self.image)])
            self.mount()

    def mount(self) -> None:
        """Make `root/` readable; after a crash or a reboot of this machine too."""
        waiting = self.directory / ".root.new"
        if not self.root.exists() and waiting.exists():  # a revert was cut between its two renames
            waiting.rename(self.root)
        if self.kind == "btrfs" and not self.root.is_mount():
            # The loop device frees itself with the last unmount.
            run(["mount", "-o", "loop", str(self.image), str(self.root)])

    def unmount(self) -> None:
        deadline = time.monotonic() + 5
        while self.root.is_mount():
            # Busy for a moment yet where the command that wrote there was just killed.
            run(["umount", str(self.root)], check=time.monotonic() > deadline)
            time.sleep(0.02)

    def remove(self) -> None:
        """Remove the host's directory with everything in it; the mount goes first."""
        self.unmount()
        remove_tree(self.directory)

    def copy_to(self, place: Path) -> None:
        """Copy the disk to a new directory. The guest must be off or frozen."""
        remove_tree(place)
        place.mkdir(parents=True)
        if self.kind == "btrfs":
            run(["sync", "-f", str(self.root)])
            run([*WITH_US, "cp", "--sparse=always", "--reflink=auto", str(self.image), str(place / "disk.img")])
        else:
            run([*WITH_US, "cp", "-a", "--reflink=auto", str(self.root), str(place / "root")])

    def copy_from(self, place: Path) -> None:
        """Put a copy back in the disk's place. The guest must be off."""
        if self.kind == "btrfs":
            new = self.directory / ".disk.new"
            run([*WITH_US, "cp", "--sparse=always", "--reflink=auto", str(place / "disk.img"), str(new)])
            self.unmount()
            new.rename(self.image)
            self.mount()
            return
        new, old = self.directory / ".root.new", self.directory / ".root.old"
        for left in (new, old):
            remove_tree(left)
        run([*WITH_US, "cp", "-a", "--reflink=auto", str(place / "root"), str(new)])
        self.root.rename(old)
        new.rename(self.root)
        remove_tree(old)


def remove_tree(path: Path, seconds: float = 5.0) -> None:
    """Remove a directory, if it is there; what was just killed may write a last file into it."""
    deadline = time.monotonic() + seconds
    while path.exists():
        shutil.rmtree(path, ignore_errors=time.monotonic() < deadline)


def personalise(root: Path, spec: HostSpec, network: Network) -> None:
    """Name, address, user data and (sources only) the lab's key: written once, before the host's first boot.

    Options: `authorized_key` one public key line for root; `network_config` ifupdown | networkd, else the
    image's own; every other option reaches the recipe's creation script as an environment variable.
    """
    etc = root / "etc"
    (etc / "hostname").write_text(f"{spec.name}\n")
    (etc / "hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {spec.name}.{DOMAIN} {spec.name}\n")
    # Empty: systemd makes one at the first boot and keeps it.
    (etc / "machine-id").write_text("")
    configure_network(root, spec, network)
    seed = root / "var/lib/cloud/seed/nocloud"
    seed.mkdir(parents=True, exist_ok=True)
    (seed / "user-data").touch(0o600)
    (seed / "user-data").write_text(spec.user_data)
    if key := spec.options.get("authorized_key"):
        keys = root / "root/.ssh/authorized_keys"
        keys.parent.mkdir(mode=0o700, exist_ok=True)
        keys.touch(0o600)
        keys.write_text(f"{key.strip()}\n")
    if script := recipe(spec.image).creation:
        _create_inside(root, spec, script)


def configure_network(root: Path, spec: HostSpec, network: Network) -> None:
    """The addresses that the network handed out, as cloud-init writes them; the gateway is the first side's."""
    kind = spec.options.get("network_config") or recipe(spec.image).network
    first = next((nic for nic in spec.nics if nic.address), None)
    for number, nic in enumerate(spec.nics):
        gateway = network.gateway(nic.network) if nic is first else ""
        if kind == "networkd":
            text = f"[Match]\nName=eth{number}\n\n[Network]\nLinkLocalAddressing=no\n"
            if nic.address:
                text += f"Address={nic.address}\n"
            if gateway:
                text += f"Gateway={gateway}\nDNS={network.resolver(nic.network)}\nDomains={DOMAIN}\n"
            path = root / f"etc/systemd/network/10-eth{number}.network"
        else:
            text = f"auto eth{number}\niface eth{number} inet {'static' if nic.address else 'manual'}\n"
            if nic.address:
                text += f"    address {nic.address}\n"
            if gateway:
                text += f"    gateway {gateway}\n"
            path = root / f"etc/network/interfaces.d/eth{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    if kind == "ifupdown":
        text = "source /etc/network/interfaces.d/*\n\nauto lo\niface lo inet loopback\n"
        (root / "etc/network/interfaces").write_text(text)
    resolv = root / "etc/resolv.conf"
    resolv.unlink(missing_ok=True)
    resolv.write_text(
        f"search {DOMAIN}\nnameserver {network.resolver(first.network)}\n" if first else f"search {DOMAIN}\n"
    )


def _create_inside(root: Path, spec: HostSpec, script: str) -> None:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/root"}
    environment |= {name.upper(): value for name, value in spec.options.items() if name != "authorized_key"}
    done = subprocess.run(
        [*ALL_WITH_US, "chroot", str(root), "/bin/sh", "-eu", "-s"],
        input=script,
        capture_output=True,
        text=True,
        env=environment,
    )
    if done.returncode != 0:
        raise LabProblem(
            f"“{spec.name}” could not be filled at its creation: {done.stderr.strip()[-600:]}",
            "Mend the recipe's creation script and create the host again.",
            code="lab.creation",
        )
