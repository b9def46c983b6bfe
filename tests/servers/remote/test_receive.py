"""Receive mode on a real Debian: only base runs, nothing comes back, our access stays, a restart ends it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from migrationhub.lib.findings import Level, Problem
from servers.remote import access, power, receive
from servers.remote.base import Connection, Endpoint, RemoteProblem, Result
from servers.remote.ssh import connect
from tests.fixtures_lab import ProcessHost
from tests.fixtures_nspawn import NspawnHost
from tests.patience import wait_until

PRIVATE, PUBLIC = access.new_key_pair("test")

# What an application may do to come back: a timer every second, a restart always, a socket, a log-in's background.
APPLICATION = """
unit() { cat >/etc/systemd/system/$1; }
unit beat.service <<'E'
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'date >>/var/tmp/beats'
E
unit beat.timer <<'E'
[Timer]
OnActiveSec=1
OnUnitInactiveSec=1
AccuracySec=100ms
[Install]
WantedBy=timers.target
E
unit stubborn.service <<'E'
[Service]
ExecStart=/bin/sh -c 'trap "" TERM; while :; do sleep 1; done'
Restart=always
RestartSec=100ms
TimeoutStopSec=600
[Install]
WantedBy=multi-user.target
E
unit door.socket <<'E'
[Socket]
ListenStream=7007
Accept=no
[Install]
WantedBy=sockets.target
E
unit door.service <<'E'
[Service]
ExecStart=/bin/sleep infinity
E
unit spared.service <<'E'
[Unit]
IgnoreOnIsolate=yes
[Service]
ExecStart=/bin/sleep infinity
ExecStop=/bin/touch /var/tmp/stopped-in-order
[Install]
WantedBy=multi-user.target
E
systemctl daemon-reload
systemctl -q enable --now beat.timer stubborn.service door.socket spared.service
"""


class Shown:
    """A connection whose machine shows what is given."""

    def __init__(self, text: str) -> None:
        self.endpoint = Endpoint("clone", "10.0.0.1")
        self.text = text

    def run(self, command: object, **options: object) -> Result:
        return Result(0, self.text.encode(), b"")


def test_whatever_is_not_base_is_named() -> None:
    shown = Shown(
        "@@ target\nactive\n@@ units\n"
        "systemd-journald.service loaded active running Journal\n"
        "shop.service loaded activating auto-restart The shop\n"
        "shop.timer loaded active waiting Timer\n"
        "-.mount loaded active mounted Root\n"
        "@@ processes\n"
        "30 5 1 /system.slice/migrationhub-access.service sshd\n"
        "31 5 1 /system.slice/shop.service shop\n"
        "32 5 1 /user.slice/user-0.slice/session-1.scope sleep\n"
    )
    findings = receive.prove(shown)  # type: ignore[arg-type]
    assert [(one.code, one.subject) for one in findings] == [
        ("receive.unit_active", "shop.service"),
        ("receive.unit_active", "shop.timer"),
        ("receive.process_left", "shop.service"),
        ("receive.process_left", "session-1.scope"),
    ]
    assert all(one.level is Level.BLOCKING and one.act for one in findings)


def test_a_machine_that_was_restarted_is_not_in_receive_mode() -> None:
    findings = receive.prove(Shown("@@ target\ninactive\n@@ units\n@@ processes\n"))  # type: ignore[arg-type]
    assert [one.code for one in findings] == ["receive.not_entered"]


@pytest.mark.usefixtures("trap_commands")
def test_a_process_host_has_no_receive_mode(process_host: Callable[..., ProcessHost]) -> None:
    connection = connect(process_host("receive").endpoint)
    with pytest.raises(Problem, match="supervisord"):
        receive.enter(connection)
    connection.close()


def opened(endpoint: Endpoint, seconds: float = 180) -> Connection:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return connect(endpoint, connect_timeout=3)
        except RemoteProblem:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def active(connection: Connection) -> set[str]:
    """Services, sockets and timers that stay: not those that ran once or belong to a log-in."""
    listing = "systemctl list-units --no-legend --plain --state=active --type=service,socket,timer | cut -d' ' -f1"
    passing = ("user", "session", "beat.service", "door.service", "systemd-tmpfiles-clean")
    return {name for name in connection.run(listing, check=True).text.split() if not name.startswith(passing)}


def test_only_base_runs_until_the_restart(nspawn_host: Callable[..., NspawnHost]) -> None:
    host = nspawn_host("receive", network="migration", user_data=access.user_data(PUBLIC))
    deadline = time.monotonic() + 180
    while "host-key" not in (shown := host.execute(access.read_back_script()).out):
        assert time.monotonic() < deadline, shown
        time.sleep(0.3)
    ours = access.endpoint("clone", host.endpoint.address, private_key=PRIVATE, host_keys=access.parse_read_back(shown))
    theirs, connection = opened(host.endpoint), opened(ours)
    connection.run(APPLICATION, check=True)
    theirs.run("setsid sleep 600 >/dev/null 2>&1 </dev/null &")
    connection.run("systemctl is-system-running --wait >/dev/null", timeout=180)
    wait_until(lambda: connection.run("[ -s /var/tmp/beats ]").rc == 0)
    before, boot = active(connection), power.boot_id(connection)
    assert {"beat.timer", "stubborn.service", "door.socket", "spared.service", "cron.service"} <= before
    named = {one.subject for one in receive.prove(connection)}
    assert {receive.TARGET, "beat.timer", "stubborn.service", "door.socket", "cron.service"} <= named

    with pytest.raises(Problem, match="own sshd"):
        receive.enter(theirs)
    receive.enter(connection, timeout=10)  # a stubborn service is ended after it
    assert [one.text for one in receive.prove(connection)] == []
    beats = connection.run("wc -l </var/tmp/beats").text
    time.sleep(2.5)
    assert receive.prove(connection) == []
    assert connection.run("wc -l </var/tmp/beats").text == beats
    assert connection.run("ls /var/tmp/stopped-in-order").rc == 0  # its stop command ran before it was held back
    assert connection.run("ss -Hltn | grep -c -e :7007 -e :22' '").text == "0\n"
    assert connection.run(["systemctl", "start", "stubborn.service"]).rc != 0

    receive.enter(connection, timeout=10)  # again changes nothing
    connection.run("systemd-run --quiet --unit=writer sleep 600", check=True)
    found = receive.prove(opened(replace(ours), 60))  # a new log-in works
    assert {one.subject for one in found} == {"writer.service"}
    connection.run("systemctl stop writer.service", check=True)
    assert receive.prove(connection) == []

    receive.leave(connection)
    connection.close()
    host.wait_for_reboot(boot, 180)
    connection = opened(ours)
    connection.run("systemctl is-system-running --wait >/dev/null", timeout=180)
    assert active(connection) == before
    assert receive.prove(connection)[0].code == "receive.not_entered"

    # Nobody is left there who would hear a hypervisor's button, but the order from inside is heard.
    receive.enter(connection, timeout=10)
    assert connection.run(["systemctl", "is-active", "systemd-logind.service", "dbus.socket"]).rc != 0
    power.shut_down(connection)
    for one in (theirs, connection):
        one.close()
    wait_until(lambda: host.backend.power("receive") == "off", 180)
