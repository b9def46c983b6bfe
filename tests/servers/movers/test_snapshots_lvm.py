"""Syncs from LVM snapshots, of a virtual machine: the kernel under containers need not have a device mapper."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from migrationhub.lib.findings import Level
from servers.movers.base import Freeze
from servers.progress import Consistency, State
from servers.remote import access
from tests.fixtures_nspawn import NspawnHost, NspawnLab
from tests.lab.qemu_guests import need_qemu
from tests.servers.movers.virtual import PUBLIC, Move, virtual_source

pytestmark = [pytest.mark.nspawn, pytest.mark.full, pytest.mark.emulated]

# Two volumes in a group with room, one that fills its group, and a directory on no volume at all.
SET_UP = """
set -e
vgcreate -qq data /dev/vdb; lvcreate -qq -y -L 400M -n files data; lvcreate -qq -y -L 200M -n log data
vgcreate -qq tight /dev/vdc; lvcreate -qq -y -l 100%FREE -n full tight
mkfs.xfs -q /dev/data/files; mkfs.ext4 -q /dev/data/log; mkfs.ext4 -q /dev/tight/full
mkdir -p /srv/files /srv/log /srv/full /srv/plain; echo p >/srv/plain/p
"""
MOUNT = """
mount /dev/data/files /srv/files; mount /dev/data/log /srv/log; mount /dev/tight/full /srv/full
mkdir -p /srv/files/inside /srv/log/bound; mount --bind /srv/files/inside /srv/log/bound
"""
FILL = """
head -c 12M /dev/urandom >/srv/files/big; echo before >/srv/files/changed; echo before >/srv/files/removed
echo before >/srv/log/changed; echo before >/srv/files/inside/changed
"""


@pytest.fixture(scope="module")
def move(
    nspawn_module_host: Callable[..., NspawnHost], nspawn_lab: NspawnLab, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Move]:
    need_qemu()
    host = nspawn_module_host("lvm-old", "lvm", start=False)
    target = nspawn_module_host("lvm-new", network="migration", user_data=access.user_data(PUBLIC))
    with virtual_source(
        host,
        target,
        nspawn_lab,
        tmp_path_factory.mktemp("qemu"),
        {"data": "1G", "tight": "128M"},
        freeze=Freeze("snapshot-lvm"),
        paths=("/srv/files", "/srv/log"),
        listing="lvs --noheadings -o lv_full_name -S 'tags=migrationhub'",
    ) as made:
        made.run(SET_UP)
        made.run(MOUNT)
        made.run(FILL)
        yield made


def test_what_the_snapshots_can_do_is_said_before(move: Move) -> None:
    said = move.found()
    assert not [one for one in said.values() if one.level == Level.BLOCKING], said
    assert said["freeze.snapshot"].level == Level.READY and "data/" in said["freeze.snapshot"].text
    assert said["freeze.moments"].level == Level.WARNING and "data/files, data/log" in said["freeze.moments"].text
    live = move.found(paths=("/srv/files", "/srv/plain"))["freeze.live"]
    assert live.level == Level.WARNING and live.text.endswith("lvm-old: /."), live


def test_what_cannot_be_snapshotted_is_refused_in_words(move: Move) -> None:
    full = move.found(paths=("/srv/full",))["freeze.snapshot"]
    assert full.level == Level.BLOCKING and "too little room for a snapshot of tight/full" in full.text
    plain = move.found(paths=("/srv/plain",))["freeze.snapshot"]
    assert plain.level == Level.BLOCKING and "lies on an LVM volume" in plain.text
    small = move.found(freeze=Freeze("snapshot-lvm", {"size": "4M"}))["freeze.room"]
    assert small.level == Level.WARNING and "4.0 MiB of changes" in small.text
    wrong = move.found(freeze=Freeze("snapshot-lvm", {"size": "much"}))["freeze.size"]
    assert wrong.level == Level.BLOCKING
    assert not move.left(), "a trial leaves nothing"


def test_the_copy_is_of_the_moment_of_the_snapshot(move: Move) -> None:
    job = move.job("initial")
    memo = move.copying(job)
    assert move.left().count("data/migrationhub_") == 2, "one for each volume, however often it is mounted"
    for path in ("files/changed", "log/changed", "files/inside/changed"):
        move.run(f"echo after >/srv/{path}; sync")
    move.run("rm /srv/files/removed")
    progress = move.ended(job, memo)
    assert progress.state == State.SUCCEEDED, f"{progress.code}: {progress.reason}\n" + "\n".join(progress.log)
    assert progress.sync is not None and progress.sync.consistency == Consistency.SNAPSHOT
    assert any("not at one moment: data/files, data/log" in note for note in progress.sync.notes), progress.sync.notes
    everything = "cd /srv; cat files/changed log/changed files/inside/changed"
    assert move.target.execute(f"{everything} files/removed").out.split() == ["before"] * 4
    assert move.target.execute("ls /srv/log/bound").out == "", "what the host shows twice is copied at one place"
    assert move.left() == ""
    # The next one brings what happened meanwhile.
    progress = move.ended(move.job())
    assert progress.sync is not None and not progress.sync.full, progress
    assert move.target.execute(everything).out.split() == ["after"] * 3
    assert move.target.execute("ls /srv/files/removed").rc != 0
    assert move.left() == ""


def test_a_snapshot_that_fills_up_is_no_sync(move: Move) -> None:
    move.run("head -c 12M /dev/urandom >/srv/files/more")
    job = move.job(freeze=Freeze("snapshot-lvm", {"size": "8M"}))
    memo = move.copying(job)
    move.run("dd if=/dev/urandom of=/srv/files/big bs=1M count=12 conv=notrunc,fsync status=none")
    progress = move.ended(job, memo)
    assert progress.state == State.FAILED and progress.code == "snapshot.full", progress
    assert "data/migrationhub_" in progress.reason and "no room left" in progress.reason
    assert progress.sync is None and move.left() == ""


def test_a_killed_copy_leaves_no_snapshot(move: Move) -> None:
    move.run("head -c 12M /dev/urandom >/srv/files/more")
    job = move.job()
    memo = move.copying(job)
    move.run("systemctl kill --signal=KILL 'migrationhub-*'")
    progress = move.ended(job, memo)
    assert progress.state == State.FAILED and progress.code == "mover.killed", progress
    assert move.left() == ""


def test_a_snapshot_left_by_a_power_cut_is_removed_by_the_next_sync(move: Move) -> None:
    move.run("head -c 12M /dev/urandom >/srv/files/more")
    move.copying(move.job())
    move.guest.pull_the_plug()
    move.guest.start()
    move.guest.wait_for_ssh()
    deadline = time.monotonic() + 120
    while "data/migrationhub_" not in move.left():
        assert time.monotonic() < deadline
    move.run(MOUNT)
    # Also one that takes no snapshot itself.
    progress = move.ended(move.job(freeze=Freeze(), bandwidth=0))
    assert progress.sync is not None and progress.sync.consistency == Consistency.LIVE, progress
    assert move.left() == ""
