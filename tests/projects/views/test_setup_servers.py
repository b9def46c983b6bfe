"""Servers and host keys through their pages."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from projects.forms.plan import services_seen
from projects.models import Migration, Project
from servers.models import Credential, HostKey, Run, Server
from servers.remote import hostkeys
from tests import factories as make

from .setup_helpers import page, post

pytestmark = pytest.mark.django_db


@pytest.fixture
def key(project: Project) -> Credential:
    credential = make.make_credential(kind="key", name="ops key")
    project.credentials.add(credential)
    return credential


def a_server(project: Project, name: str = "shop-db", **over: object) -> Server:
    server = make.make_server(name, accepted=False, **over)
    Migration.objects.create(project=project, source=server)
    return server


def offer(server: Server, **over: object) -> HostKey:
    raw = ed25519.Ed25519PrivateKey.generate().public_key()
    text = raw.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode().split()[1]
    values = {"key_type": "ssh-ed25519", "public": text, "fingerprint": hostkeys.fingerprint(text), **over}
    return HostKey.objects.create(server=server, **values)


def test_a_server_enters_the_project_with_its_migration(lead: Client, project: Project, key: Credential) -> None:
    data = {"name": "shop-db", "address": "10.9.2.10", "port": "22", "credential": key.pk, "manager": "systemd"}
    said = post(lead, "server-new", "shop", **data, directory="/")
    migration = project.migrations.get()
    assert migration.state == "open"
    assert migration.wave is None
    assert migration.source.address == "10.9.2.10"
    assert migration.source.credential == key
    assert "It was never checked." in said
    assert f"/migrations/{migration.pk}/plan/" in page(lead, "servers", "shop")


def test_a_directory_belongs_to_supervisord_alone(lead: Client, project: Project, key: Credential) -> None:
    data = {"name": "p1", "address": "127.0.1.5", "port": "2222", "credential": key.pk}
    assert "Directory “/srv/p1” means nothing" in post(
        lead, "server-new", "shop", **data, manager="systemd", directory="/srv/p1"
    )
    assert "Directory “/” cannot be a host's own." in post(
        lead, "server-new", "shop", **data, manager="supervisord", directory="/"
    )
    post(lead, "server-new", "shop", **data, manager="supervisord", directory="/srv/p1")
    assert project.migrations.get().source.directory == "/srv/p1"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "shop db"}, "Name “shop db” is not a host name."),
        ({"address": "https://10.0.0.1"}, "Address “https://10.0.0.1” is neither"),
        ({"address": "10.0.0.256"}, "Address “10.0.0.256” is neither"),
        ({"port": "0"}, "SSH port “0”:"),
        ({"credential": "77"}, "Credential “77”:"),
    ],
)
def test_a_wrong_field_is_named_with_its_value(lead: Client, changes: dict[str, str], words: str) -> None:
    data = {"name": "shop-db", "address": "10.0.0.1", "port": "22", "manager": "systemd", "directory": "/", **changes}
    assert words in post(lead, "server-new", "shop", **data)
    assert not Server.objects.exists()


def test_a_source_is_in_one_open_migration_only(lead: Client, project: Project) -> None:
    a_server(project, address="10.0.0.1")
    elsewhere = make.make_project()
    Migration.objects.create(project=elsewhere, source=make.make_server("secret-name", address="10.0.0.2"))
    data = {"port": "22", "manager": "systemd", "directory": "/"}
    same = post(lead, "server-new", "shop", name="shop-db", address="10.0.0.9", **data)
    assert "shop-db is in this project already, at 10.0.0.1 port 22." in same
    address = post(lead, "server-new", "shop", name="other", address="10.0.0.1", **data)
    assert "10.0.0.1 port 22 is in this project already: it is shop-db." in address
    foreign = post(lead, "server-new", "shop", name="other", address="10.0.0.2", **data)
    assert "10.0.0.2 port 22 is being migrated in another project." in foreign
    assert "secret-name" not in foreign
    assert project.migrations.count() == 1


def test_many_servers_come_in_by_lines(lead: Client, project: Project, key: Credential) -> None:
    lines = "# web tier\nweb-1 10.0.0.1\nweb-2 10.0.0.2:2222\n\nweb-3 [fd00::3]:2022\nweb-4 fd00::4\n"
    assert "4 servers are entered." in post(
        lead, "server-many", "shop", lines=lines, credential=key.pk, manager="systemd"
    )
    found = {s.name: (s.address, s.port) for s in Server.objects.all()}
    assert found == {
        "web-1": ("10.0.0.1", 22),
        "web-2": ("10.0.0.2", 2222),
        "web-3": ("fd00::3", 2022),
        "web-4": ("fd00::4", 22),
    }
    assert project.migrations.count() == 4


def test_one_wrong_line_takes_none_and_every_wrong_one_is_named(lead: Client, project: Project) -> None:
    a_server(project, "known", address="10.0.0.7")
    lines = "web-1 10.0.0.1\nweb 2 10.0.0.2\nweb-3 10.0.0.3:ssh\nweb-1 10.0.0.4\nnew 10.0.0.7"
    said = post(lead, "server-many", "shop", lines=lines, manager="systemd")
    assert "Line 2: “web 2 10.0.0.2” is not a name and an address." in said
    assert "Line 3: port “ssh” is not a port." in said
    assert "Line 4: “web-1 10.0.0.4” repeats web-1" in said
    assert "Line 5: 10.0.0.7 port 22 is in this project already: it is known." in said
    assert "web-3 10.0.0.3:ssh" in said, "nothing that was typed is lost"
    assert Server.objects.count() == 1


def test_a_host_key_is_accepted_with_its_fingerprint(lead: Client, project: Project) -> None:
    server = a_server(project)
    offered = offer(server)
    said = page(lead, "server", "shop", server.pk)
    assert offered.fingerprint in said
    assert "nobody has accepted it" in said
    assert "Host key waits for you" in page(lead, "servers", "shop")
    post(lead, "host-key-accept", "shop", offered.pk)
    offered.refresh_from_db()
    assert offered.state == "accepted"
    assert offered.decided_by is not None
    assert Run.objects.filter(work_key=f"check.server.{server.pk}").exists(), "it is checked again at once"


def test_a_changed_key_shows_both_fingerprints(lead: Client, project: Project) -> None:
    server = a_server(project)
    old = offer(server, state="accepted")
    new = offer(server)
    said = page(lead, "server", "shop", server.pk)
    assert "It shows another ssh-ed25519 key than the accepted one" in said
    assert old.fingerprint in said
    assert new.fingerprint in said
    post(lead, "host-key-refuse", "shop", new.pk)
    states = {key.pk: key.state for key in HostKey.objects.all()}
    assert states == {old.pk: "accepted", new.pk: "refused"}


def test_many_keys_are_decided_at_once(lead: Client, project: Project) -> None:
    keys = [offer(a_server(project, f"s{n}")) for n in range(3)]
    assert keys[2].fingerprint in page(lead, "host-keys", "shop")
    assert "No key was ticked." in post(lead, "host-keys", "shop", verdict="accept")
    assert "Verdict “maybe”" in post(lead, "host-keys", "shop", verdict="maybe", key=keys[0].pk)
    post(lead, "host-keys", "shop", verdict="accept", key=[keys[0].pk, keys[1].pk])
    assert [HostKey.objects.get(pk=key.pk).state for key in keys] == ["accepted", "accepted", "offered"]


def test_a_ticked_key_that_somebody_refused_meanwhile_is_told(lead: Client, project: Project) -> None:
    server = a_server(project)
    right, wrong, other = offer(server, state="accepted"), offer(server), offer(a_server(project, "s2"))
    ben = Client()
    ben.force_login(make.make_member(project, "lead", make.make_user("ben")))
    post(ben, "host-key-refuse", "shop", wrong.pk)
    for said in (
        post(lead, "host-keys", "shop", verdict="accept", key=[wrong.pk, other.pk]),
        post(lead, "host-key-accept", "shop", wrong.pk),
    ):
        assert f"{wrong.fingerprint} of shop-db was refused by ben in the meantime" in said
    assert [HostKey.objects.get(pk=key.pk).state for key in (right, wrong, other)] == [
        "accepted",
        "refused",
        "accepted",
    ]


def test_two_keys_of_one_type_are_not_accepted_at_once(lead: Client, project: Project) -> None:
    server = a_server(project)
    keys = [offer(server), offer(server)]
    said = post(lead, "host-keys", "shop", verdict="accept", key=[key.pk for key in keys])
    assert "Two keys of one type are ticked for shop-db (ssh-ed25519)" in said
    post(lead, "host-keys", "shop", verdict="refuse", key=[key.pk for key in keys])
    assert {key.state for key in HostKey.objects.all()} == {"refused"}


def test_a_key_of_another_project_is_not_there(lead: Client) -> None:
    foreign = offer(a_server(make.make_project(), "theirs"))
    for name in ("host-key-accept", "host-key-refuse"):
        assert lead.post(reverse(name, args=["shop", foreign.pk])).status_code == 404
    lead.post(reverse("host-keys", args=["shop"]), {"verdict": "accept", "key": foreign.pk})
    foreign.refresh_from_db()
    assert foreign.state == "offered"


def test_known_hosts_is_accepted_for_those_it_names(lead: Client, project: Project) -> None:
    server, other = a_server(project, "s1", address="10.0.0.1"), a_server(project, "s2", address="10.0.0.2", port=2222)
    raw = ed25519.Ed25519PrivateKey.generate().public_key()
    line = raw.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    said = post(lead, "known-hosts", "shop", text=f"10.0.0.1 {line}\n[10.0.0.2]:2222 {line}\n", server=[server.pk])
    fingerprint = hostkeys.fingerprint(base64.b64encode(base64.b64decode(line.split()[1])).decode())
    assert f"Accepted: {fingerprint}." in said
    assert server.host_keys.get().state == "accepted"
    assert not other.host_keys.exists(), "only the ticked one"
    assert "known_hosts is empty." in post(lead, "known-hosts", "shop", text="")


def test_a_check_is_requested_for_one_for_some_and_for_all(lead: Client, project: Project) -> None:
    servers = [a_server(project, f"s{n}") for n in range(3)]
    post(lead, "server-check", "shop", servers[0].pk)
    assert Run.objects.get().server == servers[0]
    post(lead, "servers-check", "shop", server=[servers[1].pk])
    assert Run.objects.count() == 2
    assert "The check of 3 servers is requested." in post(lead, "servers-check", "shop")
    assert Run.objects.count() == 3, "open checks are not doubled"


@pytest.mark.parametrize("ticked", [["abc"], ["²"], [""], ["999999"], ["1" * 40]])
def test_a_tick_that_names_no_server_does_not_check_them_all(lead: Client, project: Project, ticked: list[str]) -> None:
    server, foreign = a_server(project), a_server(make.make_project(), "theirs")
    for wrong in (ticked, [*ticked, str(server.pk)], [str(foreign.pk)]):
        said = post(lead, "servers-check", "shop", server=wrong)
        assert f"No source of this project is “{wrong[0]}”: nothing is checked." in said
    assert not Run.objects.exists()


def test_a_check_that_ends_while_its_page_is_drawn_shows_what_it_found(
    lead: Client, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page of a check that has ended does not look again: what it says then stays."""
    finding = {"level": "blocking", "code": "hostkey.unknown", "text": "No key is accepted yet.", "act": ""}
    server = a_server(project, findings=[finding])
    post(lead, "server-check", "shop", server.pk)

    def ends(key: str) -> Run:
        Run.objects.update(state="succeeded", reason="Log-in works.", finished_at=timezone.now())
        Server.objects.update(findings=[])
        return Run.objects.get(work_key=key)

    monkeypatch.setattr("projects.views.setup_servers.check_run", ends)
    said = page(lead, "server", "shop", server.pk)
    assert "Log-in works." in said and "No key is accepted yet." not in said


def test_facts_are_shown_with_their_age(lead: Client, project: Project) -> None:
    facts = {
        "os": {"name": "Debian GNU/Linux 12 (bookworm)"},
        "kernel": "6.1.0-18",
        "cpus": 4,
        "memory": 8_000_000_000,
        "units": [{"name": "nginx.service", "active": "active"}, {"name": "old.service", "active": "inactive"}],
        "listening": [{"port": 80, "process": "nginx"}],
    }
    server = a_server(project, facts=facts, facts_at=make.hours(-2))
    said = page(lead, "server", "shop", server.pk)
    assert "Debian GNU/Linux 12 (bookworm), kernel 6.1.0-18" in said
    assert "80 (nginx)" in said
    assert "2 h 00 min" in said
    assert services_seen(server) == ["nginx.service"]


def test_findings_of_the_old_address_do_not_stay(lead: Client, project: Project) -> None:
    finding = {
        "level": "blocking",
        "code": "ssh.unreachable",
        "text": "No TCP connection.",
        "act": "Check the address.",
    }
    server = a_server(project, address="10.0.0.1", findings=[finding])
    assert "No TCP connection." in page(lead, "servers", "shop")
    data = {"name": server.name, "address": "10.0.0.2", "port": "22", "manager": "systemd", "directory": "/"}
    post(lead, "server-edit", "shop", server.pk, **data)
    server.refresh_from_db()
    assert (server.address, server.findings) == ("10.0.0.2", [])


def test_a_server_at_work_is_not_readdressed(lead: Client, project: Project) -> None:
    server = a_server(project, address="10.0.0.1")
    make.make_run("sync", server=server)
    data = {"name": server.name, "address": "10.0.0.2", "port": "22", "manager": "systemd", "directory": "/"}
    assert "is under way" in post(lead, "server-edit", "shop", server.pk, **data)
    server.refresh_from_db()
    assert server.address == "10.0.0.1"


def test_a_server_is_withdrawn_only_before_its_first_step(lead: Client, project: Project) -> None:
    server = a_server(project)
    migration = project.migrations.get()
    make.make_steps(migration)
    attempt = make.make_attempt(migration.steps.get(position=1), state="cancelled")
    assert "were begun: it stays" in post(lead, "server-withdraw", "shop", server.pk)
    attempt.delete()
    post(lead, "server-withdraw", "shop", server.pk)
    migration.refresh_from_db()
    assert migration.state == "cancelled"
    assert "No server yet." in page(lead, "servers", "shop")


def test_the_list_needs_a_fixed_number_of_queries(
    lead: Client, project: Project, django_assert_max_num_queries: object
) -> None:
    for n in range(12):
        offer(a_server(project, f"s{n}"))
    with django_assert_max_num_queries(12):  # type: ignore[operator]
        page(lead, "servers", "shop")
    with django_assert_max_num_queries(12):  # type: ignore[operator]
        page(lead, "host-keys", "shop")
