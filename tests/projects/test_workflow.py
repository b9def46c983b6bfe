"""The seven steps from start to end with scripted operations: what starts, what waits and why, what a retry repeats."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import DataError, OperationalError
from django.utils import timezone

from migrationhub.audit.models import AuditEvent
from projects import attempts, checklists, decisions, uat, workflow
from projects.errors import Conflict, Forbidden, NotReady
from projects.lanes import lane_of
from projects.models import Approval, ChecklistItem, Hold, Migration, Step, StepAttempt
from projects.steps.base import Plan
from servers import runs
from servers.models import NameServer, Run, SyncPoint
from servers.operations.base import failed
from tests import factories
from tests.engine import Engine

K, S = Step.Kind, Step.State


@pytest.fixture
def migration(db):
    made = factories.make_migration(steps=False, services=["postgresql", "orders"])
    workflow.plan_steps(made)
    return made


@pytest.fixture
def lead(migration):
    return migration.project.memberships.get(role="lead").user


def state(migration: Migration, kind: str) -> str:
    return migration.steps.get(kind=kind).state


def start(migration: Migration, kind: str, user) -> StepAttempt:
    step = migration.steps.get(kind=kind)
    last = step.attempts.order_by("-number").first()
    return workflow.start_step(step.pk, user=user, seen_state=step.state, seen_attempt=last.number if last else 0)


def initial(engine: Engine, migration: Migration, lead) -> None:
    engine.step()
    start(migration, K.INITIAL, lead)
    engine.settle()
    migration.refresh_from_db()
    run = Run.objects.get(operation="sync", state="succeeded")
    factories.make_sync(migration, run=run)


def tick_owner(migration: Migration) -> None:
    for item in ChecklistItem.objects.filter(step__migration=migration, role="owner"):
        checklists.tick(item.pk, user=migration.application.owner, state="done")


def sign(migration: Migration) -> None:
    approval = Approval.objects.get(gate="sign_off", application=migration.application)
    decisions.decide(
        approval.pk, user=migration.application.owner, verdict="approve", comment="", digest=approval.digest
    )


@pytest.mark.whole
def test_all_seven_steps(engine: Engine, migration: Migration, lead) -> None:
    owner = migration.application.owner
    initial(engine, migration, lead)
    assert state(migration, K.INITIAL) == S.DONE
    assert migration.target is not None and migration.target.placement.label == migration.source.name

    start(migration, K.DELTA, lead)
    engine.settle()
    assert state(migration, K.DELTA) == S.READY  # done only when the go ends it

    opened = uat.open_uat(migration.wave_id, migration.application_id, user=owner)
    engine.settle()
    assert state(migration, K.UAT) == S.RUNNING
    tick_owner(migration)
    sign(migration)  # at once: what was just ticked is what is signed, whether or not the controller passed by
    engine.settle()
    assert Approval.objects.get(gate="sign_off").state == Approval.State.APPROVED
    assert state(migration, K.UAT) == S.RUNNING, "the test is still open"
    decisions.release(opened.pk, user=owner)
    engine.settle()
    assert state(migration, K.UAT) == S.DONE
    assert state(migration, K.STOP) == S.WAITING

    go = Approval.objects.get(gate="go")
    decisions.decide(go.pk, user=lead, verdict="approve", comment="", digest=go.digest)
    engine.settle()
    assert [state(migration, kind) for kind in (K.DELTA, K.STOP, K.FINAL, K.CUTOVER)] == [S.DONE] * 4
    assert state(migration, K.VALIDATION) == S.RUNNING
    with pytest.raises(NotReady, match="Users can work"):
        workflow.declare_complete(migration.pk, user=lead)
    item = ChecklistItem.objects.get(key="users")
    checklists.tick(item.pk, user=lead, state="done")
    engine.settle()
    assert state(migration, K.VALIDATION) == S.RUNNING, "a lead has not declared it"
    workflow.declare_complete(migration.pk, user=lead)
    engine.settle()
    migration.refresh_from_db()
    assert migration.state == Migration.State.COMPLETE
    assert len(engine.done_work) == len(set(engine.done_work)), "no piece of work was done twice"
    assert AuditEvent.objects.filter(verb="migration.complete", actor=lead).exists()


@pytest.mark.whole
def test_a_grey_button_tells_why(engine: Engine, migration: Migration, lead) -> None:
    migration.source.host_keys.all().delete()
    with pytest.raises(NotReady, match="accepted the source's host key"):
        start(migration, K.INITIAL, lead)
    assert not Run.objects.exists()


@pytest.mark.whole
def test_an_old_page_does_nothing(engine: Engine, migration: Migration, lead) -> None:
    engine.step()
    start(migration, K.INITIAL, lead)
    step = migration.steps.get(kind=K.INITIAL)
    with pytest.raises(Conflict, match="older"):
        workflow.start_step(step.pk, user=lead, seen_state="ready", seen_attempt=0)
    assert step.attempts.count() == 1


@pytest.mark.whole
def test_retry_repeats_only_what_failed(engine: Engine, migration: Migration, lead) -> None:
    engine.step()
    engine.script["sync"] = [failed("The target is full. Make room, then retry.", "disk.full")]
    start(migration, K.INITIAL, lead)
    engine.settle()
    step = migration.steps.get(kind=K.INITIAL)
    assert (step.state, step.reason) == (S.ATTENTION, "The target is full. Make room, then retry.")
    before = list(engine.done_work)
    workflow.retry_step(step.pk, user=lead, seen_attempt=1)
    engine.settle()
    step.refresh_from_db()
    assert step.state == S.DONE
    again = engine.done_work[len(before) :]
    assert again[0].endswith("sync.2") and not any("provision" in key for key in again)


@pytest.mark.whole
def test_cancel_then_start_again(engine: Engine, migration: Migration, lead) -> None:
    engine.step()
    start(migration, K.INITIAL, lead)
    engine.step()  # the first action is on its way
    step = migration.steps.get(kind=K.INITIAL)
    workflow.cancel_step(step.pk, user=lead, seen_attempt=1)
    engine.settle()
    step.refresh_from_db()
    assert step.state == S.CANCELLED
    assert not Run.objects.filter(state="succeeded", operation="sync").exists()
    start(migration, K.INITIAL, lead)
    engine.settle()
    assert state(migration, K.INITIAL) == S.DONE


@pytest.mark.whole
def test_uat_makes_the_due_delta_wait_visibly(engine: Engine, migration: Migration, lead) -> None:
    initial(engine, migration, lead)
    uat.open_uat(migration.wave_id, migration.application_id, user=lead)
    engine.settle()
    workflow.set_delta_schedule(migration.pk, user=lead, minutes=1)
    Migration.objects.filter(pk=migration.pk).update(next_delta_at=timezone.now() - timedelta(seconds=1))
    engine.settle()
    step = migration.steps.get(kind=K.DELTA)
    assert step.attempts.count() == 0
    assert step.state == S.SCHEDULED and "being tested" in step.reason
    uat.end(migration.wave_id, migration.application_id, user=lead)
    engine.settle()
    assert step.attempts.count() == 1


@pytest.mark.whole
def test_a_live_copy_opens_only_when_a_lead_takes_it_on(engine: Engine, migration: Migration, lead) -> None:
    initial(engine, migration, lead)
    SyncPoint.objects.update(consistency="live")
    owner = migration.application.owner
    for user in (owner, lead):
        with pytest.raises(NotReady, match="live"):
            uat.open_uat(migration.wave_id, migration.application_id, user=user)
    with pytest.raises(NotReady):
        uat.open_uat(migration.wave_id, migration.application_id, user=owner, accept_live=True)
    hold = uat.open_uat(migration.wave_id, migration.application_id, user=lead, accept_live=True)
    assert "took on" in hold.why


@pytest.mark.whole
def test_nobody_signs_for_the_owner(engine: Engine, migration: Migration, lead) -> None:
    initial(engine, migration, lead)
    uat.open_uat(migration.wave_id, migration.application_id, user=lead)
    engine.settle()
    approval = Approval.objects.get(gate="sign_off")
    with pytest.raises(Forbidden, match="owner's alone"):
        decisions.decide(approval.pk, user=lead, verdict="approve", comment="", digest=approval.digest)
    with pytest.raises(NotReady, match="checklist"):
        sign(migration)
    with pytest.raises(Conflict, match="changed"):
        decisions.decide(
            approval.pk, user=migration.application.owner, verdict="approve", comment="", digest="of yesterday"
        )


def signed_and_go(engine: Engine, migration: Migration, lead, *, go: bool = True) -> None:
    initial(engine, migration, lead)
    owner = migration.application.owner
    uat.open_uat(migration.wave_id, migration.application_id, user=owner)
    engine.settle()
    tick_owner(migration)
    engine.step()
    sign(migration)
    uat.end(migration.wave_id, migration.application_id, user=owner)
    engine.settle()
    if go:
        approval = Approval.objects.get(gate="go")
        decisions.decide(approval.pk, user=lead, verdict="approve", comment="", digest=approval.digest)


@pytest.mark.whole
def test_a_changed_plan_voids_sign_off_and_go(engine: Engine, migration: Migration, lead) -> None:
    signed_and_go(engine, migration, lead, go=False)
    Migration.objects.filter(pk=migration.pk).update(services=["orders"])
    engine.step()
    approval = Approval.objects.get(gate="sign_off")
    assert approval.state == Approval.State.STALE
    assert AuditEvent.objects.filter(verb="approval.stale", why__contains="order of services").exists()
    engine.settle()
    assert state(migration, K.STOP) == S.WAITING


@pytest.mark.whole
def test_a_delta_alone_voids_nothing(engine: Engine, migration: Migration, lead) -> None:
    signed_and_go(engine, migration, lead, go=False)
    start(migration, K.DELTA, lead)
    engine.settle()
    assert Approval.objects.get(gate="sign_off").state == Approval.State.APPROVED


@pytest.mark.whole
def test_the_window_holds_the_stop_not_the_copying(engine: Engine, migration: Migration, lead) -> None:
    wave = migration.wave
    wave.starts_at, wave.ends_at = timezone.now() + timedelta(hours=1), timezone.now() + timedelta(hours=3)
    wave.save()
    signed_and_go(engine, migration, lead)
    engine.settle()
    step = migration.steps.get(kind=K.STOP)
    assert step.state == S.READY and "opens" in step.reason
    wave.starts_at = timezone.now() - timedelta(hours=1)
    wave.save()
    engine.settle()
    assert state(migration, K.STOP) == S.DONE


@pytest.mark.whole
def test_abort_runs_the_recorded_undo_and_deltas_go_on(engine: Engine, migration: Migration, lead) -> None:
    signed_and_go(engine, migration, lead)
    engine.script["sync"] = [failed("Source and target differ in 3 files.", "proof.differs")]
    engine.settle()
    assert state(migration, K.FINAL) == S.ATTENTION
    workflow.abort_cutover(migration.pk, user=lead, why="files differ")
    engine.settle()
    undone = [key for key in engine.done_work if "start_services" in key]
    assert len(undone) == 1
    assert [state(migration, kind) for kind in (K.STOP, K.FINAL)] == [S.UNDONE, S.UNDONE]
    assert state(migration, K.DELTA) in (S.READY, S.SCHEDULED)
    cut = migration.steps.filter(kind__in=(K.STOP, K.FINAL))
    assert set(cut.values_list("checklist__state", flat=True)) == {"open"}, "what was taken back is to be done again"
    assert not lane_of(migration).approved("go"), "a new go is needed"
    approval = Approval.objects.get(gate="go")
    decisions.decide(approval.pk, user=lead, verdict="approve", comment="", digest=approval.digest)
    engine.settle()
    assert state(migration, K.CUTOVER) == S.DONE


@pytest.mark.whole
def test_no_abort_once_the_source_may_be_off(engine: Engine, migration: Migration, lead) -> None:
    signed_and_go(engine, migration, lead)
    engine.script["shutdown"] = [failed("It still answers.", "shutdown.still_there")]
    engine.settle()
    with pytest.raises(NotReady, match="shutdown of the source has begun"):
        workflow.abort_cutover(migration.pk, user=lead, why="")


@pytest.mark.whole
def test_a_join_waits_for_the_other_applications_record(engine: Engine, migration: Migration, lead) -> None:
    other = factories.make_migration(project=migration.project, wave=migration.wave, steps=False)
    workflow.plan_steps(other)
    migration.application.waits_for.add(other.application)
    signed_and_go(engine, migration, lead)
    engine.settle()
    step = migration.steps.get(kind=K.CUTOVER)
    assert state(migration, K.FINAL) == S.DONE and step.state == S.WAITING
    assert other.source.name in step.reason
    other.steps.filter(kind=K.CUTOVER).update(state=S.DONE)
    engine.settle()
    assert state(migration, K.CUTOVER) == S.DONE


@pytest.mark.whole
def test_a_persons_hold_stops_before_the_next_act(engine: Engine, migration: Migration, lead) -> None:
    signed_and_go(engine, migration, lead)
    engine.step()
    hold = decisions.hold(
        project=migration.project, kind=Hold.Kind.PERSON, why="phone call", user=lead, migration=migration
    )
    engine.settle()
    assert state(migration, K.STOP) == S.RUNNING
    assert not any("stop_services" in key for key in engine.done_work)
    decisions.release(hold.pk, user=lead)
    engine.settle()
    assert state(migration, K.STOP) == S.DONE


@pytest.mark.whole
def test_a_change_that_the_controller_has_not_seen_is_not_signed(engine: Engine, migration: Migration, lead) -> None:
    initial(engine, migration, lead)
    uat.open_uat(migration.wave_id, migration.application_id, user=lead)
    engine.settle()
    tick_owner(migration)
    Migration.objects.filter(pk=migration.pk).update(services=["orders"])
    with pytest.raises(Conflict, match="not what you looked at"):
        sign(migration)
    sign(migration)  # looked at again
    engine.settle()
    assert Approval.objects.get(gate="sign_off").state == Approval.State.APPROVED


@pytest.mark.whole
def test_no_go_without_a_valid_sign_off(engine: Engine, migration: Migration, lead) -> None:
    signed_and_go(engine, migration, lead, go=False)
    Approval.objects.filter(gate="sign_off").update(state="stale")
    approval = Approval.objects.get(gate="go")
    with pytest.raises(NotReady, match="has not signed"):
        decisions.decide(approval.pk, user=lead, verdict="approve", comment="", digest=approval.digest)


@pytest.mark.whole
def test_a_delta_that_is_always_due_does_not_keep_the_stop_waiting(engine: Engine, migration: Migration, lead) -> None:
    signed_and_go(engine, migration, lead, go=False)
    start(migration, K.DELTA, lead)
    Migration.objects.filter(pk=migration.pk).update(delta_every_minutes=1, next_delta_at=timezone.now())
    approval = Approval.objects.get(gate="go")
    decisions.decide(approval.pk, user=lead, verdict="approve", comment="", digest=approval.digest)
    engine.settle()
    assert migration.steps.get(kind=K.DELTA).attempts.count() == 1
    assert state(migration, K.STOP) == S.DONE


def test_rows_that_the_database_refuses_stop_only_their_own_migration(monkeypatch, migration: Migration) -> None:
    other = factories.make_migration()
    walk = attempts.advance

    def refused(lane, newest) -> bool:
        if lane.migration.pk == migration.pk:
            raise DataError("value too long for type character varying(200)")
        return walk(lane, newest)

    monkeypatch.setattr(attempts, "advance", refused)
    before = dict(Step.objects.filter(migration=other).values_list("pk", "reason"))
    workflow.advance(timezone.now())
    assert dict(Step.objects.filter(migration=other).values_list("pk", "reason")) != before
    monkeypatch.setattr(attempts, "advance", lambda *_: (_ for _ in ()).throw(OperationalError("gone")))
    with pytest.raises(OperationalError):
        workflow.advance(timezone.now())


def test_the_longest_name_makes_no_title_too_long(migration: Migration) -> None:
    name = ".".join(["a" * 60] * 4)
    key = factories.make_credential(kind="tsig")
    server = NameServer.objects.create(name="ns", address="192.0.2.53", zone=name, credential=key)
    Migration.objects.filter(pk=migration.pk).update(dns_name=name, new_address="10.1.2.3/24", name_server=server)
    attempt = attempts.begin(lane_of(Migration.objects.get(pk=migration.pk)), K.CUTOVER, user=None)
    longest = max((action.title for action in attempt.actions.all()), key=len)
    assert len(longest) == 200 and longest.endswith("…")


@pytest.mark.parametrize(
    ("kind", "mode", "at_once"),
    [(K.INITIAL, "real", False), (K.STOP, "real", True), (K.FINAL, "real", True), (K.STOP, "rollback", True)],
)
def test_only_a_cutover_and_its_way_back_wait_for_no_other_servers_copies(
    migration: Migration, kind: str, mode: str, at_once: bool
) -> None:
    plans = None if mode == "real" else [Plan("start_services", "Start the services", {"server": migration.source_id})]
    attempts.begin(lane_of(migration), kind, user=None, mode=mode, plans=plans)
    attempts.advance(lane_of(migration), {})
    assert [bool(run.parameters.get(runs.AT_ONCE)) for run in Run.objects.all()] == [at_once]
