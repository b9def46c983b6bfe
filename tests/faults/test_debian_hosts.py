"""Faults that need systemd, log-ins with a password or a network, by the table, on real Debian hosts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from servers.models import Server
from tests.faults.conftest import Hosts, enter
from tests.faults.matrix import Fault, Line, is_named_and_retried, nothing, table
from tests.fixtures_nspawn import NspawnHost
from tests.patience import wait_until
from tests.servers.remote.application import ENDURING

pytestmark = [pytest.mark.nspawn, pytest.mark.django_db]

PASSWORD = "correct-horse"
# What a source runs: one that hears no SIGTERM, one that leaves a process behind, and those that something brings back.
UNITS = rf"""{ENDURING}
unit phoenix.service <<'E'
[Service]
ExecStart=/bin/sleep infinity
Restart=always
RestartSec=100ms
E
unit timed.service <<'E'
[Service]
ExecStart=/bin/sleep infinity
E
unit timed.timer <<'E'
[Timer]
OnCalendar=*:*:*
AccuracySec=10ms
E
unit door.socket <<'E'
[Socket]
ListenStream=7007
E
unit door.service <<'E'
[Service]
ExecStart=/bin/sleep infinity
E
systemctl daemon-reload
systemctl start stubborn leaver phoenix timed.timer door.socket door.service
useradd -m -s /bin/sh admin && usermod -aG sudo admin
printf 'root:{PASSWORD}\nadmin:{PASSWORD}\n' | chpasswd
printf 'PermitRootLogin yes\nPasswordAuthentication yes\n' >/etc/ssh/sshd_config.d/00-faults.conf
systemctl reload ssh
"""


@dataclass
class Debian(Hosts):
    """A Debian source; nothing is copied here, so the target is only a name."""

    source: NspawnHost  # type: ignore[assignment]
    target: NspawnHost  # type: ignore[assignment]

    def words(self) -> dict[str, str]:
        left = self.source.execute("pgrep -xf 'sleep 601'").out.split()
        return {**super().words(), "left": left[0] if left else ""}

    def shell(self, script: str) -> str:
        done = self.source.execute(script)
        assert done.rc == 0, done.err
        return done.out


@pytest.fixture(scope="module")
def machine(nspawn_module_host: Callable[..., NspawnHost]) -> NspawnHost:
    host = nspawn_module_host("faults-old")
    host.execute("systemctl is-system-running --wait >/dev/null")
    done = host.execute(UNITS)
    assert done.rc == 0, done.err
    return host


@pytest.fixture
def debian(line: Line, machine: NspawnHost) -> Debian:
    return Debian(machine, machine, {"source": enter(machine.endpoint), "target": Server()}, line)


def credential(**changes: str) -> Callable[[Debian], None]:
    return lambda debian: debian.credential(**{"kind": "password", **changes})


def stops(*units: str) -> Callable[[Debian], None]:
    """These units are to be stopped; they run, and are recorded."""

    def before(debian: Debian) -> None:
        debian.shell(f"rm -rf /run/systemd/system.control; systemctl daemon-reload; systemctl start {' '.join(units)}")
        debian.services = [*units]
        debian.done("record_services")

    return before


def stopped(*units: str) -> Callable[[Debian], None]:
    def before(debian: Debian) -> None:
        stops(*units)(debian)
        debian.done("stop_services")

    return before


def shell(script: str) -> Callable[[Debian], None]:
    def act(debian: Debian) -> None:
        debian.shell(script)

    return act


FAULTS = [
    Fault(
        "wrong password",
        "facts",
        credential(secret="wrong"),
        credential(secret=PASSWORD),
        "{source_at}: the password of root was refused.",
        "Correct user name or credential; on the machine look at PermitRootLogin and a locked account and sshd's log."
        " Then retry.",
    ),
    Fault(
        "wrong password for sudo",
        "facts",
        credential(username="admin", secret=PASSWORD, become="sudo", become_password="wrong"),
        credential(username="admin", secret=PASSWORD, become="sudo", become_password=PASSWORD),
        "{source_at}: sudo does not make admin root: the password was refused.",
        "Correct the sudo password of the credential, or the user's rights in sudoers.",
    ),
    Fault(
        "a unit that will not stop",
        "stop_services",
        nothing,
        shell("systemctl kill -s KILL stubborn.service"),
        "{source}: stubborn.service did not stop within 5 s: it is deactivating/stop-sigterm.",
        "Wait and retry (systemd kills it after its TimeoutStopSec), or end it on the machine.",
        before=stops("stubborn.service"),
    ),
    Fault(
        "a process that outlives its unit",
        "stop_services",
        nothing,
        shell("pkill -xf 'sleep 601'"),
        "{source}: process {left} (sleep) of leaver.service outlived the stop.",
        "End it on the machine (kill {left}) once it is clear what it does, then retry.",
        before=stops("leaver.service"),
    ),
    Fault(
        "a unit that comes back",
        "prove_stopped",
        shell("rm /run/systemd/system.control/phoenix.service; systemctl daemon-reload; systemctl start phoenix"),
        shell("systemctl stop phoenix.service"),
        "{source}: phoenix.service is active/running.",
        "Find out what keeps or starts it (systemctl status phoenix.service), end it there, then retry.",
        before=stopped("phoenix.service"),
    ),
    Fault(
        "source read-only",
        "block_services",
        shell("mount --bind /etc /etc; mount -o remount,bind,ro /etc"),
        shell("umount -l /etc"),
        "{source}: restarts could not be blocked below /etc/systemd/system.control: a file system is read-only.",
        "Look why (dmesg), mount it writable, then retry.",
        before=stopped("phoenix.service"),
        marks=(pytest.mark.full,),
    ),
]


@table(FAULTS)
def test_it_is_named_and_retried(fault: Fault, debian: Debian, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    if fault.name == "a unit that will not stop":
        monkeypatch.setattr("servers.operations.services.STOP_SECONDS", 5.0)
    is_named_and_retried(fault, debian, line)
    debian.shell("rm -rf /etc/systemd/system.control")


def test_what_a_timer_or_a_socket_would_bring_back_stays_down(debian: Debian) -> None:
    """The timer elapses every second, and somebody knocks at the socket."""
    units = ("timed.service", "door.service")
    wakes = "bash -c 'exec 3<>/dev/tcp/127.0.0.1/7007'; sleep 1.5"
    up = "active\nactive\n"
    stops(*units)(debian)
    debian.source.execute(f"systemctl stop {' '.join(units)}; {wakes}")
    is_active = f"systemctl is-active {' '.join(units)}"
    nothing_shown = "nothing brings them back: this shows nothing"
    wait_until(lambda: debian.source.execute(is_active).out == up, missing=nothing_shown)
    debian.done("stop_services")
    debian.source.execute(wakes)
    debian.done("prove_stopped")
    debian.done("start_services")
    assert debian.shell(f"systemctl is-active {' '.join(units)}") == up
