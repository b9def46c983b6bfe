"""Who may see and change what on the set-up pages: every address, every role."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse

from projects import urls_setup
from servers.models import HostKey
from tests import factories as make

from .conftest import House

pytestmark = pytest.mark.django_db

SEE = {  # lead, operator and manager may look
    "project-setup",
    "members",
    "credentials",
    "platforms",
    "platform",
    "name-servers",
    "servers",
    "server",
    "host-keys",
    "applications",
    "profiles",
    "waves",
    "planning",
    "plan",
}
PRESS = {  # POST alone
    "member-role",
    "member-remove",
    "platform-check",
    "servers-check",
    "server-check",
    "server-withdraw",
    "host-key-accept",
    "host-key-refuse",
    "freeze-remove",
    "plan-remove",
    "probe-remove",
}
FORMS = {  # the lead's alone
    "project-edit",
    "credential-new",
    "credential-edit",
    "platform-new",
    "platform-edit",
    "name-server-new",
    "name-server-edit",
    "server-new",
    "server-many",
    "server-edit",
    "known-hosts",
    "application-new",
    "application-edit",
    "profile-new",
    "profile-edit",
    "wave-new",
    "wave-edit",
    "freeze-new",
    "freeze-edit",
    "probe-new",
    "probe-edit",
}


@pytest.fixture
def addresses(house: House) -> dict[str, str]:
    """Every set-up page of the project, about rows that exist."""
    project, migration = house.project, house.migration
    project.platforms.add(migration.profile.platform)
    credential = make.make_credential(kind="api")
    project.credentials.add(credential)
    name_server = project.name_servers.create(
        name="ns", address="10.0.0.1", zone="a.lab", credential=make.make_credential(kind="tsig")
    )
    freeze = project.change_freezes.create(name="f", starts_at=make.hours(1), ends_at=make.hours(2))
    probe = make.make_probe(migration.source)
    key = HostKey.objects.create(server=migration.source, key_type="rsa", public="A", fingerprint="SHA256:x")
    slug = project.slug
    member = project.memberships.get(user=house.operator)
    rows = {
        "credential-edit": credential.pk,
        "platform": migration.profile.platform_id,
        "platform-edit": migration.profile.platform_id,
        "platform-check": migration.profile.platform_id,
        "name-server-edit": name_server.pk,
        "server": migration.source_id,
        "server-edit": migration.source_id,
        "server-check": migration.source_id,
        "server-withdraw": migration.source_id,
        "host-key-accept": key.pk,
        "host-key-refuse": key.pk,
        "application-edit": house.application.pk,
        "profile-edit": migration.profile_id,
        "wave-edit": house.wave.pk,
        "freeze-edit": freeze.pk,
        "freeze-remove": freeze.pk,
        "member-role": member.pk,
        "member-remove": member.pk,
    }
    rows |= dict.fromkeys(("plan", "plan-remove", "probe-new"), migration.pk)
    rows |= dict.fromkeys(("probe-edit", "probe-remove"), probe.pk)
    short = {"plan", "plan-remove", "probe-new", "probe-edit", "probe-remove"}  # without the project's name
    found = {}
    for name in SEE | PRESS | FORMS:
        row = [rows[name]] if name in rows else []
        found[name] = reverse(name, args=row if name in short else [slug, *row])
    return found


def test_every_address_is_in_one_of_the_lists() -> None:
    names = {pattern.name for pattern in urls_setup.urlpatterns}
    assert names - {"project-new"} == SEE | PRESS | FORMS


@pytest.mark.parametrize("who", ["lead", "operator", "manager"])
def test_who_reads_everything_sees_the_lists(house: House, addresses: dict[str, str], who: str) -> None:
    client = house.client(who)
    assert {name: client.get(addresses[name]).status_code for name in SEE} == dict.fromkeys(SEE, 200)


@pytest.mark.parametrize("who", ["operator", "manager", "owner"])
def test_only_the_lead_changes_anything(house: House, addresses: dict[str, str], who: str) -> None:
    client = house.client(who)
    assert {name: client.get(addresses[name]).status_code for name in FORMS} == dict.fromkeys(FORMS, 403)
    changing = FORMS | PRESS | {"members", "host-keys", "plan"}
    assert {name: client.post(addresses[name]).status_code for name in changing} == dict.fromkeys(changing, 403)


def test_an_owner_sees_neither_credentials_nor_platforms_nor_plans(house: House, addresses: dict[str, str]) -> None:
    client = house.client("owner")
    assert {name: client.get(addresses[name]).status_code for name in SEE} == dict.fromkeys(SEE, 403)
    server = f"{addresses['server']}?region=check"
    assert client.get(server, headers={"HX-Request": "true"}).status_code == 403


def test_an_outsider_finds_nothing(house: House, addresses: dict[str, str]) -> None:
    client = house.client("outsider")
    everything = SEE | FORMS
    assert {name: client.get(addresses[name]).status_code for name in everything} == dict.fromkeys(everything, 404)
    changing = FORMS | PRESS
    assert {name: client.post(addresses[name]).status_code for name in changing} == dict.fromkeys(changing, 404)
    for name in ("server", "platform"):
        assert client.get(addresses[name], {"region": "check", "v": "none"}).status_code == 404


def test_nobody_gets_anywhere_without_login(house: House, addresses: dict[str, str]) -> None:
    client = house.client("anonymous")
    for name, address in addresses.items():
        response = client.post(address) if name in PRESS else client.get(address)
        assert response.status_code == 302, name
        assert "/accounts/login/" in response["Location"]


def test_the_lead_gets_every_form(house: House, addresses: dict[str, str]) -> None:
    client = house.client("lead")
    forms = {name: client.get(addresses[name], {"kind": "tcp"}).status_code for name in FORMS}
    assert forms == dict.fromkeys(FORMS, 200)


def test_buttons_that_do_something_are_no_links(house: House, addresses: dict[str, str]) -> None:
    client = house.client("lead")
    assert {name: client.get(addresses[name]).status_code for name in PRESS} == dict.fromkeys(PRESS, 405)


def test_a_reader_is_offered_no_button_that_would_be_refused(house: House, addresses: dict[str, str]) -> None:
    client = house.client("manager")
    for name in SEE:
        said = client.get(addresses[name]).content.decode()
        for other in FORMS | PRESS:
            assert f'"{addresses[other]}"' not in said, f"{name} offers {other}"


def test_a_lead_of_another_project_is_an_outsider_here(house: House, addresses: dict[str, str]) -> None:
    other = make.make_project(lead=house.outsider)
    client = house.client("outsider")
    assert client.get(addresses["server"]).status_code == 404
    foreign: dict[str, Any] = {
        "platform-edit": house.migration.profile.platform_id,
        "profile-edit": house.migration.profile_id,
        "wave-edit": house.wave.pk,
        "application-edit": house.application.pk,
        "server": house.migration.source_id,
    }
    for name, pk in foreign.items():
        assert client.get(reverse(name, args=[other.slug, pk])).status_code == 404, name
