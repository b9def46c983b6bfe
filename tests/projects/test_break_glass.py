"""Break-glass: what a lead may pass alone, what nobody may, and the second person's word."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import IntegrityError, transaction

from migrationhub.audit.models import AuditEvent
from projects import break_glass, checklists, gates, workflow
from projects import digest as digests
from projects.errors import Conflict, Forbidden, NotReady
from projects.lanes import application_lanes, lane_of
from projects.models import Approval, BreakGlass, ChecklistItem, Decision, Membership, Migration, Step
from projects.steps import MODULES
from tests import factories

pytestmark = pytest.mark.django_db
K, Role, Gate, State = Step.Kind, Membership.Role, Approval.Gate, BreakGlass.State
REASON = "The data centre closes tonight and the owner does not answer."


@pytest.fixture
def migration() -> Migration:
    made = factories.make_migration(steps=False)
    workflow.plan_steps(made)
    items = ChecklistItem.objects.filter(step__migration=made, step__kind=K.UAT)
    items.exclude(operation="").update(state="done")  # what machines prove is proven; the owner ticked nothing
    return made


@pytest.fixture
def lead(migration: Migration) -> Any:
    return migration.project.memberships.get(role="lead").user


@pytest.fixture
def sign_off(migration: Migration) -> Approval:
    return factories.make_asked(migration.wave, migration.application)


def passed(approval: Approval, lead: Any, **over: Any) -> BreakGlass:
    approval.refresh_from_db()
    values = {"reason": REASON, "digest": approval.digest} | over
    return break_glass.pass_gate(approval.pk, user=lead, **values)


def test_a_lead_passes_the_sign_off_with_a_reason_and_all_that_was_open_is_named(migration, lead, sign_off) -> None:
    made = passed(sign_off, lead)
    lane = lane_of(migration)
    assert lane.approved(Gate.SIGN_OFF) and not MODULES[K.UAT].unfinished(lane)
    assert made.state == State.UNCONFIRMED and made.digest == sign_off.digest
    assert any("You can reach the clone" in words for words in made.passed)
    assert "Sign-off of acceptance testing: waits for an answer." in made.passed
    assert not Decision.objects.exists(), "nobody said yes"
    event = AuditEvent.objects.get(verb="break_glass.pass")
    assert (event.actor, event.why) == (lead, REASON)


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.MANAGER, Role.OWNER])
def test_nobody_but_a_lead(migration, sign_off, role: str) -> None:
    with pytest.raises(Forbidden):
        passed(sign_off, factories.make_member(migration.project, role))
    assert not BreakGlass.objects.exists()


@pytest.mark.parametrize("reason", ["", "   ", "urgent"])
def test_not_without_a_reason(sign_off, lead, reason: str) -> None:
    with pytest.raises(NotReady, match="stands in every report"):
        passed(sign_off, lead, reason=reason)


def test_about_exactly_what_was_looked_at(migration, lead, sign_off) -> None:
    with pytest.raises(Conflict, match="since the page was drawn"):
        passed(sign_off, lead, digest="old")
    Migration.objects.filter(pk=migration.pk).update(services=["other"])
    with pytest.raises(NotReady, match="changed a moment ago"):
        passed(sign_off, lead)


def test_when_what_it_was_about_changes_it_does_not_count_any_more(migration, lead, sign_off) -> None:
    passed(sign_off, lead)
    factories.make_attempt(migration.steps.get(kind=K.UAT), state="done")
    Migration.objects.filter(pk=migration.pk).update(services=["other"])
    gates.follow(migration)
    sign_off.refresh_from_db()
    assert sign_off.state == Approval.State.STALE and not lane_of(migration).approved(Gate.SIGN_OFF)


# -- what nobody may pass -------------------------------------------------------------------------------------


def test_a_proof_that_failed_is_never_passed(migration, lead, sign_off) -> None:
    ChecklistItem.objects.filter(step__migration=migration, key="isolated").update(state="failed")
    Approval.objects.filter(pk=sign_off.pk).update(
        digest=digests.now(application_lanes(migration.wave_id, migration.application))
    )
    with pytest.raises(NotReady, match="is proven by a run, and is not passed"):
        passed(sign_off, lead)


@pytest.mark.parametrize(("kind", "key"), [(K.STOP, "stopped"), (K.FINAL, "final-sync"), (K.FINAL, "source-off")])
def test_services_not_stopped_sides_not_equal_source_not_off_are_never_passed(migration, lead, kind, key) -> None:
    step = migration.steps.get(kind=kind)
    assert step.checklist.get(key=key).state == "open"
    with pytest.raises(NotReady, match="Nothing that people owe"):
        break_glass.pass_step(step.pk, user=lead, reason=REASON)
    factories.make_item(step, "By a person")
    break_glass.pass_step(step.pk, user=lead, reason=REASON)
    open_ones = MODULES[kind].unfinished(lane_of(migration))
    assert "By a person" not in open_ones and step.checklist.get(key=key).title in open_ones


def test_a_go_is_not_passed_before_the_sign_off_and_the_test_are_over(migration, lead, sign_off) -> None:
    go = factories.make_approval(migration.wave, migration.application, Gate.GO)
    with pytest.raises(NotReady, match="the sign-off comes first"):
        passed(go, lead)
    passed(sign_off, lead)
    with pytest.raises(NotReady, match="acceptance testing is not done"):
        passed(go, lead)


def test_what_was_approved_already_is_not_passed(lead, sign_off) -> None:
    Approval.objects.filter(pk=sign_off.pk).update(state=Approval.State.APPROVED)
    with pytest.raises(NotReady, match="approved already"):
        passed(sign_off, lead)


def test_a_step_lets_pass_what_was_open_by_name_and_nothing_that_is_opened_later(migration, lead) -> None:
    step = migration.steps.get(kind=K.STOP)
    first = factories.make_item(step, "Tell the bank", holds="start")
    made = break_glass.pass_step(step.pk, user=lead, reason=REASON)
    assert made.items == [first.pk]
    assert not [each for each in MODULES[K.STOP].unmet(lane_of(migration)) if "Tell the bank" in each.text]
    factories.make_item(step, "Tell the press", holds="start")
    assert [each for each in MODULES[K.STOP].unmet(lane_of(migration)) if "Tell the press" in each.text]


def test_of_the_acceptance_test_only_what_holds_its_start_is_passed(migration, lead) -> None:
    step = migration.steps.get(kind=K.UAT)
    step.checklist.filter(operation="").update(state="open")
    with pytest.raises(NotReady, match="Nothing that people owe"):
        break_glass.pass_step(step.pk, user=lead, reason=REASON)
    first = factories.make_item(step, "The jump host is open", holds="start")
    assert break_glass.pass_step(step.pk, user=lead, reason=REASON).items == [first.pk]


# -- the second person ----------------------------------------------------------------------------------------


def test_never_the_same_person_not_even_in_the_database(migration, lead, sign_off) -> None:
    made = passed(sign_off, lead)
    with pytest.raises(Forbidden, match="does not confirm it"):
        break_glass.confirm(made.pk, user=lead, in_order=True)
    with pytest.raises(IntegrityError), transaction.atomic():
        BreakGlass.objects.filter(pk=made.pk).update(state="in_order", confirmed_by=lead)


@pytest.mark.parametrize(("role", "may"), [(Role.LEAD, True), (Role.OPERATOR, False), (Role.MANAGER, False)])
def test_another_lead_confirms(migration, lead, sign_off, role: str, may: bool) -> None:
    made, user = passed(sign_off, lead), factories.make_member(migration.project, role)
    if may:
        assert break_glass.confirm(made.pk, user=user, in_order=True).confirmed_by == user
    else:
        with pytest.raises(Forbidden):
            break_glass.confirm(made.pk, user=user, in_order=True)


def test_not_in_order_needs_words_stays_in_the_record_and_shuts_what_was_not_used(migration, lead, sign_off) -> None:
    made, owner = passed(sign_off, lead), migration.application.owner
    with pytest.raises(NotReady, match="what was not in order"):
        break_glass.confirm(made.pk, user=owner, in_order=False)
    break_glass.confirm(made.pk, user=owner, in_order=False, comment="I was at my desk all evening.")
    made.refresh_from_db()
    sign_off.refresh_from_db()
    assert (made.state, made.comment) == (State.NOT_IN_ORDER, "I was at my desk all evening.")
    assert sign_off.state == Approval.State.STALE
    with pytest.raises(Conflict, match="answered already"):
        break_glass.confirm(made.pk, user=owner, in_order=True)


def test_what_was_found_not_in_order_lets_nothing_pass_any_more(migration, lead) -> None:
    step = migration.steps.get(kind=K.STOP)
    factories.make_item(step, "Tell the bank", holds="start")
    made = break_glass.pass_step(step.pk, user=lead, reason=REASON)
    break_glass.confirm(made.pk, user=migration.application.owner, in_order=False, comment="Not like this.")
    assert [each for each in MODULES[K.STOP].unmet(lane_of(migration)) if "Tell the bank" in each.text]


def test_what_was_opened_again_since_holds_again(migration, lead) -> None:
    step = migration.steps.get(kind=K.STOP)
    factories.make_item(step, "Tell the bank", holds="start")
    factories.make_item(step, "Tell the press", holds="start")
    break_glass.pass_step(step.pk, user=lead, reason=REASON)
    step.checklist.update(state="done")
    checklists.reopen(step, "Open again: the step was taken back.")
    texts = " ".join(each.text for each in MODULES[K.STOP].unmet(lane_of(migration)))
    assert "Tell the bank" in texts and "Tell the press" in texts


def test_an_item_that_was_passed_may_still_be_ticked(migration, lead) -> None:
    step = migration.steps.get(kind=K.STOP)
    item = factories.make_item(step, "Tell the bank", holds="start")
    break_glass.pass_step(step.pk, user=lead, reason=REASON)
    checklists.tick(item.pk, user=lead, state="done")
    item.refresh_from_db()
    assert item.state == "done"
