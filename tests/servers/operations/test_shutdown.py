"""A source that does not answer any more: neither stuck for ever nor taken for gone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from servers.models import Run, Server
from servers.operations.base import Job
from servers.operations.shutdown import DEAF, LIMIT, NOT_ASKED, STILL_THERE, Shutdown
from servers.progress import Progress, State
from servers.remote.base import Result, Unreachable
from tests import factories

pytestmark = pytest.mark.django_db
AWAY = Unreachable("shop-db does not answer.", "Look at it.", code="ssh.unreachable", lasting=False)


class Machine:
    """What the hub sees of the source: whether SSH answers, and whether any of its ports does."""

    def __init__(self) -> None:
        self.server = factories.make_server("shop-db")
        self.answers = True  # its SSH server
        self.there = True  # anything at all
        self.orders = 0
        self.cut: Exception | None = None  # how the connection ends with the order

    def connect(self, endpoint: Any) -> Any:
        if not self.answers:
            raise AWAY
        return self

    @property
    def endpoint(self) -> Any:
        return self.server.endpoint()

    def run(self, command: Any, **_: Any) -> Result:
        if "poweroff" in command:
            self.orders += 1
            if self.cut:
                raise self.cut
        return Result(0, b"boot-1", b"")

    def lose(self) -> None:
        """The hub's way to it is gone, or it is off: from here nobody can tell."""
        self.answers = self.there = False

    def run_of(self, number: int = 1) -> Run:
        parameters = {"server": self.server.pk}
        return factories.make_run("shutdown", work_key="m1.5.1.shutdown", number=number, parameters=parameters)

    def act(self, run: Run, lost_for: float | None = None) -> Progress:
        """The act that is due; out of contact it is tried again as the engine does, as if `lost_for` had passed."""
        if lost_for is not None:
            since = timezone.now() - timedelta(seconds=lost_for)
            run.contact_lost_since = since
            if "deaf" in run.memo:
                run.memo["deaf"] = since.timestamp()
        run.memo, progress = Shutdown().advance(Job(run, self.connect, dict(run.memo)))
        run.contact_lost_since = None
        if progress.ended:
            run.state, run.code, run.finished_at = progress.state.value, progress.code, timezone.now()
        run.save()
        return progress


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()

    def look(endpoint: Any, ports: list[int], *, seconds: float) -> Any:
        return type("Proof", (), {"absent": not made.there, "text": "Port 5432 accepts." if made.there else "Gone."})()

    monkeypatch.setattr("servers.operations.shutdown.power.absent", look)
    return made


@pytest.mark.parametrize("lost_for", [None, DEAF / 2])
def test_a_moment_without_an_answer_is_waited_for(machine: Machine, lost_for: float | None) -> None:
    machine.lose()
    with pytest.raises(Unreachable):
        machine.act(machine.run_of(), lost_for)


def test_what_was_asked_and_is_silent_is_gone(machine: Machine) -> None:
    run = machine.run_of()
    machine.act(run)
    assert machine.orders == 0, "the order is an act of its own, after the note"
    machine.act(run)
    assert machine.orders == 1 and machine.act(run).state == State.RUNNING
    machine.lose()
    progress = machine.act(run)
    assert (progress.state, progress.result) == (State.SUCCEEDED, {"proof": "Gone."})


def test_what_was_never_asked_is_not_called_gone_until_a_person_has_looked(machine: Machine) -> None:
    assert Shutdown.patience > DEAF, "else the run fails before it is looked at"
    machine.lose()
    progress = machine.act(machine.run_of(), DEAF + 1)
    assert (progress.state, progress.code) == (State.FAILED, NOT_ASKED)
    assert progress.reason == (
        "shop-db did not answer and was not asked to shut down: it may be off, or only not be reached from here."
        " Look at its console; when it is off there, retry."
    )
    assert Server.objects.get(pk=machine.server.pk).power != Server.Power.OFF

    progress = machine.act(machine.run_of(2), DEAF + 1)
    assert progress.state == State.SUCCEEDED and machine.orders == 0
    assert "was not asked; off by the word of whoever retried" in progress.reason == progress.result["proof"]


def test_a_retry_asks_what_only_could_not_be_reached(machine: Machine) -> None:
    """The hub had lost its way for a while: a person's word is not needed where the machine answers again."""
    machine.lose()
    machine.act(machine.run_of(), DEAF + 1)
    machine.answers = machine.there = True
    run = machine.run_of(2)
    machine.act(run)
    machine.act(run)
    assert machine.orders == 1
    machine.lose()
    assert machine.act(run).result == {"proof": "Gone."}


def test_the_word_is_that_of_a_retry_after_the_question_and_of_no_other(machine: Machine) -> None:
    Run.objects.filter(pk=machine.run_of().pk).update(state="failed", code="hub.error", finished_at=timezone.now())
    machine.lose()
    assert machine.act(machine.run_of(2), DEAF + 1).code == NOT_ASKED


def test_what_an_earlier_try_asked_is_gone_when_it_is_silent(machine: Machine) -> None:
    first = machine.run_of()
    machine.act(first)
    machine.act(first)
    first.memo["asked"] -= LIMIT + 1
    assert machine.act(first).code == STILL_THERE
    machine.lose()
    assert machine.act(machine.run_of(2), DEAF + 1).result == {"proof": "Gone."}


def cut_off(run: Run) -> None:
    """The worker ended in the middle of the act."""
    run.memo["interrupted_at"] = timezone.now().timestamp()


def broken(machine: Machine, run: Run) -> None:
    machine.cut = AWAY
    machine.act(run)


@pytest.mark.parametrize("ends", [lambda machine, run: cut_off(run), broken])
def test_an_order_whose_end_nobody_saw_still_ends_well(machine: Machine, ends: Callable[[Machine, Run], None]) -> None:
    run = machine.run_of()
    machine.act(run)
    ends(machine, run)
    machine.lose()
    with pytest.raises(Unreachable):
        machine.act(run)
    assert machine.act(run, DEAF + 1).result == {"proof": "Gone."}


def test_a_worker_that_ended_before_the_order_was_due_has_asked_nobody(machine: Machine) -> None:
    first = machine.run_of()
    cut_off(first)
    machine.lose()
    assert machine.act(first, DEAF + 1).code == NOT_ASKED

    machine.answers, second = True, machine.run_of(2)
    machine.act(second)
    machine.answers = False  # lost between the note and the order
    machine.act(second)
    cut_off(second)
    Run.objects.filter(pk=first.pk).update(code="hub.error")
    assert machine.act(second, DEAF + 1).code == NOT_ASKED


def test_it_is_asked_as_soon_as_it_answers_again(machine: Machine) -> None:
    run = machine.run_of()
    machine.answers = False
    assert machine.act(run, DEAF + 1).reason == "Port 5432 accepts."
    machine.answers = True
    machine.act(run)
    machine.act(run)
    assert machine.orders == 1


def test_a_source_without_sshd_that_still_runs_needs_a_person(machine: Machine) -> None:
    run = machine.run_of()
    machine.answers = False
    assert machine.act(run, DEAF + 1).state == State.RUNNING
    progress = machine.act(run, LIMIT + 1)
    assert (progress.state, progress.code) == (State.FAILED, STILL_THERE)
    assert "could not be asked" in progress.reason and "Port 5432 accepts." in progress.reason
    assert "console" in progress.reason
    machine.lose()  # switched off there
    assert "by the word of whoever retried" in machine.act(machine.run_of(2), DEAF + 1).reason


def test_cancelled_before_the_order_it_stops_and_after_it_it_does_not(machine: Machine) -> None:
    run = machine.run_of()
    machine.act(run)
    assert Shutdown().confirm_cancel(Job(run, machine.connect, dict(run.memo)))[1].state == State.CANCELLED
    cut_off(run)
    assert Shutdown().confirm_cancel(Job(run, machine.connect, dict(run.memo)))[1].state == State.RUNNING
