"""Snapshot of a clone and the way back: what is asked of the platform, what holds afterwards, what is said."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from projects import digest
from projects.lanes import lane_of
from projects.models import Migration
from servers.models import Placement, Run, Server
from servers.operations.base import Job
from servers.operations.snapshots import REACH_PATIENCE, Revert, Snapshot
from servers.progress import Progress, State
from servers.remote.base import Endpoint, Result, Unreachable
from tests import factories

pytestmark = pytest.mark.django_db


class Machine:
    """A platform with one instance that is off after a revert."""

    def __init__(self) -> None:
        self.power, self.sshd, self.broken = "on", True, ""
        self.acts: list[str] = []
        self.names: list[str] = []

    def observe_snapshot(self, key: str, external_id: str, name: str, memo: Any) -> Progress:
        if name in self.names:
            return Progress(state=State.SUCCEEDED, result={"snapshot_id": "31"})
        return Progress(next_act="snapshot")

    def advance_snapshot(self, key: str, external_id: str, name: str, memo: Any) -> tuple[Any, Progress]:
        if name not in self.names:
            self.acts.append("snapshot")
            self.names.append(name)
            return {"asked_at": 1.0}, Progress()
        return memo, self.observe_snapshot(key, external_id, name, memo)

    def observe_revert(self, key: str, external_id: str, snapshot_id: str, memo: Any) -> Progress:
        if self.broken:
            return Progress(state=State.FAILED, reason=self.broken, code="revert.failed")
        return Progress(state=State.SUCCEEDED) if memo else Progress(next_act="revert")

    def advance_revert(self, key: str, external_id: str, snapshot_id: str, memo: Any) -> tuple[Any, Progress]:
        if memo or self.broken:
            return memo, self.observe_revert(key, external_id, snapshot_id, memo)
        self.acts.append(f"revert to {snapshot_id}")
        self.power = "off"
        return {"asked_at": 1.0}, Progress()

    def observe_power(self, key: str, external_id: str, power: str, memo: Any) -> Progress:
        return Progress(state=State.SUCCEEDED) if self.power == power else Progress(next_act="power")

    def advance_power(self, key: str, external_id: str, power: str, memo: Any) -> tuple[Any, Progress]:
        if self.power != power:
            self.acts.append(power)
            self.power = power
            return {"asked_at": 1.0}, Progress()
        return memo, self.observe_power(key, external_id, power, memo)

    def connect(self, endpoint: Endpoint) -> Any:
        if self.power != "on" or not self.sshd:
            raise Unreachable(f"{endpoint.address} does not answer.", code="ssh.unreachable", lasting=False)
        self.endpoint = endpoint
        return self

    def run(self, command: Any, **_: Any) -> Result:
        return Result(0, b"boot-2", b"")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr("servers.operations.snapshots.client_of", lambda server: made)
    return made


@pytest.fixture
def migration() -> Migration:
    made = factories.make_migration(target=True)
    Placement.objects.filter(server=made.target).update(external_id="7")
    return made


def go(machine: Machine, operation: Any, migration: Migration, **parameters: Any) -> tuple[Run, Progress]:
    """Look and act until it ends, as the hub does; then what it found is written."""
    run = factories.make_run(operation.name, parameters={"target": migration.target_id, **parameters})
    job = Job(run, machine.connect)
    for _ in range(20):
        progress = operation.observe(job)
        assert progress.state == State.RUNNING
        if progress.next_act:
            job.memo, progress = operation.advance(job)
        if progress.ended:
            run.memo = job.memo
            operation.finish(run, progress)
            return run, progress
        if "since" in job.memo and not machine.sshd:
            job.memo["since"] = timezone.now().timestamp() - REACH_PATIENCE - 1
    pytest.fail("it does not end")


def test_a_snapshot_is_taken_once_and_named_by_its_try(machine: Machine, migration: Migration) -> None:
    run, progress = go(machine, Snapshot(), migration)
    assert machine.acts == ["snapshot"] and machine.names == [f"migrationhub-{run.key}"]
    assert progress.result["snapshot_id"] == "31" and machine.names[0] in progress.reason


def test_the_way_back_switches_it_on_and_makes_the_next_sync_a_full_one(machine: Machine, migration: Migration) -> None:
    before = digest.now([lane_of(migration)])
    _, progress = go(machine, Revert(), migration, snapshot_id="31")
    assert machine.acts == ["revert to 31", "on"]
    assert progress.state == State.SUCCEEDED and "compares every file" in progress.reason
    target = Server.objects.get(pk=migration.target_id)
    assert (target.generation, target.power) == (2, "on")
    assert digest.now([lane_of(migration)]) == before, "what was signed is there again"


def test_a_way_back_that_failed_leaves_nothing_known(machine: Machine, migration: Migration) -> None:
    machine.broken = "VME could not revert vm. Look at the instance in VME, then retry."
    _, progress = go(machine, Revert(), migration, snapshot_id="31")
    assert (progress.state, progress.reason) == (State.FAILED, machine.broken)
    assert Server.objects.get(pk=migration.target_id).generation == 2


def test_a_reverted_clone_that_does_not_answer_is_said(machine: Machine, migration: Migration) -> None:
    machine.sshd = False
    _, progress = go(machine, Revert(), migration, snapshot_id="31")
    assert progress.code == "revert.unreached"
    assert "Look at its console, then try again." in progress.reason
