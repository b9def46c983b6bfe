"""What goes wrong ends in a sentence, nothing runs twice, and a retry goes on where the copy stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from migrationhub.lab.verify import compare_trees
from migrationhub.lib.findings import Level
from servers.movers.rsync.mover import RsyncMover
from servers.progress import Progress, State
from servers.remote.base import Connection, Endpoint, RemoteProblem, Unreachable
from servers.remote.ssh import Pool
from tests.fixtures_lab import ProcessHost
from tests.patience import wait_until
from tests.servers.movers.conftest import Pair
from tests.servers.movers.drive import drive
from tests.servers.movers.processes import RSYNC, at_work

pytestmark = pytest.mark.lab

SLOW = 1024  # KiB/s: the 6 MiB of the tree take six seconds


@pytest.fixture(scope="module")
def pair(make_pair: Callable[..., Pair]) -> Pair:
    pair = make_pair("fail")
    grow(pair)
    return pair


def grow(pair: Pair) -> None:
    """New data, so that there is something to copy: 6 MiB in 6 files."""
    result = pair.source.execute(
        "mkdir -p srv/data; for n in 1 2 3 4 5 6; do head -c 1M /dev/urandom >srv/data/$n; done"
    )
    assert result.rc == 0, result.err


def copying(progress: Progress) -> bool:
    return progress.phase == "copying" and progress.bytes_done > 0


def copiers(pair: Pair) -> list[int]:
    """Process numbers of the copies on the source: the program that leads each, without what it started."""
    found = []
    for directory in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        try:
            words = (directory / "cmdline").read_bytes()
            group = (directory / "stat").read_text().rpartition(")")[2].split()[2]
        except OSError:
            continue
        if group == directory.name and b"source.sh\0" in words and os.fsencode(pair.source.root) in words:
            found.append(int(directory.name))
    return found


def test_acts_may_be_repeated_and_start_nothing_twice(pair: Pair) -> None:
    """A worker killed after an act and before the memo was stored repeats the act; another run adopts the copy."""
    mover, job = RsyncMover(), pair.job("initial", bandwidth=SLOW)
    memo: dict[str, Any] = {}
    for act in ("prepare", "receive", "start"):
        assert mover.observe(job, memo).next_act == act
        mover.advance(job, memo)  # done, and forgotten
        memo, _ = mover.advance(job, memo)
    assert len(copiers(pair)) == 1
    drive(job, memo, until=copying)
    paused = at_work(pair.target, RSYNC)  # so that it lasts, however long a busy machine takes over the rest
    assert paused, "nothing is at work"
    for pid in paused:
        os.kill(pid, signal.SIGSTOP)
    try:
        # Another run of the same work, which knows nothing: it finds what runs and takes it over.
        adopted, progress = mover.advance(job, {})
        assert adopted["adopted"] and progress.next_act is None and len(copiers(pair)) == 1
        # While it runs, another sync of the same migration is refused on the source.
        _, other = drive(pair.job("delta"))
        assert other.state == State.FAILED and other.code == "mover.locked"
    finally:
        for pid in paused:
            os.kill(pid, signal.SIGCONT)
    _, progress = drive(job, adopted)
    assert progress.state == State.SUCCEEDED, progress.reason
    # And once more after its end: the result is adopted too, nothing is copied again.
    _, once_more = drive(job, {})
    assert once_more.state == State.SUCCEEDED and once_more.sync == progress.sync
    pair.last = progress


def test_killed_copy_ends_in_a_sentence_and_a_retry_completes_it(pair: Pair) -> None:
    grow(pair)
    job = pair.job("delta", bandwidth=SLOW)
    memo, _ = drive(job, until=copying)
    (leader,) = copiers(pair)
    os.kill(leader, signal.SIGKILL)  # alone: its rsync still runs, and the retry ends it
    _, progress = drive(job, memo)
    assert progress.state == State.FAILED and progress.code == "mover.killed"
    assert "Try again" in progress.reason
    _, progress = drive(replace(job, bandwidth=0))
    assert progress.state == State.SUCCEEDED, progress.reason
    assert compare_trees(pair.source.root, pair.target.root, ["srv/data"], []).ok
    assert progress.sync.discarded_count == 0, "what the killed try wrote is taken for a tester's changes"
    pair.last = progress


def test_cut_connection_is_named(pair: Pair) -> None:
    grow(pair)
    job = pair.job("delta", bandwidth=SLOW)
    memo, _ = drive(job, until=copying)
    pair.target.stop(hard=True)
    _, progress = drive_until_finish(job, memo)
    assert progress.next_act == "finish"
    # The target is off: the clean-up waits, it is not skipped.
    with pytest.raises(Unreachable):
        RsyncMover().advance(job, memo)
    pair.target.start()
    job = replace(job, target=pair.target.endpoint)
    _, progress = drive(job, memo)
    assert progress.state == State.FAILED and progress.code in ("rsync.stream", "ssh.failed", "mover.signal")
    assert "Try again" in progress.reason or "try again" in progress.reason
    pair.sync("delta")


def drive_until_finish(job: Any, memo: dict[str, Any]) -> tuple[dict[str, Any], Progress]:
    return drive(job, memo, until=lambda progress: progress.next_act == "finish")


def test_cancel_stops_everything_and_leaves_no_key(pair: Pair) -> None:
    grow(pair)
    job = pair.job("delta", bandwidth=SLOW)
    memo, _ = drive(job, until=copying)
    assert RsyncMover().observe(replace(job, cancel=True), memo).next_act == "cancel"
    began = time.monotonic()
    _, progress = drive(replace(job, cancel=True), memo)
    assert progress.state == State.CANCELLED and time.monotonic() - began < 15
    assert not copiers(pair)
    assert not list(pair.source.root.glob("run/migrationhub/*/key"))
    assert "migrationhub-transfer" not in (pair.target.root / ".ssh/authorized_keys").read_text()
    # Before the first act there is nothing to stop.
    _, progress = drive(pair.job("delta", cancel=True))
    assert progress.state == State.CANCELLED


def test_a_lost_directory_is_lost_and_not_success(pair: Pair) -> None:
    job = pair.job("delta", bandwidth=SLOW)
    memo, _ = drive(job, until=copying)
    running = next(path for path in pair.source.root.glob("run/migrationhub/*") if (path / "key").exists())
    running.rename(running.with_name("moved-away"))
    _, progress = drive(job, memo)
    assert progress.state == State.LOST and progress.code == "mover.lost"
    for process in copiers(pair):
        os.killpg(process, signal.SIGKILL)


def test_bandwidth_limit_holds(pair: Pair) -> None:
    grow(pair)
    began = time.monotonic()
    pair.sync("delta", bandwidth=2048)
    assert time.monotonic() - began > 2.5  # 6 MiB at 2 MiB/s, beside the rest


def test_a_lost_contact_to_the_source_is_not_an_end(pair: Pair) -> None:
    """The copy needs no hub: the question fails and may be asked again."""
    job = pair.job("delta")
    memo, _ = drive(job, until=lambda progress: progress.next_act is None)

    def unreachable(endpoint: Endpoint) -> Connection:
        raise Unreachable("no TCP connection", lasting=False)

    with pytest.raises(RemoteProblem):
        RsyncMover().observe(replace(job, connect=unreachable), memo)
    _, progress = drive(job, memo)
    assert progress.state == State.SUCCEEDED
    pair.last = progress


@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system can only be mounted by root")
def test_full_disk_is_named_with_what_to_do(pair: Pair) -> None:
    place, owner = pair.target.root / "srv/small", pair.target.backend.account
    place.mkdir()
    options = f"size=2m,uid={owner.uid},gid={owner.gid}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(place)], check=True)
    try:
        pair.source.execute("mkdir -p srv/small; head -c 4M /dev/urandom >srv/small/big")
        job = pair.job("initial", paths=("srv/small",), migration_key="move-small", last_sync={})
        found = {f.code: f for f in RsyncMover().preflight(job) if f.level == Level.BLOCKING}
        _, progress = drive(job)
    finally:
        subprocess.run(["umount", str(place)], check=True)
    assert "4.0 MiB needed" in found["space.short"].text and "larger disk" in found["space.short"].act
    assert progress.state == State.FAILED and progress.code == "target.full", progress
    assert "Enlarge" in progress.reason


def test_findings_name_what_is_in_the_way(pair: Pair) -> None:
    def codes(**changes: Any) -> dict[str, str]:
        found = RsyncMover().preflight(pair.job("delta", **changes))
        return {finding.code: finding.text for finding in found if finding.level == Level.BLOCKING}

    assert codes() == {}
    assert "/srv/none" in codes(paths=("srv/none",))["scope.absent"]
    pair.source.execute("ln -s data srv/link")
    assert "/srv/link" in codes(paths=("srv/link",))["scope.link"]
    assert set(codes(scope="system")) == {"rsync.scope"}
    assert set(codes(paths=())) == {"rsync.paths"}
    assert set(codes(exclusions=("/",))) == {"rsync.exclusion"}
    nowhere = replace(pair.target.endpoint, address="127.0.0.9")
    assert set(codes(target=nowhere)) == {"ssh.refused"} or "127.0.0.9" in " ".join(codes(target=nowhere).values())
    # The hub reaches the target, but what answers the source at that address is another machine.
    stranger = replace(pair.target.endpoint, host_keys=("ssh-ed25519 AAAA",))
    assert "path.other_host" in codes(target=stranger, connect=as_known(pair))


def as_known(pair: Pair) -> Callable[[Endpoint], Connection]:
    def connect(endpoint: Endpoint) -> Connection:
        return pair.pool.connect(pair.target.endpoint if endpoint.name == pair.target.name else endpoint)

    return connect


def test_recorded_services_are_stopped_while_data_arrives(
    process_module_host: Callable[..., ProcessHost], pool: Pool, trap_commands: Callable[[], list[str]]
) -> None:
    source = process_module_host("churn-old", "files", files="30", interval="0.05")
    target = process_module_host("churn-new", network="migration")
    pair = Pair(source, target, pool, "move-churn", ("srv/files", "opt", "etc/supervisor.d"))
    services = ({"name": "churn"},)
    # A fresh target knows the service only after the first sync brought it and it was restarted.
    pair.sync("initial", services=services)
    wait_until(lambda: "RUNNING" in target.supervisorctl("status", "churn"))
    job = pair.job("delta", services=services)
    memo, _ = drive(job, until=lambda progress: progress.next_act == "start")
    assert "RUNNING" not in target.supervisorctl("status", "churn")
    _, progress = drive(job, memo)
    assert progress.state == State.SUCCEEDED, progress.reason
    assert progress.sync.discarded_count > 0, "what the clone's service wrote is taken away"
    pair.last = progress
    wait_until(lambda: "RUNNING" in target.supervisorctl("status", "churn"))
    source.supervisorctl("stop", "churn")
    pair.sync("final", services=services)
    assert "RUNNING" not in target.supervisorctl("status", "churn")
    verdict = compare_trees(source.root, target.root, list(pair.paths), [])
    assert verdict.ok, verdict


def test_a_directory_that_ssh_cannot_be_told_is_refused(pair: Pair) -> None:
    odd = replace(pair.source.endpoint, directory="/tmp/with space")
    _, progress = drive(replace(pair.job("delta"), source=odd))
    assert progress.state == State.FAILED and "cannot carry" in progress.reason
