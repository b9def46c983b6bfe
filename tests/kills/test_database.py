"""A database that is away in the middle of work: controller, workers and pages wait for it, and then go on."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import OperationalError, connection

from servers import away, runs, tasks
from servers.models import Run
from tests.engine import Engine
from tests.fixtures_lab import ProcessLab
from tests.hub_processes import HubProcesses, hub_processes, until
from tests.kills.counted import Counted
from tests.test_on_postgres import BIN, ROOT, cluster

__all__ = ["cluster"]
ON_POSTGRES = "sqlite" not in settings.DATABASES["default"]["ENGINE"]
DOWN = 3  # seconds


@pytest.mark.django_db(transaction=True)
def test_what_an_act_did_is_stored_once_the_database_is_back(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the act would be done again, or seem to be in the hand of a worker that is at something else."""
    run, store, faults = _claimable(engine), runs.after_act, [OperationalError("gone"), OperationalError("starting")]

    def after_act(*arguments: Any, **named: Any) -> bool:
        if faults:
            raise faults.pop()
        return store(*arguments, **named)

    monkeypatch.setattr(runs, "after_act", after_act)
    monkeypatch.setattr(away, "PAUSE", 0.01)
    tasks.carry_out(run.pk, engine.epoch)
    run.refresh_from_db()
    assert (run.state, run.acts, engine.done_work) == ("succeeded", 1, [run.key])


@pytest.mark.django_db(transaction=True)
def test_an_act_that_is_cut_off_by_the_database_is_no_failure(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to press anything: the next act asks the machines what this one did."""

    def cut(job: Any) -> Any:
        raise OperationalError("server closed the connection unexpectedly")

    engine.script["facts"] = [cut]
    run = _claimable(engine)
    tasks.carry_out(run.pk, engine.epoch)
    run.refresh_from_db()
    assert (run.state, run.act_enqueued_at, run.act_worker) == ("running", None, "")
    assert runs.INTERRUPTED in run.memo


def test_it_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(away, "PATIENCE", 0.05)
    monkeypatch.setattr(away, "PAUSE", 0.02)
    calls = []

    def write() -> None:
        calls.append(1)
        raise OperationalError("gone")

    monkeypatch.setattr("servers.away.connection", _Idle())
    with pytest.raises(OperationalError):
        away.written(write)
    assert len(calls) > 1


class _Idle:
    in_atomic_block = False

    def close(self) -> None:
        """Nothing is open."""


def _claimable(engine: Engine) -> Run:
    run = runs.request("db.1", "facts", title="Look", parameters={})
    runs.promote(engine.epoch)
    run.refresh_from_db()
    assert runs.begin_act(run, engine.epoch, "look")
    return run


@pytest.fixture
def counted(
    tmp_path_factory: pytest.TempPathFactory, django_db_blocker: Any, process_lab: ProcessLab, process_host: Any
) -> Iterator[Counted]:
    with django_db_blocker.unblock(), hub_processes(tmp_path_factory.mktemp("hub")) as hub:
        hub.start_up()
        until(lambda: hub.words().count("ready for work") >= 2, 300, hub.words)
        yield Counted(hub, process_lab, process_host("keeper", "base"))


def pids(hub: HubProcesses) -> list[int]:
    return [hub.pid(name) for name in ("web", "qcluster", "controller")]


@pytest.mark.lab
@pytest.mark.skipif(ON_POSTGRES, reason="locks the hub's SQLite file")
def test_a_writer_that_takes_its_time(counted: Counted) -> None:
    """It holds SQLite's lock over the end of an act and many passes of the controller."""
    before = pids(counted.hub)
    run = counted.ask("while locked")
    counted.taken(run)
    blocker = sqlite3.connect(counted.hub.database, timeout=60, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    counted.go_on()
    time.sleep(DOWN)
    blocker.execute("COMMIT")
    blocker.close()
    assert (counted.finished(run).acts, counted.lines()) == (1, 1)
    assert counted.finished(counted.ask("afterwards")).acts == 1
    assert pids(counted.hub) == before and "locked" not in counted.hub.words()


@pytest.mark.lab
@pytest.mark.skipif(not ON_POSTGRES, reason="run by test_postgresql_restarts on a cluster of its own")
@pytest.mark.django_db(transaction=True)
def test_on_a_cluster_that_restarts(counted: Counted) -> None:
    """Once in the middle of an act, for longer than the act takes, and once while nothing is done."""
    data = Path(connection.settings_dict["HOST"]) / "data"
    before = pids(counted.hub)
    run = counted.ask("while it is down")
    counted.taken(run)
    restart(data, DOWN, counted.go_on)
    assert (counted.finished(run).acts, counted.lines()) == (1, 1)
    restart(data, 0)
    assert counted.finished(counted.ask("afterwards")).acts == 1 and counted.lines() == 2
    assert pids(counted.hub) == before and counted.hub.answers()
    assert not Run.objects.exclude(act_enqueued_at=None).exists()


def restart(data: Path, seconds: float, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Stop the cluster as Debian's upgrades do, with every connection cut; down for so long after what is done then."""

    def control(*words: str) -> None:
        user = "postgres" if os.geteuid() == 0 else None
        argv = [str(BIN / "pg_ctl"), "-D", str(data), "-w", *words]
        extra: list[int] | None = [] if user else None
        subprocess.run(argv, user=user, group=user, extra_groups=extra, check=True, capture_output=True)

    connection.close()
    control("-m", "fast", "stop")
    meanwhile()
    time.sleep(seconds)
    options = f"-k {data.parent} -c listen_addresses= -c fsync=off"
    control("-l", str(data.parent / "log"), "-o", options, "start")


ON_BOTH = (
    test_what_an_act_did_is_stored_once_the_database_is_back,
    test_an_act_that_is_cut_off_by_the_database_is_no_failure,
    test_on_a_cluster_that_restarts,
)


@pytest.mark.postgres
def test_postgresql_restarts(cluster: str) -> None:
    environment = {**os.environ, "DATABASE_URL": cluster}
    for name in ("MIGRATIONHUB_VAR", "MIGRATIONHUB_TEST_VAR"):
        environment.pop(name, None)
    inside = [f"{__file__}::{test.__name__}" for test in ON_BOTH]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *inside],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
