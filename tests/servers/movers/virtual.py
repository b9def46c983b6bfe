"""Moves whose source is a virtual machine with disks of its own, to a Debian host of the nspawn lab."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from migrationhub.lab.qemu import Guest
from migrationhub.lib.findings import Finding
from servers.movers.base import Freeze, MoveJob
from servers.movers.rsync.mover import RsyncMover
from servers.progress import Progress, State
from servers.remote import access
from servers.remote.base import Endpoint
from servers.remote.ssh import Pool, connect
from tests.fixtures_nspawn import NspawnHost, NspawnLab
from tests.lab.qemu_guests import access_of, at_guest, guest_of, log_in, patiently, wait_until_back
from tests.servers.movers.drive import drive

PRIVATE, PUBLIC = access.new_key_pair("test")
_numbers = itertools.count(1)


@dataclass
class Move:
    """`freeze` and `paths` are the jobs' own unless a test says otherwise; `last` is the last sync point."""

    guest: Guest
    source: Endpoint
    target: NspawnHost
    endpoint: Endpoint  # of our access to the target
    pool: Pool
    freeze: Freeze
    paths: tuple[str, ...]
    listing: str  # command that lists our snapshots on the source
    last: dict[str, Any] = field(default_factory=dict)

    def run(self, command: str, timeout: float = 180) -> str:
        return patiently(lambda: self.pool.connect(self.source)).run(command, timeout=timeout, check=True).text

    def job(self, kind: str = "delta", **changes: Any) -> MoveJob:
        key = f"{self.guest.label}:{kind}:{next(_numbers)}"
        job = MoveJob(key, kind, self.source, self.endpoint, self.pool.connect, "virtual", scope="paths")
        # Slow enough that something can happen in the middle of the copy.
        values = {"freeze": self.freeze, "paths": self.paths, "last_sync": self.last, "bandwidth": 128}
        return replace(job, **{**values, **changes})

    def found(self, **changes: Any) -> dict[str, Finding]:
        """Findings of the preflight by their codes."""
        job = self.job(**changes)
        return {one.code: one for one in patiently(lambda: RsyncMover().preflight(job))}

    def copying(self, job: MoveJob) -> dict[str, Any]:
        """Drive the job into the middle of its copy; its memo."""
        halfway = partial(drive, job, until=lambda one: one.phase == "copying" and one.bytes_done > 0, seconds=600)
        memo, progress = patiently(halfway)
        assert progress.state == State.RUNNING, progress
        return memo

    def ended(self, job: MoveJob, memo: dict[str, Any] | None = None) -> Progress:
        """Drive the job to its end. After a success the target is back; else it goes on waiting for data."""
        _, progress = patiently(lambda: drive(job, memo, seconds=600))
        if progress.state == State.SUCCEEDED and progress.sync:
            self.last = progress.sync.as_dict()
            wait_until_back(self.pool, self.endpoint)
        else:
            received = self.pool.connect(self.endpoint).run("[ -e /run/migrationhub/received ]", timeout=60)
            assert received.rc == 0, "half a copy started its services"
        return progress

    def left(self) -> str:
        """Snapshots of ours on the source, and mounts of them."""
        return self.run(f"{self.listing}; grep migrationhub /proc/mounts || :").strip()


# An emulated processor on a busy machine needs longer for a handshake than a login may take.
PATIENT = """
cd /etc/migrationhub
sed -i 's/^LoginGraceTime .*/LoginGraceTime 300/' sshd_config
echo 'KexAlgorithms curve25519-sha256,curve25519-sha256@libssh.org' >>sshd_config
systemctl restart migrationhub-access
"""

# The kernel's throttle of written pages once let a mount wait for ever on an emulated disk.
UNTHROTTLED = """
cat >/etc/udev/rules.d/60-unthrottled.rules <<'END'
ACTION=="add|change", SUBSYSTEM=="block", ENV{DEVTYPE}=="disk", KERNEL=="vd*", ATTR{queue/wbt_lat_usec}="0"
END
udevadm control --reload && udevadm trigger --settle --action=change --subsystem-match=block
! grep -v '^0$' /sys/block/vd*/queue/wbt_lat_usec
"""


@contextlib.contextmanager
def virtual_source(
    host: NspawnHost,
    target: NspawnHost,
    lab: NspawnLab,
    directory: Path,
    disks: Mapping[str, str],
    **of_move: Any,
) -> Iterator[Move]:
    """The host, which must be off, started as a virtual machine with more disks; `target` was made with `PUBLIC`."""
    pool = Pool(partial(connect, banner_timeout=120, auth_timeout=120))
    guest = guest_of(host, lab, directory, "source-root", side="production")
    for name, size in disks.items():
        guest.add_disk(name, size)
    try:
        with guest:
            guest.wait_for_ssh()
            # An emulated processor takes its time for the handshake.
            scan = ["ssh-keyscan", "-T", "60", "-t", "ed25519", "-p", str(guest.ports[22]), "127.0.0.1"]
            shown = subprocess.run(scan, capture_output=True, text=True, timeout=120).stdout
            keys = tuple(" ".join(line.split()[1:3]) for line in shown.splitlines() if not line.startswith("#"))
            known = replace(host.endpoint, host_keys=keys)
            connection = log_in(known, guest)
            connection.run(UNTHROTTLED, check=True, timeout=180)
            connection.close()
            source = at_guest(known, guest)
            endpoint = access_of(target, PRIVATE)
            assert target.execute(PATIENT).rc == 0
            yield Move(guest, source, target, endpoint, pool, **of_move)
    finally:
        pool.close()
