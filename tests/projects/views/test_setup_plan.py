"""Planning a server and its probes through their pages."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from projects.models import Migration, Project
from servers.models import Probe
from servers.remote.probes_fields import FIELDS
from tests import factories as make

from .setup_helpers import page, post

pytestmark = pytest.mark.django_db


@pytest.fixture
def migration(project: Project) -> Migration:
    return Migration.objects.create(project=project, source=make.make_server("shop-db", address="10.9.2.10"))


@pytest.fixture
def plan(project: Project) -> dict[str, Any]:
    server = make.make_credential(kind="tsig")
    profile = make.make_profile(project, name="Database", labels={"production_cidr": "10.9.2.0/24"})
    name_server = project.name_servers.create(name="BIND", address="10.9.0.1", zone="shop.lab", credential=server)
    return {
        "application": make.make_application(project, "Shop database").pk,
        "profile": profile.pk,
        "wave": make.make_wave(project, name="first").pk,
        "new_address": "10.9.2.30/24",
        "gateway": "10.9.2.1",
        "resolvers": "10.9.0.1\n10.9.0.2",
        "name_server": name_server.pk,
        "dns_name": "DB.shop.lab.",
        "dns_ttl": "60",
        "services": "orders\npostgresql",
        "delta_every_minutes": "1",
    }


def test_a_server_is_planned_and_gets_its_seven_steps(lead: Client, migration: Migration, plan: dict[str, Any]) -> None:
    assert "Not planned yet." in page(lead, "planning", "shop")
    said = post(lead, "plan", migration.pk, **plan)
    assert "shop-db is planned into Wave 1: first." in said
    migration.refresh_from_db()
    assert migration.wave is not None
    assert (migration.new_address, migration.gateway, migration.dns_name) == ("10.9.2.30/24", "10.9.2.1", "db.shop.lab")
    assert migration.resolvers == ["10.9.0.1", "10.9.0.2"]
    assert migration.services == ["orders", "postgresql"]
    assert migration.next_delta_at is not None
    assert migration.steps.count() == 7
    assert "Not planned yet." not in page(lead, "planning", "shop")
    again = page(lead, "plan", migration.pk)
    assert 'value="10.9.2.30/24"' in again
    assert "orders\npostgresql" in again


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"new_address": "10.9.2.30"}, "Address in production “10.9.2.30” has no prefix."),
        ({"new_address": "10.9.2.0/24"}, "“10.9.2.0/24” is the network itself"),
        ({"new_address": "10.9.2.255/24"}, "“10.9.2.255/24” is the broadcast address of 10.9.2.0/24."),
        ({"new_address": "10.8.1.5/24", "gateway": ""}, "is not in 10.9.2.0/24, the production network of profile"),
        ({"new_address": "10.9.2.10/24"}, "“10.9.2.10/24” is the source's own"),
        ({"new_address": ""}, "Address in production is empty, but profile Database gives a new address."),
        ({"gateway": "10.9.3.1"}, "Gateway “10.9.3.1” is not in 10.9.2.0/24."),
        ({"gateway": "10.9.2.30"}, "Gateway “10.9.2.30” is the server itself."),
        ({"resolvers": "10.9.0.1\nns1"}, "Resolver “ns1” is not an IP address."),
        ({"dns_name": "db.other.lab"}, "DNS name “db.other.lab” is not in zone shop.lab of BIND."),
        ({"dns_name": "not a name"}, "DNS name “not a name” is not a domain name."),
        ({"dns_name": ""}, "DNS name is empty, but shop.lab at 10.9.0.1 is chosen."),
        ({"name_server": ""}, "Name server is not chosen, but a DNS name is given."),
        ({"dns_ttl": "1"}, "TTL of the record “1”:"),
        ({"services": "a b"}, "Service “a b” is not the name of a service."),
        ({"services": "orders\norders"}, "Service “orders” stands there twice."),
        ({"delta_every_minutes": "99999"}, "A delta every … minutes “99999”:"),
        ({"wave": ""}, "Wave is empty. Enter a wave first, on the page Waves."),
        ({"application": "999"}, "Application “999”:"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_saved(
    lead: Client, migration: Migration, plan: dict[str, Any], changes: dict[str, str], words: str
) -> None:
    said = post(lead, "plan", migration.pk, **{**plan, **changes})
    assert words in said
    assert "Nothing was saved" in said
    migration.refresh_from_db()
    assert migration.wave is None


def test_an_address_is_planned_once(lead: Client, project: Project, migration: Migration, plan: dict[str, Any]) -> None:
    make.make_migration(project=project, new_address="10.9.2.30/24", source=make.make_server("other"))
    assert "“10.9.2.30/24” is planned for other." in post(lead, "plan", migration.pk, **plan)
    other = Migration.objects.exclude(pk=migration.pk).get()
    Migration.objects.filter(pk=other.pk).update(project=make.make_project())
    assert "is planned for a server of another project." in post(lead, "plan", migration.pk, **plan)


def test_a_profile_that_takes_the_address_over_needs_none(
    lead: Client, project: Project, migration: Migration, plan: dict[str, Any]
) -> None:
    profile = make.make_profile(project, name="Files", addressing="take_over")
    changes = {"profile": profile.pk, "new_address": "", "gateway": "", "dns_name": "", "name_server": ""}
    assert "is planned into" in post(lead, "plan", migration.pk, **{**plan, **changes})
    own = {**plan, **changes, "new_address": "10.9.2.10/24", "gateway": "10.9.2.1"}
    post(lead, "plan", migration.pk, **own)
    migration.refresh_from_db()
    assert migration.new_address == "10.9.2.10/24"


def test_choices_of_other_projects_are_not_offered(lead: Client, migration: Migration, plan: dict[str, Any]) -> None:
    foreign = make.make_wave(make.make_project())
    assert f"Wave “{foreign.pk}”:" in post(lead, "plan", migration.pk, **{**plan, "wave": foreign.pk})


def test_services_are_offered_from_facts_and_strange_ones_are_told(
    lead: Client, migration: Migration, plan: dict[str, Any]
) -> None:
    units = [{"name": "postgresql.service", "active": "active"}]
    migration.source.facts = {"units": units}
    migration.source.save()
    assert "Seen on shop-db: postgresql.service." in page(lead, "plan", migration.pk)
    said = post(lead, "plan", migration.pk, **plan)
    assert "Service orders was not among those that ran on shop-db" in said
    assert "Service postgresql was not" not in said


def test_what_is_missing_before_planning_is_said_with_the_way_there(lead: Client, migration: Migration) -> None:
    said = page(lead, "plan", migration.pk)
    for name in ("application-new", "profile-new", "wave-new"):
        assert reverse(name, args=["shop"]) in said


def test_two_people_who_plan_at_once_are_told(lead: Client, migration: Migration, plan: dict[str, Any]) -> None:
    seen = lead.get(reverse("plan", args=[migration.pk])).context["form"]["seen"].value()
    Migration.objects.filter(pk=migration.pk).update(dns_ttl=77)
    said = post(lead, "plan", migration.pk, **plan, seen=seen)
    assert "Somebody changed this while you were typing" in said
    Migration.objects.filter(pk=migration.pk).update(version=99)
    fresh = lead.get(reverse("plan", args=[migration.pk])).context["form"]["seen"].value()
    Migration.objects.filter(pk=migration.pk).update(version=120)
    assert "is planned into" in post(lead, "plan", migration.pk, **plan, seen=fresh), "a busy migration refuses nobody"


def test_a_server_is_taken_out_of_its_wave(lead: Client, migration: Migration, plan: dict[str, Any]) -> None:
    post(lead, "plan", migration.pk, **plan)
    assert "shop-db is out of its wave." in post(lead, "plan-remove", migration.pk)
    migration.refresh_from_db()
    assert migration.wave is None
    assert migration.delta_every_minutes == 0
    assert "is in no wave." in post(lead, "plan-remove", migration.pk)


GOOD: dict[str, dict[str, Any]] = {
    "unit": {"unit": "postgresql"},
    "tcp": {"port": 5432, "from": "hub"},
    "http": {"scheme": "http", "port": 80, "path": "/health", "host": "shop.lab", "status": 200, "text": "ok"},
    "dns": {"name": "db.shop.lab", "rtype": "A", "values": ["{address}"]},
    "command": {"command": "psql -c 'select 1'", "output": "1", "match": "contains"},
}


@pytest.mark.parametrize("kind", FIELDS)
def test_each_kind_of_probe_is_entered_and_changed(lead: Client, migration: Migration, kind: str) -> None:
    shown = page(lead, "probe-new", migration.pk, kind=kind)
    for name in FIELDS[kind]:
        assert f'name="p_{name}"' in shown, "every parameter of the kind has a field"
    given = {f"p_{name}": "\n".join(value) if isinstance(value, list) else value for name, value in GOOD[kind].items()}
    said = post(lead, "probe-new", migration.pk, kind=kind, name="answers", places=["source", "target"], **given)
    assert "Probe answers is saved." in said
    probe = migration.source.probes.get()
    assert probe.places == ["source", "target"]
    assert {name: probe.parameters.get(name) for name in GOOD[kind]} == GOOD[kind]
    post(lead, "probe-edit", probe.pk, kind=kind, name="renamed", places=["clone"], **given, p_timeout="5")
    probe.refresh_from_db()
    assert (probe.name, probe.places, probe.parameters["timeout"]) == ("renamed", ["clone"], 5)


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        ("tcp", {"p_port": "70000"}, "Port “70000” cannot be asked. Enter a port from 1 to 65535."),
        ("tcp", {"p_port": "ssh"}, "Port “ssh”:"),
        ("tcp", {}, "Port is empty."),
        ("unit", {"p_unit": "a b"}, "Service “a b” cannot be asked."),
        ("http", {"p_scheme": "http", "p_path": "health"}, "Path “health” cannot be asked. Enter a path"),
        ("http", {"p_scheme": "ftp"}, "Scheme “ftp”:"),
        ("command", {"p_command": "x", "p_output": "(", "p_match": "regex"}, "This is not a regular expression"),
        ("dns", {"p_name": "db.shop.lab", "p_rtype": "A", "p_server": "ns1"}, "Name server “ns1” cannot be asked."),
    ],
)
def test_a_probe_that_cannot_be_asked_is_refused(
    lead: Client, migration: Migration, kind: str, given: dict[str, str], words: str
) -> None:
    said = post(lead, "probe-new", migration.pk, kind=kind, name="keep this", places=["source"], **given)
    assert words in said
    assert "keep this" in said
    assert not Probe.objects.exists()


def test_probes_move_the_version_and_go_unless_they_are_evidence(lead: Client, migration: Migration) -> None:
    probe = make.make_probe(migration.source, "answers")
    before = migration.version
    result = make.make_probe_result(probe, "source")
    assert "which are evidence" in post(lead, "probe-remove", probe.pk)
    result.delete()
    assert "Probe answers is removed." in post(lead, "probe-remove", probe.pk)
    migration.refresh_from_db()
    assert migration.version == before + 1


def test_a_name_belongs_to_one_probe_of_a_server(lead: Client, migration: Migration) -> None:
    make.make_probe(migration.source, "answers")
    said = post(lead, "probe-new", migration.pk, kind="tcp", name="answers", places=["source"], p_port="1")
    assert "Name “answers” is another probe of shop-db." in said
    assert "Kind of probe “telepathy” is not known." in page_after(lead, migration.pk)


def page_after(client: Client, pk: int) -> str:
    response = client.get(reverse("probe-new", args=[pk]), {"kind": "telepathy"}, follow=True)
    return response.content.decode()


def test_the_planning_list_needs_a_fixed_number_of_queries(
    lead: Client, project: Project, django_assert_max_num_queries: Any
) -> None:
    for _ in range(8):
        make.make_migration(project=project)
    with django_assert_max_num_queries(30):
        page(lead, "planning", "shop")
