"""Where a secret is sent: not somewhere else without entering it again. Pages need no secret."""

from __future__ import annotations

import pytest
from cryptography.fernet import Fernet
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client, override_settings
from django.urls import reverse

from migrationhub.audit.models import AuditEvent
from migrationhub.audit.record import record
from projects import destinations
from projects.models import Project
from servers.models import Credential, Platform, Server
from tests import factories as make

from .setup_helpers import page, post

pytestmark = pytest.mark.django_db
SECRET = "correct-horse-battery"
AGAIN = "would be sent somewhere else: its password is needed once more"
SUDO_AGAIN = "would be sent somewhere else: its password for sudo is needed once more"


@pytest.fixture
def project() -> Project:
    cache.clear()
    return make.make_project("Shop to VME", slug="shop", lead=make.make_user("lena"))


@pytest.fixture
def lead(client: Client, project: Project) -> Client:
    client.force_login(User.objects.get(username="lena"))
    return client


def credential_of(project: Project, kind: str, **over: object) -> Credential:
    made = make.make_credential(kind=kind, secret=SECRET, **over)
    project.credentials.add(made)
    return made


def platform_data(platform: Platform, **over: object) -> dict[str, object]:
    return {"name": platform.name, "kind": "vme", "url": platform.url, "credential": platform.credential_id, **over}


def server_data(server: Server, **over: object) -> dict[str, object]:
    values = {"name": server.name, "address": server.address, "port": server.port, "manager": "systemd"}
    return {**values, "directory": "/", "credential": server.credential_id, **over}


def test_a_platform_moves_only_with_its_password(lead: Client, project: Project) -> None:
    platform = make.make_platform(project, credential=credential_of(project, "api"))
    elsewhere = platform_data(platform, url="https://mine.example")
    assert AGAIN in post(lead, "platform-edit", "shop", platform.pk, **elsewhere)
    said = post(lead, "platform-edit", "shop", platform.pk, **elsewhere, secret_again="guess")
    assert "That is not the password" in said
    assert "guess" not in said
    platform.refresh_from_db()
    assert platform.url == "https://vme.invalid"
    assert AuditEvent.objects.filter(verb="credential.wrong_secret").count() == 1
    post(lead, "platform-edit", "shop", platform.pk, **elsewhere, secret_again=SECRET)
    platform.refresh_from_db()
    assert platform.url == "https://mine.example"
    assert SECRET not in str(list(AuditEvent.objects.values()))


@pytest.mark.parametrize("change", [{"insecure": "on"}, {"url": "https://vme.invalid:8443"}])
def test_nor_is_its_password_sent_to_somebody_who_need_not_prove_who_they_are(
    lead: Client, project: Project, change: dict[str, str]
) -> None:
    platform = make.make_platform(project, credential=credential_of(project, "api"))
    assert AGAIN in post(lead, "platform-edit", "shop", platform.pk, **platform_data(platform, **change))


def test_what_does_not_move_asks_for_nothing(lead: Client, project: Project) -> None:
    platform = make.make_platform(project, credential=credential_of(project, "api"))
    post(lead, "platform-edit", "shop", platform.pk, **platform_data(platform, name="Renamed"))
    platform.refresh_from_db()
    assert platform.name == "Renamed"


def test_guessing_ends(lead: Client, project: Project) -> None:
    platform = make.make_platform(project, credential=credential_of(project, "api"))
    elsewhere = platform_data(platform, url="https://mine.example")
    for _ in range(destinations.TRIES):
        post(lead, "platform-edit", "shop", platform.pk, **elsewhere, secret_again="guess")
    said = post(lead, "platform-edit", "shop", platform.pk, **elsewhere, secret_again=SECRET)
    assert "was entered wrong 5 times" in said
    platform.refresh_from_db()
    assert platform.url == "https://vme.invalid"


def test_a_server_moves_only_with_its_password(lead: Client, project: Project) -> None:
    server = make.make_server(credential=credential_of(project, "password"))
    make.make_migration(project=project, source=server)
    elsewhere = server_data(server, address="203.0.113.9")
    assert AGAIN in post(lead, "server-edit", "shop", server.pk, **elsewhere)
    post(lead, "server-edit", "shop", server.pk, **elsewhere, secret_again=SECRET)
    server.refresh_from_db()
    assert server.address == "203.0.113.9"


def test_a_key_does_not_travel_but_the_password_for_sudo_does(lead: Client, project: Project) -> None:
    key, sudo = credential_of(project, "key"), credential_of(project, "key", become_password="sudo-secret")
    for credential, asked in ((key, False), (sudo, True)):
        server = make.make_server(credential=credential)
        make.make_migration(project=project, source=server)
        said = post(lead, "server-edit", "shop", server.pk, **server_data(server, address=f"203.0.113.{server.pk}"))
        assert (SUDO_AGAIN in said) is asked
        assert AGAIN not in said


@pytest.mark.parametrize("many", [False, True])
def test_a_new_place_for_somebody_elses_password(lead: Client, project: Project, many: bool) -> None:
    credential = credential_of(project, "password")
    record("credential.create", credential, actor=make.make_user("otto"), project_id=project.pk)
    name, data = "server-new", {"name": "evil", "address": "203.0.113.9", "port": 22, "manager": "systemd"}
    if many:
        name, data = "server-many", {"lines": "evil 203.0.113.9", "manager": "systemd"}
    assert AGAIN in post(lead, name, "shop", **data, credential=credential.pk)
    assert not Server.objects.exists()
    # Whoever entered it knows it.
    lena = User.objects.get(username="lena")
    record("credential.change", credential, actor=lena, project_id=project.pk, after={"replaced": ["secret"]})
    post(lead, name, "shop", **data, credential=credential.pk)
    assert Server.objects.filter(name="evil").exists()


EVIL = {"name": "evil", "address": "203.0.113.9", "port": 22, "manager": "systemd"}


@pytest.fixture
def bens(project: Project) -> Client:
    """Another lead."""
    client = Client()
    client.force_login(make.make_member(project, "lead", make.make_user("ben")))
    return client


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("replaced", ["secret", "become_password"])
def test_who_replaced_one_password_does_not_know_the_other(
    lead: Client, bens: Client, project: Project, replaced: str, many: bool
) -> None:
    data = {"kind": "password", "name": "adm", "username": "adm", "become": "sudo"}
    theirs = {"secret": "A-login", "become_password": "A-sudo"}
    post(lead, "credential-new", "shop", **data, **theirs)
    adm = Credential.objects.get(name="adm")
    post(bens, "credential-edit", "shop", adm.pk, **{**data, "secret": "", "become_password": "", replaced: "B-own"})
    name, place = "server-new", EVIL
    if many:
        name, place = "server-many", {"lines": "evil 203.0.113.9", "manager": "systemd"}
    said = post(bens, name, "shop", **place, credential=adm.pk)
    assert (AGAIN in said, SUDO_AGAIN in said) == (replaced != "secret", replaced == "secret")
    # What Ben entered himself proves nothing about the other.
    both = {"secret_again": "B-own", "become_again": "B-own"}
    wrong = "password for sudo" if replaced == "secret" else "password"
    assert f"That is not the {wrong} of “adm”" in post(bens, name, "shop", **place, credential=adm.pk, **both)
    assert not Server.objects.exists()
    both = {"secret_again": theirs["secret"], "become_again": theirs["become_password"]}
    post(bens, name, "shop", **place, credential=adm.pk, **both)
    assert Server.objects.filter(name="evil").exists()


def test_who_replaced_a_key_does_not_know_its_password_for_sudo(bens: Client, project: Project) -> None:
    key = credential_of(project, "key", become_password="A-sudo")
    ben = User.objects.get(username="ben")
    record("credential.create", key, actor=User.objects.get(username="lena"), project_id=project.pk)
    record("credential.change", key, actor=ben, project_id=project.pk, after={"replaced": ["passphrase", "secret"]})
    assert SUDO_AGAIN in post(bens, "server-new", "shop", **EVIL, credential=key.pk)
    post(bens, "server-new", "shop", **EVIL, credential=key.pk, become_again="A-sudo")
    assert Server.objects.filter(name="evil").exists()


def test_a_server_that_moves_takes_both_passwords_along(lead: Client, project: Project) -> None:
    server = make.make_server(credential=credential_of(project, "password", become_password="sudo-secret"))
    make.make_migration(project=project, source=server)
    elsewhere = server_data(server, address="203.0.113.9")
    said = post(lead, "server-edit", "shop", server.pk, **elsewhere, secret_again=SECRET)
    assert SUDO_AGAIN in said and AGAIN not in said
    post(lead, "server-edit", "shop", server.pk, **elsewhere, secret_again=SECRET, become_again="sudo-secret")
    server.refresh_from_db()
    assert server.address == "203.0.113.9"


@pytest.fixture
def lost(project: Project) -> Credential:
    """A credential that no key opens, in use everywhere."""
    with override_settings(CREDENTIAL_KEYS=[Fernet.generate_key().decode()]):
        credential = credential_of(project, "password")
    server = make.make_server(credential=credential)
    make.make_migration(project=project, source=server, target=True)
    return credential


def test_no_page_needs_a_secret(lead: Client, project: Project, lost: Credential) -> None:
    server = Server.objects.get(credential=lost, role="source")
    migration = server.migrations.get()
    for address in [
        reverse("overview"),
        reverse("progress", args=["shop"]),
        reverse("wave-board", args=[migration.wave_id]),
        reverse("migration", args=[migration.pk]),
        reverse("acceptance", args=[migration.wave_id, migration.application_id]),
        reverse("plan", args=[migration.pk]),
        reverse("servers", args=["shop"]),
        reverse("server", args=["shop", server.pk]),
        reverse("server-edit", args=["shop", server.pk]),
        reverse("credentials", args=["shop"]),
        reverse("credential-edit", args=["shop", lost.pk]),
    ]:
        assert lead.get(address).status_code == 200, address


def test_what_no_key_opens_is_entered_again(lead: Client, project: Project, lost: Credential) -> None:
    data = {"kind": "password", "name": lost.name, "username": "root", "become": "none"}
    post(lead, "credential-edit", "shop", lost.pk, **data, secret="new-secret")
    assert Credential.objects.get(pk=lost.pk).secret == "new-secret"


def test_a_page_tells_nothing_of_a_secret_not_even_a_digest(lead: Client, project: Project) -> None:
    one = credential_of(project, "password")
    said = page(lead, "credential-edit", "shop", one.pk)
    with override_settings(CREDENTIAL_KEYS=["x"]):  # drawn without the keys: from what is stored alone
        assert lead.get(reverse("credential-edit", args=["shop", one.pk])).status_code == 200
    assert SECRET not in said


def test_no_text_is_without_end(lead: Client, project: Project) -> None:
    said = post(lead, "project-edit", "shop", name="Shop to VME", slug="shop", time_zone="UTC", description="x" * 4001)
    assert "Ensure this value has at most 4000 characters" in said
    project.refresh_from_db()
    assert project.description == ""


def test_nor_is_a_reason(lead: Client, project: Project) -> None:
    migration = make.make_migration(project=project)
    said = post(lead, "hold-add", migration.pk, why="x" * 4001)
    assert "why: 4001 characters; at most 4000 are kept. Shorten it." in said
    assert not migration.holds.exists()
