"""Who may decide, until when a no counts, and that one server's cutover does not close the way for its neighbour."""

from __future__ import annotations

from typing import Any

import pytest

from projects import abort, attempts, checklists, decisions, uat, waiting, workflow
from projects import offers as offering
from projects.errors import Conflict, Forbidden, NotReady
from projects.lanes import lane_of
from projects.models import Approval, ChecklistItem, Membership, Migration, Step, StepAttempt
from servers.operations.base import done, failed
from tests import factories
from tests.engine import Engine
from tests.projects.test_workflow import initial, sign, signed_and_go, start, state, tick_owner

pytestmark = pytest.mark.whole

K, S = Step.Kind, Step.State
Role = Membership.Role


@pytest.fixture
def migration(db: None) -> Migration:
    made = factories.make_migration(steps=False, services=["postgresql", "orders"])
    workflow.plan_steps(made)
    return made


@pytest.fixture
def lead(migration: Migration) -> Any:
    return migration.project.memberships.get(role="lead").user


def asked(engine: Engine, migration: Migration, lead: Any) -> Approval:
    """The owner has tested and ticked, and is asked."""
    initial(engine, migration, lead)
    uat.open_uat(migration.wave_id, migration.application_id, user=lead)
    engine.settle()
    tick_owner(migration)
    return Approval.objects.get(gate="sign_off")


def place(migration: Migration, role: str) -> None:
    owner = migration.application.owner
    Membership.objects.filter(project=migration.project, user=owner).update(role=role)


@pytest.mark.parametrize("role", [Role.LEAD, Role.OPERATOR, Role.MANAGER])
def test_whoever_runs_the_migration_does_not_sign(engine, migration, lead, role: str) -> None:
    asked(engine, migration, lead)
    place(migration, role)
    with pytest.raises(Forbidden, match="in the role of an application owner"):
        sign(migration)
    offers = offering.application_offers(migration.wave, migration.application, migration.application.owner)
    assert not [offer for offer in offers if offer.code == "sign"]


def test_who_ran_it_yesterday_does_not_sign_today(engine, migration, lead) -> None:
    owner = migration.application.owner
    place(migration, Role.OPERATOR)
    engine.step()
    start(migration, K.INITIAL, owner)
    engine.settle()
    place(migration, Role.OWNER)
    factories.make_sync(Migration.objects.get(pk=migration.pk))
    uat.open_uat(migration.wave_id, migration.application_id, user=lead)
    engine.settle()
    tick_owner(migration)
    with pytest.raises(Forbidden, match="did not run the migration"):
        sign(migration)


@pytest.mark.parametrize("verdict", ["reject", "more_time"])
def test_a_no_after_the_stop_is_refused_not_recorded(engine, migration, lead, verdict: str) -> None:
    """The page would say that nothing goes on, while it does."""
    signed_and_go(engine, migration, lead)
    engine.settle()
    approval = Approval.objects.get(gate="sign_off")
    with pytest.raises(NotReady, match="a no stops nothing any more"):
        decisions.decide(
            approval.pk, user=migration.application.owner, verdict=verdict, comment="no", digest=approval.digest
        )
    approval.refresh_from_db()
    assert approval.state == Approval.State.APPROVED


def test_a_no_counts_until_the_stop(engine, migration, lead) -> None:
    signed_and_go(engine, migration, lead, go=False)
    approval = Approval.objects.get(gate="sign_off")
    decisions.decide(
        approval.pk, user=migration.application.owner, verdict="reject", comment="wait", digest=approval.digest
    )
    go = Approval.objects.get(gate="go")
    with pytest.raises(NotReady, match="has not signed"):
        decisions.decide(go.pk, user=lead, verdict="approve", comment="", digest=go.digest)


@pytest.mark.parametrize("verdict", ["reject", "more_time"])
def test_a_no_is_taken_though_a_further_server_has_joined(engine, migration, lead, verdict: str) -> None:
    """Its evidence is still to be taken: a yes would be about more than was looked at, a no is not."""
    approval = asked(engine, migration, lead)
    owner = migration.application.owner
    sign(migration)
    joined = factories.make_migration(
        application=migration.application, wave=migration.wave, profile=migration.profile, steps=False
    )
    workflow.plan_steps(joined)
    engine.step()
    said = {"comment": "wait", "digest": approval.digest}
    made = decisions.decide(approval.pk, user=owner, verdict=verdict, **said)
    approval.refresh_from_db()
    assert approval.state == {"reject": "rejected", "more_time": "more_time"}[verdict]
    assert made.subject == approval.subject and str(joined.pk) not in made.subject["servers"]
    with pytest.raises(Conflict, match="is not what you looked at"):
        decisions.decide(approval.pk, user=owner, verdict="approve", **said)


def test_other_words_of_evidence_are_another_thing_to_sign(engine, migration, lead) -> None:
    approval = asked(engine, migration, lead)
    item = factories.make_item(migration.steps.get(kind=K.UAT), "A backup was restored", role="operator", evidence=True)
    operator = factories.make_member(migration.project, Role.OPERATOR)
    said = {"state": "done", "link": "https://tickets.example/1"}
    checklists.tick(item.pk, user=operator, note="500 GB, all fine", **said)
    sign(migration)
    checklists.tick(item.pk, user=operator, note="500 GB, all fine", **said)
    approval.refresh_from_db()
    assert approval.state == Approval.State.APPROVED, "the same again"
    checklists.tick(item.pk, user=operator, note="nothing was restored", **said)
    approval.refresh_from_db()
    assert approval.state == Approval.State.STALE
    # What ticks itself has other words after each run, and says nothing else by them.
    sign(migration)
    ChecklistItem.objects.filter(step__migration=migration).exclude(operation="").update(note="as of another minute")
    engine.step()
    approval.refresh_from_db()
    assert approval.state == Approval.State.APPROVED


def test_an_answer_about_servers_that_left_the_wave_is_a_conflict(engine, migration, lead) -> None:
    asked(engine, migration, lead)
    Migration.objects.filter(pk=migration.pk).update(wave=factories.make_wave(migration.project))
    with pytest.raises(Conflict, match="No server of"):
        sign(migration)


def test_an_abort_that_comes_just_after_the_shutdown_began_is_refused(engine, migration, lead, monkeypatch) -> None:
    """The lane was read a moment before; services must not be started on a machine that goes down."""
    signed_and_go(engine, migration, lead)
    for _ in range(80):
        engine.step()
        if "shutdown" in {a.operation for a in attempts.running_actions(lane_of(migration))}:
            break
    stale = lane_of(Migration.objects.get(pk=migration.pk))
    for attempt in stale.attempts[stale.steps[K.FINAL].pk]:
        for action in attempt.actions.all():
            if action.operation == "shutdown":
                action.state = "planned"
    reads = [stale]
    real = abort.lane_of
    monkeypatch.setattr(abort, "lane_of", lambda row: reads.pop() if reads else real(row))
    with pytest.raises(NotReady, match="shutdown of the source has begun"):
        workflow.abort_cutover(migration.pk, user=lead, why="late")
    assert not reads and not StepAttempt.objects.filter(state="cancelling").exists()


def test_nothing_asked_is_not_told_as_passed(engine, migration, lead) -> None:
    signed_and_go(engine, migration, lead)
    engine.settle()
    checklists.tick(migration.steps.get(kind=K.VALIDATION).checklist.get(key="users").pk, user=lead, state="done")
    (told,) = [item for item in waiting.waits_for_me(lead) if "declared complete" in item.text]
    assert told.detail.startswith("No probe asked it")


@pytest.fixture
def neighbour(migration: Migration) -> Migration:
    """A second server of the same application in the same wave."""
    made = factories.make_migration(
        project=migration.project,
        application=migration.application,
        wave=migration.wave,
        profile=migration.profile,
        steps=False,
        services=["nginx"],
    )
    workflow.plan_steps(made)
    return made


def both_let_go(engine: Engine, first: Migration, second: Migration, lead: Any) -> None:
    engine.step()
    for each in (first, second):
        start(each, K.INITIAL, lead)
    engine.settle()
    for each in (first, second):
        each.refresh_from_db()
        factories.make_sync(each)
    uat.open_uat(first.wave_id, first.application_id, user=lead)
    engine.settle()
    for each in (first, second):
        tick_owner(each)
    sign(first)
    uat.end(first.wave_id, first.application_id, user=lead)
    engine.settle()
    give_go(lead)


def give_go(lead: Any) -> None:
    go = Approval.objects.get(gate="go")
    decisions.decide(go.pk, user=lead, verdict="approve", comment="", digest=go.digest)


def test_a_server_that_was_taken_back_can_be_let_go_again_beside_one_that_went_on(
    engine, migration, neighbour, lead
) -> None:
    """Even with another plan, which the owner signs first; the neighbour's decisions stand."""
    engine.script["sync"] = []
    both_let_go(engine, migration, neighbour, lead)
    hold = decisions.hold(project=migration.project, kind="person", why="wait", user=lead, migration=migration)
    engine.settle()
    assert state(neighbour, K.VALIDATION) == S.RUNNING and state(migration, K.STOP) != S.DONE
    Migration.objects.filter(pk=migration.pk).update(services=["orders"])
    decisions.release(hold.pk, user=lead)
    engine.settle()
    assert state(migration, K.STOP) == S.WAITING
    approval = Approval.objects.get(gate="sign_off")
    assert approval.state == Approval.State.STALE
    sign(migration)
    engine.settle()
    give_go(lead)
    engine.settle()
    assert state(migration, K.VALIDATION) == S.RUNNING


def test_other_services_at_the_stop_still_void_the_signature(engine, migration, lead) -> None:
    signed_and_go(engine, migration, lead)

    def differs(job: Any) -> Any:
        factories.make_service_record(migration.source, fingerprint="other")
        return failed("Service mail is new.", "services.differ")

    engine.script["compare_services"] = [differs]
    engine.settle()
    assert state(migration, K.STOP) == S.ATTENTION
    assert Approval.objects.get(gate="sign_off").state == Approval.State.STALE
    sign(migration)
    workflow.retry_step(migration.steps.get(kind=K.STOP).pk, user=lead, seen_attempt=1)
    engine.settle()
    assert state(migration, K.CUTOVER) == S.DONE


def test_what_was_not_asked_ticks_nothing(engine, migration, lead) -> None:
    factories.make_probe(migration.source, places=["source"])
    engine.script["probe"] = [done("Nothing was asked.", passed=0, failed=0, all=0)]
    initial(engine, migration, lead)
    uat.open_uat(migration.wave_id, migration.application_id, user=lead)
    engine.settle()
    item = migration.steps.get(kind=K.UAT).checklist.get(key="probes-source")
    assert item.state == "failed"
