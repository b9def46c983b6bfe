"""A target that falls silent, or whose connection breaks without a word: the sync ends, and its cause is named."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from servers.movers.rsync import config
from servers.movers.rsync.mover import RsyncMover
from servers.progress import Progress, State
from tests.servers.movers.conftest import Pair
from tests.servers.movers.drive import drive, succeed
from tests.servers.movers.processes import RSYNC, at_work, log_in_of
from tests.servers.movers.test_rsync_failures import SLOW, copiers, copying, grow

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def pair(make_pair: Callable[..., Pair]) -> Pair:
    pair = make_pair("silent")
    grow(pair)
    return pair


@pytest.fixture
def stop() -> Iterator[Callable[[list[int]], None]]:
    """Makes processes hang; they go on, if they are still there, at the end of the test."""
    stopped: list[int] = []

    def halt(pids: list[int]) -> None:
        assert pids, "nothing is at work"
        stopped.extend(pids)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)

    yield halt
    for pid in stopped:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGCONT)


def test_an_rsync_that_hangs_on_the_target_ends_the_sync(
    pair: Pair, stop: Callable[[list[int]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sshd still answers, so ssh would wait for ever."""
    monkeypatch.setattr(config, "SILENCE", 10)
    grow(pair)
    job = pair.job("initial", bandwidth=SLOW)
    memo, _ = drive(job, until=copying)
    stop(at_work(pair.target, RSYNC))
    _, progress = drive(job, memo)
    assert (progress.state, progress.code) == (State.FAILED, "rsync.timeout"), progress.reason
    assert "io timeout after" in progress.reason and "then try again" in progress.reason
    assert copiers(pair) == []
    monkeypatch.undo()
    pair.last = succeed(replace(job, bandwidth=0))


def test_a_pause_of_the_target_is_no_end(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "SILENCE", 20)
    grow(pair)
    job = pair.job("delta", bandwidth=SLOW)
    memo, _ = drive(job, until=copying)
    paused = at_work(pair.target, RSYNC)
    for pid in paused:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(4)
    for pid in paused:
        os.kill(pid, signal.SIGCONT)
    pair.last = succeed(job, memo)


@pytest.mark.full
def test_an_sshd_that_hangs_on_the_target_ends_the_sync(pair: Pair, stop: Callable[[list[int]], None]) -> None:
    """As where packets vanish one way: ssh asks four times in fifty seconds."""
    grow(pair)
    job = pair.job("delta", bandwidth=SLOW)
    memo, _ = drive(job, until=copying)
    stop([log_in_of(at_work(pair.target, RSYNC)[0])])
    began = time.monotonic()
    _, progress = drive(job, memo)
    assert (progress.state, progress.code) == (State.FAILED, "rsync.stream"), progress.reason
    assert "not responding" in progress.reason, progress.reason
    assert time.monotonic() - began < 90


def broken_while_it_lists(pair: Pair, how: Callable[[list[int]], None]) -> Progress:
    """A delta whose target takes long over its list, until `how` is done to the programs that make it."""
    mover, job = RsyncMover(), pair.job("delta")
    memo, _ = drive(job, until=lambda progress: progress.next_act == "start")
    program = Path(mover._target(job).layout.job) / "serve.sh"
    text = program.read_text()
    assert text.count("before() {\n") == 1
    program.write_text(text.replace("before() {\n", "before() {\n  sleep 60\n"))
    memo, _ = mover.advance(job, memo)
    deadline = time.monotonic() + 30
    while not (found := at_work(pair.target, os.fsencode(program))):
        assert time.monotonic() < deadline, "the target lists nothing"
        time.sleep(0.1)
    how(found)
    return drive(job, memo)[1]


def test_a_connection_that_breaks_while_the_target_lists_says_why(pair: Pair) -> None:
    def cut(found: list[int]) -> None:
        os.kill(log_in_of(found[0]), signal.SIGKILL)

    progress = broken_while_it_lists(pair, cut)
    assert progress.state == State.FAILED
    assert "could not list the target: the connection failed (ssh, status 255): " in progress.reason
    assert "closed by remote host" in progress.reason, "ssh's own word"
    assert progress.reason.rstrip(".").endswith("goes on where it stopped")


@pytest.mark.full
def test_a_program_that_is_killed_while_it_lists_is_told_from_it(pair: Pair) -> None:
    def kill(found: list[int]) -> None:
        for pid in found:
            os.kill(pid, signal.SIGKILL)

    progress = broken_while_it_lists(pair, kill)
    assert progress.state == State.FAILED
    assert "could not list the target: its program there ended with status" in progress.reason, progress.reason
