"""The three process hosts of a bench: one source, and a target for each side."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from migrationhub.lab.bench.disk import Disk
from migrationhub.lab.hosts import HostSpec, Nic
from migrationhub.lab.process import ProcessBackend
from migrationhub.lab.process_keeper import PORT
from migrationhub.lab.state import Lab, LabProblem
from servers.remote.base import Endpoint

SOURCE, OUR_TARGET, THEIR_TARGET = "source", "target-ours", "target-theirs"
TREE = "srv/files"  # where the recipe “files” has its tree
LOCK_SECONDS = 5.0
FILE_BYTES = 7_000  # that a file of the tree takes of the disk, with its inode
OWN_DISK_FILES = 10_000  # from so many files on, a disk of the bench's own is worth its making


class Hosts:
    """Both targets have the same sshd and the same kind of keys; only who writes to them differs."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.backend = ProcessBackend(lab)
        self.disk = Disk(lab, self.backend.hosts)
        self._private_key = ""

    @classmethod
    @contextlib.contextmanager
    def up(cls, lab: Lab, files: int, say: Callable[[str], None]) -> Iterator[Hosts]:
        """The hosts, on, with a tree of `files` plain files on the source. However it ends, nothing is left.

        Raises `LabProblem` where another command holds the lab, or where the tree and its two copies have no room.
        """
        with lab.lock(LOCK_SECONDS):
            hosts = cls(lab)
            try:
                hosts._down()  # what a killed bench left
                needed = files * 3 * FILE_BYTES
                hosts._require_room(needed)
                if files >= OWN_DISK_FILES and not hosts.disk.mount(needed + (1 << 30)):
                    say("no file system of its own: what others write here is in the figures")
                say(f"making a tree of {files:,} files")
                hosts._make(files)
                yield hosts
            finally:
                hosts._down()
                lab.remove()

    def _down(self) -> None:
        for name in self.backend.names():
            with contextlib.suppress(LabProblem):
                self.backend.stop(name, hard=True)
        self.disk.unmount()
        self.backend.down()

    def _require_room(self, needed: int) -> None:
        place = next(path for path in self.backend.hosts.parents if path.exists())
        free = shutil.disk_usage(place).free
        if free < needed:
            raise LabProblem(
                f"The trees of this bench take {needed >> 20:,} MiB, and {place} has {free >> 20:,} MiB free.",
                "Give it fewer files, or make room.",
                code="bench.room",
            )

    def _make(self, files: int) -> None:
        with tempfile.TemporaryDirectory(prefix="mh-bench-") as directory:
            key = Path(directory) / "key"
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f", str(key)], check=True)
            self._private_key = key.read_text()
            options = {"authorized_key": key.with_suffix(".pub").read_text().strip()}
        tree = {"files": str(files), "churn": "no"}
        for number, (name, recipe, network, more) in enumerate(
            (
                (SOURCE, "files", "production", tree),
                (OUR_TARGET, "base", "migration", {}),
                (THEIR_TARGET, "base", "migration", {}),
            )
        ):
            address = self.lab.address(network, 10 + number, "process", prefix=True)
            self.backend.create(HostSpec(name, recipe, (Nic(network, address),), options={**options, **more}))
            self.backend.start(name)

    def endpoint(self, name: str) -> Endpoint:
        """As the hub logs in there: by key, with the host's keys accepted."""
        root = self.backend.root(name)
        keys = (" ".join(file.read_text().split()[:2]) for file in sorted(root.glob("etc/ssh/ssh_host_*_key.pub")))
        return Endpoint(
            name,
            self.backend.address(name),
            port=PORT,
            username=self.backend.account.name,
            private_key=self._private_key,
            host_keys=tuple(keys),
            manager="supervisord",
            directory=str(root),
        )

    def run(self, name: str, script: str, timeout: float = 3600.0) -> str:
        """What a script prints that runs in the host's directory, without SSH. Raises `LabProblem` if it fails."""
        done = self.backend.execute(name, script, timeout)
        if done.rc:
            raise LabProblem(
                f"{name}: a command of the bench ended with status {done.rc}: {(done.err or done.out).strip()[-600:]}",
                "Mend what it names, then start the bench again.",
                code="bench.command",
            )
        return done.out

    def empty(self) -> None:
        """As before the first copy: nothing on the targets, and no list of an earlier sync anywhere."""
        for name in (OUR_TARGET, THEIR_TARGET):
            self.run(name, f"rm -rf {TREE}")
        for name in (SOURCE, OUR_TARGET):
            self.run(name, "rm -rf var/lib/migrationhub run/migrationhub")
