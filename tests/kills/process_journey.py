"""A migration of a process host on a hub of real processes: two services, a slow line, a probe that takes its time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from projects.models import StepAttempt
from servers import checks
from servers.models import Run
from servers.remote.base import RemoteProblem
from servers.remote.ssh import connect
from tests.fixtures_lab import ProcessHost, ProcessLab
from tests.hub_processes import HubProcesses, hub_processes
from tests.kills.journey import Journey, S
from tests.lab.vme.test_real_hosts import Served
from tests.world import plan_migration, serve

MIB = 2**20
# A service that takes two seconds to stop, and one that stops at once.
SERVICES = """\
[program:slow]
command=/bin/sh -c 'trap "sleep 2; exit 0" TERM; while :; do sleep 0.1; done'
startsecs=0
[program:second]
command=/bin/sh -c 'exec sleep 1000000'
startsecs=0
"""
SERVICE_NAMES = ["slow", "second"]
SLOW_PROBE = "2.3"


class ProcessJourney(Journey):
    """What can be seen of it: the copy on its way, services on both hosts, what a cancel left."""

    def __init__(self, hub: HubProcesses, lab: ProcessLab, served: Served, host: ProcessHost) -> None:
        host.write("etc/supervisor.d/two.ini", SERVICES)
        host.supervisorctl("update")
        self.host, self.lab = host, lab
        new = lab.lab.address("production", 201, "process")
        migration = plan_migration(
            lab,
            host,
            served,
            profile={"paths": ["srv", "etc/supervisor.d"], "bandwidth": 4096},
            services=SERVICE_NAMES,
            new_address=f"{new}/24",
        )
        migration.source.probes.create(
            name="slow",
            kind="command",
            parameters={"command": f"sleep {SLOW_PROBE}; echo answered", "output": "answered"},
            places=["source", "target"],
        )
        super().__init__(hub, migration, lab.backend, served.directory)

    def copying(self) -> bool:
        run = self.run_of("sync")
        moving = run is not None and run.phase == "copying" and 0 < run.bytes_done < (run.bytes_total or 0)
        return moving and bool(self.rsyncs())

    def rsyncs(self) -> list[int]:
        found = []
        for one in self.lab.backend._inside(self.source):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended just now
                if b"rsync" in Path(f"/proc/{one.pid}/cmdline").read_bytes():
                    found.append(one.pid)
        return found

    def write(self, name: str, mib: int) -> None:
        self.host.write(f"srv/{name}", os.urandom(mib * MIB))

    def services(self) -> str:
        """What supervisord on the source says of them."""
        return self.says(self.source, 'supervisorctl -c "$HOST_DIR/etc/supervisord.conf" status')

    def running(self, host: str) -> set[str]:
        """Services that supervisord on a host calls running."""
        said = self.says(host, 'supervisorctl -c "$HOST_DIR/etc/supervisord.conf" status')
        return {line.split()[0] for line in said.splitlines() if "RUNNING" in line}

    def cancelled(self, kind: str, seconds: float = 240) -> StepAttempt:
        """The button was pressed: wait for the confirmation; nothing of the attempt is at work any more."""
        self.wait_for_step(kind, S.CANCELLED, seconds)
        attempt: StepAttempt = self.step(kind).attempts.latest("number")
        assert attempt.state == StepAttempt.State.CANCELLED
        assert {action.state for action in attempt.actions.all()} <= {"done", "cancelled", "not_applicable"}
        keys = attempt.actions.values_list("work_key", flat=True)
        assert not Run.objects.filter(work_key__in=keys, finished_at=None).exists()
        return attempt

    def refused(self, kind: str) -> str:
        """What the page answers to a cancel that comes too late; nothing is done."""
        words = " ".join(self.press("step-cancel", self.step(kind).pk, seen_attempt=self.seen_attempt(kind)))
        assert "Nothing was done" in words and self.state(kind) == S.RUNNING, words
        return words

    def nothing_of_the_copy_is_left(self) -> None:
        assert self.rsyncs() == []
        assert [*(self.host.root / "run/migrationhub").glob("*/key")] == [], "the private key is gone"
        root = self.lab.backend.root(self.clone)
        assert "restrict,command=" not in (root / ".ssh/authorized_keys").read_text(), "nobody may send any more"
        self.migration.refresh_from_db()
        assert "incomplete, so its services stay stopped" in self.run_of("sync").reason
        self.wait(self.target_lets_us_in, 120, "the target lets us in")
        assert not self.running(self.clone) & {*SERVICE_NAMES}, "nothing is started on half a copy"

    def target_lets_us_in(self) -> bool:
        assert self.migration.target is not None
        with contextlib.suppress(RemoteProblem):
            connect(self.migration.target.endpoint()).close()
            return True
        return False

    def services_run_on_the_clone(self) -> bool:
        return self.running(self.clone) >= {*SERVICE_NAMES}


@pytest.fixture(scope="module")
def served(process_lab: ProcessLab) -> Iterator[Served]:
    yield from serve(process_lab)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, django_db_blocker: Any) -> Iterator[HubProcesses]:
    with django_db_blocker.unblock(), hub_processes(tmp_path_factory.mktemp("hub")) as made:
        made.start_up()
        yield made


@pytest.fixture
def begin(
    hub: HubProcesses, process_lab: ProcessLab, served: Served, process_host: Callable[..., ProcessHost]
) -> Iterator[Callable[[str], ProcessJourney]]:
    """Makes the journey of a new source: both sides are checked, its host key is accepted."""
    before = {*process_lab.backend.names()}
    sources = []

    def make(name: str) -> ProcessJourney:
        sources.append(name)
        made = ProcessJourney(hub, process_lab, served, process_host(name, "base"))
        assert made.migration.profile is not None
        checks.request_platform_check(made.migration.profile.platform, user=made.lead)
        checks.request_server_check(made.migration.source, user=made.lead)
        made.wait(lambda: not Run.objects.filter(finished_at=None).exists(), 120, "both are checked")
        checks.accept_host_key(made.migration.source.host_keys.get(key_type="ssh-ed25519").pk, user=made.lead)
        made.wait(lambda: not Run.objects.filter(finished_at=None).exists(), 120, "the key is accepted")
        return made

    yield make
    for name in {*process_lab.backend.names()} - before - {*sources}:
        process_lab.delete(name)
