"""Whole systems through all seven steps on real Debian hosts with systemd, in networks of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from migrationhub.lab.datacentre import Datacentre
from migrationhub.lab.sources import source_of
from migrationhub.lab.state import Lab
from migrationhub.lab.vme.store import effective, hosts_by_instance, repeated_keys
from projects import decisions, workflow
from projects.lanes import lane_of
from projects.models import Approval, ChecklistItem, Migration, Step
from servers import checks
from servers.models import Credential, HostKey, NameServer, Platform, Probe, Run, Server, SyncPoint
from tests import factories
from tests.test_seven_steps import Hub

K, S = Step.Kind, Step.State
pytestmark = [pytest.mark.nspawn, pytest.mark.django_db(transaction=True)]


class Site:
    """A lab with one source, and the rows that a lead would have made by the pages."""

    def __init__(self, lab: Lab, name: str, profile: dict[str, Any], options: dict[str, Any]) -> None:
        self.centre = Datacentre(lab, print)
        self.told = self.centre.up("nspawn", sources=[name], options={name: options})
        self.hub = Hub()
        source = next(one for one in self.told["sources"] if one["name"] == name)
        project = factories.make_project()
        account = self.told["platform"]
        platform = Platform.objects.create(
            name="VME",
            url=account["url"],
            credential=factories.make_credential(
                kind=Credential.Kind.API, username=account["username"], secret=account["password"]
            ),
            ca_bundle=Path(account["ca_bundle"]).read_text(),
        )
        server = Server.objects.create(
            name=name,
            address=source["address"],
            credential=factories.make_credential(
                kind=Credential.Kind.KEY, username="root", secret=Path(self.told["ssh_key"]).read_text()
            ),
        )
        made = factories.make_profile(project, platform=platform, **self.choices(platform, name), **profile)
        known = source_of(name)
        dns = self.told["dns"]
        tsig = factories.make_credential(
            kind=Credential.Kind.TSIG,
            username=dns["key"]["name"],
            secret=dns["key"]["secret"],
            algorithm=dns["key"]["algorithm"],
        )
        name_server = NameServer.objects.create(
            name="shop.lab", address=dns["server"], port=dns["port"], zone=dns["zone"], credential=tsig
        )
        new = known.new_number > 0
        self.migration = factories.make_migration(
            project=project,
            profile=made,
            source=server,
            steps=False,
            services=list(reversed(known.services)),
            new_address=f"{known.new_address(lab, 'nspawn')}/24" if new else "",
            gateway=self.told["networks"]["production"].get("gateway", "") if new else "",
            resolvers=[self.told["networks"]["production"]["resolver"]] if new else [],
            name_server=name_server if new else None,
            dns_name=f"{known.record}.{dns['zone']}" if new else "",
        )
        workflow.plan_steps(self.migration)

    def choices(self, row: Platform, name: str) -> dict[str, str]:
        """Chosen from what the platform really has, by label, as on the page."""
        client = checks.platform_client(row)
        group = next(one for one in client.groups() if one.facts["zones"])
        zone = client.zones(group.value)[0]
        layout = client.layouts()[0]
        pool = client.pools(zone.value, group.value, layout.value)[0]
        networks = {one.facts["name"]: one.value for one in client.networks(zone.value, pool.value)}
        image = source_of(name).clone_image
        return {
            "group_id": group.value,
            "zone_id": zone.value,
            "pool_id": pool.value,
            "instance_type": layout.facts["instance_type"],
            "layout_id": layout.value,
            "plan_id": client.plans(zone.value, layout.value, group.value, pool.value)[0].value,
            "image_id": next(one.value for one in client.images() if one.label == image),
            "datastore_id": next(one.value for one in client.datastores(zone.value) if one.facts["online"]),
            "migration_network_id": networks["Migration VLAN 66"],
            "production_network_id": networks["Production VLAN 20"],
        }

    def probe(self, name: str, kind: str, **parameters: Any) -> None:
        places = ["source", "clone", "target"]
        Probe.objects.create(server=self.migration.source, name=name, kind=kind, parameters=parameters, places=places)

    @property
    def lead(self) -> Any:
        return self.migration.project.memberships.get(role="lead").user

    def state(self, kind: str) -> str:
        return self.migration.steps.get(kind=kind).state

    def idle(self) -> bool:
        return not Run.objects.filter(finished_at=None).exists()

    def prepare(self) -> None:
        server = self.migration.source
        checks.request_platform_check(self.migration.profile.platform, user=self.lead)
        checks.request_server_check(server, user=self.lead)
        self.hub.until(self.idle)
        for key in server.host_keys.filter(state=HostKey.State.OFFERED):
            checks.accept_host_key(key.pk, user=self.lead)
        self.hub.until(self.idle)
        server.refresh_from_db()
        assert server.findings == []

    def start(self, kind: str) -> None:
        step = self.migration.steps.get(kind=kind)
        number = step.attempts.count()
        workflow.start_step(step.pk, user=self.lead, seen_state=step.state, seen_attempt=number)

    def accept_and_go(self) -> None:
        migration, hub = self.migration, self.hub
        owner = migration.application.owner
        decisions.open_uat(migration.wave_id, migration.application_id, user=self.lead, accept_live=True)
        hub.until(lambda: Approval.objects.filter(gate="sign_off").exists())
        for item in ChecklistItem.objects.filter(step__migration=migration, role="owner"):
            decisions.tick(item.pk, user=owner, state="done")
        hub.step()
        approval = Approval.objects.get(gate="sign_off")
        decisions.decide(approval.pk, user=owner, verdict="approve", comment="", digest=approval.digest)
        decisions.end_uat(migration.wave_id, migration.application_id, user=owner)
        hub.until(lambda: Approval.objects.filter(gate="go").exists())
        go = Approval.objects.get(gate="go")
        decisions.decide(go.pk, user=self.lead, verdict="approve", comment="", digest=go.digest)

    def complete(self) -> None:
        hub, migration = self.hub, self.migration
        hub.until(lambda: self.state(K.CUTOVER) == S.DONE, 300)
        decisions.tick(ChecklistItem.objects.get(key="users").pk, user=self.lead, state="done")
        hub.until(lambda: not workflow.completion_unmet(lane_of(migration)))
        workflow.declare_complete(migration.pk, user=self.lead)
        hub.until(lambda: self.state(K.VALIDATION) == S.DONE)


@pytest.fixture
def site(spare_lab: Lab) -> Any:
    def make(name: str, profile: dict[str, Any], **options: Any) -> Site:
        return Site(spare_lab, name, profile, options)

    return make


def walk(site: Site) -> None:
    site.prepare()
    site.start(K.INITIAL)
    site.hub.until(lambda: site.state(K.INITIAL) == S.DONE, 240)
    site.start(K.DELTA)
    site.hub.until(lambda: SyncPoint.objects.filter(kind="delta").exists() and site.idle(), 120)
    site.accept_and_go()
    site.complete()


def test_files_take_over_the_address(site: Any) -> None:
    here = site(
        "files",
        {
            "scope": "system",
            "consistency": "snapshot-btrfs",
            "consistency_options": {"subvolume": "/"},
            "addressing": "take_over",
        },
        files="500",
    )
    here.probe("churn", "unit", unit="churn")
    walk(here)
    migration = Migration.objects.get(pk=here.migration.pk)
    assert migration.target.address == migration.source.address
    assert SyncPoint.objects.get(kind="initial").consistency == "snapshot"
    backend = here.centre.backend()
    assert backend.power("files") == "off"
    assert set(migration.source.host_keys.values_list("state", flat=True)) == {HostKey.State.RETIRED}
    journal = here.centre.lab.dir / "vme" / "journal.jsonl"
    acts = [entry["act"] for entry in effective(journal)]
    assert acts.count("create") == 1 and acts.count("resize") == 1 and repeated_keys(journal) == []
    clone = next(iter(hosts_by_instance(here.centre.lab.dir / "vme").values()))
    assert backend.execute(clone, "systemctl is-active churn").out.strip() == "active"
    assert json.dumps(acts)


def test_a_database_that_is_written_to_all_the_time(site: Any) -> None:
    """Copied frozen, moved to a new address and name; every order that the source committed is there, no other."""
    here = site(
        "shop-db",
        {
            "scope": "system",
            "consistency": "postgresql",
            "consistency_options": {
                "data": "/var/lib/postgresql/15/main",
                "user": "postgres",
                "port": 5432,
                "service": "postgresql",
            },
        },
        scale="2",
        rate="200mbit",
    )
    here.probe("database", "tcp", port=5432)
    here.probe("orders", "unit", unit="orders")
    walk(here)
    assert set(SyncPoint.objects.values_list("kind", "consistency")) == {
        ("initial", "frozen"),
        ("delta", "frozen"),
        ("final", "stopped"),
    }
