"""Whole systems through all seven steps on real Debian hosts with systemd, in networks of their own."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from migrationhub.lab.datacentre import Datacentre
from migrationhub.lab.sources import source_of
from migrationhub.lab.state import Lab
from migrationhub.lab.vme.store import effective, hosts_by_instance, repeated_keys
from projects import abort, checklists, decisions, uat, workflow
from projects.lanes import lane_of
from projects.models import Approval, ChecklistItem, Migration, Step
from servers import checks
from servers.models import Credential, HostKey, NameServer, Platform, Probe, Run, RunEvent, Server, SyncPoint
from servers.remote import hostkeys
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
        uat.open_uat(migration.wave_id, migration.application_id, user=self.lead, accept_live=True)
        hub.until(lambda: Approval.objects.filter(gate="sign_off").exists())
        for item in ChecklistItem.objects.filter(step__migration=migration, role="owner"):
            checklists.tick(item.pk, user=owner, state="done")
        hub.step()
        approval = Approval.objects.get(gate="sign_off")
        decisions.decide(approval.pk, user=owner, verdict="approve", comment="", digest=approval.digest)
        uat.end(migration.wave_id, migration.application_id, user=owner)
        hub.until(lambda: Approval.objects.filter(gate="go").exists())
        go = Approval.objects.get(gate="go")
        decisions.decide(go.pk, user=self.lead, verdict="approve", comment="", digest=go.digest)

    def complete(self) -> None:
        hub, migration = self.hub, self.migration
        hub.until(lambda: self.state(K.CUTOVER) == S.DONE, 300)
        checklists.tick(ChecklistItem.objects.get(key="users").pk, user=self.lead, state="done")
        hub.until(lambda: not workflow.completion_unmet(lane_of(migration)))
        workflow.declare_complete(migration.pk, user=self.lead)
        hub.until(lambda: self.state(K.VALIDATION) == S.DONE)


@pytest.fixture
def site(spare_lab: Lab) -> Any:
    def make(name: str, profile: dict[str, Any], **options: Any) -> Site:
        return Site(spare_lab, name, profile, options)

    return make


def whole_identity(site: Site, host: str) -> str:
    """What makes a machine that machine, as the lab sees it: fingerprints of the keys, machine id, host name."""
    keys = 'for key in /etc/ssh/ssh_host_*_key; do ssh-keygen -y -f "$key" | cut -d" " -f1,2; done'
    found = site.centre.backend().execute(host, f"{keys}; cat /etc/machine-id /etc/hostname")
    assert found.rc == 0, found.err
    return found.out


def moved_halfway_and_taken_back(site: Site, source: str) -> None:
    """Stopped when the interface is moved and the target is off; then it is itself again where it was."""
    migration, hub = site.migration, site.hub
    clone = next(iter(hosts_by_instance(site.centre.lab.dir / "vme").values()))
    own = whole_identity(site, clone)
    migration.refresh_from_db()
    assert migration.target is not None
    address = migration.target.address
    moving = Run.objects.filter(operation="network", memo__stage="up")
    hub.until(moving.exists, 240)
    step = migration.steps.get(kind=K.CUTOVER)
    workflow.cancel_step(step.pk, user=site.lead, seen_attempt=1)
    hub.until(lambda: site.state(K.CUTOVER) == S.CANCELLED)
    assert "switched off" in Run.objects.get(operation="network").reason
    abort.take_back(migration.pk, user=site.lead, why="to see that it works")
    hub.until(lambda: site.state(K.CUTOVER) == S.UNDONE, 300)
    assert whole_identity(site, clone) == own != source
    migration.target.refresh_from_db()
    assert migration.target.address == address, "reached where it was, by our own access"
    assert site.centre.backend().power("files") == "off", "the source stays off"


def keys_tell_the_truth(site: Site, source: str) -> None:
    migration, hub = site.migration, site.hub
    assert set(migration.source.host_keys.values_list("state", flat=True)) == {HostKey.State.MOVED}
    target = Server.objects.prefetch_related("host_keys").get(migration_as_target=migration)
    shown = {key.line for key in hostkeys.scan(target.address, 22)}
    assert shown == set(target.accepted_keys(22)) and all(line in source for line in shown)
    assert target.accepted_keys(2299) == (), "our own access is gone, and its key with it"
    checks.request_server_check(migration.source, user=site.lead)
    hub.until(site.idle)
    migration.source.refresh_from_db()
    assert [finding["code"] for finding in migration.source.findings] == ["hostkey.moved"]
    told = json.dumps([list(Run.objects.values_list("memo", "result", "reason", "parameters"))], default=str)
    told += " ".join(RunEvent.objects.values_list("text", flat=True))
    secret = site.centre.backend().root("files") / "etc/ssh/ssh_host_ed25519_key"
    lines = secret.read_text().splitlines()[1:-1]
    assert lines and not [line for line in lines if line in told] and "PRIVATE KEY" not in told


def to_the_go(site: Site) -> None:
    site.prepare()
    site.start(K.INITIAL)
    site.hub.until(lambda: site.state(K.INITIAL) == S.DONE, 240)
    site.start(K.DELTA)
    site.hub.until(lambda: SyncPoint.objects.filter(kind="delta").exists() and site.idle(), 120)
    site.accept_and_go()


def walk(site: Site) -> None:
    to_the_go(site)
    site.complete()


@pytest.mark.full
def test_files_take_over_the_address(site: Any) -> None:
    here = site(
        "files",
        {
            "scope": "system",
            "consistency": "snapshot-btrfs",
            "consistency_options": {"subvolume": "/"},
            "addressing": "take_over",
            "identity": ["host_keys", "machine_id", "host_name"],
        },
        files="500",
    )
    here.probe("churn", "unit", unit="churn")
    to_the_go(here)
    source = whole_identity(here, "files")
    moved_halfway_and_taken_back(here, source)
    here.start(K.CUTOVER)
    here.complete()
    migration = Migration.objects.get(pk=here.migration.pk)
    assert migration.target is not None
    assert migration.target.address == migration.source.address
    clone = next(iter(hosts_by_instance(here.centre.lab.dir / "vme").values()))
    assert whole_identity(here, clone) == source
    keys_tell_the_truth(here, source)
    assert SyncPoint.objects.get(kind="initial").consistency == "snapshot"
    backend = here.centre.backend()
    assert backend.power("files") == "off"
    journal = here.centre.lab.dir / "vme" / "journal.jsonl"
    acts = [entry["act"] for entry in effective(journal)]
    assert acts.count("create") == 1 and repeated_keys(journal) == []
    assert acts.count("resize") == 3, "there, back and there again"
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


@pytest.mark.full
def test_a_target_that_is_not_reached_in_production_is_taken_back_through_the_platform(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our access does not start there: a retry moves nothing, the way back goes through VME into the guest."""
    monkeypatch.setattr("servers.operations.network.REACH_PATIENCE", 20)
    monkeypatch.setattr("servers.operations.undo_files.DEAF", 5)
    here = site("wiki", {"scope": "system", "identity": ["host_name"]})
    to_the_go(here)
    hub, migration = here.hub, here.migration
    hub.until(lambda: Run.objects.filter(operation="network", memo__stage="connect").exists(), 240)
    clone = next(iter(hosts_by_instance(here.centre.lab.dir / "vme").values()))
    own_address = Server.objects.get(migration_as_target=migration).address
    wants = here.centre.backend().root(clone) / "etc/systemd/system/multi-user.target.wants"
    link, away = wants / "migrationhub-access.service", wants.parent / "migrationhub-access.away"
    link.rename(away)
    until_attention(here, "network.unreached")
    journal = here.centre.lab.dir / "vme" / "journal.jsonl"
    before = [entry["act"] for entry in effective(journal)]
    workflow.retry_step(migration.steps.get(kind=K.CUTOVER).pk, user=here.lead, seen_attempt=1)
    until_attention(here, "network.unreached")
    assert [entry["act"] for entry in effective(journal)] == before, "a retry moves and restarts nothing"

    abort.take_back(migration.pk, user=here.lead, why="it does not answer")
    hub.until(lambda: Run.objects.filter(operation="network_back", memo__stage="connect").exists(), 240)
    assert {run.reason.count("inside the guest") for run in Run.objects.filter(operation__startswith="undo_")} == {1}
    away.rename(link)
    hub.until(lambda: here.state(K.CUTOVER) == S.UNDONE, 120)
    assert Server.objects.get(migration_as_target=migration).address == own_address
    here.start(K.CUTOVER)
    here.complete()


def until_attention(site: Site, code: str, passes: int = 1500) -> None:
    for _ in range(passes):
        site.hub.step()
        if site.state(K.CUTOVER) == S.ATTENTION:
            break
        time.sleep(0.05)
    newest = Run.objects.filter(operation="network").latest("pk")
    assert newest.code == code, newest.reason
