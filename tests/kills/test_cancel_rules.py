"""What may be cancelled, what a cancelled step says that it leaves, and what its next start does not do again."""

from __future__ import annotations

from typing import Any

import pytest

from projects import workflow
from projects.errors import NotReady
from projects.lanes import lane_of
from projects.models import Migration, Step
from projects.offers import lane_offers
from servers.models import Run
from servers.operations.base import done, failed
from servers.progress import Progress
from tests import factories
from tests.engine import Engine
from tests.projects.test_workflow import signed_and_go, start, state

pytestmark = pytest.mark.whole

K, S = Step.Kind, Step.State


@pytest.fixture
def migration(db: None) -> Migration:
    made = factories.make_migration(steps=False, services=["postgresql", "orders"])
    workflow.plan_steps(made)
    return made


@pytest.fixture
def lead(migration: Migration) -> Any:
    return migration.project.memberships.get(role="lead").user


def until(engine: Engine, ready: Any) -> None:
    for _ in range(80):
        engine.step()
        if ready():
            return
    pytest.fail("did not come to it")


def works(operation: str) -> bool:
    """A run of the operation has begun, and has not ended."""
    return Run.objects.filter(operation=operation, state="running", acts__gt=0).exists()


def cancel(migration: Migration, kind: str, lead: Any) -> None:
    step = migration.steps.get(kind=kind)
    workflow.cancel_step(step.pk, user=lead, seen_attempt=step.attempts.latest("number").number)


def stop_half(engine: Engine, migration: Migration, lead: Any) -> None:
    """The first of two services is stopped when somebody presses cancel."""
    signed_and_go(engine, migration, lead)
    engine.script["stop_services"] = [Progress(phase="1 of 2 stopped", check_after=0)]
    until(engine, lambda: works("stop_services"))
    cancel(migration, K.STOP, lead)
    engine.settle()


def test_a_cancelled_stop_says_what_is_down(engine: Engine, migration: Migration, lead: Any) -> None:
    stop_half(engine, migration, lead)
    assert state(migration, K.STOP) == S.CANCELLED
    assert migration.steps.get(kind=K.STOP).reason == (
        "Cancelled, with 1 of 2 stopped (in this order: postgresql, orders); these stay stopped."
        " Start the step again, or press “Abort and restart services”."
    )
    offers = {offer.code: offer for offer in lane_offers(lane_of(migration), "lead")}
    assert offers["start"].enabled and offers["abort"].enabled


def test_stopped_services_are_not_recorded_as_the_way_it_was(engine: Engine, migration: Migration, lead: Any) -> None:
    """The undo restores the newest record: one taken between two tries at the stop would restore stopped services."""
    stop_half(engine, migration, lead)
    start(migration, K.STOP, lead)
    engine.settle()
    assert state(migration, K.STOP) == S.DONE
    again = migration.steps.get(kind=K.STOP).attempts.get(number=2)
    assert dict(again.actions.values_list("operation", "state"))["compare_services"] == "not_applicable"
    assert Run.objects.filter(operation="compare_services").count() == 1


def test_a_stop_that_was_tried_twice_is_taken_back_once(engine: Engine, migration: Migration, lead: Any) -> None:
    stop_half(engine, migration, lead)
    engine.script["sync"] = [failed("Source and target differ in 3 files.", "proof.differs")]
    start(migration, K.STOP, lead)
    engine.settle()
    assert state(migration, K.FINAL) == S.ATTENTION
    workflow.abort_cutover(migration.pk, user=lead, why="files differ")
    engine.settle()
    assert Run.objects.filter(operation="start_services").count() == 1
    assert state(migration, K.STOP) == S.UNDONE


def test_a_stop_that_stopped_nothing_is_compared_again(engine: Engine, migration: Migration, lead: Any) -> None:
    """Cancelled while it compared, days may go by: what is stopped then must still be what was signed."""
    signed_and_go(engine, migration, lead)
    engine.script["compare_services"] = [Progress(phase="looking", check_after=0)]
    until(engine, lambda: works("compare_services"))
    cancel(migration, K.STOP, lead)
    engine.settle()
    assert migration.steps.get(kind=K.STOP).reason == "Cancelled. What was copied is kept."
    start(migration, K.STOP, lead)
    engine.settle()
    assert Run.objects.filter(operation="compare_services").count() == 2 and state(migration, K.STOP) == S.DONE


def test_a_cancelled_final_delta_says_that_services_stay_stopped(
    engine: Engine, migration: Migration, lead: Any
) -> None:
    signed_and_go(engine, migration, lead, go=True)
    engine.script["prove_stopped"] = [Progress(phase="looking", check_after=0)]
    until(engine, lambda: works("prove_stopped"))
    cancel(migration, K.FINAL, lead)
    engine.settle()
    assert "services on the source stay stopped" in migration.steps.get(kind=K.FINAL).reason


@pytest.mark.parametrize("ends", [done("Gone."), failed("It is still there.", "shutdown.still_there")])
def test_a_shutdown_that_was_asked_for_is_not_cancelled(
    engine: Engine, migration: Migration, lead: Any, ends: Progress
) -> None:
    """A later try would begin by asking a machine that is off, and never get past that."""
    signed_and_go(engine, migration, lead)
    engine.script["shutdown"] = [Progress(phase="shutting down", check_after=0), ends]
    until(engine, lambda: works("shutdown"))
    with pytest.raises(NotReady, match="cannot be stopped"):
        cancel(migration, K.FINAL, lead)
    button = next(offer for offer in lane_offers(lane_of(migration), "lead") if offer.code == "cancel")
    assert not button.enabled and "cannot be stopped" in button.why
    engine.settle()
    if state(migration, K.FINAL) == S.ATTENTION:  # nor is the try given up: it is retried, and nothing else with it
        with pytest.raises(NotReady, match="cannot be stopped"):
            cancel(migration, K.FINAL, lead)
        step = migration.steps.get(kind=K.FINAL)
        workflow.retry_step(step.pk, user=lead, seen_attempt=1)
        engine.settle()
    assert state(migration, K.FINAL) == S.DONE
    assert Run.objects.filter(operation="block_services").count() == 1


def test_nothing_begins_early_because_what_is_before_it_does_not_apply(
    engine: Engine, migration: Migration, lead: Any
) -> None:
    """No probe is set for the source: services were stopped while they were still being compared."""
    signed_and_go(engine, migration, lead)
    engine.script["compare_services"] = [Progress(phase="looking", check_after=0), failed("It differs.", "differ")]
    until(engine, lambda: state(migration, K.STOP) == S.ATTENTION)
    actions = migration.steps.get(kind=K.STOP).attempts.get().actions
    assert list(actions.values_list("operation", "state")) == [
        ("compare_services", "failed"),
        ("probe", "not_applicable"),
        ("check_cutover", "planned"),
        ("stop_services", "planned"),
    ]
    assert not Run.objects.filter(operation__in=("check_cutover", "stop_services")).exists()
