"""A stand-in sees and signs for an absent owner: within the dates, and only then; never who ran the migration."""

from __future__ import annotations

from datetime import timedelta

import pytest
import time_machine
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from migrationhub.audit.models import AuditEvent
from migrationhub.lib.findings import Problem
from projects import decisions, stand_ins
from projects.access import may_sign, signs_for
from projects.errors import Conflict, Forbidden
from projects.models import Application, Approval, Decision, Membership, Migration, StandIn, Wave
from tests import factories
from tests.projects.views.conftest import House, house

__all__ = ["house"]
pytestmark = pytest.mark.django_db
BACKEND = "django.contrib.auth.backends.ModelBackend"


@pytest.fixture
def anna(house: House) -> User:
    """Another application owner of the project."""
    return factories.make_member(house.project, "owner", factories.make_user("anna", first_name="Anna"))


def appoint(house: House, person: User, days: tuple[float, float] = (-1, 1), **over: object) -> StandIn:
    now = timezone.now()
    values = {
        "project": house.project,
        "applications": [house.application],
        "person": person,
        "starts_at": now + timedelta(days=days[0]),
        "ends_at": now + timedelta(days=days[1]),
        "why": "on holiday",
        "user": house.lead,
        **over,
    }
    return stand_ins.appoint(**values)[0]


def sees(user: User, house: House) -> list[bool]:
    """Application, wave, migration and its page."""
    client = Client()
    client.force_login(user, BACKEND)
    return [
        Application.objects.visible_to(user).filter(pk=house.application.pk).exists(),
        Wave.objects.visible_to(user).filter(pk=house.wave.pk).exists(),
        Migration.objects.visible_to(user).filter(pk=house.migration.pk).exists(),
        client.get(reverse("acceptance", args=[house.wave.pk, house.application.pk])).status_code == 200,
    ]


def test_it_begins_and_ends_by_itself(house: House, anna: User) -> None:
    place = appoint(house, anna, (1, 3))
    for days, valid in ((0, False), (2, True), (4, False)):
        with time_machine.travel(timezone.now() + timedelta(days=days), tick=False):
            assert sees(anna, house) == [valid] * 4
            assert may_sign(house.application, anna) is valid
            assert place.state == {0: "ahead", 2: "valid", 4: "ended"}[days]
    assert signs_for(house.application, house.owner) == house.owner


def test_it_opens_that_application_alone(house: House, anna: User) -> None:
    appoint(house, anna)
    assert sees(anna, house) == [True] * 4
    assert not may_sign(house.other, anna)
    assert not Migration.objects.visible_to(anna).filter(pk=house.foreign.pk).exists()


def test_it_ends_when_it_is_taken_back_or_the_owner_changes_or_the_person_leaves(house: House, anna: User) -> None:
    place = appoint(house, anna)
    stand_ins.end(place, user=house.lead)
    assert sees(anna, house) == [False] * 4
    with pytest.raises(Conflict, match="has ended already"):
        stand_ins.end(place, user=house.lead)
    appoint(house, anna)
    assert may_sign(house.application, anna)
    other = factories.make_member(house.project, "owner")
    Application.objects.filter(pk=house.application.pk).update(owner=other)
    house.application.refresh_from_db()
    assert not may_sign(house.application, anna)
    Application.objects.filter(pk=house.application.pk).update(owner=house.owner)
    house.application.refresh_from_db()
    Membership.objects.filter(user=anna).delete()
    assert not may_sign(house.application, anna)


def test_what_a_stand_in_signs_is_shown_as_theirs_for_the_owner(house: House, anna: User) -> None:
    appoint(house, anna)
    approval = factories.make_asked(house.wave, house.application)
    decision = decisions.decide(approval.pk, user=anna, verdict="reject", comment="wrong", digest=approval.digest)
    assert (decision.user, decision.on_behalf_of) == (anna, house.owner)
    client = Client()
    client.force_login(house.lead, BACKEND)
    page = client.get(reverse("migration", args=[house.migration.pk])).content.decode()
    assert f"Anna for {house.owner}" in page


def test_out_of_dates_nobody_signs(house: House, anna: User) -> None:
    approval = factories.make_asked(house.wave, house.application)
    for days in ((1, 2), (-3, -1)):
        StandIn.objects.create(
            application=house.application,
            owner=house.owner,
            person=anna,
            starts_at=timezone.now() + timedelta(days=days[0]),
            ends_at=timezone.now() + timedelta(days=days[1]),
            why="x",
            by=house.lead,
        )
    with pytest.raises(Forbidden):
        decisions.decide(approval.pk, user=anna, verdict="reject", comment="wrong", digest=approval.digest)
    assert not Decision.objects.exists()


def test_whoever_ran_the_migration_neither_stands_in_nor_signs(house: House, anna: User) -> None:
    place = appoint(house, anna)
    factories.make_attempt(house.migration.steps.first(), started_by=anna)
    approval = factories.make_asked(house.wave, house.application)
    with pytest.raises(Forbidden):
        decisions.decide(approval.pk, user=anna, verdict="approve", comment="", digest=approval.digest)
    stand_ins.end(place, user=house.lead)
    with pytest.raises(Problem, match="whoever ran a migration does not sign for it"):
        appoint(house, anna)


REFUSED = [
    ("operator", (-1, 1), "is no application owner"),
    ("manager", (-1, 1), "is no application owner"),
    ("outsider", (-1, 1), "is no application owner"),
    ("owner", (-1, 1), "nobody stands in for themselves"),
    ("anna", (1, 1), "The end is not after the beginning"),
    ("anna", (-3, -1), "is over already"),
]


@pytest.mark.parametrize(("who", "days", "words"), REFUSED)
def test_not_everybody_and_not_for_ever(
    house: House, anna: User, who: str, days: tuple[float, float], words: str
) -> None:
    with pytest.raises(Problem, match=words):
        appoint(house, anna if who == "anna" else getattr(house, who), days)
    assert not StandIn.objects.exists()


def test_one_at_a_time(house: House, anna: User) -> None:
    appoint(house, anna, (0, 5))
    second = factories.make_member(house.project, "owner")
    with pytest.raises(Problem, match="anna stands in for Shop at that time already"):
        appoint(house, second, (4, 8))
    appoint(house, second, (5, 8))


def test_for_all_applications_or_none(house: House, anna: User) -> None:
    bare = Application.objects.create(project=house.project, name="Mail", slug="mail")
    with pytest.raises(Problem, match="Mail has no owner"):
        appoint(house, anna, applications=[house.application, bare])
    assert not StandIn.objects.exists()
    assert not AuditEvent.objects.filter(verb="stand_in.appoint").exists()


def test_it_is_recorded_and_open_pages_are_drawn_anew(house: House, anna: User) -> None:
    approval = factories.make_asked(house.wave, house.application)
    appoint(house, anna)
    event = AuditEvent.objects.get(verb="stand_in.appoint")
    assert (event.actor, event.project_id, event.why) == (house.lead, house.project.pk, "on holiday")
    assert (event.after["person"], event.after["owner"]) == ("anna", "olga")
    assert Approval.objects.get(pk=approval.pk).version > approval.version


def test_a_lead_names_one_in_the_browser(house: House, anna: User) -> None:
    client = Client()
    client.force_login(house.lead, BACKEND)
    today = timezone.localdate()
    data = {"applications": [house.application.pk], "person": anna.pk, "first_day": today, "why": "on holiday"}
    address = reverse("stand-ins", args=[house.project.slug])
    wrong = client.post(address, {**data, "last_day": today - timedelta(days=1)}).content.decode()
    assert "is before the first" in wrong
    client.post(address, {**data, "last_day": today})
    place = StandIn.objects.get()
    assert place.state == "valid" and place.ends_at - place.starts_at == timedelta(days=1)
    assert "Anna for olga" in client.get(address).content.decode()
    client.post(reverse("stand-in-end", args=[house.project.slug, place.pk]))
    assert not may_sign(house.application, anna)
