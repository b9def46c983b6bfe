"""Whoever loses a role answers in it no more: what was handed to them, and where they stood in, ends with it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from migrationhub.audit.models import AuditEvent
from migrationhub.lib.findings import Problem
from projects import access, approvals, break_glass, checklists, decisions, stand_ins, waiting
from projects import offers as offering
from projects.errors import Forbidden
from projects.lanes import application_lanes
from projects.models import Approval, BreakGlass, Membership, StandIn
from projects.notify import people
from tests import factories
from tests.projects.views.conftest import House, house

__all__ = ["house"]
pytestmark = pytest.mark.django_db
Gate = Approval.Gate


@pytest.fixture
def anna(house: House) -> User:
    """Another application owner of the project."""
    return factories.make_member(house.project, "owner", factories.make_user("anna", first_name="Anna"))


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user, "django.contrib.auth.backends.ModelBackend")
    return client


def appoint(house: House, person: User) -> StandIn:
    now = timezone.now()
    dates = {"starts_at": now - timedelta(days=1), "ends_at": now + timedelta(days=1)}
    made = stand_ins.appoint(
        project=house.project, applications=[house.application], person=person, why="away", user=house.lead, **dates
    )
    return made[0]


def handed(house: House, gate: str, giver: User, to: User) -> Approval:
    asked = factories.make_approval(house.wave, house.application, gate)
    approvals.delegate(asked.pk, user=giver, to=to)
    return Approval.objects.get(pk=asked.pk)


def pressed(house: House, person: User, role: str | None) -> str:
    """The page after a lead gave somebody another role, or removed them (None)."""
    member = Membership.objects.get(project=house.project, user=person)
    name, data = ("member-role", {"role": role}) if role else ("member-remove", {})
    address = reverse(name, args=[house.project.slug, member.pk])
    return house.client("lead").post(address, data, follow=True).content.decode()


# -- what was handed over -------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["manager", "owner"])
def test_a_go_that_was_handed_over_is_given_by_who_runs_it_alone(house: House, role: str) -> None:
    """However the role was lost; the button, the overview, the mails and the press follow one rule."""
    go = handed(house, Gate.GO, house.lead, house.operator)
    assert access.is_handed_to(go, house.operator)
    Membership.objects.filter(user=house.operator).update(role=role)
    go = Approval.objects.get(pk=go.pk)
    lanes = application_lanes(house.wave.pk, house.application)
    assert not approvals.may_answer(go, house.operator, role)
    assert not access.is_handed_over(lanes[0].approvals[Gate.GO])
    codes = [offer.code for offer in offering.application_offers(house.wave, house.application, house.operator)]
    assert "go" not in codes
    assert not any(each.text.startswith("Go for") for each in waiting.waits_for_me(house.operator))
    assert people.asked(go).also == []
    with pytest.raises(Forbidden, match="The go is given by a lead"):
        decisions.decide(go.pk, user=house.operator, verdict="reject", comment="no", digest=go.digest)
    approvals.delegate(go.pk, user=house.lead, to=factories.make_member(house.project, "operator"))


def test_a_sign_off_that_was_handed_over_is_given_in_the_role_of_an_owner(house: House, anna: User) -> None:
    sign_off = handed(house, Gate.SIGN_OFF, house.owner, anna)
    item = factories.make_item(house.migration.steps.get(kind="acceptance_testing"), role="owner")
    Membership.objects.filter(user=anna).update(role="operator")
    assert not access.answers_for(house.migration, anna)
    with pytest.raises(Forbidden, match="answered by the application's owner"):
        checklists.tick(item.pk, user=anna, state="done")
    with pytest.raises(Forbidden, match="is its owner's alone"):
        decisions.decide(sign_off.pk, user=anna, verdict="reject", comment="no", digest=sign_off.digest)


@pytest.mark.parametrize("role", [None, "manager"])
def test_what_was_handed_to_somebody_comes_back_as_they_lose_the_role(
    house: House, anna: User, role: str | None
) -> None:
    sign_off = handed(house, Gate.SIGN_OFF, house.owner, anna)
    said = pressed(house, anna, role)
    assert "Sign-off of acceptance testing, Shop: olga had handed it to anna, and has it back." in said
    now = Approval.objects.get(pk=sign_off.pk)
    assert (now.delegated_to, now.delegated_by, now.delegated_at) == (None, None, None)
    assert now.version > sign_off.version, "whoever answers in this moment looks again"
    event = AuditEvent.objects.get(verb="approval.handed_back")
    assert (event.actor, event.object_id) == (house.lead, str(sign_off.pk))
    assert event.before == {"to": "anna", "by": "olga"} and "anna" in event.why
    page = house.client("owner").get(reverse("approval", args=[sign_off.pk])).content.decode()
    assert "Handed over" not in page and "Hand it over" in page
    approvals.delegate(sign_off.pk, user=house.owner, to=factories.make_member(house.project, "owner"))


def test_a_lead_who_becomes_operator_keeps_the_go_that_was_handed_to_them(house: House) -> None:
    ben = factories.make_member(house.project, "lead", factories.make_user("ben"))
    go = handed(house, Gate.GO, house.lead, ben)
    assert "handed it" not in pressed(house, ben, "operator")
    assert approvals.right_of(Approval.objects.get(pk=go.pk), ben) == house.lead


# -- in somebody's place --------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["operator", "manager"])
def test_a_stand_in_signs_in_the_role_of_an_owner(house: House, anna: User, role: str) -> None:
    """However the role was lost."""
    place = appoint(house, anna)
    item = factories.make_item(house.migration.steps.get(kind="acceptance_testing"), role="owner")
    glass = BreakGlass.objects.create(
        **{"project": house.project, "wave": house.wave, "application": house.application},
        **{"gate": Gate.SIGN_OFF, "by": house.lead, "reason": "It cannot wait."},
    )
    assert access.valid_places(anna) == [place] and break_glass.may_confirm(glass, anna, "owner")
    Membership.objects.filter(user=anna).update(role=role)
    assert access.valid_places(anna) == [] and not access.may_sign(house.application, anna)
    assert place.state == "ended"
    assert not break_glass.may_confirm(glass, anna, role)
    assert anna.pk not in [person for _, person in people.People(house.project).places]
    with pytest.raises(Forbidden):
        checklists.tick(item.pk, user=anna, state="done")
    if role == "manager":
        opened = client_of(anna).post(reverse("uat-open", args=[house.wave.pk, house.application.pk]))
        assert opened.status_code == 403


@pytest.mark.parametrize("role", [None, "operator"])
def test_standing_in_ends_with_the_role_and_does_not_come_back(house: House, anna: User, role: str | None) -> None:
    place = appoint(house, anna)
    assert "Shop: anna does not stand in for olga any more." in pressed(house, anna, role)
    place.refresh_from_db()
    assert place.ended_at is not None and place.ended_by == house.lead
    event = AuditEvent.objects.get(verb="stand_in.end")
    assert (event.actor, event.object_id, "anna" in event.why) == (house.lead, str(place.pk), True)
    page = house.client("lead").get(reverse("stand-ins", args=[house.project.slug])).content.decode()
    assert "Ended" in page and "May sign now" not in page, "what was stays in the list"
    Membership.objects.update_or_create(project=house.project, user=anna, defaults={"role": "owner"})
    assert not access.may_sign(house.application, anna)
    appoint(house, factories.make_member(house.project, "owner"))


def test_who_retried_a_step_does_not_stand_in_either(house: House, anna: User) -> None:
    step = house.migration.steps.get(kind="initial_migration")
    factories.make_attempt(step, started_by=house.lead, retried_by=[anna.pk])
    with pytest.raises(Problem, match="anna ran steps of Shop"):
        appoint(house, anna)


def test_an_owner_who_is_one_no_more_signs_nothing(house: House) -> None:
    asked = factories.make_asked(house.wave, house.application)
    Membership.objects.filter(user=house.owner).update(role="lead")
    assert not access.may_sign(house.application, house.owner)
    with pytest.raises(Forbidden, match="given in the role of an application owner"):
        decisions.decide(asked.pk, user=house.owner, verdict="reject", comment="no", digest=asked.digest)
