"""Every address as every persona: allowed, forbidden, outsider, anonymous, a partial asked for directly, wrong method.

A new address without a row in `tests.personas` fails.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpResponse
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.utils import timezone

from migrationhub import urls
from projects import attachments, checklists, invitations
from projects.models import BreakGlass, Defect, Hold, StandIn, Step
from servers.models import HostKey
from tests import factories as make
from tests.personas import EVERYBODY, OPEN, PEOPLE, ROWS, SHUT, Row

from .conftest import House

pytestmark = [pytest.mark.whole, pytest.mark.django_db]
BACKEND = "django.contrib.auth.backends.ModelBackend"
HTMX = {"HX-Request": "true", "HX-Current-URL": "http://testserver/"}
LOGIN = "/accounts/login/"


def patterns() -> Iterator[tuple[str, list[str]]]:
    """Name and arguments of every address of the resolver."""

    def walk(found: list[URLPattern | URLResolver], outer: list[str]) -> Iterator[tuple[str, list[str]]]:
        for each in found:
            if isinstance(each, URLResolver):
                yield from walk(each.url_patterns, outer + list(each.pattern.converters))
            elif each.name:
                named = getattr(each.pattern, "regex", None)
                inner = list(each.pattern.converters) or (list(named.groupindex) if named else [])
                yield each.name, outer + inner

    yield from walk(get_resolver().url_patterns, [])


ARGUMENTS = dict(sorted(patterns()))


def test_every_address_has_a_row_and_every_row_an_address() -> None:
    names = set(ARGUMENTS)
    assert names - set(ROWS) - OPEN - SHUT == set(), "say in tests/personas.py who may see and press these"
    assert set(ROWS) | OPEN | SHUT == names
    assert not set(ROWS) & (OPEN | SHUT)


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Thousands of refusals: none is written to the log with a traceback, none is drawn as a page."""
    for status in (403, 404):
        answer = partial(HttpResponse, status=status)
        monkeypatch.setattr(urls, f"handler{status}", lambda request, exception, answer=answer: answer(), raising=False)
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def world(house: House) -> dict[str, Any]:
    """The house with one of everything that an address can be about; people by name."""
    project, user = house.project, make.make_user
    people: dict[str, User] = {name: getattr(house, name) for name in ("lead", "operator", "manager", "outsider")}
    people |= {"owner": house.owner, "other": house.other.owner}
    for name, days in (("stand_in", (-1, 1)), ("late", (-3, -1))):
        people[name] = make.make_member(project, "owner", user(name))
        moments = [timezone.now() + timedelta(days=day) for day in days]
        place = {"application": house.application, "owner": house.owner, "person": people[name], "by": house.lead}
        StandIn.objects.create(**place, starts_at=moments[0], ends_at=moments[1], why="away")
    for person in people.values():
        person.set_password(make.PASSWORD)
        person.save()
    checklists.newest(project)  # templates are made when somebody first looks at them
    return {"house": house, "people": people, "kwargs": _arguments(house, people)}


def _arguments(house: House, people: dict[str, User]) -> dict[str, dict[str, Any]]:
    project, migration = house.project, house.migration
    project.platforms.add(migration.profile.platform)
    credential = make.make_credential(kind="api")
    project.credentials.add(credential)
    tsig = make.make_credential(kind="tsig")
    name_server = project.name_servers.create(name="ns", address="10.0.0.1", zone="a.lab", credential=tsig)
    freeze = project.change_freezes.create(name="f", starts_at=make.hours(1), ends_at=make.hours(2))
    key = HostKey.objects.create(server=migration.source, key_type="rsa", public="A", fingerprint="SHA256:x")
    step = migration.steps.get(kind=Step.Kind.INITIAL)
    approval = make.make_approval(house.wave, house.application, digest="x")
    hold = Hold.objects.create(kind=Hold.Kind.PERSON, project=project, migration=migration, why="x")
    common = {"project": project, "wave": house.wave, "application": house.application}
    passed = BreakGlass.objects.create(**common, gate="go", reason="x", by=make.make_member(project, "lead"))
    defect = Defect.objects.create(**common, step=step, number=1, title="x", raised_by=make.make_user())
    invitation = invitations.invite(
        project=project, email="new@example.com", role="manager", application=None, user=house.lead
    )
    item = make.make_item(step)
    evidence = attachments.keep(make.make_upload(), on=item, user=house.lead)
    member = project.memberships.get(user=house.operator)
    migration_pks = "migration migration-abort migration-take-back migration-complete delta-schedule hold-add plan"
    pks: dict[str, int] = dict.fromkeys(f"{migration_pks} plan-remove probe-new".split(), migration.pk)
    pks |= dict.fromkeys(("server", "server-edit", "server-check", "server-withdraw"), migration.source_id)
    pks |= dict.fromkeys(("platform", "platform-edit", "platform-check"), migration.profile.platform_id)
    pks |= dict.fromkeys(("wave-board", "wave-start", "wave-edit"), house.wave.pk)
    pks |= dict.fromkeys(("step-start", "step-retry", "step-cancel", "step-pass", "step-checklist"), step.pk)
    pks |= {name: approval.pk for name in ROWS if name.startswith("approval-") or name == "approval"}
    pks |= dict.fromkeys(("break-glass", "break-glass-confirm"), passed.pk)
    pks |= dict.fromkeys(("defect", "defect-move", "defect-change", "defect-attach"), defect.pk)
    pks |= dict.fromkeys(("attachment", "attachment-withdraw"), evidence.pk)
    pks |= dict.fromkeys(("run", "run-give-up"), make.make_run(server=migration.source).pk)
    pks |= dict.fromkeys(("invitation-renew", "invitation-withdraw"), invitation.pk)
    pks |= dict.fromkeys(("member-role", "member-remove"), member.pk)
    pks |= dict.fromkeys(("freeze-edit", "freeze-remove"), freeze.pk)
    pks |= dict.fromkeys(("host-key-accept", "host-key-refuse"), key.pk)
    pks |= dict.fromkeys(("probe-edit", "probe-remove"), make.make_probe(migration.source).pk)
    pks |= {
        "hold-release": hold.pk,
        "checklist-tick": item.pk,
        "item-attach": item.pk,
        "application-edit": house.application.pk,
        "credential-edit": credential.pk,
        "name-server-edit": name_server.pk,
        "profile-edit": migration.profile_id or 0,
        "stand-in-end": StandIn.objects.get(person=people["stand_in"]).pk,
        "session-end": 10**6,
    }
    hook = {"format": "slack", "host": "hooks.invalid", "url": "https://hooks.invalid/x", "made_by": house.lead}
    pks |= dict.fromkeys(("webhook-edit", "webhook-remove"), project.webhooks.create(name="team", **hook).pk)
    failed = {"to": "x", "state": "failed", "due_at": timezone.now(), "uuid": uuid.uuid4()}
    pks["message-again"] = project.messages.create(**failed).pk
    words = {
        "slug": project.slug,
        "wave_pk": house.wave.pk,
        "application_pk": house.application.pk,
        "kind": "acceptance_testing",
        "key": "data",
        "gate": "go",
        "token": invitations.token_of(invitation),
        "uidb36": "1",
    }
    return {
        name: {argument: pks[name] if argument == "pk" else words[argument] for argument in arguments}
        for name, arguments in ARGUMENTS.items()
        if name in ROWS or name == "invitation"
    }


def picture() -> dict[str, list[tuple[Any, ...]]]:
    """Everything that is stored of projects, servers, people and what was recorded."""
    kept = [*apps.get_app_config("projects").get_models(), *apps.get_app_config("servers").get_models()]
    kept += [User, apps.get_model("audit", "AuditEvent")]
    return {model.__name__: list(model._base_manager.order_by("pk").values_list()) for model in kept}


def address_of(world: dict[str, Any], name: str) -> str:
    return reverse(name, kwargs=world["kwargs"][name]) + ROWS[name].query


def client_of(world: dict[str, Any], who: str) -> Client:
    client = Client()
    client.force_login(world["people"][who], BACKEND)
    return client


def refused(who: str, row: Row) -> tuple[int, ...]:
    if who == "outsider" and not row.known and (row.see or row.press):
        return (404,)
    return (403,) if row.known else (403, 404)


@pytest.mark.parametrize("who", PEOPLE)
def test_pages(world: dict[str, Any], who: str) -> None:
    """With and without htmx, with the name of a region: whoever may not see a page does not see its parts."""
    client = client_of(world, who)
    before, wrong = picture(), []
    for name, row in ROWS.items():
        if (row.press and not row.see) or name == "session-end":
            continue  # a button
        address = address_of(world, name)
        expected = row.pages if who in row.see else refused(who, row)
        status = client.get(address).status_code
        if status not in expected:
            wrong.append(f"GET {name}: {status}, expected {expected}")
        if who not in row.see:
            region = "check" if name in ("server", "platform") else "live"
            status = client.get(address, {"region": region, "v": "x"}, headers=HTMX).status_code
            if status not in expected:
                wrong.append(f"part of {name}: {status}, expected {expected}")
    assert not wrong, "\n".join(wrong)
    assert picture() == before, "looking changes nothing"


@pytest.mark.parametrize("who", PEOPLE)
def test_buttons_and_forms(world: dict[str, Any], who: str) -> None:
    client = client_of(world, who)
    cookies, before, wrong = client.cookies.copy(), picture(), []
    for name, row in ROWS.items():
        address = address_of(world, name)
        if who in row.press:
            with transaction.atomic():
                status = client.post(address, row.sent).status_code
                transaction.set_rollback(True)
            client.cookies = cookies.copy()
            expected: tuple[int, ...] = (200, 302, 303)
        else:
            status = client.post(address, _filled(world, row)).status_code
            readable = who in row.see and not row.press
            expected = (405,) if readable else (*refused(who, row), 405)
            if row.press:
                expected = refused(who, row) if row.press != EVERYBODY else expected
        if status not in expected:
            wrong.append(f"POST {name}: {status}, expected {expected}")
    assert not wrong, "\n".join(wrong)
    now = picture()
    assert [table for table in now if now[table] != before[table]] == [], "nobody changed what they may not"


def _filled(world: dict[str, Any], row: Row) -> dict[str, Any]:
    """What would change something if it were allowed."""
    return {
        key: world["people"][value].pk if key == "to" and value in PEOPLE else value for key, value in row.data.items()
    }


def test_a_reader_is_offered_nothing_that_would_be_refused(world: dict[str, Any]) -> None:
    client, wrong = client_of(world, "manager"), []
    closed = {
        f'"{address_of(world, name)}"': name for name, row in ROWS.items() if "manager" not in row.see | row.press
    }
    for name, row in ROWS.items():
        if "manager" in row.see and row.pages == (200,):
            response = client.get(address_of(world, name))
            said = response.content.decode() if not response.streaming else ""
            wrong += [f"{name} offers {other}" for address, other in closed.items() if address in said]
    assert not wrong, "\n".join(wrong)


def test_what_is_pressed_is_not_opened(world: dict[str, Any]) -> None:
    buttons = [name for name, row in ROWS.items() if not row.see and row.press]
    client = client_of(world, "lead")
    wrong = {name: client.get(address_of(world, name)).status_code for name in buttons if "lead" in ROWS[name].press}
    wrong |= {name: client.get(address_of(world, name)).status_code for name in buttons}
    assert {name: status for name, status in wrong.items() if status != 405} == {}


def test_without_a_login_everything_leads_to_it(world: dict[str, Any]) -> None:
    before, wrong = picture(), []
    for name in ROWS:
        address = address_of(world, name)
        for response in (Client().get(address), Client().post(address)):
            if response.status_code != 302 or not response["Location"].startswith(LOGIN):
                wrong.append(f"{name}: {response.status_code}")
        part = Client().get(address, {"region": "live"}, headers=HTMX)
        if part.status_code != 200 or not part["HX-Redirect"].startswith(LOGIN) or part.content:
            wrong.append(f"part of {name}: {part.status_code}")
    wrong = [words for words in wrong if not words.startswith(("account_logout", "part of account_logout"))]
    assert not wrong, "\n".join(wrong)
    assert picture() == before


def test_what_is_shut_is_shut_for_everybody(world: dict[str, Any]) -> None:
    for client in (Client(), client_of(world, "lead")):
        for path in ("email/", "confirm-email/", "confirm-email/x/", "login/code/confirm/", "password/set/"):
            assert client.get(f"/accounts/{path}").status_code == 404, path
            assert client.post(f"/accounts/{path}", {"email": "a@b.example"}).status_code == 404, path


def test_a_lead_of_another_project_is_an_outsider_here(world: dict[str, Any]) -> None:
    """Also where the address names the own project and a row of this one."""
    mine = make.make_project(lead=world["people"]["outsider"])
    client, before, wrong = client_of(world, "outsider"), picture(), []
    for name, row in ROWS.items():
        kwargs = world["kwargs"][name]
        if row.known or not kwargs or row.press == EVERYBODY:
            continue
        for change in ({}, {"slug": mine.slug} if len(kwargs) > 1 and "slug" in kwargs else {}):
            if change and not {"pk"} & set(kwargs):
                continue  # a page of the own project
            address = reverse(name, kwargs={**kwargs, **change})
            for status in (client.get(address).status_code, client.post(address).status_code):
                if status not in (404, 405):
                    wrong.append(f"{name} {change}: {status}")
    assert not wrong, "\n".join(wrong)
    assert picture() == before
