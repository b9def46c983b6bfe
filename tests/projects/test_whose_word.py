"""Whose word counts: of those who may still answer, each once, and nobody's yes over another's own no."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from projects import approvals, planning_people, policies, stand_ins, waiting
from projects import offers as offering
from projects.errors import Forbidden, NotReady
from projects.models import Approval, Membership, Migration, Step
from projects.views.contexts.approvals import approval_list
from tests import factories
from tests.projects.test_approvals import POLICY, go, lead, migration, owner, say, sign_off, state

__all__ = ["go", "lead", "migration", "owner", "sign_off"]
pytestmark = [pytest.mark.whole, pytest.mark.django_db]
Role, State = Membership.Role, Approval.State


@pytest.fixture
def second(migration: Migration) -> User:
    return factories.make_member(migration.project, Role.LEAD)


def needs(approval: Approval, number: int, *roles: str, runner_may: bool = False) -> None:
    Approval.objects.filter(pk=approval.pk).update(needed=number, roles=list(roles), runner_may=runner_may)


def member(migration: Migration, person: User) -> Membership:
    return Membership.objects.get(project=migration.project, user=person)


def stand_in(migration: Migration, by: User) -> User:
    person = factories.make_member(migration.project, Role.OWNER)
    values = {"applications": [migration.application], "starts_at": factories.hours(-1), "ends_at": factories.hours(9)}
    stand_ins.appoint(project=migration.project, person=person, why="away", user=by, **values)
    return person


def buttons(migration: Migration, user: User) -> dict[str, bool]:
    offers = offering.application_offers(migration.wave, migration.application, user)
    return {offer.code: offer.enabled for offer in offers}


def lists(migration: Migration, user: User) -> list[bool]:
    """Whether an answer waits for this person: on the overview, in the list of approvals."""
    texts = [item.text for item in waiting.waits_for_me(user)]
    mine = approval_list(migration.project, user, "mine")["counts"]["mine"]
    return [any(text.startswith(("Sign-off of", "Go for")) for text in texts), bool(mine)]


# -- who may still answer -------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["removed", "manager", "policy", "ran"])
def test_a_yes_of_who_may_not_answer_any_more_is_none(migration, lead, second, go, loss: str) -> None:
    needs(go, 2, "lead", "operator")
    if loss == "policy":
        member(migration, second).delete()
        factories.make_member(migration.project, Role.OPERATOR, second)
    say(go, second)
    if loss == "removed":
        planning_people.remove_member(member=member(migration, second), user=lead)
    elif loss == "manager":
        planning_people.change_member(member=member(migration, second), role="manager", user=lead)
    elif loss == "policy":
        needs(go, 2, "lead")
    else:
        factories.make_attempt(migration.steps.get(kind=Step.Kind.INITIAL), started_by=second, state="done")
    go.refresh_from_db()
    assert approvals.left_words(go) == "0 of 2 signatures"
    say(go, lead)
    assert state(go) == State.REQUESTED
    say(go, factories.make_member(migration.project, Role.LEAD))
    assert state(go) == State.APPROVED


def test_two_owners_one_after_the_other_are_not_owner_and_lead(migration, lead, second, owner, sign_off) -> None:
    needs(sign_off, 2, "owner", "lead")
    say(sign_off, owner)
    heir, application = factories.make_member(migration.project, Role.OWNER), migration.application
    values = {"name": application.name, "slug": application.slug, "description": "", "access_note": ""}
    planning_people.save_application(
        project=migration.project, application=application, owner=heir, waits_for=[], user=lead, **values
    )
    say(sign_off, heir)
    assert state(sign_off) == State.REQUESTED
    say(sign_off, second)
    assert state(sign_off) == State.APPROVED


def test_a_no_of_who_left_holds_nothing_and_of_who_ran_it_since_it_does(migration, lead, second, go) -> None:
    needs(go, 1, "lead")
    say(go, second, "reject")
    factories.make_attempt(migration.steps.get(kind=Step.Kind.INITIAL), started_by=second, state="done")
    say(go, lead)
    assert state(go) == State.REJECTED
    planning_people.remove_member(member=member(migration, second), user=lead)
    assert buttons(migration, lead)["go"] and lists(migration, lead) == [True, True]
    say(go, lead)
    assert state(go) == State.APPROVED


def test_what_was_given_stays_given_and_is_shown(migration, lead, second, go) -> None:
    say(go, second)
    assert state(go) == State.APPROVED
    planning_people.remove_member(member=member(migration, second), user=lead)
    go.refresh_from_db()
    assert [each.user for each in approvals.signatures(go)] == [second]


def test_a_stand_ins_yes_outlasts_the_standing_in(migration, lead, owner, sign_off) -> None:
    needs(sign_off, 2, "owner", "lead")
    person = stand_in(migration, lead)
    say(sign_off, person)
    planning_people.remove_member(member=member(migration, person), user=lead)
    sign_off.refresh_from_db()
    assert [each.on_behalf_of for each in approvals.signatures(sign_off)] == [owner]
    assert lists(migration, owner) == [False, False]


# -- fewer are needed -----------------------------------------------------------------------------------------


def test_where_fewer_are_needed_a_yes_is_said_once_more_and_nothing_opens_by_itself(
    migration, lead, second, go
) -> None:
    needs(go, 2, "lead", runner_may=True)
    say(go, lead)
    assert buttons(migration, lead)["go"] is False and lists(migration, lead) == [False, False]
    for needed in (2, 1):
        seen = policies.mark(policies.policy_of(migration.project_id, "go"))
        policies.save(project=migration.project, gate="go", values=POLICY | {"needed": needed}, seen=seen, user=second)
    assert state(go) == State.REQUESTED
    assert buttons(migration, lead)["go"] and lists(migration, lead) == [True, True]
    say(go, lead)
    assert state(go) == State.APPROVED


def test_why_a_yes_is_not_enough_is_said_in_words(migration, lead, second, sign_off, go) -> None:
    needs(go, 1, "lead")
    say(go, second, "reject")
    say(go, lead)
    with pytest.raises(NotReady, match="said yes already: the no of somebody else stands"):
        say(go, lead)
    Approval.objects.filter(pk=sign_off.pk).update(state=State.REQUESTED)
    needs(sign_off, 1, "owner", "lead")
    say(sign_off, lead)
    with pytest.raises(NotReady, match="said yes already: the owner's own is needed besides"):
        say(sign_off, lead)


# -- nobody says yes over another's own no --------------------------------------------------------------------


@pytest.mark.parametrize("verdict", ["reject", "more_time"])
def test_a_stand_in_does_not_say_yes_over_the_owners_own_no(migration, lead, owner, sign_off, verdict: str) -> None:
    person = stand_in(migration, lead)
    say(sign_off, owner, verdict)
    assert buttons(migration, person)["sign"] is False and lists(migration, person) == [False, False]
    with pytest.raises(NotReady, match="In their place nobody says yes"):
        say(sign_off, person)
    say(sign_off, owner)
    assert state(sign_off) == State.APPROVED


def test_nor_does_a_delegate_unless_it_was_handed_over_after_the_no(migration, lead, owner, sign_off, go) -> None:
    Approval.objects.filter(pk=sign_off.pk).update(state=State.REQUESTED)
    heir = factories.make_member(migration.project, Role.OWNER)
    approvals.delegate(sign_off.pk, user=owner, to=heir)
    say(sign_off, owner, "reject")
    with pytest.raises(NotReady, match="answered in person: rejected"):
        say(sign_off, heir)
    Approval.objects.filter(pk=sign_off.pk).update(delegated_at=timezone.now())
    say(sign_off, heir)
    assert state(sign_off) == State.APPROVED
    operator = factories.make_member(migration.project, Role.OPERATOR)
    approvals.delegate(go.pk, user=lead, to=operator)
    say(go, lead, "reject")
    with pytest.raises(NotReady, match="answered in person: rejected"):
        say(go, operator)


def test_a_delegates_own_no_is_taken_back_by_either(migration, owner, sign_off) -> None:
    heir = factories.make_member(migration.project, Role.OWNER)
    approvals.delegate(sign_off.pk, user=owner, to=heir)
    say(sign_off, heir, "reject")
    say(sign_off, owner)
    assert state(sign_off) == State.APPROVED


# -- pages and press follow one rule --------------------------------------------------------------------------


@pytest.mark.parametrize("other", ["wave", "done", "cancelled"])
def test_who_ran_another_server_of_the_application_is_offered_nothing(migration, lead, go, other: str) -> None:
    needs(go, 1, "lead")
    wave = factories.make_wave(migration.project) if other == "wave" else migration.wave
    ran = {"done": "complete", "cancelled": "cancelled"}.get(other, "open")
    old = factories.make_migration(
        project=migration.project, application=migration.application, wave=wave, profile=migration.profile, state=ran
    )
    assert "go" in buttons(migration, lead)
    factories.make_attempt(old.steps.get(kind=Step.Kind.INITIAL), retried_by=[lead.pk], state="done")
    assert "go" not in buttons(migration, lead) and lists(migration, lead) == [False, False]
    with pytest.raises(Forbidden, match=f"servers of {migration.application}"):
        say(go, lead)


def test_after_a_stand_ins_yes_neither_has_a_button_that_does_nothing(migration, lead, owner, sign_off) -> None:
    needs(sign_off, 2, "owner", "lead")
    person = stand_in(migration, lead)
    say(sign_off, person)
    for user in (person, owner):
        assert buttons(migration, user)["sign"] is False and lists(migration, user) == [False, False]
    client = Client()
    client.force_login(person, "django.contrib.auth.backends.ModelBackend")
    page = client.get(reverse("approval", args=[sign_off.pk])).content.decode()
    assert "said yes already: 1 of 2 signatures" in page and 'value="approve"' not in page


# -- handing over ---------------------------------------------------------------------------------------------


def test_it_is_not_handed_to_who_asked_nor_once_the_time_is_over(migration, lead, go) -> None:
    operator = factories.make_member(migration.project, Role.OPERATOR)
    other = factories.make_member(migration.project, Role.OPERATOR)
    say(go, lead, "more_time")
    approvals.ask_again(go.pk, user=operator)
    with pytest.raises(NotReady, match="nobody approves their own request"):
        approvals.delegate(go.pk, user=lead, to=operator)
    client = Client()
    client.force_login(lead, "django.contrib.auth.backends.ModelBackend")
    page = client.get(reverse("approval", args=[go.pk])).content.decode()
    heirs = page.split('id="to"')[1].split("</select>")[0]
    assert f'value="{other.pk}"' in heirs and f'value="{operator.pk}"' not in heirs
    Approval.objects.filter(pk=go.pk).update(expires_at=factories.hours(-1))
    with pytest.raises(NotReady, match="The time to answer is over"):
        approvals.delegate(go.pk, user=lead, to=other)
    assert Approval.objects.get(pk=go.pk).delegated_to is None
