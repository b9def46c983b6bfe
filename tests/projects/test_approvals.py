"""Approvals: policies, N of M, asking again, handing over, expiring. No answer is never a yes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from migrationhub.audit.models import AuditEvent
from projects import approvals, decisions, gates, policies, waiting, workflow
from projects import digest as digests
from projects import offers as offering
from projects.errors import Conflict, Forbidden, NotReady
from projects.lanes import application_lanes
from projects.models import (
    Application,
    Approval,
    ApprovalPolicy,
    ChecklistItem,
    Decision,
    Membership,
    Migration,
    Step,
)
from tests import factories

pytestmark = [pytest.mark.whole, pytest.mark.django_db]
Gate, State, Role = Approval.Gate, Approval.State, Membership.Role
POLICY = {"roles": ["lead"], "needed": 1, "runner_may": True, "expires_hours": 0, "remind_hours": 0}


@pytest.fixture
def migration() -> Migration:
    """Tested and ticked: nothing is missing but people's words."""
    made = factories.make_migration(steps=False)
    workflow.plan_steps(made)
    ChecklistItem.objects.filter(step__migration=made, step__kind=Step.Kind.UAT).update(state="done")
    return made


@pytest.fixture
def lead(migration: Migration) -> Any:
    return migration.project.memberships.get(role="lead").user


@pytest.fixture
def owner(migration: Migration) -> Any:
    return migration.application.owner


@pytest.fixture
def sign_off(migration: Migration) -> Approval:
    return factories.make_asked(migration.wave, migration.application)


@pytest.fixture
def go(migration: Migration, sign_off: Approval) -> Approval:
    """Asked for, after the sign-off and the end of the test."""
    Approval.objects.filter(pk=sign_off.pk).update(state=State.APPROVED)
    Step.objects.filter(migration=migration, kind=Step.Kind.UAT).update(state=Step.State.DONE)
    sign_off.refresh_from_db()
    lanes = application_lanes(migration.wave_id, migration.application)
    subject = digests.plain(digests.go_subject(lanes, sign_off))
    return factories.make_approval(
        migration.wave, migration.application, Gate.GO, subject=subject, digest=digests.digest(subject)
    )


def say(approval: Approval, user: Any, verdict: str = "approve", **over: Any) -> Decision:
    approval.refresh_from_db()
    values = {"comment": "because", "digest": approval.digest} | over
    return decisions.decide(approval.pk, user=user, verdict=verdict, **values)


def state(approval: Approval) -> str:
    approval.refresh_from_db()
    return approval.state


# -- N of M ---------------------------------------------------------------------------------------------------


def test_two_different_people_are_needed_and_each_signature_is_kept(migration, lead, go) -> None:
    Approval.objects.filter(pk=go.pk).update(needed=2, runner_may=True)
    second = factories.make_member(migration.project, Role.LEAD)
    say(go, lead)
    assert state(go) == State.REQUESTED
    assert [each.user for each in approvals.signatures(go)] == [lead]
    with pytest.raises(NotReady, match="said yes already: 1 of 2 signatures"):
        say(go, lead)
    say(go, second)
    assert state(go) == State.APPROVED and len(approvals.signatures(go)) == 2


def test_a_no_outweighs_any_number_of_yeses_until_it_is_taken_back_or_asked_again(migration, lead, go) -> None:
    Approval.objects.filter(pk=go.pk).update(needed=1, runner_may=True)
    second = factories.make_member(migration.project, Role.LEAD)
    operator = factories.make_member(migration.project, Role.OPERATOR)
    say(go, lead, "reject")
    say(go, second)
    assert state(go) == State.REJECTED
    approvals.ask_again(go.pk, user=operator, comment="the reason is gone")
    assert state(go) == State.REQUESTED and not approvals.words(go)
    say(go, second)
    assert state(go) == State.APPROVED


def test_yeses_about_something_else_do_not_count(migration, lead, go) -> None:
    Approval.objects.filter(pk=go.pk).update(needed=2, runner_may=True)
    say(go, lead)
    Approval.objects.filter(pk=go.pk).update(digest="b" * 64)
    go.refresh_from_db()
    assert not approvals.signatures(go)
    say(go, factories.make_member(migration.project, Role.LEAD))
    assert state(go) == State.REQUESTED


def test_the_owners_own_yes_is_always_among_those_of_a_sign_off(migration, lead, sign_off) -> None:
    Approval.objects.filter(pk=sign_off.pk).update(needed=2, roles=["owner", "lead", "manager"])
    for role in (Role.LEAD, Role.MANAGER):
        say(sign_off, factories.make_member(migration.project, role))
    assert state(sign_off) == State.REQUESTED, "two yeses, and none is the owner's"
    say(sign_off, migration.application.owner)
    assert state(sign_off) == State.APPROVED


def test_who_ran_it_does_not_sign_besides_and_not_the_go_where_the_policy_says_so(
    migration, lead, sign_off, go
) -> None:
    factories.make_attempt(migration.steps.get(kind=Step.Kind.INITIAL), started_by=lead, state="done")
    Approval.objects.filter(pk=sign_off.pk).update(roles=["owner", "lead"], needed=2, state=State.REQUESTED)
    with pytest.raises(Forbidden, match="does not sign what it made"):
        say(sign_off, lead)
    Approval.objects.filter(pk=sign_off.pk).update(state=State.APPROVED)
    Approval.objects.filter(pk=go.pk).update(roles=["lead"], runner_may=False)
    with pytest.raises(Forbidden, match="does not give the go"):
        say(go, lead)


def test_a_request_older_than_policies_is_answered_as_before(migration, lead, go) -> None:
    factories.make_attempt(migration.steps.get(kind=Step.Kind.INITIAL), started_by=lead, state="done")
    assert go.roles == [] and not go.runner_may, "as the migration of the database left it"
    say(go, lead)
    assert state(go) == State.APPROVED


# -- policies -------------------------------------------------------------------------------------------------


def test_a_policy_follows_to_open_requests_and_not_to_what_was_answered(migration, lead, go, sign_off) -> None:
    factories.make_member(migration.project, Role.LEAD)
    policy = policies.policy_of(migration.project_id, Gate.GO)
    values = POLICY | {"needed": 2, "expires_hours": 4, "remind_hours": 1}
    policies.save(project=migration.project, gate=Gate.GO, values=values, seen=policies.mark(policy), user=lead)
    go.refresh_from_db()
    assert go.needed == 2
    assert go.expires_at > go.requested_at + timedelta(hours=4), "from the change on, not from the request"
    assert go.expires_at - go.remind_at == timedelta(hours=3)
    with pytest.raises(Conflict):
        policies.save(
            project=migration.project, gate=Gate.GO, values=POLICY, seen=policies.mark(policy) + "x", user=lead
        )
    event = AuditEvent.objects.get(verb="policy.change")
    assert event.before["needed"] == 1 and event.after["needed"] == 2


def test_of_two_who_save_a_policy_at_once_the_second_looks_again(migration, lead, monkeypatch) -> None:
    second = factories.make_member(migration.project, Role.LEAD)
    ApprovalPolicy.objects.create(project=migration.project, gate=Gate.GO, **POLICY)
    shared = {"project": migration.project, "gate": Gate.GO}
    seen, real = policies.mark(policies.policy_of(migration.project_id, Gate.GO)), policies._check

    def between(*args: Any) -> None:
        monkeypatch.setattr(policies, "_check", real)
        policies.save(**shared, values=POLICY | {"needed": 2}, seen=seen, user=second)

    monkeypatch.setattr(policies, "_check", between)
    with pytest.raises(Conflict, match="a moment ago"):
        policies.save(**shared, values=POLICY | {"expires_hours": 4}, seen=seen, user=lead)
    assert ApprovalPolicy.objects.get().needed == 2
    assert AuditEvent.objects.filter(verb="policy.change").count() == 1


def test_only_other_hours_move_the_times_of_a_request_and_they_begin_now(migration, lead, go) -> None:
    ApprovalPolicy.objects.create(project=migration.project, gate=Gate.GO, **POLICY | {"remind_hours": 24})
    long_ago = timezone.now() - timedelta(hours=30)
    Approval.objects.filter(pk=go.pk).update(requested_at=long_ago, remind_at=None)  # it was sent

    def save(**over: Any) -> None:
        now = policies.policy_of(migration.project_id, Gate.GO)
        values = {name: getattr(now, name) for name in policies.FIELDS} | over
        policies.save(project=migration.project, gate=Gate.GO, values=values, seen=policies.mark(now), user=lead)
        go.refresh_from_db()

    save(roles=["lead", "operator"])
    assert go.roles == ["lead", "operator"] and go.remind_at is None
    save(expires_hours=26)
    assert go.remind_at is None and go.expires_at > timezone.now() + timedelta(hours=25)
    save(expires_hours=0, remind_hours=2)
    assert go.expires_at is None and go.remind_at > timezone.now() + timedelta(hours=1)


@pytest.mark.parametrize(
    ("gate", "over", "words"),
    [
        (Gate.GO, {"roles": []}, "nobody could answer"),
        (Gate.GO, {"needed": 2}, "only 1 of the project's members could answer"),
        (Gate.GO, {"roles": ["owner"]}, "the go is for roles of the project"),
        (Gate.SIGN_OFF, {"roles": ["lead"]}, "is the application owner's"),
        (Gate.SIGN_OFF, {"roles": ["owner"], "runner_may": True}, "never signs what it made"),
        (Gate.GO, {"expires_hours": 2, "remind_hours": 3}, "helps nobody"),
    ],
)
def test_a_policy_that_could_never_be_met_is_refused_in_words(migration, lead, gate, over, words: str) -> None:
    policy = policies.policy_of(migration.project_id, gate)
    with pytest.raises(NotReady, match=words):
        policies.save(project=migration.project, gate=gate, values=POLICY | over, seen=policies.mark(policy), user=lead)


# -- asking again ---------------------------------------------------------------------------------------------


def test_whoever_asks_does_not_answer(migration, lead, go) -> None:
    say(go, lead, "more_time")
    approvals.ask_again(go.pk, user=lead)
    with pytest.raises(Forbidden, match="their own request"):
        say(go, lead)
    assert not [o for o in offering.application_offers(migration.wave, migration.application, lead) if o.code == "go"]


def test_only_who_runs_it_asks_and_only_where_there_is_something_to_ask(migration, lead, go, sign_off) -> None:
    with pytest.raises(Forbidden):
        approvals.ask_again(go.pk, user=migration.application.owner)
    with pytest.raises(NotReady, match="nobody has answered yet"):
        approvals.ask_again(go.pk, user=lead)
    with pytest.raises(NotReady, match="nothing to ask"):
        approvals.ask_again(sign_off.pk, user=lead)


# -- expiry ---------------------------------------------------------------------------------------------------


def test_expired_is_not_approved_even_before_the_controller_has_noticed(migration, lead, go) -> None:
    Approval.objects.filter(pk=go.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    with pytest.raises(NotReady, match="time to answer is over"):
        say(go, lead)
    assert state(go) == State.REQUESTED
    gates.follow(migration)
    assert state(go) == State.EXPIRED and not application_lanes(migration.wave_id, migration.application)[0].approved(
        "go"
    )
    assert AuditEvent.objects.filter(verb="approval.expire").count() == 1
    with pytest.raises(NotReady, match="time to answer is over"):
        say(go, lead)


def test_an_expired_request_is_asked_anew_with_a_new_time(migration, lead, go) -> None:
    operator = factories.make_member(migration.project, Role.OPERATOR)
    Approval.objects.filter(pk=go.pk).update(state=State.EXPIRED, expires_at=timezone.now() - timedelta(hours=1))
    approvals.ask_again(go.pk, user=operator)
    assert state(go) == State.REQUESTED and go.expires_at is None and go.remind_at is not None
    say(go, lead)
    assert state(go) == State.APPROVED


def test_an_answer_that_came_in_time_does_not_expire(migration, lead, go) -> None:
    say(go, lead)
    Approval.objects.filter(pk=go.pk).update(expires_at=timezone.now() - timedelta(hours=1))
    gates.follow(migration)
    assert state(go) == State.APPROVED


# -- handing over ---------------------------------------------------------------------------------------------


@pytest.fixture
def heir(migration: Migration) -> Any:
    return factories.make_member(migration.project, Role.OWNER)


def test_the_owner_hands_over_once_and_the_two_are_one(migration, sign_off, heir) -> None:
    owner = migration.application.owner
    assert not Application.objects.visible_to(heir).exists()
    approvals.delegate(sign_off.pk, user=owner, to=heir, comment="on holiday")
    assert Application.objects.visible_to(heir).get() == migration.application
    with pytest.raises(NotReady, match="handed over once"):
        approvals.delegate(sign_off.pk, user=owner, to=factories.make_member(migration.project, Role.OWNER))
    with pytest.raises(Forbidden, match="Only the owner hands"):
        approvals.delegate(sign_off.pk, user=heir, to=factories.make_member(migration.project, Role.OWNER))
    made = say(sign_off, heir)
    assert (made.user, made.on_behalf_of, state(sign_off)) == (heir, owner, State.APPROVED)


def test_delegate_and_owner_count_as_one_person(migration, lead, sign_off, heir) -> None:
    Approval.objects.filter(pk=sign_off.pk).update(needed=2, roles=["owner", "lead"])
    approvals.delegate(sign_off.pk, user=migration.application.owner, to=heir)
    say(sign_off, heir)
    with pytest.raises(NotReady, match="said yes already"):
        say(sign_off, migration.application.owner)
    say(sign_off, factories.make_member(migration.project, Role.LEAD))
    assert state(sign_off) == State.APPROVED


@pytest.mark.parametrize("role", [Role.LEAD, Role.OPERATOR, Role.MANAGER])
def test_a_sign_off_is_not_handed_to_who_runs_it_or_only_reads(migration, sign_off, role: str) -> None:
    with pytest.raises(NotReady, match="they may not answer this"):
        approvals.delegate(
            sign_off.pk, user=migration.application.owner, to=factories.make_member(migration.project, role)
        )


def test_nor_to_an_outsider_oneself_or_somebody_who_ran_it(migration, sign_off, heir) -> None:
    owner = migration.application.owner
    for to, words in ((factories.make_user(), "not a member"), (owner, "that is yourself")):
        with pytest.raises(NotReady, match=words):
            approvals.delegate(sign_off.pk, user=owner, to=to)
    factories.make_attempt(migration.steps.get(kind=Step.Kind.INITIAL), started_by=heir, state="done")
    with pytest.raises(NotReady, match="does not answer for what they ran"):
        approvals.delegate(sign_off.pk, user=owner, to=heir)


def test_a_new_request_ends_the_handing_over(migration, lead, sign_off, heir) -> None:
    owner = migration.application.owner
    approvals.delegate(sign_off.pk, user=owner, to=heir)
    say(sign_off, heir, "more_time")
    approvals.ask_again(sign_off.pk, user=lead)
    with pytest.raises(Forbidden):
        say(sign_off, heir)


# -- what waits -----------------------------------------------------------------------------------------------


def test_what_waits_for_whom(migration, lead, go) -> None:
    texts = lambda user: [item.text for item in waiting.waits_for_me(user)]  # noqa: E731
    assert f"Go for {migration.application}" in texts(lead)
    assert texts(migration.application.owner) == []
    say(go, lead)
    assert texts(lead) == []
