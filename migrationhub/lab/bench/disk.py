"""A file system of the bench's own, in a file: what others write to the machine's disk is then no part of a `sync`
of either side, and hundreds of thousands of files go with one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from migrationhub.lab.state import Lab

BYTES_PER_INODE = 4096
_MOUNT = "loop,noinit_itable,nodiscard"  # no work of the kernel's own behind the measured copies


class Disk:
    """Mounted at `place`, kept in the lab's directory."""

    def __init__(self, lab: Lab, place: Path) -> None:
        self.image = lab.dir / "disk.img"
        self.place = place

    def mount(self, size: int) -> bool:
        """Make one of `size` bytes and mount it. False, and nothing is changed, where this machine does not let us."""
        if os.geteuid() != 0:
            return False
        self.image.parent.mkdir(parents=True, exist_ok=True)
        self.place.mkdir(parents=True, exist_ok=True)
        with self.image.open("wb") as file:
            file.truncate(size)
        made = _run("mkfs.ext4", "-q", "-F", "-m", "0", "-i", str(BYTES_PER_INODE), str(self.image))
        if not (made and _run("mount", "-o", _MOUNT, str(self.image), str(self.place))):
            self.image.unlink()
            return False
        (self.place / "lost+found").rmdir()
        return True

    def unmount(self) -> None:
        """Take it away with all that is in it; also what a killed bench left."""
        if self.place.is_mount():
            _run("umount", str(self.place)) or _run("umount", "-l", str(self.place))
        self.image.unlink(missing_ok=True)


def _run(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False
