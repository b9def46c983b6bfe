"""What a record says of processes, ports and units, and what of it a sign-off is bound to."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from servers.remote.base import Endpoint, Result
from servers.remote.services import ServiceRecord, difference, look, manager_for
from servers.remote.services.base import Unit

RECORD = ServiceRecord(
    "2026-01-02T03:04:05+00:00",
    "boot",
    (Unit("postfix@-.service", "service", active=True, state="active/running", start_mode="enabled-runtime"),),
    listeners=("25 master", "40001 helper"),
)
ID = "0123456789abcdef" * 4


def test_a_server_that_forks_for_a_connection_is_not_another_one() -> None:
    busy = replace(RECORD, listeners=("25 master, smtpd", "40002 helper"))
    assert (difference(RECORD, busy), busy.fingerprint()) == ([], RECORD.fingerprint())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"listeners": ("25 master", "587 master")}, ["587 master: listens now"]),
        ({"listeners": ()}, ["25 master: listens no more"]),
        ({"units": ()}, ["postfix@-.service is gone"]),
        (
            {"units": (*RECORD.units, Unit("new.service", "service", active=False, state="", start_mode="disabled"))},
            ["new.service is new (disabled)"],
        ),
        ({"cron": ("/etc/crontab 1234",)}, ["/etc/crontab 1234: crontab new or changed"]),
    ],
)
def test_what_is_new_or_gone_changes_the_fingerprint(changes: dict[str, tuple[str, ...]], words: list[str]) -> None:
    changed = replace(RECORD, **changes)
    assert difference(RECORD, changed) == words
    assert changed.fingerprint() != RECORD.fingerprint()


def test_a_record_that_was_stored_before_is_read() -> None:
    stored = json.loads(json.dumps(RECORD.as_dict()))
    for unit in stored["units"]:
        del unit["ends"], unit["accepts"]
    assert ServiceRecord.from_dict(stored) == RECORD


@pytest.mark.parametrize(
    ("group", "unit", "container"),
    [
        ("/system.slice/nginx.service", "nginx.service", ""),
        ("/system.slice/system-postgresql.slice/postgresql@15-main.service/worker", "postgresql@15-main.service", ""),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/nginx.service", "user@1000.service", ""),
        ("/lxc.payload.web/system.slice/nginx.service", "", "web"),
        (f"/machine.slice/libpod-{ID}.scope/container", f"libpod-{ID}.scope", ID[:12]),
        (f"/user.slice/user-1.slice/user@1.service/user.slice/libpod-{ID}.scope", "user@1.service", ID[:12]),
        (f"/docker/{ID}/system.slice/nginx.service", "", ID[:12]),
        (f"/system.slice/web.service/libpod-{ID}", "web.service", ""),  # as its service is
    ],
)
def test_a_process_belongs_to_the_machines_own_unit(group: str, unit: str, container: str) -> None:
    [process] = look.processes([f"12 345 1 {group} nginx"])
    assert (process.unit, process.container) == (unit, container)


def test_a_machine_that_is_a_container_has_units_of_its_own() -> None:
    lines = ["1 0 0 /lxc/web/init.scope systemd", "12 345 1 /lxc/web/system.slice/nginx.service nginx"]
    assert [process.unit for process in look.processes(lines)] == ["init.scope", "nginx.service"]
    assert [process.container for process in look.processes(lines)] == ["", ""]


class Host:
    """A machine that answers each script with the same text."""

    endpoint = Endpoint("db", "192.0.2.1")

    def __init__(self, text: str) -> None:
        self.text = text

    def run(self, *_: object, **__: object) -> Result:
        return Result(0, self.text.encode(), b"")


def listening(*lines: str) -> tuple[str, ...]:
    """The recorded ports of a machine with these lines of `ss`: process 20 is a user's, 30 the sshd, 31 a log-in's."""
    groups = ("20 1 1 /user.slice/u.slice/session-3.scope node", "30 1 1 /system.slice/ssh.service sshd")
    processes = [*groups, "31 1 30 /system.slice/ssh.service sshd"]
    host = Host("\n".join(["@@ processes", *processes, "@@ listeners", *lines]))
    return manager_for(host).record().listeners


@pytest.mark.parametrize(
    ("address", "process", "kept"),
    [
        ("127.0.0.1:6010", '"sshd",pid=31', False),  # what SSH forwards
        ("[::1]:8080", '"node",pid=20', False),
        ("0.0.0.0:8080", '"node",pid=20', True),  # started by hand, but for others
        ("127.0.0.1:8080", '"sshd",pid=30', True),
        ("127.0.0.1:5432", '"postgres",pid=40', True),
    ],
)
def test_only_what_a_log_in_has_on_loopback_is_no_port_of_the_machine(address: str, process: str, kept: bool) -> None:
    assert bool(listening(f"tcp LISTEN 0 128 {address} 0.0.0.0:* users:(({process},fd=7))")) is kept
