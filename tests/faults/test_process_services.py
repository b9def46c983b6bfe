"""Faults of services under supervisord, by the table: each is named with its next act, and retried to success."""

from __future__ import annotations

import pytest

from tests.faults.conftest import Hosts
from tests.faults.matrix import Fault, Line, is_named_and_retried, nothing, table
from tests.patience import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.django_db, pytest.mark.usefixtures("trap_commands")]


def stubborn(hosts: Hosts) -> None:
    hosts.service(
        "stubborn", "sh -c 'echo $$ >run/stubborn; trap \"\" TERM; while :; do sleep 0.2; done'", "stopwaitsecs=600\n"
    )


def kill_it(hosts: Hosts) -> None:
    hosts.source.execute("kill -9 $(cat run/stubborn); sleep 0.5")


def phoenix(hosts: Hosts) -> None:
    hosts.service("phoenix", "sleep 600", "autorestart=true\n")
    hosts.done("stop_services")


def add_again(hosts: Hosts) -> None:
    """A monitoring agent knows better."""
    hosts.source.supervisorctl("add", "phoenix")


def stop_it(hosts: Hosts) -> None:
    hosts.source.supervisorctl("stop", "phoenix")
    hosts.source.supervisorctl("remove", "phoenix")


SERVICE_FAULTS = [
    Fault(
        "a unit that will not stop",
        "stop_services",
        nothing,
        kill_it,
        "{source}: stubborn did not stop within 5 s: it is STOPPING.",
        "Wait and retry (supervisord kills it after its stopwaitsecs), or end it on the host.",
        before=stubborn,
    ),
    Fault(
        "a unit that comes back",
        "prove_stopped",
        add_again,
        stop_it,
        "{source}: phoenix is RUNNING.",
        "Find out what started it, stop it, then retry.",
        before=phoenix,
    ),
    Fault(
        "a unit that comes back before the block",
        "block_services",
        add_again,
        stop_it,
        "{source}: phoenix is RUNNING.",
        "Find out what started it, stop it, then retry.",
        before=phoenix,
    ),
]


@table(SERVICE_FAULTS)
def test_a_service_is_named_and_its_stop_retried(
    fault: Fault, hosts: Hosts, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault.before is stubborn:
        monkeypatch.setattr("servers.operations.services.STOP_SECONDS", 5.0)
    try:
        is_named_and_retried(fault, hosts, line)
    finally:
        if fault.operation == "block_services":
            hosts.done("unblock_services")
        hosts.no_service(hosts.services[0])


@pytest.mark.full
def test_what_supervisord_restarts_by_itself_stays_down(hosts: Hosts, line: Line) -> None:
    """Killed, it is back at once; stopped by us it is not."""
    hosts.service("restless", "sleep 600", "autorestart=true\n")
    try:
        first = hosts.source.supervisorctl("pid", "restless").strip()
        hosts.source.execute(f"kill -9 {first}")
        wait_until(lambda: hosts.source.supervisorctl("pid", "restless").strip() not in ("0", first))
        hosts.done("stop_services")
        hosts.source.execute("sleep 2")
        hosts.done("prove_stopped")
    finally:
        hosts.no_service("restless")
