"""A test with a snapshot before it and the way back after it: real process hosts, SSH, rsync, the VME stand-in."""

from __future__ import annotations

from typing import Any

import pytest

from migrationhub.lab.vme.store import effective, repeated_keys
from projects import uat
from projects.models import Hold, Step
from servers import checks
from servers.models import HostKey, Run, Server, SyncPoint
from servers.remote.ssh import connect
from tests.fixtures_lab import ProcessLab
from tests.lab.vme.test_real_hosts import Served
from tests.world import Hub, plan_migration, served, start

__all__ = ["served"]
K, S = Step.Kind, Step.State
pytestmark = [pytest.mark.lab, pytest.mark.full, pytest.mark.django_db(transaction=True)]


def test_what_a_tester_changed_is_gone_after_the_way_back_and_the_next_delta_is_full(
    process_lab: ProcessLab, process_host: Any, served: Served, settings: Any
) -> None:
    source = process_host("tried", "base")
    source.execute("mkdir -p srv/data; echo original >srv/data/orders; echo second >srv/data/second")
    new = f"{process_lab.lab.address('production', 206, 'process')}/24"
    migration = plan_migration(process_lab, source, served, profile={"paths": ["srv"]}, new_address=new)
    lead = migration.project.memberships.get(role="lead").user
    at = (migration.wave_id or 0, migration.application_id or 0)
    hub, server = Hub(), migration.source
    assert migration.profile is not None
    checks.request_platform_check(migration.profile.platform, user=lead)
    checks.request_server_check(server, user=lead)
    hub.until(idle)
    for key in server.host_keys.filter(state=HostKey.State.OFFERED):
        checks.accept_host_key(key.pk, user=lead)
    hub.until(idle)
    start(migration, K.INITIAL)
    hub.until(lambda: migration.steps.get(kind=K.INITIAL).state == S.DONE)

    uat.open_uat(*at, user=lead, accept_live=True, snapshot=True)
    hub.until(lambda: Run.objects.filter(operation="snapshot", state="succeeded").exists() and idle())
    assert not Run.objects.filter(operation="isolation").exists(), "a directory has no network of its own"
    target = Server.objects.get(migration_as_target=migration)
    on_clone(target, "echo tester >srv/data/orders; echo mine >srv/data/added; rm srv/data/second")
    uat.end(*at, user=lead, back=True)
    hub.until(lambda: Hold.objects.get().released_at is not None)
    target.refresh_from_db()
    assert (target.generation, target.reverts, target.power) == (2, 1, "on")
    assert on_clone(target, "cat srv/data/orders srv/data/second; ls srv/data") == "original\nsecond\norders\nsecond\n"

    start(migration, K.DELTA)
    hub.until(lambda: SyncPoint.objects.filter(kind="delta").exists())
    delta = SyncPoint.objects.get(kind="delta")
    assert (delta.generation, delta.discarded_count) == (2, 0)
    assert on_clone(target, "cat srv/data/orders srv/data/second") == "original\nsecond\n"
    journal = served.directory / "journal.jsonl"
    acts = [entry["act"] for entry in effective(journal)]
    assert acts.count("snapshot") == acts.count("revert") == 1 and repeated_keys(journal) == []
    process_lab.delete("tried")


def on_clone(target: Server, script: str) -> str:
    connection = connect(target.endpoint())
    try:
        return connection.run(["sh", "-c", f"cd {target.directory} && {script}"], check=True).out.decode()
    finally:
        connection.close()


def idle() -> bool:
    return not Run.objects.filter(finished_at=None).exists()
