"""Where a cutover could act on what is not so any more, or get stuck: stop, hold, abort and retry in the middle."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from projects import attempts, decisions, workflow
from projects.errors import Conflict, NotReady
from projects.lanes import lane_of, lanes_for, running_actions
from projects.models import Action, Hold, Migration, Step, StepAttempt, Wave
from servers import runs
from servers.models import Run
from servers.operations.base import Job, failed
from servers.operations.shutdown import Shutdown
from servers.progress import Progress, State
from tests import factories
from tests.engine import Engine
from tests.projects.test_workflow import signed_and_go, start
from tests.projects.test_workflow import state as step_state

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


def at_first_action(engine: Engine, migration: Migration, lead: Any) -> Step:
    """The initial migration is about to begin its first action."""
    engine.step()
    start(migration, K.INITIAL, lead)
    return migration.steps.get(kind=K.INITIAL)


def walk(lane: Any) -> None:
    attempts.advance(lane, attempts.newest_runs([lane]))


def test_a_press_is_not_refused_because_waiting_became_ready_meanwhile(engine, migration, lead) -> None:
    step = migration.steps.get(kind=K.INITIAL)
    engine.step()
    assert (step.state, step_state(migration, K.INITIAL)) == (S.WAITING, S.READY)
    workflow.start_step(step.pk, user=lead, seen_state=step.state, seen_attempt=0)
    with pytest.raises(Conflict, match="older"):
        workflow.start_step(step.pk, user=lead, seen_state=S.READY, seen_attempt=0)


def test_a_request_to_stop_in_between_keeps_the_next_action_from_beginning(engine, migration, lead) -> None:
    """Else a shutdown could begin after the page had said that it stops before the next act."""
    step = at_first_action(engine, migration, lead)
    lane = lane_of(migration)
    workflow.cancel_step(step.pk, user=lead, seen_attempt=1)
    with pytest.raises(Conflict):
        walk(lane)
    assert not Run.objects.exists()
    engine.settle()
    assert step_state(migration, K.INITIAL) == S.CANCELLED


@pytest.mark.parametrize("scope", ["migration", "wave", "project"])
def test_a_hold_in_between_keeps_the_next_action_from_beginning(engine, migration, lead, scope: str) -> None:
    at_first_action(engine, migration, lead)
    lane = lane_of(migration)
    where = {"migration": {"migration": migration}, "wave": {"wave": migration.wave}, "project": {}}[scope]
    decisions.hold(project=migration.project, kind=Hold.Kind.PERSON, why="phone call", user=lead, **where)
    with pytest.raises(Conflict):
        walk(lane)
    assert not Run.objects.exists()


def test_an_abort_in_between_keeps_the_source_on(engine, migration, lead) -> None:
    signed_and_go(engine, migration, lead)
    for _ in range(60):
        engine.step()
        if Run.objects.filter(operation="block_services", state="succeeded").exists():
            break
    lane = lane_of(migration)  # the next thing that this lane says is: shut the source down
    assert [action.operation for action in running_actions(lane)] == ["block_services"]
    workflow.abort_cutover(migration.pk, user=lead, why="not tonight")
    with pytest.raises(Conflict):
        walk(lane)
    engine.settle()
    assert not Run.objects.filter(operation="shutdown").exists()
    assert [step_state(migration, kind) for kind in (K.STOP, K.FINAL)] == [S.UNDONE, S.UNDONE]


def test_services_are_not_stopped_for_another_plan_than_the_signed_one(engine, migration, lead) -> None:
    """The plan changed after the go; the gates have not seen it yet when the step would start."""
    signed_and_go(engine, migration, lead)
    Migration.objects.filter(pk=migration.pk).update(services=["orders"])
    engine.step()
    step = migration.steps.get(kind=K.STOP)
    assert step.attempts.count() == 0 and "not what the owner signed" in step.reason
    engine.settle()
    assert not Run.objects.filter(operation="stop_services").exists()


def test_deltas_go_on_by_themselves_after_an_abort(engine, migration, lead) -> None:
    signed_and_go(engine, migration, lead, go=False)
    workflow.set_delta_schedule(migration.pk, user=lead, minutes=30)
    approval = migration.wave.approvals.get(gate="go")
    decisions.decide(approval.pk, user=lead, verdict="approve", comment="", digest=approval.digest)
    engine.script["sync"] = [failed("Source and target differ in 3 files.", "proof.differs")]
    engine.settle()
    workflow.abort_cutover(migration.pk, user=lead, why="files differ")
    engine.settle()
    migration.refresh_from_db()
    assert migration.next_delta_at is not None and migration.next_delta_at > timezone.now()
    assert step_state(migration, K.DELTA) == S.SCHEDULED


def test_an_undo_that_fails_is_retried_not_given_up_or_begun_twice(engine, migration, lead) -> None:
    signed_and_go(engine, migration, lead)
    engine.script["sync"] = [failed("Source and target differ in 3 files.", "proof.differs")]
    engine.settle()
    engine.script["start_services"] = [failed("postgresql does not start.", "services.failed")]
    workflow.abort_cutover(migration.pk, user=lead, why="files differ")
    engine.settle()
    step = migration.steps.get(kind=K.STOP)
    undo = step.attempts.get(mode=StepAttempt.Mode.ROLLBACK)
    assert (step.state, undo.state) == (S.ATTENTION, StepAttempt.State.ATTENTION)
    with pytest.raises(NotReady, match="Retry it where it failed"):
        workflow.cancel_step(step.pk, user=lead, seen_attempt=undo.number)
    with pytest.raises(NotReady, match="taken back already"):
        workflow.abort_cutover(migration.pk, user=lead, why="again")
    workflow.retry_step(step.pk, user=lead, seen_attempt=undo.number)
    engine.settle()
    assert [step_state(migration, kind) for kind in (K.STOP, K.FINAL)] == [S.UNDONE, S.UNDONE]
    assert step.attempts.filter(mode=StepAttempt.Mode.ROLLBACK).count() == 1


def test_a_lost_copy_is_tried_again_as_a_new_run_of_the_same_work(engine, migration, lead) -> None:
    step = at_first_action(engine, migration, lead)
    engine.script["sync"] = [Progress(state=State.LOST, reason="The machine was restarted.", code="mover.lost")]
    engine.settle()
    step.refresh_from_db()
    assert (step.state, step.reason) == (S.ATTENTION, "The machine was restarted.")
    workflow.retry_step(step.pk, user=lead, seen_attempt=1)
    engine.settle()
    tries = Run.objects.filter(operation="sync").order_by("number")
    assert [(run.number, run.state) for run in tries] == [(1, "lost"), (2, "succeeded")]
    assert len({run.work_key for run in tries}) == 1


@pytest.mark.parametrize("moment", ["queued", "running", "in hand", "attention"])
def test_stopping_ends_in_cancelled_from_every_moment(engine, migration, lead, moment: str) -> None:
    step = at_first_action(engine, migration, lead)
    if moment == "attention":
        engine.script["facts"] = [failed("No.", "no")]
        engine.settle()
    else:
        workflow.advance(timezone.now())
    run = Run.objects.get()
    if moment in ("running", "in hand"):
        runs.promote(engine.epoch)
        run.refresh_from_db()
    if moment == "in hand":
        assert runs.begin_act(run, engine.epoch, "facts") and runs.claim_act(run.pk, engine.epoch)
    workflow.cancel_step(step.pk, user=lead, seen_attempt=1)
    if moment == "in hand":
        runs.let_go(Run.objects.get())
        Run.objects.update(check_at=timezone.now())
    engine.settle()
    step.refresh_from_db()
    assert step.state == S.CANCELLED and not step.attempts.exclude(state="cancelled").exists()
    assert not Run.objects.filter(finished_at=None).exists()
    assert not Action.objects.filter(state__in=("running", "planned")).exists()


def test_a_shutdown_that_was_asked_for_is_not_called_cancelled(db: None, monkeypatch) -> None:
    """Else an abort would start services on a machine that goes down."""
    source = factories.make_server()
    asked = timezone.now().timestamp()
    for memo, cut in (({"boot": "b", "asked": asked}, False), ({"boot": "b", runs.INTERRUPTED: asked}, True)):
        run = factories.make_run("shutdown", state=Run.State.CANCELLING, parameters={"server": source.pk}, memo=memo)
        looked_at: list[Any] = []

        def absent(endpoint: Any, ports: list[int], *, seconds: float, seen: list[Any] = looked_at) -> Any:
            seen.append(ports)
            return type("Proof", (), {"absent": False, "text": "Port 22 answers."})()

        monkeypatch.setattr("servers.operations.shutdown.power.absent", absent)
        _, progress = Shutdown().confirm_cancel(Job(run, lambda endpoint: None, dict(memo), cancel=True))
        assert progress.state == State.RUNNING and looked_at == [[22]], cut
    untouched = factories.make_run("shutdown", state=Run.State.CANCELLING, parameters={"server": source.pk})
    _, progress = Shutdown().confirm_cancel(Job(untouched, lambda endpoint: None, {}, cancel=True))
    assert progress.state == State.CANCELLED


def test_a_row_that_cannot_be_read_keeps_no_other_server_from_going_on(engine, migration, lead) -> None:
    broken = factories.make_migration(steps=False, wave=None)
    Migration.objects.filter(pk=broken.pk).update(wave=factories.make_wave(broken.project))
    workflow.plan_steps(broken)
    Wave.objects.filter(migrations=broken).update(starts_at=factories.hours(2), time_zone="Nowhere/At_All")
    with pytest.raises(Exception, match="Nowhere"):
        lanes_for([broken, migration])
    engine.step()
    start(migration, K.INITIAL, lead)
    engine.settle()
    assert step_state(migration, K.INITIAL) == S.DONE


def test_a_step_that_is_stopped_while_its_instance_is_made_says_what_becomes_of_it(engine, migration, lead) -> None:
    kept = "Basel keeps instance 430 “shop-db”, or goes on making it."
    engine.script["provision"] = [Progress(state=State.CANCELLED, reason=f"Stopped. {kept}")]
    engine.step()
    attempt = start(migration, K.INITIAL, lead)
    Action.objects.filter(attempt=attempt, operation__in=("facts", "platform_fit"), position__lt=3).update(state="done")
    engine.step()
    assert Run.objects.get().operation == "provision"
    workflow.cancel_step(attempt.step_id, user=lead, seen_attempt=1)
    engine.settle()
    assert migration.steps.get(kind=K.INITIAL).reason == f"Cancelled. {kept}"
