"""Controllers and workers that are paused and wake up late: what they were about to do is another's by then.

What an act did is counted on the host that it touched: one line for each time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django_q.models import OrmQ

from servers.models import Lease
from tests.fixtures_lab import ProcessLab
from tests.hub_processes import group_of, hub_processes, stop_group, until
from tests.kills.counted import Counted

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif("sqlite" not in settings.DATABASES["default"]["ENGINE"], reason="opens the hub's SQLite file"),
]


@pytest.fixture
def paused(
    tmp_path_factory: pytest.TempPathFactory, django_db_blocker: Any, process_lab: ProcessLab, process_host: Any
) -> Iterator[Counted]:
    with django_db_blocker.unblock(), hub_processes(tmp_path_factory.mktemp("hub")) as hub:
        try:
            yield Counted(hub, process_lab, process_host("sleeper", "base"))
        finally:
            for process in hub.started:  # else a signal to end waits until it wakes
                send(process.pid, signal.SIGCONT)


def send(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def test_a_controller_paused_in_the_middle_of_an_act_does_nothing_when_it_wakes(paused: Counted) -> None:
    paused.workers()
    first = paused.controller(1)
    run = paused.ask("in the middle")
    paused.taken(run)
    stop_group(first.pid, paused.hub.database)
    second = paused.controller(2)
    paused.go_on()
    # The act was begun under the first one's epoch; nobody does it again, and what it found is kept.
    assert (paused.finished(run).epoch, run.acts, paused.lines()) == (1, 1, 1)
    send(first.pid, signal.SIGCONT)
    time.sleep(2)  # ten of its passes
    later = paused.finished(paused.ask("afterwards"))
    # Both are awake: whoever is late by a lease of the tests' two seconds loses it to the other.
    assert later.epoch >= 2 and (later.acts, paused.lines()) == (1, 2)
    assert Lease.objects.get().epoch >= later.epoch
    assert first.poll() is None and second.poll() is None


def test_a_worker_paused_in_the_middle_of_an_act_keeps_it(paused: Counted) -> None:
    """It lives, so nobody knows how far it is: the act is not begun beside it, whoever controls meanwhile."""
    paused.workers()
    first = paused.controller(1)
    run = paused.ask("in the middle")
    pid = paused.taken(run)
    assert pid > 1
    os.kill(pid, signal.SIGSTOP)
    try:
        os.kill(first.pid, signal.SIGKILL)
        paused.controller(2)
        paused.go_on()
        time.sleep(2)  # ten of its passes
        assert (paused.worker(run), run.state, run.acts, paused.lines()) == (pid, "running", 1, 1)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert (paused.finished(run).acts, paused.lines()) == (1, 1)


def test_workers_paused_before_an_act_leave_it_to_the_later_message(paused: Counted) -> None:
    """Each controller has sent one for the same act: the one of the epoch that is over does nothing."""
    cluster = paused.workers()
    first = paused.controller(1)
    stop_group(cluster.pid, paused.hub.database)
    assert len(group_of(cluster.pid)) >= 4
    run = paused.ask("not begun")
    until(lambda: OrmQ.objects.count() == 1, 300, paused.hub.words)
    os.kill(first.pid, signal.SIGKILL)
    paused.controller(2)
    until(lambda: OrmQ.objects.count() == 2, 300, paused.hub.words)
    paused.go_on(begun=False)
    send(cluster.pid, signal.SIGCONT)
    assert (paused.finished(run).acts, run.epoch, paused.lines()) == (1, 2, 1)
    until(lambda: paused.hub.words().count("Processed") == 2, 300, paused.hub.words)
    assert paused.lines() == 1
