"""What was handed over ends with whoever handed it over, and opens the servers of its one wave."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from migrationhub.audit.models import AuditEvent
from projects import access, approvals, attachments, checklists, decisions, waiting
from projects import offers as offering
from projects.errors import Forbidden, NotReady
from projects.lanes import application_lanes
from projects.models import Application, Approval, Defect, Hold, Membership, Migration, Wave
from projects.notify import people
from tests import factories
from tests.projects.views.conftest import House, house

__all__ = ["house"]
pytestmark = [pytest.mark.whole, pytest.mark.django_db]
Gate = Approval.Gate


@pytest.fixture
def heir(house: House) -> User:
    return factories.make_member(house.project, "owner", factories.make_user("henri"))


@pytest.fixture
def heiress(house: House) -> User:
    """Who becomes the owner next."""
    return factories.make_member(house.project, "owner", factories.make_user("nora"))


@pytest.fixture
def handed(house: House, heir: User) -> Approval:
    """The sign-off that the owner handed over, in the browser."""
    asked = factories.make_asked(house.wave, house.application)
    house.client("owner").post(reverse("approval-delegate", args=[asked.pk]), {"to": heir.pk})
    asked.refresh_from_db()
    assert (asked.delegated_to, asked.delegated_by) == (heir, house.owner)
    return asked


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user, "django.contrib.auth.backends.ModelBackend")
    return client


def seen(user: User, *pages: tuple[str, list[int]]) -> dict[str, int]:
    client = client_of(user)
    return {name: client.get(reverse(name, args=args)).status_code for name, args in pages}


def pages_of(house: House, approval: Approval) -> list[tuple[str, list[int]]]:
    wave, application = house.wave.pk, house.application.pk
    return [
        ("migration", [house.migration.pk]),
        ("wave-board", [wave]),
        ("acceptance", [wave, application]),
        ("approval", [approval.pk]),
    ]


def new_owner(house: House, person: User) -> None:
    """As a lead changes it in the browser."""
    data = {"name": house.application.name, "slug": house.application.slug, "owner": person.pk}
    args = [house.project.slug, house.application.pk]
    assert house.client("lead").post(reverse("application-edit", args=args), data).status_code == 302
    house.application.refresh_from_db()


# -- the owner changes ----------------------------------------------------------------------------------------


def test_a_sign_off_that_was_handed_over_comes_back_when_the_owner_changes(
    house: House, handed: Approval, heir: User, heiress: User
) -> None:
    assert set(seen(heir, *pages_of(house, handed)).values()) == {200}
    new_owner(house, heiress)
    now = Approval.objects.get(pk=handed.pk)
    assert (now.delegated_to, now.delegated_by, now.delegated_at) == (None, None, None)
    assert now.version > handed.version, "whoever answers in this moment looks again"
    event = AuditEvent.objects.get(verb="approval.handed_back")
    assert (event.actor, event.project_id, event.object_id) == (house.lead, house.project.pk, str(handed.pk))
    assert event.before == {"to": "henri", "by": "olga"}
    assert set(seen(heir, *pages_of(house, handed)).values()) == {404}
    said = {"verdict": "reject", "comment": "no", "digest": handed.digest}
    assert client_of(heir).post(reverse("approval-decide", args=[handed.pk]), said).status_code == 404
    assert not now.decisions.exists()
    # The new owner has all of it, and may hand it over anew.
    approvals.delegate(handed.pk, user=heiress, to=heir)
    made = decisions.decide(handed.pk, user=heir, verdict="reject", comment="no", digest=handed.digest)
    assert made.on_behalf_of == heiress


def test_whatever_else_of_an_application_changes_hands_nothing_back(house: House, handed: Approval) -> None:
    version = handed.version
    data = {"name": "Shop, renamed", "slug": house.application.slug, "owner": house.owner.pk}
    house.client("lead").post(reverse("application-edit", args=[house.project.slug, house.application.pk]), data)
    handed.refresh_from_db()
    assert handed.delegated_to is not None and handed.version == version


def test_nor_does_one_count_that_an_earlier_owner_left_behind(
    house: House, handed: Approval, heir: User, heiress: User
) -> None:
    """Handed over in the very moment in which the owner changed."""
    item = factories.make_item(house.migration.steps.get(kind="acceptance_testing"), role="owner")
    assert access.answers_for(house.migration, heir)
    assert next(each.text for each in waiting.waits_for_me(heir)) == "Sign-off of Shop"
    Application.objects.filter(pk=house.application.pk).update(owner=heiress)
    application = Application.objects.get(pk=house.application.pk)
    migration = Migration.objects.get(pk=house.migration.pk)
    lanes = application_lanes(house.wave.pk, application)
    assert not access.answers_for(migration, heir) and not approvals.answers_for(lanes[0], heir)
    assert not offering.application_offers(house.wave, application, heir, lanes)
    assert not waiting.waits_for_me(heir)
    assert set(seen(heir, *pages_of(house, handed)).values()) == {404}
    with pytest.raises(Forbidden, match="is its owner's alone"):
        decisions.decide(handed.pk, user=heir, verdict="reject", comment="no", digest=handed.digest)
    with pytest.raises(Forbidden, match="answered by the application's owner"):
        checklists.tick(item.pk, user=heir, state="done")
    with pytest.raises(Forbidden):
        attachments.keep(factories.make_upload(), on=item, user=heir)
    page = client_of(heiress).get(reverse("approval", args=[handed.pk])).content.decode()
    assert "Handed over" not in page and "henri" in page, "it may be handed over, to him among others"
    now = Approval.objects.select_related("application", "wave").get(pk=handed.pk)
    assert people.asked(now).also == []
    approvals.delegate(handed.pk, user=heiress, to=heir)
    assert access.answers_for(migration, heir)


# -- one wave -------------------------------------------------------------------------------------------------


@pytest.fixture
def second(house: House) -> Migration:
    """Another server of the same application, in another wave."""
    wave = factories.make_wave(house.project, name="later")
    source = factories.make_server("shop-archive")
    return factories.make_migration(project=house.project, wave=wave, application=house.application, source=source)


def things_of(migration: Migration, house: House) -> list[tuple[str, list[int]]]:
    """Everything with a page of its own that belongs to an application in one wave."""
    step = migration.steps.get(kind="acceptance_testing")
    item = factories.make_item(step, role="owner")
    defect = factories.make_defect(step, f"Fault of {migration}")
    passed = factories.make_break_glass(step, house.lead)
    files = [attachments.keep(factories.make_upload(), on=each, user=house.owner) for each in (item, defect)]
    asked = Approval.objects.filter(wave=migration.wave, application=migration.application).first()
    asked = asked or factories.make_approval(migration.wave, migration.application)
    wave, application = migration.wave_id, migration.application_id
    return [
        ("migration", [migration.pk]),
        ("wave-board", [wave]),
        ("acceptance", [wave, application]),
        ("approval", [asked.pk]),
        ("break-glass", [passed.pk]),
        ("defect", [defect.pk]),
        *(("attachment", [each.pk]) for each in files),
    ]


def test_it_opens_the_servers_of_its_wave_and_no_others(
    house: House, handed: Approval, heir: User, second: Migration
) -> None:
    client = client_of(heir)
    for migration, answer in ((house.migration, 200), (second, 404)):
        for name, args in things_of(migration, house):
            assert client.get(reverse(name, args=args)).status_code == answer, (name, str(migration))
    assert list(Wave.objects.visible_to(heir)) == [house.wave]
    assert list(Migration.objects.visible_to(heir)) == [house.migration]
    assert [each.step.migration for each in Defect.objects.visible_to(heir)] == [house.migration]
    # The owner sees both.
    assert set(Migration.objects.visible_to(house.owner)) == {house.migration, second}
    assert Defect.objects.visible_to(house.owner).count() == 2


def test_nor_where_the_person_has_something_else_in_the_other_wave(
    house: House, handed: Approval, heir: User, second: Migration
) -> None:
    own = factories.make_application(house.project, "Wiki", owner=heir)
    server = factories.make_server("wiki-01")
    factories.make_migration(project=house.project, wave=second.wave, application=own, source=server)
    things = dict(things_of(second, house))
    client = client_of(heir)
    board = client.get(reverse("wave-board", args=things.pop("wave-board")))
    assert "wiki-01" in board.content.decode() and "shop-archive" not in board.content.decode()
    for name, args in things.items():
        assert client.get(reverse(name, args=args)).status_code == 404, name
    pressed = {"uat-open": things["acceptance"], "approval-decide": things["approval"]}
    for name, args in pressed.items():
        assert client.post(reverse(name, args=args), {"verdict": "reject"}).status_code == 404, name
    assert client.get(reverse("defect-new", args=things["acceptance"])).status_code == 404


def test_lists_and_sums_name_nothing_of_the_other_wave(
    house: House, handed: Approval, heir: User, second: Migration
) -> None:
    for migration in (house.migration, second):
        things_of(migration, house)
    values = {"kind": Hold.Kind.UAT, "project": house.project, "application": house.application}
    Hold.objects.create(**values, wave=second.wave, why="tested in the archive")
    Hold.objects.create(**values, wave=house.wave, why="tested in the shop")
    said = ""
    for name in ("progress", "defects", "approvals", "break-glass-list"):
        response = client_of(heir).get(reverse(name, args=[house.project.slug]), {"show": "all"})
        said += response.content.decode() if response.status_code == 200 else ""
    said += client_of(heir).get(reverse("overview")).content.decode()
    assert "Fault of shop-db" in said and "tested in the shop" in said
    assert "shop-archive" not in said and "tested in the archive" not in said and "Wave 2: later" not in said


# -- the go ---------------------------------------------------------------------------------------------------


@pytest.fixture
def ben(house: House) -> User:
    return factories.make_member(house.project, "lead", factories.make_user("ben"))


def handed_go(wave: Wave, application: Application, giver: User, to: User) -> Approval:
    asked = factories.make_approval(wave, application, Gate.GO)
    approvals.delegate(asked.pk, user=giver, to=to)
    asked.refresh_from_db()
    return asked


def offered(house: House, user: User) -> list[str]:
    return [offer.code for offer in offering.application_offers(house.wave, house.application, user)]


def test_a_go_that_was_handed_over_counts_as_long_as_its_giver_may_give_it(house: House, ben: User) -> None:
    go = handed_go(house.wave, house.application, ben, house.operator)
    assert approvals.right_of(go, house.operator) == ben
    assert "go" in offered(house, house.operator)
    assert any(each.detail.startswith("Handed over to you") for each in waiting.waits_for_me(house.operator))
    Membership.objects.filter(user=ben).update(role="operator")
    go = Approval.objects.get(pk=go.pk)
    with pytest.raises(Forbidden, match="The go is given by a lead"):
        approvals.right_of(go, house.operator)
    assert "go" not in offered(house, house.operator)
    assert not any(each.text.startswith("Go for") for each in waiting.waits_for_me(house.operator))
    page = house.client("operator").get(reverse("approval", args=[go.pk])).content.decode()
    assert "Not yours to answer" in page and "Handed over" not in page
    approvals.delegate(go.pk, user=house.lead, to=house.operator)
    assert approvals.right_of(Approval.objects.get(pk=go.pk), house.operator) == house.lead


def test_nor_does_it_count_once_the_giver_has_left_the_project(house: House, ben: User) -> None:
    go = handed_go(house.wave, house.application, ben, house.operator)
    with pytest.raises(NotReady, match="handed over once"):
        approvals.delegate(go.pk, user=house.lead, to=house.operator)
    Membership.objects.filter(user=ben).delete()
    with pytest.raises(Forbidden):
        approvals.right_of(Approval.objects.get(pk=go.pk), house.operator)


def test_a_page_asks_for_the_givers_roles_once(house: House, ben: User) -> None:
    client, counts = house.client("operator"), []
    client.get("/")
    for giver, application in ((ben, house.application), (house.lead, house.other)):
        handed_go(house.wave, application, giver, house.operator)
        for address in (reverse("approvals", args=[house.project.slug]), reverse("overview")):
            with CaptureQueriesContext(connection) as queries:
                assert client.get(address).status_code == 200
            counts.append(len(queries))
    assert counts[:2] == counts[2:]
    assert max(counts) <= 12
