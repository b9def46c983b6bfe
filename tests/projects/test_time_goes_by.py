"""What held when something began may not hold when it goes on: windows close, words are taken back, plans change."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from projects import break_glass, checklists, decisions, defects, offers, planning, uat, waiting, workflow
from projects.errors import Forbidden, NotReady
from projects.lanes import lane_of
from projects.models import (
    Approval,
    ApprovalPolicy,
    ChecklistItem,
    Defect,
    Migration,
    Step,
    StepAttempt,
    Wave,
)
from projects.planning_waves import save_freeze
from projects.steps.stop_services import stopped_before
from servers.models import NameServer, Run
from servers.operations.base import failed
from servers.progress import Progress
from tests import factories
from tests.engine import Engine
from tests.projects.test_workflow import sign, signed_and_go, start, state, tick_owner

pytestmark = [pytest.mark.whole, pytest.mark.django_db]
K, S = Step.Kind, Step.State
REASON = "The data centre closes tonight and the owner does not answer."


@pytest.fixture
def migration(db: None) -> Migration:
    made = factories.make_migration(steps=False, services=["postgresql", "orders"])
    workflow.plan_steps(made)
    return made


@pytest.fixture
def lead(migration: Migration) -> Any:
    return migration.project.memberships.get(role="lead").user


def window(migration: Migration, begins: float, ends: float) -> None:
    """In hours from now."""
    Wave.objects.filter(pk=migration.wave_id).update(starts_at=factories.hours(begins), ends_at=factories.hours(ends))


def give_go(lead: Any) -> Approval:
    asked = Approval.objects.get(gate="go")
    decisions.decide(asked.pk, user=lead, verdict="approve", comment="", digest=asked.digest)
    asked.refresh_from_db()
    return asked


def offered(migration: Migration) -> dict[str, offers.Offer]:
    return {offer.code: offer for offer in offers.lane_offers(lane_of(migration), "lead")}


def found(migration: Migration) -> Defect:
    owner = migration.application.owner
    return defects.raise_defect(defects.Draft(migration.steps.get(kind=K.UAT).pk, title="Orders are lost"), user=owner)


# -- production is stopped inside the window alone ------------------------------------------------------------


def test_a_comparison_that_failed_is_not_retried_into_a_stop_outside_the_window(engine: Engine, migration, lead):
    window(migration, -1, 1)
    signed_and_go(engine, migration, lead)
    engine.script["compare_services"] = [failed("cron differs from what was signed.", "services.differ")]
    engine.settle()
    assert state(migration, K.STOP) == S.ATTENTION
    window(migration, -40, -36)
    times = {"starts_at": factories.hours(-1), "ends_at": factories.hours(200), "time_zone": "UTC"}
    save_freeze(project=migration.project, values={"name": "Year end", **times}, user=lead)
    raised = found(migration)
    retry = offered(migration)["retry"]
    for words in ("give the wave a new window", "Year end", "is blocking"):
        assert not retry.enabled and words in retry.why
    with pytest.raises(NotReady):
        workflow.retry_step(migration.steps.get(kind=K.STOP).pk, user=lead, seen_attempt=1)
    migration.project.change_freezes.all().delete()
    Defect.objects.filter(pk=raised.pk).update(state="verified")
    window(migration, -1, 1)
    if Approval.objects.get(gate="sign_off").state != "approved":
        sign(migration)
    workflow.retry_step(migration.steps.get(kind=K.STOP).pk, user=lead, seen_attempt=1)
    engine.settle()
    assert state(migration, K.STOP) == S.DONE


def test_a_hold_that_is_lifted_after_the_window_stops_nothing(engine: Engine, migration, lead):
    window(migration, -1, 1)
    signed_and_go(engine, migration, lead)
    engine.script["compare_services"] = [Progress(phase="looking", check_after=0)]
    while not Run.objects.filter(operation="compare_services").exists():
        engine.step()
    held = decisions.hold(project=migration.project, kind="person", why="a call", user=lead, migration=migration)
    engine.settle()
    window(migration, -40, -36)
    decisions.release(held.pk, user=lead)
    engine.settle()
    assert not Run.objects.filter(operation="stop_services").exists()
    cell = next(each for each in drawn(migration) if each.step.kind == K.STOP)
    assert cell.word == "Held" and "give the wave a new window" in cell.why
    window(migration, -1, 1)
    engine.settle()
    assert state(migration, K.STOP) == S.DONE


def drawn(migration: Migration) -> list[Any]:
    from projects.views.contexts.lanes import cells

    return cells(lane_of(migration), {})


# -- a retry that waits does not undo that something was begun ------------------------------------------------


def test_a_shutdown_that_failed_keeps_the_services_from_being_started_also_after_its_retry(engine, migration, lead):
    signed_and_go(engine, migration, lead)
    engine.script["shutdown"] = [failed("It still answers. Switch it off there, then retry.", "shutdown.still_there")]
    engine.settle()
    step = migration.steps.get(kind=K.FINAL)
    workflow.retry_step(step.pk, user=lead, seen_attempt=1)
    decisions.hold(project=migration.project, kind="person", why="wait", user=lead, migration=migration)
    engine.settle()
    assert "abort" not in offered(migration) and not offered(migration)["cancel"].enabled
    with pytest.raises(NotReady, match="shutdown of the source has begun"):
        workflow.abort_cutover(migration.pk, user=lead, why="another mind")
    with pytest.raises(NotReady, match="asked to go down"):
        workflow.cancel_step(step.pk, user=lead, seen_attempt=1)


def test_a_stop_that_failed_halfway_is_known_after_its_retry_was_cancelled(engine: Engine, migration, lead):
    """Else the next try would record services that it had stopped itself as how the source is to run."""
    signed_and_go(engine, migration, lead)
    engine.script["stop_services"] = [failed("orders does not stop.", "services.still")]
    engine.settle()
    step = migration.steps.get(kind=K.STOP)
    workflow.retry_step(step.pk, user=lead, seen_attempt=1)
    workflow.cancel_step(step.pk, user=lead, seen_attempt=1)
    engine.settle()
    assert "services of the source are stopped since" in stopped_before(lane_of(migration))
    start(migration, K.STOP, lead)
    engine.settle()
    assert Run.objects.filter(operation="compare_services").count() == 1
    assert state(migration, K.STOP) == S.DONE


def test_a_stop_that_was_cancelled_before_it_began_is_none(engine: Engine, migration, lead):
    signed_and_go(engine, migration, lead)
    while not Run.objects.filter(operation="stop_services").exists():
        engine.step()
        if Run.objects.filter(operation="compare_services", state="succeeded").exists():
            workflow.advance(timezone.now())
    assert Run.objects.get(operation="stop_services").state == "queued"
    workflow.cancel_step(migration.steps.get(kind=K.STOP).pk, user=lead, seen_attempt=1)
    engine.settle()
    assert stopped_before(lane_of(migration)) == ""


# -- break-glass lets pass what it named, where it was given --------------------------------------------------


@pytest.mark.parametrize("again", [True, False], ids=["opened again", "still open"])
def test_a_defect_that_was_let_past_the_stop_holds_the_declaration(engine: Engine, migration, lead, again: bool):
    signed_and_go(engine, migration, lead, go=False)
    owner, operator = migration.application.owner, factories.make_member(migration.project, "operator")
    raised = found(migration)
    break_glass.pass_step(migration.steps.get(kind=K.STOP).pk, user=lead, reason=REASON)
    if again:
        defects.move(raised.pk, user=operator, to="mended", reason="patched")
        defects.move(raised.pk, user=owner, to="verified")
        give_go(lead)
        engine.settle()
        defects.move(raised.pk, user=owner, to="open", reason="It is back in production")
    else:
        give_go(lead)
    engine.settle()
    assert state(migration, K.VALIDATION) == S.RUNNING
    tick_validation(migration, lead)
    with pytest.raises(NotReady, match="is blocking"):
        workflow.declare_complete(migration.pk, user=lead)
    break_glass.pass_step(migration.steps.get(kind=K.VALIDATION).pk, user=lead, reason=REASON)
    workflow.declare_complete(migration.pk, user=lead)
    engine.settle()
    migration.refresh_from_db()
    assert migration.state == Migration.State.COMPLETE
    # Nothing of the application is under way any more, and still somebody is asked.
    texts = [item.text for item in waiting.waits_for_me(owner)]
    assert len([text for text in texts if text.startswith("Break-glass of")]) == 2
    assert any("Orders are lost" in item.text for item in waiting.waits_for_me(operator))


def tick_validation(migration: Migration, lead: Any) -> None:
    items = ChecklistItem.objects.filter(step__migration=migration, step__kind=K.VALIDATION, operation="")
    for item in items.filter(required=True):
        checklists.tick(item.pk, user=lead, state="done")


def test_a_pass_of_the_stop_ends_where_the_defect_was_opened_again(engine: Engine, migration, lead):
    signed_and_go(engine, migration, lead, go=False)
    raised = found(migration)
    break_glass.pass_step(migration.steps.get(kind=K.STOP).pk, user=lead, reason=REASON)
    assert not lane_of(migration).holding()
    defects.move(raised.pk, user=factories.make_member(migration.project, "operator"), to="mended", reason="patched")
    defects.move(raised.pk, user=migration.application.owner, to="open", reason="It is not")
    assert lane_of(migration).holding()


# -- a word is about what it was said of ----------------------------------------------------------------------


def test_a_go_that_was_voided_is_asked_for_anew_though_nothing_differs(engine: Engine, migration, lead):
    window(migration, 5, 9)
    signed_and_go(engine, migration, lead)
    engine.settle()
    owner, at = migration.application.owner, (migration.wave_id, migration.application_id)
    engine.script["isolation"] = [failed("The clone reaches 10.0.0.1.", "isolation.reach")]
    uat.open_uat(*at, user=owner)
    engine.settle()
    assert Approval.objects.get(gate="go").state == "stale"
    uat.again(*at, user=owner, operation="isolation")
    engine.settle()
    uat.end(*at, user=owner)
    engine.settle()
    if Approval.objects.get(gate="sign_off").state != "approved":
        sign(migration)
    engine.settle()
    assert any(item.text.startswith("Go for") for item in waiting.waits_for_me(lead))
    assert give_go(lead).state == "approved"


def test_after_an_abort_the_time_to_answer_begins_anew(engine: Engine, migration, lead):
    values = {"roles": ["lead"], "needed": 1, "runner_may": True, "expires_hours": 12, "remind_hours": 0}
    ApprovalPolicy.objects.create(project=migration.project, gate="go", **values)
    signed_and_go(engine, migration, lead)
    engine.script["sync"] = [failed("Source and target differ in 3 files.", "proof.differs")]
    engine.settle()
    Approval.objects.filter(gate="go").update(requested_at=factories.hours(-13), expires_at=factories.hours(-1))
    workflow.abort_cutover(migration.pk, user=lead, why="files differ")
    engine.settle()
    assert give_go(lead).state == "approved"


@pytest.mark.parametrize("name", ["gateway", "resolvers", "dns_ttl", "name_server"])
def test_whatever_cutover_will_set_is_part_of_what_was_signed(engine: Engine, migration, lead, name: str):
    window(migration, 5, 9)
    one, other = (
        NameServer.objects.create(name=each, address=address, credential=factories.make_credential())
        for each, address in (("one", "10.0.0.53"), ("other", "10.6.6.6"))
    )
    Migration.objects.filter(pk=migration.pk).update(name_server=one, dns_name="orders.example.org")
    signed_and_go(engine, migration, lead)
    engine.settle()
    migration.refresh_from_db()
    values = {"gateway": "10.9.9.9", "resolvers": ["10.6.6.6"], "dns_ttl": 86400, "name_server": other}
    planning.plan_server(migration=migration, values={name: values[name]}, user=lead)
    engine.settle()
    assert {approval.state for approval in Approval.objects.all()} == {"stale"}


def test_whoever_retried_a_step_ran_it(engine: Engine, migration, lead):
    operator, other = (factories.make_member(migration.project, role) for role in ("operator", "lead"))
    ApprovalPolicy.objects.create(project=migration.project, gate="go", roles=["lead"], needed=1, runner_may=False)
    engine.step()
    engine.script["sync"] = [failed("No.", "no")]
    start(migration, K.INITIAL, operator)
    engine.settle()
    workflow.retry_step(migration.steps.get(kind=K.INITIAL).pk, user=other, seen_attempt=1)
    engine.settle()
    assert StepAttempt.objects.get(step__kind=K.INITIAL).retried_by == [other.pk]
    factories.make_sync(migration, run=Run.objects.filter(operation="sync", state="succeeded").first())
    owner, at = migration.application.owner, (migration.wave_id, migration.application_id)
    uat.open_uat(*at, user=owner)
    engine.settle()
    tick_owner(migration)
    engine.step()
    sign(migration)
    uat.end(*at, user=owner)
    engine.settle()
    with pytest.raises(Forbidden, match="Whoever started"):
        give_go(other)
    assert give_go(lead).state == "approved"
