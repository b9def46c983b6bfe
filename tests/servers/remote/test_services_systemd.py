"""Services under systemd, on a real Debian: stopped, kept stopped, proven, and brought back exactly."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from migrationhub.lib.findings import Level, Problem
from servers.remote.base import Connection
from servers.remote.services import ServiceRecord, difference, manager_for
from servers.remote.services.base import Unit
from servers.remote.ssh import SSHConnection, connect
from tests.fixtures_nspawn import NspawnHost
from tests.patience import wait_until
from tests.servers.remote.application import APPLICATION

BEGUN = ("activating", "active")  # of a job that runs, and of a service


@pytest.fixture(scope="module")
def host(nspawn_module_host: Callable[..., NspawnHost]) -> NspawnHost:
    return nspawn_module_host("services")


@pytest.fixture(scope="module")
def recorded(host: NspawnHost) -> tuple[Connection, ServiceRecord]:
    connection = connect(host.endpoint)
    connection.run("systemctl is-system-running --wait >/dev/null", timeout=180)
    connection.run(APPLICATION, check=True)
    return connection, listens(connection)


def listens(connection: Connection) -> ServiceRecord:
    """The record, once shop listens: that it runs does not say so yet."""
    deadline = time.monotonic() + 60
    while 7001 not in (record := manager_for(connection).record()).need("shop").ports:
        assert time.monotonic() < deadline, record.unit("shop")
        time.sleep(0.2)
    return record


def held(port: int) -> str:
    """A script that waits until something listens there."""
    return f"timeout 60 sh -c 'until ss -Hltn sport = :{port} | grep -q .; do sleep 0.1; done'"


@pytest.fixture
def connection(recorded: tuple[Connection, ServiceRecord]) -> Connection:
    return recorded[0]


@pytest.fixture
def record(recorded: tuple[Connection, ServiceRecord]) -> Iterator[ServiceRecord]:
    """The record before any test; after each test everything is brought back and proven to be so."""
    connection, record = recorded
    yield record
    manager = manager_for(connection)
    names = ["shop", "part", "stubborn", "leaver", "phoenix", "sleepy"]
    connection.run("systemctl stop helper.service; pkill -xf 'sleep 601'; systemctl restart leaver.service")
    assert manager.restore(record, names) == []
    assert alike(listens(connection), record)


def alike(now: ServiceRecord, before: ServiceRecord) -> bool:
    """Everything but process ids, and the work of the moment of units that come and go by themselves."""
    assert difference(before, now) == []
    assert now.fingerprint() == before.fingerprint()

    def seen(record: ServiceRecord) -> dict[str, tuple[object, ...]]:
        own = [unit for unit in record.units if "systemd" not in unit.name and "dpkg" not in unit.name]
        # A timer is “running” for as long as what it starts, else “waiting”.
        words = {unit.name: "" if unit.kind == "timer" else unit.state for unit in own}
        return {
            unit.name: (unit.active, words[unit.name], unit.start_mode, unit.ports, unit.activators) for unit in own
        }

    assert seen(now) == seen(before)
    return True


def state(connection: Connection, unit: str) -> str:
    return connection.run(["systemctl", "is-active", unit]).text.strip()


def test_record_tells_what_runs_and_survives_json(connection: Connection, record: ServiceRecord) -> None:
    shop, timer, part = record.need("shop"), record.need("shop.timer"), record.need("part.service")
    assert (shop.active, shop.state, shop.start_mode) == (True, "active/running", "enabled")
    assert shop.ports == (7001,) and shop.pid > 1 and shop.activators == ("shop.timer",)
    assert "part.service" in shop.parts
    assert (timer.kind, timer.active, part.active) == ("timer", True, True)
    sleepy = record.need("sleepy")
    assert (sleepy.active, sleepy.start_mode) == (False, "enabled")
    assert any(line.startswith("7001 ") for line in record.listeners)
    assert record.boot_id == connection.run("cat /proc/sys/kernel/random/boot_id").text.strip()
    assert any(line.startswith("/etc/crontab ") for line in record.cron)
    assert ServiceRecord.from_dict(json.loads(json.dumps(record.as_dict()))) == record
    with pytest.raises(Problem, match="no service nosuch"):
        record.need("nosuch")


def test_fingerprint_ignores_restarts_and_sees_start_modes_and_crontabs(
    connection: Connection, record: ServiceRecord
) -> None:
    manager = manager_for(connection)
    connection.run("systemctl restart shop.service part.service; systemctl stop stubborn.service --no-block")
    connection.run("systemctl kill -s KILL stubborn.service; systemctl start stubborn.service; sleep 1", check=True)
    connection.run("systemd-run --quiet --unit=passing /usr/local/bin/listen 40001", check=True)
    connection.run(held(40001), timeout=90, check=True)
    listens(connection)
    again = manager.record()
    connection.run("systemctl stop passing.service", check=True)
    assert again.need("passing").ports == (40001,)
    assert again.need("shop").pid != record.need("shop").pid
    assert (again.fingerprint(), difference(record, again)) == (record.fingerprint(), [])
    connection.run("systemctl -q disable part.service; echo '0 1 * * * root true' >/etc/cron.d/extra", check=True)
    changed = manager.record()
    connection.run("systemctl -q enable part.service; rm /etc/cron.d/extra", check=True)
    assert changed.fingerprint() != record.fingerprint()
    words = difference(record, changed)
    assert "part.service was enabled and is disabled" in words
    assert any("/etc/cron.d/extra" in line for line in words)


def test_a_timer_does_not_bring_it_back(connection: Connection, record: ServiceRecord) -> None:
    manager = manager_for(connection)
    connection.run("rm -f /var/tmp/shop-stopped; systemctl stop shop.service", check=True)
    # What the block is for.
    wait_until(lambda: {one.code for one in manager.prove(record, ["shop"])} == {"services.active", "services.port"})
    assert state(connection, "shop.service") == "active"
    connection.run("rm -f /var/tmp/shop-stopped")

    assert manager.stop(record, ["shop"], timeout=60) == []
    time.sleep(2.5)
    assert manager.prove(record, ["shop"]) == []
    assert state(connection, "shop.service") == state(connection, "shop.timer") == "inactive"
    assert state(connection, "part.service") == "inactive"  # went down with it, so it is kept down as well
    assert connection.run("systemctl start shop.service part.service").rc != 0
    # Its own stop command ran: a block before the stop would have lost it.
    assert connection.run("cat /var/tmp/shop-stopped").text == "orderly\n"
    # Nothing that a copy would take along.
    assert connection.run("find /etc/systemd -newer /var/tmp/shop-stopped").text == ""
    assert manager.stop(record, ["shop"], timeout=60) == []  # again

    manager.unblock(record, ["shop"])
    assert connection.run("systemctl start shop.service").rc == 0


def test_one_that_ignores_sigterm_is_told_and_not_blocked(connection: Connection, record: ServiceRecord) -> None:
    manager = manager_for(connection)
    began = time.monotonic()
    findings = manager.stop(record, ["stubborn", "phoenix"], timeout=2)
    assert time.monotonic() - began < 60
    assert [(one.code, one.subject, one.level) for one in findings] == [
        ("services.active", "stubborn.service", Level.BLOCKING)
    ]
    assert "2 s" in findings[0].text and findings[0].act
    assert state(connection, "phoenix.service") == "active"  # the order holds: nothing after it was touched
    assert [one.subject for one in manager.prove(record, ["stubborn"])] == ["stubborn.service"]
    connection.run("systemctl kill -s KILL stubborn.service", check=True)
    assert manager.stop_one(record, "stubborn", 60) == []
    assert manager.prove(record, ["stubborn"]) == []


def test_one_that_is_started_again_and_again(connection: Connection, record: ServiceRecord) -> None:
    manager = manager_for(connection)
    connection.run("systemctl stop phoenix.service; systemctl start helper.service", check=True)
    wait_until(lambda: [one.code for one in manager.prove(record, ["phoenix"])] == ["services.active"])
    findings, deadline = manager.stop_one(record, "phoenix", 5), time.monotonic() + 120
    while findings and time.monotonic() < deadline:
        findings = manager.stop_one(record, "phoenix", 5)
    assert findings == []
    # It may have been started between stop and block: then the proof says so, and one more stop is for good.
    if manager.prove(record, ["phoenix"]):
        assert manager.stop_one(record, "phoenix", 60) == []
    time.sleep(1)
    assert manager.prove(record, ["phoenix"]) == []


def test_a_process_that_outlives_the_stop_is_named(connection: Connection, record: ServiceRecord) -> None:
    manager = manager_for(connection)
    pid = connection.run("pgrep -xf 'sleep 601'").text.strip()
    assert manager.stop_one(record, "leaver", 60) == []
    findings = manager.prove(record, ["leaver"])
    assert [(one.code, one.subject) for one in findings] == [("services.process", "leaver.service")]
    assert pid in findings[0].text and pid in findings[0].act
    connection.run(["kill", pid], check=True)
    assert manager.prove(record, ["leaver"]) == []


def test_a_port_that_another_process_holds_is_told(connection: Connection, record: ServiceRecord) -> None:
    manager = manager_for(connection)
    assert manager.stop(record, ["shop"], timeout=60) == []
    connection.run("systemd-run --quiet --unit=squatter /usr/local/bin/listen 7001", check=True)
    connection.run(held(7001), timeout=90, check=True)
    findings = manager.prove(record, ["shop"])
    connection.run("systemctl stop squatter.service", check=True)
    assert [(one.code, one.subject) for one in findings] == [("services.port", "shop.service")]
    assert "7001" in findings[0].text


def test_what_serves_a_connection_is_no_change_and_ends_with_its_socket(connection: Connection) -> None:
    manager = manager_for(connection)
    connection.run("systemctl start agent.socket", check=True)
    record = manager.record()
    try:
        connection.run(
            "perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(\"127.0.0.1:7006\"); sleep 605'"
            " >/dev/null 2>&1 </dev/null &\ntimeout 60 sh -c 'until pgrep -xf \"/bin/sleep 602\"; do sleep 0.1; done'",
            check=True,
        )
        assert (difference(record, manager.record()), manager.record().fingerprint()) == ([], record.fingerprint())
        connection.run("systemctl stop agent.socket", check=True)
        left = manager.prove(record, ["agent.socket"])
        assert [one.code for one in left] == ["services.process"] and left[0].subject.startswith("agent@0-")
        assert manager.stop_one(record, "agent.socket", 60) == manager.prove(record, ["agent.socket"]) == []
        assert connection.run("pgrep -xf '/bin/sleep 602'").rc == 1
        assert manager.restore(record, ["agent.socket"]) == []
        assert state(connection, "agent.socket") == "active"
    finally:
        connection.run("systemctl stop agent.socket 'agent@*'; pkill -f 7006")


def test_a_port_that_somebody_forwards_is_no_change(connection: Connection) -> None:
    assert isinstance(connection, SSHConnection)
    record = manager_for(connection).record()
    connection._transport.request_port_forward("127.0.0.1", 6010)
    connection.run(held(6010), timeout=90, check=True)
    again = manager_for(connection).record()
    connection._transport.cancel_port_forward("127.0.0.1", 6010)
    assert (difference(record, again), again.fingerprint()) == ([], record.fingerprint())


@pytest.mark.parametrize("running", [True, False])
def test_what_comes_and_goes_by_itself_is_left_as_its_timer_has_it(connection: Connection, running: bool) -> None:
    """The timers' time is behind them: both begin at once when these are started again."""
    manager, names = manager_for(connection), ["job", "later"]
    connection.run("systemctl start job.timer later.timer", check=True)
    try:
        wait_until(lambda: (state(connection, "job.service"), state(connection, "later.service")) == BEGUN)
        if not running:
            connection.run("systemctl stop job.service later.service", check=True)
        record = manager.record()
        assert (record.need("job").active, record.need("later").active) == (running, running)
        assert manager.stop(record, names, timeout=60) == manager.prove(record, names) == []
        connection.run(": >/var/tmp/job", check=True)
        assert manager.restore(record, names) == []
        wait_until(lambda: (state(connection, "job.service"), state(connection, "later.service")) == BEGUN)
        assert manager.restore(record, names) == []  # a retry cuts nothing
        assert (state(connection, "job.service"), state(connection, "later.service")) == BEGUN
        assert connection.run("cat /var/tmp/job").text == "begun\n"
    finally:
        connection.run("systemctl stop job.timer later.timer job.service later.service; systemctl reset-failed")


def test_a_container_that_no_service_holds_is_told(connection: Connection) -> None:
    manager = manager_for(connection)
    scope = f"libpod-{'0123456789abcdef' * 4}.scope"
    run = f"systemd-run -q --scope --unit={scope} --slice=machine.slice sleep 606 >/dev/null 2>&1 </dev/null &"
    connection.run(f"{run}\ntimeout 60 sh -c 'until systemctl -q is-active {scope}; do sleep 0.1; done'", check=True)
    findings = manager.prove(manager.record(), ["sleepy"])
    connection.run(f"systemctl stop {scope}", check=True)
    assert [(one.code, one.subject) for one in findings] == [("services.container", "0123456789ab")]
    assert "sleep" in findings[0].text and "podman stop" in findings[0].act


def test_restore_tells_what_does_not_come_back(connection: Connection, record: ServiceRecord) -> None:
    manager = manager_for(connection)
    assert manager.stop(record, ["shop", "phoenix"], timeout=60) == []
    connection.run("mv /etc/systemd/system/phoenix.service /var/tmp/", check=True)
    findings = manager.restore(record, ["shop", "phoenix"])
    connection.run("mv /var/tmp/phoenix.service /etc/systemd/system/ && systemctl daemon-reload", check=True)
    assert findings and {one.subject for one in findings} == {"phoenix.service"}
    assert state(connection, "shop.service") == "active"


def test_what_carries_us_is_not_stopped(connection: Connection, record: ServiceRecord) -> None:
    manager = manager_for(connection)
    for name in ("ssh.service", "systemd-journald.service", "networking.service"):
        for act in (lambda name: manager.stop_one(record, name, 5), lambda name: manager.block(record, [name])):
            with pytest.raises(Problem, match="carries our access"):
                act(name)
    assert connection.run("ls /run/systemd/system.control 2>/dev/null").text == ""


def test_a_foreign_file_in_the_way_is_not_overwritten(connection: Connection, record: ServiceRecord) -> None:
    manager = manager_for(connection)
    place = "/run/systemd/system.control"
    connection.run(f"mkdir -p {place} && cp /etc/systemd/system/phoenix.service {place}/", check=True)
    try:
        with pytest.raises(Problem, match="is not ours"):
            manager.block(record, ["phoenix"])
        manager.unblock(record, ["phoenix"])
        assert connection.run(f"[ -s {place}/phoenix.service ]").rc == 0
    finally:
        connection.run(f"rm -rf {place} && systemctl daemon-reload", check=True)


def test_names_reach_no_shell(connection: Connection, record: ServiceRecord) -> None:
    manager = manager_for(connection)
    for wrong in ("$(touch /var/tmp/pwned).service", "a;touch /var/tmp/pwned.service", "../../etc/passwd.service"):
        crafted = replace(record, units=(Unit(wrong, "service", active=True, state="active/running"),))
        for act in (lambda: manager.block(crafted, [wrong]), lambda: manager.stop_one(crafted, wrong, 5)):  # noqa: B023
            with pytest.raises(Problem, match="not a name of a unit"):
                act()
    assert connection.run("ls /var/tmp/pwned*").rc != 0


def test_lasting_block_holds_over_a_restart_and_is_undone(
    host: NspawnHost, recorded: tuple[Connection, ServiceRecord]
) -> None:
    connection, record = recorded
    manager, names = manager_for(connection), ["shop", "phoenix"]
    connection.run("systemctl -q enable part.service")
    assert manager.stop(record, names, timeout=60) == []
    manager.block_persistently(record, names)
    boot = host.boot_id()
    connection.run("systemctl kill -s KILL stubborn.service; systemctl --no-block reboot")
    connection.close()
    host.wait_for_reboot(boot, 180)
    connection = connect(host.endpoint)
    manager = manager_for(connection)
    connection.run("systemctl is-system-running --wait >/dev/null", timeout=180)
    assert manager.prove(record, names) == []
    assert connection.run("systemctl start shop.service").rc != 0
    assert connection.run("ls /run/systemd/system.control 2>/dev/null").text == ""

    manager.unblock_persistently(record, names)
    assert connection.run("ls -d /etc/systemd/system.control 2>/dev/null").text == ""
    connection.run("systemctl start stubborn.service leaver.service; systemctl stop sleepy.service", check=True)
    assert manager.restore(record, names) == []
    assert alike(listens(connection), record)
    connection.close()
