"""Credentials, platforms and name servers through their pages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.urls import reverse

from migrationhub.audit.models import AuditEvent
from migrationhub.audit.record import record
from projects.models import Project
from servers.models import Credential, NameServer, Platform, Run
from tests import factories as make

from .setup_helpers import page, post

pytestmark = pytest.mark.django_db
SECRET = "correct-horse-battery"


def key_pem(passphrase: bytes = b"") -> str:
    encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return (
        ed25519.Ed25519PrivateKey.generate()
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, encryption)
        .decode()
    )


def ca_pem() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])
    now = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=3650))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def test_the_first_question_is_what_kind_of_credential(lead: Client) -> None:
    said = page(lead, "credential-new", "shop")
    for kind in ("password", "key", "api", "tsig"):
        assert f'href="?kind={kind}"' in said
    assert "Kind “smoke” is not known." in post(lead, "credential-new", "shop", kind="smoke")


def test_a_password_is_stored_encrypted_and_never_shown_again(lead: Client, project: Project) -> None:
    data = {"kind": "password", "name": "root by password", "username": "root", "secret": SECRET, "become": "none"}
    said = post(lead, "credential-new", "shop", **data)
    credential = project.credentials.get()
    assert credential.secret == SECRET
    assert SECRET not in said
    for each in (page(lead, "credential-edit", "shop", credential.pk), page(lead, "credentials", "shop")):
        assert SECRET not in each
    with connection.cursor() as cursor:
        cursor.execute("SELECT secret FROM servers_credential")
        assert SECRET not in cursor.fetchone()[0]
    assert SECRET not in str(list(AuditEvent.objects.values_list("before", "after", "object_label")))


def test_an_empty_secret_keeps_the_old_one_and_a_new_one_replaces_it(lead: Client, project: Project) -> None:
    credential = make.make_credential(name="root", secret=SECRET, become_password="sudo-1")
    project.credentials.add(credential)
    data = {"kind": "password", "name": "root 2", "username": "admin", "become": "sudo", "secret": ""}
    post(lead, "credential-edit", "shop", credential.pk, **data)
    credential.refresh_from_db()
    assert (credential.name, credential.username, credential.become) == ("root 2", "admin", "sudo")
    assert (credential.secret, credential.become_password) == (SECRET, "sudo-1")
    post(lead, "credential-edit", "shop", credential.pk, **{**data, "secret": "another-secret"})
    credential.refresh_from_db()
    assert credential.secret == "another-secret"
    event = AuditEvent.objects.filter(verb="credential.change").latest("pk")
    assert event.after["replaced"] == ["secret"]
    assert "another-secret" not in str(event.after)


def test_an_error_gives_back_what_was_typed_but_no_secret(lead: Client) -> None:
    data = {"kind": "password", "name": "", "username": "typed-user", "secret": SECRET, "become": "none"}
    said = post(lead, "credential-new", "shop", **data)
    assert "Name is empty." in said
    assert "typed-user" in said
    assert SECRET not in said
    assert "secrets must be entered again" in said
    assert not Credential.objects.exists()


@pytest.mark.parametrize("passphrase", ["", "open-me"])
def test_a_private_key_is_opened_at_entry(lead: Client, project: Project, passphrase: str) -> None:
    pem = key_pem(passphrase.encode())
    data = {"kind": "key", "name": "ops key", "username": "root", "become": "none"}
    said = post(lead, "credential-new", "shop", **data, private_key=pem.replace("\n", "\r\n"), passphrase=passphrase)
    assert "Credential ops key is stored" in said
    credential = project.credentials.get()
    assert credential.secret == pem
    assert credential.passphrase == passphrase
    assert pem.splitlines()[2] not in page(lead, "credential-edit", "shop", credential.pk)


@pytest.mark.parametrize(
    ("pem", "passphrase", "words"),
    [
        ("ssh-ed25519 AAAA public", "", "Private key cannot be read: it is not a private key"),
        (key_pem(b"right"), "wrong", "Private key cannot be read: it is not a private key, or the passphrase is wrong"),
        (key_pem(b"right"), "", "Private key is protected by a passphrase and none was given"),
        ("", "", "Private key is empty. Paste the whole private key"),
    ],
)
def test_a_key_that_cannot_be_used_is_refused_in_words(lead: Client, pem: str, passphrase: str, words: str) -> None:
    data = {"kind": "key", "name": "ops key", "username": "root", "become": "none"}
    said = post(lead, "credential-new", "shop", **data, private_key=pem, passphrase=passphrase)
    assert words in said
    assert not Credential.objects.exists()
    if pem:
        assert pem.splitlines()[-1][:30] not in said.replace("-----BEGIN", "")


def test_a_new_passphrase_must_open_the_stored_key(lead: Client, project: Project) -> None:
    credential = make.make_credential(kind="key", secret=key_pem(b"right"), passphrase="right", name="ops")
    project.credentials.add(credential)
    data = {"kind": "key", "name": "ops", "username": "root", "become": "none", "private_key": ""}
    assert "the passphrase is wrong" in post(lead, "credential-edit", "shop", credential.pk, **data, passphrase="no")
    credential.refresh_from_db()
    assert credential.passphrase == "right"


def test_a_tsig_secret_must_be_base64(lead: Client, project: Project) -> None:
    data = {"kind": "tsig", "name": "shop.lab", "username": "hub-key", "algorithm": "hmac-sha256"}
    assert "Secret is not base64." in post(lead, "credential-new", "shop", **data, secret="not base64!")
    post(lead, "credential-new", "shop", **data, secret="c2VjcmV0LXNlY3JldA==")
    found = project.credentials.get()
    assert (found.username, found.algorithm) == ("hub-key", "hmac-sha256")


def test_a_credential_says_what_uses_it(lead: Client, project: Project) -> None:
    credential = make.make_credential(kind="api", name="hub at vme")
    project.credentials.add(credential)
    make.make_platform(project, credential=credential, name="VME Basel")
    assert "Platform VME Basel" in page(lead, "credentials", "shop")
    assert "Used by Platform VME Basel." in page(lead, "credential-edit", "shop", credential.pk)


def test_a_credential_of_another_project_is_not_there(lead: Client) -> None:
    other = make.make_project()
    credential = make.make_credential(name="theirs")
    other.credentials.add(credential)
    assert lead.get(reverse("credential-edit", args=["shop", credential.pk])).status_code == 404
    assert "theirs" not in page(lead, "credentials", "shop")


@pytest.fixture
def api(lead: Client, project: Project) -> Credential:
    """An API account that the lead entered."""
    credential = make.make_credential(kind="api", name="hub at vme")
    project.credentials.add(credential)
    record("credential.create", credential, actor=User.objects.get(username="lena"))
    return credential


def test_a_platform_is_entered_with_its_ca_and_checked(lead: Client, project: Project, api: Credential) -> None:
    pem = ca_pem()
    said = post(
        lead,
        "platform-new",
        "shop",
        name="VME",
        kind="vme",
        url="https://vme.lab:8443/",
        credential=api.pk,
        ca_bundle=pem,
    )
    platform = project.platforms.get()
    assert (platform.url, platform.insecure) == ("https://vme.lab:8443", False)
    assert "verified with its own CA" in said
    assert "It was never checked." in said
    said = post(lead, "platform-check", "shop", platform.pk)
    run = Run.objects.get(work_key=f"check.platform.{platform.pk}")
    assert run.requested_by is not None
    assert run.requested_by.username == "lena"
    assert 'hx-trigger="every 2s"' in said
    post(lead, "platform-check", "shop", platform.pk)
    assert Run.objects.count() == 1, "a second press does not start a second check beside it"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"url": "http://vme.lab"}, "URL “http://vme.lab” does not begin with https://."),
        ({"url": "vme.lab"}, "URL “vme.lab” does not begin with https://."),
        ({"url": "https://me:pw@vme.lab"}, "URL holds a user name."),
        ({"ca_bundle": "-----BEGIN NONSENSE"}, "CA certificates holds no certificate that can be read."),
        ({"credential": "999"}, "Credential “999”:"),
        ({"name": ""}, "Name is empty."),
    ],
)
def test_a_platform_that_cannot_be_right_is_refused_by_field(
    lead: Client, api: Credential, changes: dict[str, str], words: str
) -> None:
    data = {"name": "VME", "kind": "vme", "url": "https://vme.lab", "credential": str(api.pk), **changes}
    assert words in post(lead, "platform-new", "shop", **data)
    assert not Platform.objects.exists()


def test_insecure_is_chosen_by_name_and_shown_loudly(lead: Client, project: Project, api: Credential) -> None:
    data = {"name": "VME", "kind": "vme", "url": "https://vme.lab", "credential": api.pk}
    both = post(lead, "platform-new", "shop", **data, ca_bundle=ca_pem(), insecure="on")
    assert "With CA certificates there is no reason not to verify." in both
    said = post(lead, "platform-new", "shop", **data, insecure="on")
    assert "INSECURE: the certificate of this platform is not verified" in said
    assert project.platforms.get().insecure


def test_findings_of_another_address_do_not_stay(lead: Client, project: Project, api: Credential) -> None:
    platform = make.make_platform(project, credential=api, findings=[{"level": "ready", "code": "x", "text": "old"}])
    data = {"name": platform.name, "kind": "vme", "url": platform.url, "credential": api.pk}
    post(lead, "platform-edit", "shop", platform.pk, **{**data, "name": "Renamed"})
    platform.refresh_from_db()
    assert platform.findings, "a new name changes nothing about what was found"
    other = {**data, "url": "https://other.lab", "secret_again": api.secret}
    make.make_run("platform_check", state="succeeded", work_key=f"check.platform.{platform.pk}")
    said = post(lead, "platform-edit", "shop", platform.pk, **other)
    assert "Not looked at yet" in said and "It was never checked." not in said
    platform.refresh_from_db()
    assert (platform.findings, platform.checked_at) == ([], None)


def test_the_check_region_polls_while_it_runs_and_shows_the_findings(lead: Client, project: Project) -> None:
    finding = {"level": "blocking", "code": "vme.permission", "text": "No right to make instances.", "act": "Ask HPE."}
    platform = make.make_platform(project)
    run = make.make_run("platform_check", work_key=f"check.platform.{platform.pk}", title="Check VME")
    address = reverse("platform", args=["shop", platform.pk])
    first = lead.get(address, {"region": "check"})
    tag = f"{run.pk}.{run.version}.running"
    assert f"v={tag}" in first.content.decode()
    assert "<html" not in first.content.decode()
    assert lead.get(address, {"region": "check", "v": tag}).status_code == 204
    Run.objects.filter(pk=run.pk).update(state="succeeded", finished_at=datetime.now(UTC), version=2)
    Platform.objects.filter(pk=platform.pk).update(findings=[finding])
    ended = lead.get(address, {"region": "check", "v": tag}).content.decode()
    assert "No right to make instances." in ended
    assert "Ask HPE." in ended
    assert "hx-trigger" not in ended, "polling stops by itself"


def test_a_name_server_takes_a_tsig_key_of_the_project(lead: Client, project: Project, api: Credential) -> None:
    key = make.make_credential(kind="tsig", name="hub-key")
    project.credentials.add(key)
    data = {"name": "BIND", "address": "10.9.0.1", "port": "53", "zone": "Shop.Lab.", "credential": key.pk}
    assert "Name server BIND is saved." in post(
        lead, "name-server-new", "shop", **data, resolvers="10.9.0.2\n\n10.9.0.3"
    )
    found = project.name_servers.get()
    assert (found.zone, found.resolvers) == ("shop.lab", ["10.9.0.2", "10.9.0.3"])
    bad = {**data, "credential": api.pk, "address": "10.9.0.300", "port": "99999"}
    said = post(lead, "name-server-new", "shop", **bad, resolvers="ns2")
    assert f"TSIG key “{api.pk}”:" in said
    assert "Address “10.9.0.300” is neither an IP address nor a host name." in said
    assert "Port “99999”:" in said
    assert "Further authoritative server “ns2” is not an IP address." in said
    assert NameServer.objects.count() == 1
