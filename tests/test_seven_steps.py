"""One migration through all seven steps on real process hosts: real SSH, rsync, PostgreSQL, VME stand-in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from migrationhub.lab.vme.store import effective, repeated_keys
from projects import checklists, decisions, uat, workflow
from projects.models import Approval, ChecklistItem, Migration, Step
from servers import checks
from servers.models import HostKey, Probe, Run, SyncPoint
from tests.fixtures_lab import ProcessHost, ProcessLab
from tests.lab.vme.test_real_hosts import Served
from tests.world import Hub, plan_migration, served, start

__all__ = ["served"]
K, S = Step.Kind, Step.State
pytestmark = [pytest.mark.lab, pytest.mark.django_db(transaction=True)]


@dataclass
class World:
    hub: Hub
    migration: Migration
    source: ProcessHost
    served: Served
    lab: ProcessLab

    @property
    def lead(self) -> Any:
        return self.migration.project.memberships.get(role="lead").user

    @property
    def owner(self) -> Any:
        return self.migration.application.owner

    def state(self, kind: str) -> str:
        return self.migration.steps.get(kind=kind).state

    def start(self, kind: str) -> None:
        start(self.migration, kind)

    def await_state(self, kind: str, state: str, seconds: float = 120) -> None:
        self.hub.until(lambda: self.state(kind) == state, seconds)


@pytest.fixture
def world(process_lab: ProcessLab, process_host: Any, served: Served, settings: Any) -> Any:
    source = process_host("shop-db", "shop-db", interval="0.1")
    new = process_lab.lab.address("production", 200, "process")
    migration = plan_migration(
        process_lab,
        source,
        served,
        profile={
            "paths": ["srv", "opt", "etc/supervisor.d"],
            "consistency": "postgresql",
            "consistency_options": {
                "data": "srv/postgresql",
                "user": "postgres",
                "port": 5432,
                "service": "postgresql",
            },
        },
        services=["orders", "postgresql"],
        new_address=f"{new}/24",
    )
    server = migration.source
    places = ["source", "clone", "target"]
    Probe.objects.create(server=server, name="port", kind="tcp", parameters={"port": 5432}, places=places)
    Probe.objects.create(server=server, name="orders", kind="unit", parameters={"unit": "orders"}, places=places)
    yield World(Hub(), migration, source, served, process_lab)
    if "shop-db" in process_lab.backend.names():
        process_lab.delete("shop-db")


def prepare(world: World) -> None:
    """Platform checked, host key accepted after a look, facts taken."""
    hub, server = world.hub, world.migration.source
    checks.request_platform_check(world.migration.profile.platform, user=world.lead)
    checks.request_server_check(server, user=world.lead)
    hub.until(lambda: not Run.objects.filter(finished_at=None).exists())
    key = server.host_keys.get(key_type="ssh-ed25519")
    assert key.state == HostKey.State.OFFERED
    assert f"{key.key_type} {key.public}" in world.source.endpoint.host_keys
    checks.accept_host_key(key.pk, user=world.lead)
    hub.until(lambda: not Run.objects.filter(finished_at=None).exists())
    server.refresh_from_db()
    assert server.findings == [] and server.facts


def test_seven_steps(world: World, trap_commands: Any) -> None:
    prepare(world)
    migration, hub = world.migration, world.hub
    world.start(K.INITIAL)
    world.await_state(K.INITIAL, S.DONE)
    migration.refresh_from_db()
    assert SyncPoint.objects.get(kind="initial").consistency == "frozen"
    assert migration.target.port == 2222 and migration.target.facts
    world.start(K.DELTA)
    hub.until(lambda: SyncPoint.objects.filter(kind="delta").exists() and world.state(K.DELTA) == S.READY)

    uat.open_uat(migration.wave_id, migration.application_id, user=world.owner)
    hub.until(lambda: Approval.objects.filter(gate="sign_off").exists())
    for item in ChecklistItem.objects.filter(step__migration=migration, role="owner"):
        checklists.tick(item.pk, user=world.owner, state="done")
    hub.step()
    approval = Approval.objects.get(gate="sign_off")
    decisions.decide(approval.pk, user=world.owner, verdict="approve", comment="", digest=approval.digest)
    uat.end(migration.wave_id, migration.application_id, user=world.owner)
    world.await_state(K.UAT, S.DONE)
    hub.until(lambda: Approval.objects.filter(gate="go").exists())
    go = Approval.objects.get(gate="go")
    decisions.decide(go.pk, user=world.lead, verdict="approve", comment="", digest=go.digest)
    world.await_state(K.FINAL, S.DONE, 180)
    assert world.lab.backend.power(world.source.name) == "off"
    world.await_state(K.CUTOVER, S.DONE, 180)
    checklists.tick(ChecklistItem.objects.get(key="users").pk, user=world.lead, state="done")
    hub.until(lambda: not workflow.completion_unmet(lane(migration)))
    workflow.declare_complete(migration.pk, user=world.lead)
    world.await_state(K.VALIDATION, S.DONE)
    migration.refresh_from_db()
    assert migration.state == Migration.State.COMPLETE
    journal = world.served.directory / "journal.jsonl"
    acts = [entry["act"] for entry in effective(journal)]
    assert acts.count("create") == 1 and acts.count("resize") == 1 and repeated_keys(journal) == []


def lane(migration: Migration) -> Any:
    from projects.lanes import lane_of

    return lane_of(migration)
