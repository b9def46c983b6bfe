"""Real processes die in the middle of a real copy: it ends well, nothing happens twice, nothing stays stuck."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from django.conf import settings

from migrationhub.lab.vme.store import effective, repeated_keys
from projects.models import Migration, Step
from servers import checks
from servers.models import HostKey, Lease, Run, RunEvent, SyncPoint
from servers.movers.rsync.layout import safe
from tests.fixtures_lab import ProcessHost, ProcessLab
from tests.hub_processes import HubProcesses, group_of, hub_processes, until
from tests.kills.journey import first_in_line
from tests.lab.vme.test_real_hosts import Served
from tests.world import plan_migration, serve, start, wait_for

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif("sqlite" not in settings.DATABASES["default"]["ENGINE"], reason="opens the hub's SQLite file"),
]
MIB = 2**20
SLOW = 1024  # KiB/s


@pytest.fixture(scope="module")
def served(process_lab: ProcessLab) -> Iterator[Served]:
    yield from serve(process_lab)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, django_db_blocker) -> Iterator[HubProcesses]:
    with django_db_blocker.unblock(), hub_processes(tmp_path_factory.mktemp("hub")) as made:
        made.start_up()
        yield made


class Copying:
    """A migration on its way, one `bandwidth` (KiB/s, 0: unlimited) for its first sync."""

    def __init__(
        self,
        hub: HubProcesses,
        lab: ProcessLab,
        served: Served,
        source: ProcessHost,
        *,
        bandwidth: int = 0,
        size: int = MIB,
    ) -> None:
        self.hub, self.lab, self.served, self.source, self.size = hub, lab, served, source, size
        source.write("srv/data/large", os.urandom(size))
        for number in range(50):
            source.write(f"srv/data/small-{number}", f"{number}\n" * 100)
        profile = {"paths": ["srv"], "bandwidth": bandwidth}
        self.migration = plan_migration(lab, source, served, profile=profile)

    def prepare(self) -> None:
        server, lead = self.migration.source, self.migration.project.memberships.get(role="lead").user
        checks.request_platform_check(self.migration.profile.platform, user=lead)
        checks.request_server_check(server, user=lead)
        wait_for(lambda: not Run.objects.filter(finished_at=None).exists(), 300)
        checks.accept_host_key(server.host_keys.get(key_type="ssh-ed25519").pk, user=lead)
        wait_for(lambda: not Run.objects.filter(finished_at=None).exists(), 300)
        assert server.host_keys.get(key_type="ssh-ed25519").state == HostKey.State.ACCEPTED

    @property
    def runs(self) -> Iterator[Run]:
        return Run.objects.filter(work_key__startswith=f"m{self.migration.pk}.").order_by("pk")

    def sync(self) -> Run | None:
        return self.runs.filter(operation="sync").first()

    def mid_copy(self) -> bool:
        """The row says so, and the copying program is at it."""
        run = self.sync()
        moving = run is not None and run.phase == "copying" and 0 < run.bytes_done < self.size
        return moving and run.state == "running" and bool(self.rsyncs())

    def rsyncs(self) -> list[int]:
        return [one.pid for one in self.lab.backend._inside(self.source.name) if "rsync" in command_of(one.pid)]

    def in_hand(self, operation: str, act: str) -> int:
        """The process of the worker that is in the middle of this act; 0 if none is."""
        run = self.runs.filter(operation=operation, act=act).exclude(act_started_at=None).first()
        return int(run.act_worker.split(":")[1]) if run else 0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nothing of the copy moves meanwhile: it lasts, however long a busy machine takes to start its programs."""
        pids = [pid for pid in self.rsyncs() if command_of(pid).startswith("rsync ")]
        assert pids, f"the copy is over: {self.words()}"
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def words(self) -> str:
        columns = ("operation", "state", "phase", "act", "acts", "act_worker", "reason")
        return f"{list(self.runs.values_list(*columns))}\n{self.hub.words()}"

    def done(self) -> bool:
        return self.migration.steps.get(kind=Step.Kind.INITIAL).state == Step.State.DONE


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def kill_worker(copying: Copying, operation: str, act: str) -> None:
    """SIGKILL the process that is in the middle of this act, and still is once it was stopped."""
    killed: list[int] = []

    def kill() -> bool:
        pid = copying.in_hand(operation, act)
        if pid not in group_of(copying.hub.pid("qcluster")):
            return False
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            if copying.in_hand(operation, act) != pid:
                os.kill(pid, signal.SIGCONT)
                return False
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
        return bool(killed)

    with first_in_line():
        until(kill, 300, lambda: f"a worker is at “{act}”: {copying.words()}")
    mark = f":{killed[0]}:"
    until(lambda: not copying.runs.filter(act_worker__contains=mark).exists(), 300, "the act is taken back")


@pytest.fixture
def migrate(
    hub: HubProcesses, process_lab: ProcessLab, process_host, served: Served
) -> Iterator[Callable[..., Copying]]:
    """Starts the initial migration of a new source."""
    sources = []

    def begin(name: str, **options: int) -> Copying:
        sources.append(name)
        copying = Copying(hub, process_lab, served, process_host(name, "base"), **options)
        copying.prepare()
        start(copying.migration, Step.Kind.INITIAL)
        return copying

    yield begin
    for name in set(process_lab.backend.names()) - set(sources):
        process_lab.delete(name)


def test_workers_die_in_the_middle_of_acts(migrate: Callable[..., Copying]) -> None:
    copying = migrate("src-acts")
    kill_worker(copying, "facts", "facts")
    kill_worker(copying, "sync", "start")
    wait_for(copying.done, 300)
    nothing_twice(copying)
    nothing_stuck(copying)
    cut = RunEvent.objects.filter(run__in=copying.runs, text__contains="The worker ended in the middle")
    assert cut.count() == 2


@pytest.mark.full
def test_a_worker_dies_while_it_asks_for_the_instance(migrate: Callable[..., Copying]) -> None:
    """Whether the platform heard it is not known: for two minutes it is only looked for."""
    copying = migrate("src-create")
    kill_worker(copying, "provision", "create")
    wait_for(copying.done, 600)
    nothing_twice(copying)
    nothing_stuck(copying)


def test_processes_die_in_the_middle_of_one_copy(migrate: Callable[..., Copying], hub: HubProcesses) -> None:
    """The controller, then all workers, then both at once."""
    copying = migrate("src-copy", bandwidth=SLOW, size=20 * MIB)
    until(copying.mid_copy, 300, copying.words)
    epoch, controller = Lease.objects.get().epoch, hub.pid("controller")
    assert hub.kill_group("controller") == 1
    assert copying.mid_copy()
    with copying.held():
        until(lambda: Lease.objects.get().epoch == epoch + 1, 300, "another controller takes over")

    workers = hub.pid("qcluster")
    assert hub.kill_group("qcluster") >= 4
    assert copying.mid_copy()
    with copying.held():
        until(lambda: hub.pid("qcluster") != workers and hub.pid("controller") != controller, 300, "both are back")

    hub.kill_group("controller")
    hub.kill_group("qcluster")
    assert copying.mid_copy()
    wait_for(copying.done, 300)
    nothing_twice(copying)
    nothing_stuck(copying)


def nothing_twice(copying: Copying) -> None:
    journal = copying.served.directory / "journal.jsonl"
    placement = Migration.objects.get(pk=copying.migration.pk).target.placement
    creates = [entry for entry in effective(journal) if entry["act"] == "create"]
    assert [entry["work_key"].startswith(f"m{copying.migration.pk}.") for entry in creates].count(True) == 1
    assert [str(entry["instance"]) for entry in creates].count(placement.external_id) == 1
    assert repeated_keys(journal) == []
    assert SyncPoint.objects.filter(source=copying.migration.source).count() == 1
    run = copying.sync()
    assert copying.runs.filter(operation="sync").count() == 1 and run is not None
    jobs = sorted(path.name for path in (copying.source.root / "run/migrationhub").iterdir())
    assert jobs == [safe(run.key)], "one copy, in the directory of its run"
    assert run.bytes_done < copying.size + MIB, "what was sent was sent once"


def nothing_stuck(copying: Copying) -> None:
    assert not Run.objects.filter(finished_at=None).exists()
    assert not Run.objects.exclude(act_enqueued_at=None).exists(), "no act is in anybody's hand"
    assert not copying.rsyncs()
    assert copying.migration.steps.filter(state=Step.State.RUNNING).count() == 0
    assert Migration.objects.get(pk=copying.migration.pk).target is not None
    errors = re.findall(r".*(?:database is locked|Traceback).*", copying.hub.words())
    assert errors == [], copying.hub.words()
