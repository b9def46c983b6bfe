"""Services under supervisord, on a real process host: stopped, kept stopped, proven, and brought back exactly."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from migrationhub.lib.findings import Problem
from servers.remote import power
from servers.remote.base import Connection, Result
from servers.remote.services import ServiceRecord, difference, manager_for, supervisord
from servers.remote.services import fingerprint as machine_fingerprint
from servers.remote.ssh import connect
from tests.fixtures_lab import ProcessHost, ProcessLab, watch_traps

LISTEN = """\
import os, socket, time
server = socket.create_server((os.environ["HOST_ADDRESS"], 7001), reuse_port=True)
time.sleep(3600)
"""
# web listens and restarts always; manual runs though nobody starts it by itself; stubborn hears no SIGTERM; leaver
# leaves a child behind; one and two are a group.
PROGRAMS = {
    "web": "command=/usr/bin/python3 %(ENV_HOST_DIR)s/opt/listen.py\nautorestart=true",
    "manual": "command=/bin/sleep 3601\nautostart=false",
    "off": "command=/bin/sleep 3602\nautostart=false",
    "stubborn": "command=/bin/sh -c 'trap \"\" TERM; while :; do sleep 0.2; done'\nstopwaitsecs=600",
    "leaver": "command=/bin/sh -c 'sleep 3603 & exec sleep 3604'\nstopasgroup=false\nkillasgroup=false",
    "one": "command=/bin/sleep 3605",
    "two": "command=/bin/sleep 3606",
}
NAMES = ["web", "manual", "off", "stubborn", "leaver", "pair:one", "pair:two"]


def put_programs(host: ProcessHost) -> None:
    host.write("opt/listen.py", LISTEN)
    for name, text in PROGRAMS.items():
        host.write(f"etc/supervisor.d/{name}.ini", f"[program:{name}]\n{text}\nstartsecs=0\n")
    host.write("etc/supervisor.d/pair.ini", "[group:pair]\nprograms=one,two\n")


def child(record: ServiceRecord, name: str) -> int:
    """The id of the program's process that is not its main one."""
    unit = record.need(name)
    return next(pid for pid, _ in unit.processes if pid != unit.pid)


@pytest.fixture(scope="module")
def host(process_lab: ProcessLab, process_module_host: Callable[..., ProcessHost]) -> Iterator[ProcessHost]:
    with watch_traps(process_lab):
        host = process_module_host("services", start=False)
        put_programs(host)
        host.start()
        host.supervisorctl("start", "manual")
        yield host


@pytest.fixture(scope="module")
def connection(host: ProcessHost) -> Iterator[Connection]:
    connection = connect(host.endpoint)
    yield connection
    connection.close()


@pytest.fixture(scope="module")
def first(connection: Connection) -> ServiceRecord:
    return at_work(connection)


def at_work(connection: Connection) -> ServiceRecord:
    """The record, once web listens and leaver has its child: that they run does not say so yet."""
    manager, deadline = manager_for(connection), time.monotonic() + 60
    while True:
        record = manager.record()
        if 7001 in record.need("web").ports and len(record.need("leaver").processes) == 2:
            return record
        assert time.monotonic() < deadline, record
        time.sleep(0.1)


@pytest.fixture
def record(connection: Connection, first: ServiceRecord) -> Iterator[ServiceRecord]:
    """As it is before the test; after it everything is brought back and proven to be so."""
    manager = manager_for(connection)
    before = manager.record()
    yield before
    assert manager.restore(before, NAMES) == []
    now = at_work(connection)
    assert (difference(first, now), now.fingerprint()) == ([], first.fingerprint())
    assert seen(now) == seen(first)


def seen(record: ServiceRecord) -> list[tuple[object, ...]]:
    return [(unit.name, unit.active, unit.state, unit.start_mode, unit.file) for unit in record.units]


def test_record_tells_what_runs_and_survives_json(host: ProcessHost, first: ServiceRecord) -> None:
    assert {unit.name: (unit.active, unit.start_mode) for unit in first.units} == {
        "web": (True, "autostart"),
        "manual": (True, "manual"),
        "off": (False, "manual"),
        "stubborn": (True, "autostart"),
        "leaver": (True, "autostart"),
        "pair:one": (True, "autostart"),
        "pair:two": (True, "autostart"),
    }
    assert first.need("web").ports == (7001,)
    assert first.listeners == ("7001 python3",)  # its own alone, of all that the machine has
    assert first.need("web").file == f"{host.root}/etc/supervisor.d/web.ini"
    assert first.boot_id == (host.root / "run/boot_id").read_text().strip()
    assert ServiceRecord.from_dict(json.loads(json.dumps(first.as_dict()))) == first


def test_stopped_held_back_and_proven(host: ProcessHost, connection: Connection, record: ServiceRecord) -> None:
    manager, names = manager_for(connection), ["web", "manual", "off"]
    assert {(one.code, one.subject) for one in manager.prove(record, names)} == {
        *(("services.active", name) for name in ("web", "manual")),
        *(("services.process", name) for name in ("web", "manual")),
        ("services.port", "web"),
    }
    before = machine_fingerprint.machine(connection)
    assert manager.stop(record, names, timeout=60) == []
    assert manager.prove(record, names) == []
    assert "ERROR" in host.supervisorctl("start", "web")
    assert manager.stop(record, names, timeout=60) == []  # again
    assert manager.prove(record, names) == []
    assert machine_fingerprint.machine(connection) == before  # nothing that a copy would take along
    manager.unblock(record, names)
    assert "STOPPED" in host.supervisorctl("status", "web")  # known again, and not started by that
    assert machine_fingerprint.machine(connection) == before


def test_a_warning_of_its_python_is_no_answer_that_is_missing(
    connection: Connection, first: ServiceRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    warning = b"options.py:13: UserWarning: pkg_resources is deprecated as an API.\n  import pkg_resources\n"
    run = connection.run

    def warned(command: str, **options: Any) -> Result:
        said = run(command, **options)
        if "status 2>&1" not in command:
            return said
        start, mark, rest = said.out.rpartition(b"@@ status\n")
        return replace(said, out=start + mark + warning + rest)

    monkeypatch.setattr(connection, "run", warned)
    assert seen(manager_for(connection).record()) == seen(first)


def test_the_notes_of_a_snapshot_are_no_change_of_the_machine(host: ProcessHost, connection: Connection) -> None:
    before = machine_fingerprint.machine(connection)
    for path in ("archive/vg0_00007-1.vg", "backup/vg0"):
        host.write(f"etc/lvm/{path}", "written by LVM itself")
    assert machine_fingerprint.machine(connection) == before
    changed = host.write("etc/lvm/lvm.conf", "by a person")
    assert machine_fingerprint.machine(connection)["etc"] != before["etc"]
    changed.unlink()


def test_one_that_ignores_sigterm_is_told(connection: Connection, record: ServiceRecord) -> None:
    manager = manager_for(connection)
    findings = manager.stop(record, ["stubborn", "web"], timeout=1)
    assert [(one.code, one.subject) for one in findings] == [("services.active", "stubborn")]
    assert findings[0].act
    assert manager.prove(record, ["web"]) != []  # the order holds: nothing after it was touched
    os.kill(record.need("stubborn").pid, signal.SIGKILL)
    assert manager.stop_one(record, "stubborn", 60) == []
    assert manager.prove(record, ["stubborn"]) == []


def test_a_host_that_is_slow_to_ask_has_asked(
    connection: Connection, record: ServiceRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit shorter than supervisorctl needs to begin is no reason to leave the program unasked."""
    ctl = supervisord._ctl

    def slowly(verb: str, name: str = "") -> str:
        return f"sh -c 'sleep 3; exec {ctl(verb, name)}'" if verb == "stop" else ctl(verb, name)

    monkeypatch.setattr(supervisord, "_ctl", slowly)
    findings = manager_for(connection).stop_one(record, "stubborn", 1)
    assert "did not stop within 1 s: it is STOPPING" in findings[0].text
    os.kill(record.need("stubborn").pid, signal.SIGKILL)
    assert manager_for(connection).stop_one(record, "stubborn", 60) == []


def test_one_that_is_still_stopping_is_not_restored_before_it_has_ended(
    connection: Connection, record: ServiceRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager, pid = manager_for(connection), record.need("stubborn").pid
    assert manager.stop_one(record, "stubborn", 1) != []
    with monkeypatch.context() as patch:
        patch.setattr(supervisord, "_PATIENCE", 1)
        findings = manager.restore(record, ["stubborn"])
        assert [(one.code, one.subject) for one in findings] == [("services.not_restored", "stubborn")]
        assert "still stopping" in findings[0].text
    ending = threading.Timer(1, os.kill, (pid, signal.SIGKILL))
    ending.start()
    assert manager.restore(record, ["stubborn"]) == []
    ending.join()
    assert manager.record().need("stubborn").state == "RUNNING"


def test_a_child_that_outlives_the_stop_is_named(connection: Connection, record: ServiceRecord) -> None:
    manager = manager_for(connection)
    assert manager.stop_one(record, "leaver", 60) == []
    left = child(record, "leaver")
    try:
        findings = manager.prove(record, ["leaver"])
        assert [(one.code, one.subject) for one in findings] == [("services.process", "leaver")]
        assert str(left) in findings[0].text
    finally:
        os.kill(left, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while manager.prove(record, ["leaver"]):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_port_that_another_process_holds_is_told(
    host: ProcessHost, connection: Connection, record: ServiceRecord
) -> None:
    manager = manager_for(connection)
    assert manager.stop(record, ["web"], timeout=60) == []
    pid = int(host.execute("/usr/bin/python3 opt/listen.py >/dev/null 2>&1 & echo $!").out)
    try:
        deadline = time.monotonic() + 60
        while not (findings := manager.prove(record, ["web"])):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert [one.code for one in findings] == ["services.port"]
    finally:
        os.kill(pid, signal.SIGKILL)


def test_programs_of_a_group_are_held_back_together(connection: Connection, record: ServiceRecord) -> None:
    """supervisord forgets a group as a whole: with one of it alone stopped, that is a problem in words."""
    manager = manager_for(connection)
    assert manager.stop_one(record, "pair:one", 60) == []
    with pytest.raises(Problem, match="cannot be held back"):
        manager.block(record, ["pair:one"])
    assert manager.stop_one(record, "pair:two", 60) == []
    manager.block(record, ["pair:one", "pair:two"])
    assert manager.prove(record, ["pair:one", "pair:two"]) == []
    assert not {"pair:one", "pair:two"} & {unit.name for unit in manager.record().units}


def test_unknown_name_is_a_problem(connection: Connection, record: ServiceRecord) -> None:
    with pytest.raises(Problem, match="no service nosuch"):
        manager_for(connection).stop_one(record, "nosuch", 1)


def test_restore_tells_what_does_not_come_back(
    host: ProcessHost, connection: Connection, record: ServiceRecord
) -> None:
    manager = manager_for(connection)
    assert manager.stop(record, ["web", "manual"], timeout=60) == []
    (host.root / "etc/supervisor.d/web.ini").rename(host.root / "tmp/web.ini")
    findings = manager.restore(record, ["web", "manual"])
    (host.root / "tmp/web.ini").rename(host.root / "etc/supervisor.d/web.ini")
    assert findings and {one.subject for one in findings} == {"web"}


def test_lasting_block_holds_over_a_restart_and_is_undone(
    process_host: Callable[..., ProcessHost], trap_commands: Callable[[], list[str]]
) -> None:
    host = process_host("lasting", start=False)
    put_programs(host)
    (host.root / "etc/supervisor.d/stubborn.ini").unlink()  # it would hold up the power off
    host.start()
    connection = connect(host.endpoint)
    manager, names = manager_for(connection), ["web", "off"]
    record = manager.record()
    etc = machine_fingerprint.machine(connection)
    assert manager.stop(record, names, timeout=60) == []
    manager.block_persistently(record, names)
    manager.block_persistently(record, names)

    for restart in (power.reboot, lambda _: host.supervisorctl("shutdown")):
        pid = (host.root / "run/supervisord.pid").read_text()
        restart(connection)
        deadline = time.monotonic() + 60
        while True:  # the keeper starts supervisord anew
            with suppress(OSError):
                if (host.root / "run/supervisord.pid").read_text() != pid and "two" in host.supervisorctl("status"):
                    break
            assert time.monotonic() < deadline
            time.sleep(0.1)
        connection.close()
        host.start()
        connection = connect(host.endpoint)
        manager = manager_for(connection)
        assert manager.prove(record, names) == []
        assert manager.record().need("pair:one").active  # what was not named is started as ever

    manager.unblock_persistently(record, names)
    assert manager.restore(record, names) == []
    assert machine_fingerprint.machine(connection) == etc
    assert seen(manager.record()) == seen(record)
    connection.close()
    assert trap_commands() == []


def test_a_supervisord_that_does_not_answer_is_a_problem(process_host: Callable[..., ProcessHost]) -> None:
    host = process_host("silent")
    connection = connect(host.endpoint)
    (host.root / "etc/supervisord.conf").rename(host.root / "etc/gone.conf")
    with pytest.raises(Problem, match="does not answer"):
        manager_for(connection).record()
    connection.close()
