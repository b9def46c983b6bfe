"""What runs on the source between the final sync and the lasting block is seen by the block, also once it has ended."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from projects.models import Migration
from servers.models import Run, Server
from servers.remote import power
from servers.remote.ssh import connect
from tests import factories
from tests.faults.conftest import Hosts, enter
from tests.faults.matrix import Line
from tests.fixtures_lab import ProcessHost
from tests.patience import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.django_db, pytest.mark.usefixtures("trap_commands")]


@pytest.fixture
def hosts(line: Line, process_host: Callable[..., ProcessHost]) -> Hosts:
    """A source with a service that starts by itself, stopped; nothing is copied here, so the target is only a name."""
    source = process_host("blocked")
    found = Hosts(source, source, {"source": enter(source.endpoint), "target": Server()}, line)
    found.service("phoenix", "sleep 600", "autorestart=true\n")
    found.done("stop_services")
    return found


@pytest.fixture
def migration(hosts: Hosts) -> Migration:
    return factories.make_migration(source=hosts.rows["source"], target=True)


def synced(hosts: Hosts, migration: Migration) -> None:
    hosts.done("prove_stopped")
    factories.make_sync(migration, kind="final")


def block(hosts: Hosts) -> Run:
    return hosts.line.take(f"{hosts.key}.block", "block_services", hosts.choices("block_services")).run


def lasting(hosts: Hosts) -> Path:
    return hosts.source.root / "etc/supervisor.d/zz-migrationhub-blocked.ini"


def stop_by_hand(hosts: Hosts) -> None:
    hosts.source.supervisorctl("stop", "phoenix")
    hosts.source.supervisorctl("remove", "phoenix")


def test_a_service_that_runs_is_named_and_not_blocked_under_way(hosts: Hosts, migration: Migration) -> None:
    synced(hosts, migration)
    hosts.source.supervisorctl("add", "phoenix")
    run = block(hosts)
    assert (run.state, run.code) == (Run.State.FAILED, "services.active")
    assert run.reason.endswith("phoenix is RUNNING. Find out what started it, stop it, then retry.")
    assert not lasting(hosts).exists(), "it can still be stopped in order"
    stop_by_hand(hosts)
    run = block(hosts)
    assert (run.state, lasting(hosts).exists()) == (Run.State.SUCCEEDED, True), run.reason


def test_a_restart_is_named_although_its_services_have_ended_since(hosts: Hosts, migration: Migration) -> None:
    synced(hosts, migration)
    boot = hosts.source.root / "run/boot_id"  # away for a moment while the host restarts
    before = boot.read_text()
    with closing(connect(hosts.source.endpoint)) as connection:
        power.reboot(connection)
    wait_until(lambda: boot.exists() and boot.read_text() not in ("", before))
    hosts.source.start()
    assert "RUNNING" in hosts.source.supervisorctl("status", "phoenix"), "a restart lifts the block of the stop"
    hosts.source.supervisorctl("stop", "phoenix")

    run = block(hosts)
    assert (run.state, run.code) == (Run.State.FAILED, "services.restarted"), run.reason
    assert "was restarted since its services were proven stopped for the final sync" in run.reason
    assert not lasting(hosts).exists()
    assert block(hosts).state == Run.State.FAILED, "a retry of the block alone brings nothing over"
    assert "STOPPED" in hosts.source.supervisorctl("status", "phoenix"), "anybody may start it"
    synced(hosts, migration)
    assert "no such process" in hosts.source.supervisorctl("start", "phoenix"), "the proof has blocked it again"
    assert block(hosts).state == Run.State.SUCCEEDED
