"""The controller as a process: one at a time, fenced off when it wakes up late, patient with the database; and `up`."""

from __future__ import annotations

import io
import os
import re
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.conf import settings
from django.db import DatabaseError, DataError
from django.utils import timezone

from migrationhub.controller import Controller
from migrationhub.management.commands import up
from servers import checks, lease
from servers.models import Lease, Run
from tests import factories
from tests.hub_processes import HubProcesses, group_of, hub_processes, stop_group, until

on_sqlite = pytest.mark.skipif(
    "sqlite" not in settings.DATABASES["default"]["ENGINE"], reason="opens the hub's SQLite file"
)


@pytest.fixture
def hub(tmp_path, django_db_blocker) -> Iterator[HubProcesses]:
    with django_db_blocker.unblock(), hub_processes(tmp_path) as made:
        yield made


@pytest.mark.django_db
def test_the_lease_runs_for_ten_seconds_of_the_databases_clock() -> None:
    assert settings.CONTROLLER_LEASE == 10
    epoch = lease.hold("a", None)
    row = Lease.objects.get()
    assert row.until is not None and row.beat_at is not None
    assert abs((row.until - row.beat_at) - timedelta(seconds=10)) < timedelta(seconds=0.1)
    assert abs(row.beat_at - timezone.now()) < timedelta(seconds=5)
    for age, taken in ((9.5, False), (10.5, True)):
        Lease.objects.update(until=row.until - timedelta(seconds=age))
        assert (lease.hold("b", None) == (epoch or 0) + 1) is taken


@pytest.mark.django_db
def test_it_waits_for_a_database_that_does_not_answer(monkeypatch) -> None:
    controller = Controller()
    answers = iter([DatabaseError("database is locked"), DatabaseError("gone"), None])
    ticks = []

    def tick() -> None:
        ticks.append(time.monotonic())
        answer = next(answers)
        if answer is None:
            controller.stopping.set()
        else:
            raise answer

    monkeypatch.setattr(controller, "tick", tick)
    monkeypatch.setattr("migrationhub.controller.DATABASE_PAUSE", 0.01)
    controller.run()
    assert len(ticks) == 3


@pytest.mark.django_db(transaction=True)
def test_a_fault_of_its_own_does_not_end_it(monkeypatch, caplog) -> None:
    """One that ends is started again by `up`, but without control until its lease has run out."""
    controller = Controller()
    calls = []

    def advance(now: object) -> None:
        calls.append(now)
        if len(calls) == 2:
            controller.stopping.set()
        raise KeyError("a row that nobody thought of")

    monkeypatch.setattr("migrationhub.controller.workflow.advance", advance)
    monkeypatch.setattr("migrationhub.controller.DATABASE_PAUSE", 0.01)
    monkeypatch.setattr("migrationhub.controller.CLOCK_PASS", 0)
    controller.run()
    assert len(calls) == 2 and "a row that nobody thought of" in caplog.text


@pytest.mark.django_db
def test_rows_that_the_database_refuses_keep_no_run_waiting(monkeypatch, caplog) -> None:
    """The error is one migration's; what runs and what waits to run are everybody's."""
    controller = Controller()
    queued = factories.make_run("facts", state="queued", started_at=None, observed_at=None)

    def advance(now: object) -> None:
        raise DataError("value too long for type character varying(200)")

    monkeypatch.setattr("migrationhub.controller.workflow.advance", advance)
    looked: list[Run] = []
    monkeypatch.setattr(controller, "start_looking", lambda run, epoch: looked.append(run))
    controller.tick()
    assert looked == [queued] and "value too long" in caplog.text


@on_sqlite
@pytest.mark.lab
def test_a_controller_paused_past_its_lease_does_nothing_when_it_wakes(hub: HubProcesses) -> None:
    first = hub.manage("controller")
    until(lambda: Lease.objects.filter(epoch=1).exists(), 60, hub.words)
    stop_group(first.pid, hub.database)
    second = hub.manage("controller")
    until(lambda: Lease.objects.filter(epoch=2).exists(), 60, hub.words)
    stop_group(second.pid, hub.database)  # what happens from now on is the first one's doing
    until_over = Lease.objects.get().until
    Lease.objects.update(until=timezone.now() + timedelta(hours=1))
    run = factories.make_run("facts", state="queued", started_at=None, observed_at=None)
    os.kill(first.pid, signal.SIGCONT)
    time.sleep(2)  # ten passes
    run.refresh_from_db()
    assert (run.state, run.act) == ("queued", "") and Lease.objects.get().epoch == 2
    Lease.objects.update(until=until_over)
    os.kill(second.pid, signal.SIGCONT)
    until(lambda: Run.objects.get().state == "running", 60, hub.words)
    assert Lease.objects.get().epoch in (2, 3)
    for process in (first, second):
        process.terminate()
        assert process.wait(60) == 0
    assert Lease.objects.get().until <= timezone.now(), "given back: the next one need not wait"


@on_sqlite
@pytest.mark.lab
def test_it_goes_on_after_the_database_was_locked(hub: HubProcesses) -> None:
    """SQLite lets one writer in; a writer that takes its time makes the others wait, not fail."""
    controller = hub.manage("controller")
    until(lambda: Lease.objects.filter(epoch=1).exists(), 60, hub.words)
    import sqlite3

    blocker = sqlite3.connect(hub.database, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    time.sleep(3)
    blocker.execute("COMMIT")
    blocker.close()
    beat = Lease.objects.get().beat_at
    until(lambda: Lease.objects.get().beat_at > beat, 60, hub.words)
    assert controller.poll() is None and "locked" not in hub.words()


@on_sqlite
@pytest.mark.lab
def test_up_serves_restarts_and_stops_everything(hub: HubProcesses) -> None:
    hub.start_up()
    page = get(hub, "/accounts/login/")
    assert 'name="password"' in page
    sheet = re.search(r'href="(/static/[^"]+\.[0-9a-f]{12}\.css)"', page)
    assert sheet is not None, "the manifest's names are used"
    assert "{" in get(hub, sheet[1])
    for name in ("web", "qcluster", "controller"):
        before = hub.pid(name)
        os.kill(before, signal.SIGKILL)
        until(lambda name=name, before=before: hub.pid(name) != before, 60, hub.words)
        until(lambda before=before: not group_of(before), 60, f"nothing of the old {name} is left")
    until(hub.answers, 60, hub.words)
    until(lambda: Lease.objects.filter(until__gt=timezone.now()).exists(), 60, hub.words)
    groups = [hub.pid(name) for name in ("web", "qcluster", "controller")]
    assert all(group_of(group) for group in groups) and hub.up is not None
    hub.up.terminate()
    assert hub.up.wait(60) == 0 and "is killed" not in hub.words()
    assert [group_of(group) for group in groups] == [[], [], []]


@on_sqlite
@pytest.mark.lab
def test_a_web_worker_that_does_not_hear_the_stop_holds_nothing_up(hub: HubProcesses) -> None:
    hub.start_up()
    web = hub.pid("web")
    until(lambda: len(group_of(web)) == 3, 60, hub.words)
    os.kill(next(pid for pid in group_of(web) if pid != web), signal.SIGSTOP)
    assert hub.up is not None
    hub.up.terminate()
    assert hub.up.wait(60) == 0 and "is killed" not in hub.words(), "gunicorn ends it before `up` ends gunicorn"
    assert group_of(web) == []


@on_sqlite
@pytest.mark.lab
def test_nothing_outlives_an_up_that_was_killed(hub: HubProcesses) -> None:
    hub.start_up()
    groups = [hub.pid(name) for name in ("web", "qcluster", "controller")]
    assert hub.up is not None
    hub.up.kill()
    hub.up.wait(60)
    until(lambda: not any(map(group_of, groups)), 60, lambda: f"left {[*map(group_of, groups)]}: {hub.words()}")


def get(hub: HubProcesses, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{hub.port}{path}", timeout=60) as answer:
        return str(answer.read().decode())


@on_sqlite
@pytest.mark.lab
def test_workers_that_are_stuck_are_started_anew(hub: HubProcesses) -> None:
    """Killed while they wait for work, they take the queue's lock with them."""
    hub.start_up()
    before = hub.pid("qcluster")
    until(lambda: len(workers_of(hub)) == 2, 60, hub.words)
    for pid in workers_of(hub):
        os.kill(pid, signal.SIGKILL)
    until(lambda: "after death" in hub.words(), 60, hub.words)
    for _ in range(5):
        checks.request_server_check(factories.make_server(address="127.0.0.1", port=1), user=factories.make_user())
    until(lambda: not Run.objects.filter(finished_at=None).exists(), 60, hub.words)
    assert hub.pid("qcluster") != before and "the workers are started anew" in hub.words()


def test_workers_that_take_long_to_start_are_given_ever_longer(monkeypatch, settings) -> None:
    """A machine that is very busy would see them killed at each start, for ever."""
    settings.TASK_PATIENCE = 5
    command = up.Command(stderr=io.StringIO())
    workers = up.Child("qcluster", ["true"])
    killed: list[int] = []
    monkeypatch.setattr(workers, "signal", killed.append)
    monkeypatch.setattr("migrationhub.management.commands.up.connection.close", lambda: None)

    def look(age: float, *, stalled: bool) -> int:
        monkeypatch.setattr(workers, "age", lambda: age)
        monkeypatch.setattr("servers.tasks.stalled", lambda: stalled)
        command.look_at = 0.0
        command.free_stuck(workers)
        return len(killed)

    assert [look(age, stalled=True) for age in (4, 6, 6, 9, 11, 19, 21)] == [0, 1, 1, 1, 2, 2, 3]
    assert [look(99, stalled=False), look(6, stalled=True)] == [3, 4], "they worked: as at the beginning"


def workers_of(hub: HubProcesses) -> list[int]:
    return [int(pid) for pid in re.findall(r"ready for work at (\d+)", hub.words())]


@on_sqlite
@pytest.mark.lab
def test_many_writers_at_once_wait_for_each_other(hub: HubProcesses) -> None:
    """Pages, workers and controller write to one SQLite file at the same time."""
    from django.db import connection

    from servers import runs

    hub.start_up()
    errors: list[Exception] = []

    def write(number: int) -> None:
        try:
            for turn in range(20):
                run = runs.request(f"w{number}.{turn}", "facts", title="Look", parameters={"server": 0})
                runs.note(run.pk, "written")
                runs.cancel(run.pk)
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        get(hub, "/accounts/login/")
    for thread in threads:
        thread.join(60)
    until(lambda: not Run.objects.filter(finished_at=None).exists(), 60, hub.words)
    assert errors == [] and "locked" not in hub.words()
