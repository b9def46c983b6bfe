"""A sync that is over stays over: a start that comes late, a target that is gone."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from migrationhub.lib.findings import Problem
from servers.movers.base import MoveJob
from servers.movers.rsync.job import RemoteJob
from servers.movers.rsync.mover import RsyncMover
from servers.progress import Progress, State
from servers.remote.ssh import Pool
from tests.fixtures_lab import ProcessHost
from tests.patience import wait_until
from tests.servers.movers.conftest import Pair
from tests.servers.movers.drive import drive
from tests.servers.movers.test_rsync_failures import SLOW, copiers, copying, grow

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def pair(make_pair: Callable[..., Pair]) -> Pair:
    pair = make_pair("ends")
    grow(pair)
    return pair


def directory(job: MoveJob) -> Path:
    return Path(RsyncMover()._source(job).layout.job)


def test_a_job_that_comes_up_after_its_sync_failed_does_nothing(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order to start was given, its answer was an error, and the machine carries it out later."""
    mover, job = RsyncMover(), pair.job("initial")
    launch, late = RemoteJob.launch, []

    def fails(self: RemoteJob) -> None:
        late.append(self)
        raise Problem("The start was not confirmed.", "Try again.", code="start.unconfirmed")

    monkeypatch.setattr(RemoteJob, "launch", fails)
    _, progress = drive(job)
    assert (progress.state, progress.code) == (State.FAILED, "start.unconfirmed") and len(late) == 1
    launch(late[0])  # now it comes up
    time.sleep(1)
    assert copiers(pair) == []
    assert not (directory(job) / "phases").exists(), "it froze nothing and listed nothing"
    look = mover._source(job).look()
    assert look.rc == 143 and not look.running


def test_a_job_that_is_just_beginning_is_waited_for_and_ended(pair: Pair) -> None:
    """Its place is taken already, and its process number is not written yet."""
    mover, job = RsyncMover(), pair.job("initial", bandwidth=SLOW)
    memo: dict[str, Any] = {}
    for _ in ("prepare", "receive"):
        memo, _ = mover.advance(job, memo)
    program = directory(job) / "source.sh"
    text = program.read_text()
    assert text.count("  read -r stat </proc/$$/stat\n") == 1
    program.write_text(text.replace("  read -r stat </proc/$$/stat\n", "  sleep 1.5; read -r stat </proc/$$/stat\n"))
    starting = threading.Thread(target=mover._source(replace(job, connect=Pool().connect)).launch)
    starting.start()
    while not (directory(job) / "running").exists():
        time.sleep(0.05)
    assert not (directory(job) / "pid").exists()
    assert mover.abandon(job).startswith("Nothing of this sync runs")
    starting.join()
    assert copiers(pair) == [] and mover._source(job).look().rc == 143


def test_without_its_target_the_copy_on_the_source_is_ended(pair: Pair) -> None:
    job = pair.job("initial", bandwidth=SLOW)
    drive(job, until=copying)
    assert len(copiers(pair)) == 1
    said = RsyncMover().abandon(job)
    assert pair.source.name in said and copiers(pair) == []
    assert not (directory(job) / "key").exists()
    assert RsyncMover().abandon(job) == said, "asked again it says the same"
    nothing = RsyncMover().abandon(pair.job("initial"))
    assert nothing == said, "and where nothing was begun too"


def starting(progress: Progress) -> bool:
    return progress.next_act == "start"


@pytest.mark.parametrize(
    "ways",
    [
        pytest.param(({},), id="stopped-in-the-copy"),
        # stopped before it copies, while the copy is half since an earlier one; its directory on the source lost
        pytest.param(({}, {"until": starting}, {"lost": True}), id="in-every-way", marks=pytest.mark.full),
    ],
)
def test_half_a_copy_starts_no_service(
    process_module_host: Callable[..., ProcessHost], pool: Pool, ways: tuple[dict[str, Any], ...]
) -> None:
    """What starts on half its data may destroy it, or serve it as if it were whole."""
    name = f"half{len(ways)}"
    source = process_module_host(f"{name}-old", "files", files="30", interval="0.05")
    target = process_module_host(f"{name}-new", network="migration")
    pair = Pair(source, target, pool, f"move-{name}", ("srv/files", "srv/data", "opt", "etc/supervisor.d"))
    grow(pair)
    services: dict[str, Any] = {"services": ({"name": "churn"},)}

    def runs() -> bool:
        return "RUNNING" in target.supervisorctl("status", "churn")

    def stopped(**changes: Any) -> Progress:
        """A delta that a person stops while it copies, or where `until` says."""
        until = changes.pop("until", copying)
        job = pair.job("delta", bandwidth=SLOW, **services)
        memo, _ = drive(job, until=until)
        if changes.pop("lost", False):
            for process in copiers(pair):
                os.killpg(process, signal.SIGKILL)
                shutil.rmtree(directory(job))
            return drive(job, memo)[1]
        return drive(replace(job, cancel=True), memo)[1]

    pair.sync("initial", **services)
    wait_until(runs)
    # Before anything was written the clone is whole, and goes on.
    progress = stopped(until=starting)
    assert progress.reason == "Stopped on request." and not progress.result["target_in_receive_mode"]
    wait_until(runs)
    held = f"The copy on {target.name} is incomplete, so its services stay stopped: run a sync to its end"
    for given in ways:
        grow(pair)
        boot = (target.root / "run/boot_id").read_text()
        progress = stopped(**given)
        assert progress.ended and progress.state != State.SUCCEEDED
        assert held in progress.reason and progress.result["target_in_receive_mode"], given
        assert (target.root / "run/boot_id").read_text() == boot and not runs(), given
    pair.sync("delta", **services)
    wait_until(runs)
    mover = RsyncMover()
    # Whose end was not recorded is asked again: it says the same, and restarts nobody a second time.
    grow(pair)
    job = pair.job("delta", **services)
    memo, _ = drive(job, until=lambda progress: progress.next_act == "leave")
    _, first = mover.advance(job, dict(memo))
    wait_until(runs)
    boot = (target.root / "run/boot_id").read_text()
    _, again = mover.advance(job, dict(memo))
    assert first.state == again.state == State.SUCCEEDED and first.sync == again.sync is not None
    assert (target.root / "run/boot_id").read_text() == boot and runs()
    # What was done before it was asked to stop is done.
    pair.last = first
    grow(pair)
    job = pair.job("delta", **services)
    memo, _ = drive(job, until=lambda progress: progress.next_act == "finish")
    assert drive(replace(job, cancel=True), memo)[1].state == State.SUCCEEDED
    wait_until(runs)
