"""Syncs from ZFS snapshots, of a virtual machine with the module compiled for its kernel."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from migrationhub.lab.images import Images
from migrationhub.lib.findings import Level
from servers.movers.base import Freeze
from servers.progress import Consistency, State
from servers.remote import access
from tests.fixtures_nspawn import NspawnHost, NspawnLab
from tests.lab.qemu_guests import need_qemu
from tests.servers.movers.virtual import PUBLIC, Move, virtual_source

pytestmark = [pytest.mark.nspawn, pytest.mark.full, pytest.mark.emulated]

SET_UP = """
set -e
modprobe zfs
zpool create -O mountpoint=none tank /dev/vdb; zpool create -O mountpoint=none other /dev/vdc
zfs create -o mountpoint=/srv/files tank/files; zfs create tank/files/inner
zfs create -o mountpoint=/srv/log tank/log; zfs create -o mountpoint=/srv/other other/data
mkdir -p /srv/plain; echo p >/srv/plain/p
head -c 12M /dev/urandom >/srv/files/big; echo before >/srv/files/changed; echo before >/srv/files/removed
echo before >/srv/log/changed; echo before >/srv/files/inner/changed; echo o >/srv/other/o
"""


@pytest.fixture(scope="module")
def move(
    nspawn_module_host: Callable[..., NspawnHost], nspawn_lab: NspawnLab, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Move]:
    need_qemu()
    backend = nspawn_lab.backend
    with pytest.MonkeyPatch.context() as patch:
        # Compiled for minutes: under a lock of its own, so that nobody else's host waits for it.
        patch.setattr(backend, "images", Images(backend.images.cache / "slow"))
        host = nspawn_module_host("zfs-old", "zfs", start=False)
    target = nspawn_module_host("zfs-new", network="migration", user_data=access.user_data(PUBLIC))
    with virtual_source(
        host,
        target,
        nspawn_lab,
        tmp_path_factory.mktemp("qemu"),
        {"tank": "256M", "other": "128M"},
        freeze=Freeze("snapshot-zfs"),
        paths=("/srv/files", "/srv/log"),
        listing="zfs list -H -t snapshot -o name",
    ) as made:
        made.run(SET_UP, timeout=300)
        yield made


def test_what_the_snapshots_can_do_is_said_before(move: Move) -> None:
    said = move.found()
    assert not [one for one in said.values() if one.level == Level.BLOCKING], said
    assert not {"freeze.moments", "freeze.live", "freeze.room"} & said.keys()
    assert "in the pool tank" in said["freeze.snapshot"].text, "one pool: all of one moment"
    two = move.found(paths=("/srv/files", "/srv/other"))["freeze.moments"]
    assert two.level == Level.WARNING and "pools other, tank" in two.text
    live = move.found(paths=("/srv/files", "/srv/plain"))["freeze.live"]
    assert live.level == Level.WARNING and live.text.endswith("zfs-old: /."), live
    plain = move.found(paths=("/srv/plain",))["freeze.snapshot"]
    assert plain.level == Level.BLOCKING and "lies on ZFS" in plain.text


def test_the_copy_is_of_the_moment_of_the_snapshot(move: Move) -> None:
    job = move.job("initial")
    memo = move.copying(job)
    assert move.left().count("@migrationhub_") >= 3
    for path in ("files/changed", "files/inner/changed", "log/changed"):
        move.run(f"echo after >/srv/{path}; sync")
    move.run("rm /srv/files/removed")
    progress = move.ended(job, memo)
    assert progress.state == State.SUCCEEDED, f"{progress.code}: {progress.reason}\n" + "\n".join(progress.log)
    assert progress.sync is not None and progress.sync.consistency == Consistency.SNAPSHOT
    assert not progress.sync.notes
    everything = "cd /srv; cat files/changed files/inner/changed log/changed"
    assert move.target.execute(f"{everything} files/removed").out.split() == ["before"] * 4
    assert move.left() == ""
    progress = move.ended(move.job())
    assert progress.sync is not None and not progress.sync.full, progress
    assert move.target.execute(everything).out.split() == ["after"] * 3
    assert move.target.execute("ls /srv/files/removed").rc != 0
    assert move.left() == ""


def test_a_killed_copy_leaves_no_snapshot(move: Move) -> None:
    move.run("head -c 12M /dev/urandom >/srv/files/more")
    job = move.job()
    memo = move.copying(job)
    move.run("systemctl kill --signal=KILL 'migrationhub-*'")
    progress = move.ended(job, memo)
    assert progress.state == State.FAILED and progress.code == "mover.killed", progress
    assert move.left() == ""


def test_snapshots_left_by_a_power_cut_are_removed_by_the_next_sync(move: Move) -> None:
    move.run("head -c 12M /dev/urandom >/srv/files/more; zfs snapshot tank/files@somebodys")
    move.copying(move.job())
    move.guest.pull_the_plug()
    move.guest.start()
    move.guest.wait_for_ssh()
    move.run("modprobe zfs; zpool import -a -f -d /dev || :")
    deadline = time.monotonic() + 120
    while "tank/files@migrationhub_" not in move.left() or "/srv/log" not in move.run("cat /proc/mounts"):
        assert time.monotonic() < deadline, move.left()
    progress = move.ended(move.job(freeze=Freeze(), bandwidth=0))
    assert progress.sync is not None and progress.sync.consistency == Consistency.LIVE, progress
    assert move.left() == "tank/files@somebodys"
