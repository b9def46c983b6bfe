"""A clone that is deleted in VME in the middle of a copy: given up, made anew, moved, taken back; on process hosts."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from migrationhub.lab.vme.store import effective
from projects import abort, giving_up, workflow
from projects.models import Migration, Step
from servers import checks
from servers.models import HostKey, Placement, Run, Server, SyncPoint
from tests.fixtures_lab import ProcessLab
from tests.lab.vme.standin import run as until_done
from tests.lab.vme.test_real_hosts import Served
from tests.world import Hub, plan_migration, served, start

__all__ = ["served"]
K, S = Step.Kind, Step.State
pytestmark = [pytest.mark.lab, pytest.mark.full, pytest.mark.django_db(transaction=True)]


def test_a_clone_that_was_deleted_in_mid_copy_is_given_up_and_made_anew(
    process_lab: ProcessLab, process_host: Any, served: Served, settings: Any
) -> None:
    source = process_host("gone", "base")
    source.execute("mkdir -p srv/data; for n in 1 2 3 4; do head -c 1M /dev/urandom >srv/data/$n; done")
    new = f"{process_lab.lab.address('production', 205, 'process')}/24"
    profile = {"paths": ["srv"], "bandwidth": 300}
    migration = plan_migration(process_lab, source, served, profile=profile, new_address=new)
    lead = migration.project.memberships.get(role="lead").user
    hub, server = Hub(), migration.source
    assert migration.profile is not None
    checks.request_platform_check(migration.profile.platform, user=lead)
    checks.request_server_check(server, user=lead)
    hub.until(idle)
    for key in server.host_keys.filter(state=HostKey.State.OFFERED):
        checks.accept_host_key(key.pk, user=lead)
    hub.until(idle)

    start(migration, K.INITIAL)
    copying = Run.objects.filter(operation="sync", phase="copying", bytes_done__gt=0)
    hub.until(copying.exists)
    old = Placement.objects.get(server__migration_as_target=migration).external_id
    platform = served.platform()
    _, deleted = until_done(lambda memo: platform.advance_delete("by-hand", old, memo), timeout=60)
    assert deleted.state == "succeeded", deleted.reason
    run = Run.objects.get(operation="sync")
    hub.until(lambda: Run.objects.get(pk=run.pk).contact_lost_since or not Run.objects.get(pk=run.pk).is_open)
    run.refresh_from_db()
    if run.is_open:  # else the copy itself has told that its target is gone
        Run.objects.filter(pk=run.pk).update(contact_lost_since=timezone.now() - giving_up.PATIENCE)
        run.refresh_from_db()
        giving_up.give_up(run, migration.project, user=lead, why="Deleted in VME by mistake")
    step_until(hub, lambda: not Run.objects.get(pk=run.pk).is_open)
    run.refresh_from_db()
    assert run.state == Run.State.LOST, run.reason
    assert "Deleted in VME by mistake" in run.reason and "knows no instance" in run.reason
    assert f"Nothing of this sync runs on {server.name} any more" in run.reason
    assert not copying_processes(source.root)
    assert source.execute("ls run/migrationhub/*/key").rc != 0, "its key opens nothing any more"

    hub.step()
    step = migration.steps.get(kind=K.INITIAL)
    assert step.state == S.ATTENTION
    workflow.cancel_step(step.pk, user=lead, seen_attempt=1)
    hub.until(lambda: migration.steps.get(kind=K.INITIAL).state == S.CANCELLED)
    type(migration.profile).objects.filter(pk=migration.profile.pk).update(bandwidth=0)
    start(migration, K.INITIAL)
    hub.until(lambda: migration.steps.get(kind=K.INITIAL).state == S.DONE, 180)
    target = Server.objects.get(migration_as_target=migration)
    assert target.placement.external_id != old and target.findings == [] and target.generation > 1
    assert target.host_keys.filter(state=HostKey.State.ACCEPTED, port=None).count() == 1
    assert SyncPoint.objects.get().generation == target.generation
    acts = [entry["act"] for entry in effective(served.directory / "journal.jsonl")]
    assert acts.count("create") == 2
    move_stop_and_take_back(hub, migration, target.address, new.split("/")[0])
    for name in {"gone"} & {*process_lab.backend.names()}:
        process_lab.delete(name)


def move_stop_and_take_back(hub: Hub, migration: Migration, old: str, new: str) -> None:
    """As if the steps in between were over: the move is stopped when the target is off, taken back, made again."""
    migration.steps.filter(kind__in=[K.DELTA, K.UAT, K.STOP, K.FINAL]).update(state=S.DONE)
    lead = migration.project.memberships.get(role="lead").user
    cutover, target = migration.steps.get(kind=K.CUTOVER), Server.objects.get(migration_as_target=migration)
    hub.until(lambda: Run.objects.filter(operation="network", memo__stage="up").exists())
    workflow.cancel_step(cutover.pk, user=lead, seen_attempt=1)
    hub.until(lambda: migration.steps.get(kind=K.CUTOVER).state == S.CANCELLED)
    target.refresh_from_db()
    assert (target.power, target.address) == (Server.Power.OFF, old)
    abort.take_back(migration.pk, user=lead, why="not tonight")
    hub.until(lambda: migration.steps.get(kind=K.CUTOVER).state == S.UNDONE)
    target.refresh_from_db()
    assert (target.power, target.address) == (Server.Power.ON, old)
    start(migration, K.CUTOVER)
    hub.until(lambda: migration.steps.get(kind=K.CUTOVER).state == S.DONE)
    target.refresh_from_db()
    assert (target.power, target.address) == (Server.Power.ON, new)


def copying_processes(root: Path) -> list[str]:
    found = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if b"source.sh\0" in (words := command.read_bytes()) and os.fsencode(root) in words:
                found.append(words.decode())
    return found


def idle() -> bool:
    return not Run.objects.filter(finished_at=None).exists()


def step_until(hub: Hub, ready: Any, passes: int = 600) -> None:
    """A step that needs attention is what is waited for here."""
    for _ in range(passes):
        if ready():
            return
        hub.step()
    pytest.fail(str(list(Run.objects.values_list("operation", "state", "reason"))))
