"""A migrated system is made a disk and booted: what a sync leaves to the target is what a machine needs to start."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from migrationhub.lab.qemu import Guest, newest_kernel
from migrationhub.lab.state import LabProblem
from servers.movers.base import Freeze, MoveJob
from servers.progress import Consistency
from servers.remote import access
from servers.remote.base import Connection
from servers.remote.ssh import Pool
from tests.fixtures_nspawn import NspawnHost, NspawnLab
from tests.lab.qemu_guests import access_of, guest_of, log_in, need_qemu, wait_until_back
from tests.patience import wait_until
from tests.servers.movers.drive import succeed

pytestmark = [pytest.mark.nspawn, pytest.mark.full, pytest.mark.emulated]

PRIVATE, PUBLIC = access.new_key_pair("test")
# Copied, each of these would keep the target from starting, or from being reached.
POISON = """
echo 'UUID=00000000-dead-beef-0000-000000000000 /srv/files ext4 defaults 0 2' >/etc/fstab
printf 'auto eth0\\niface eth0 inet static\\n    address 192.0.2.7/24\\n' >/etc/network/interfaces
rm -f /etc/network/interfaces.d/*
echo virtio_of_another_platform >/etc/modules-load.d/virtio-lab.conf
echo 'the source' >/boot/vmlinuz-9.9.9-source
"""


@dataclass
class Booted:
    guest: Guest
    connection: Connection  # by our access, on its own port
    target: NspawnHost
    last_order: int


@pytest.fixture(scope="module")
def booted(
    nspawn_module_host: Callable[..., NspawnHost], nspawn_lab: NspawnLab, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Booted]:
    """PostgreSQL and its writer, moved in scope `system` to a target with a real kernel, then started in QEMU."""
    need_qemu()
    target = nspawn_module_host("boot-new", "debian-virtual", network="migration", user_data=access.user_data(PUBLIC))
    source = nspawn_module_host("boot-old", "shop-db-machine")
    pool = Pool()
    try:
        endpoint = access_of(target, PRIVATE)
        freeze = Freeze("postgresql", {"data": "/var/lib/postgresql/15/main", "user": "postgres"})

        def job(kind: str, **changes: object) -> MoveJob:
            return MoveJob(f"boot:{kind}", kind, source.endpoint, endpoint, pool.connect, "boot", **changes)  # type: ignore[arg-type]

        assert source.execute(POISON).rc == 0
        initial = succeed(job("initial", freeze=freeze), seconds=240).sync
        assert initial is not None and initial.consistency == Consistency.FROZEN
        wait_until_back(pool, endpoint)
        stopped = source.execute(
            "systemctl stop orders; psql -h /var/run/postgresql -U shop -Atc 'SELECT max(number) FROM orders' shop"
            " && systemctl stop 'postgresql*'"
        )
        succeed(job("final", last_sync=initial.as_dict()), seconds=240)
    finally:
        pool.close()
    target.stop()
    guest = guest_of(target, nspawn_lab, tmp_path_factory.mktemp("qemu"), "target-root", ports=(22, access.PORT))
    with guest:
        yield Booted(guest, log_in(endpoint, guest), target, int(stopped.out))


def ask(booted: Booted, command: str, timeout: float = 90) -> str:
    return booted.connection.run(command, timeout=timeout).text.strip()


def test_it_starts_with_its_own_kernel_and_modules(booted: Booted) -> None:
    # Not by its console: systemd is silent there once a log-in prompt stands on it, and a slow guest gets no prompt.
    wait_until(lambda: ask(booted, "systemctl is-active multi-user.target") == "active", 300)
    version = newest_kernel(booted.target.root)
    assert ask(booted, "uname -r") == version and "cloud" in version
    # A module of that kernel that no boot needs: it is there and loads.
    assert ask(booted, "modprobe dm_snapshot && grep -c '^dm_snapshot ' /proc/modules") == "1"
    assert ask(booted, "ls /usr/lib/modules") == version
    assert "9.9.9" not in ask(booted, "ls /boot")


def test_it_mounts_by_its_own_fstab_and_has_its_own_network(booted: Booted) -> None:
    assert ask(booted, "findmnt -no FSTYPE,OPTIONS / | grep -c '^ext4.*rw'") == "1"
    assert ask(booted, "findmnt -no FSTYPE /srv/target-own") == "tmpfs"
    own = booted.guest.address
    assert own.own in ask(booted, "ip -4 -o addr show dev eth0")
    assert f"default via {own.gateway}" in ask(booted, "ip route")
    assert ask(booted, "hostname") == "boot-new"


def test_its_services_run_and_go_on_with_the_data(booted: Booted) -> None:
    """The writer of the source writes here, after the source's last order."""
    deadline = time.monotonic() + 240
    while ask(booted, "systemctl is-active postgresql@15-main orders") != "active\nactive":
        assert time.monotonic() < deadline, booted.guest.console()
        time.sleep(2)
    query = "SELECT max(number), count(DISTINCT written_by) FROM orders"
    while True:
        last, writers = ask(booted, f'psql -h /var/run/postgresql -U shop -AtF " " -c "{query}" shop').split()
        if int(last) > booted.last_order:
            break
        assert time.monotonic() < deadline, booted.guest.console()
        time.sleep(1)
    assert int(writers) == 2, "the source's orders, and the target's own machine id"
    failed = ask(booted, "systemctl list-units --failed --plain --no-legend")
    assert not failed, failed


def test_our_access_is_there_until_it_is_closed(booted: Booted) -> None:
    assert ask(booted, "systemctl is-active migrationhub-access") == "active"
    booted.connection.run(access.removal_script(), timeout=60)
    deadline = time.monotonic() + 90
    while booted.guest.greets(access.PORT):
        assert time.monotonic() < deadline, "still open"
        time.sleep(1)
    assert booted.guest.greets(22), "the machine's own sshd stays"


def test_what_cannot_start_is_said(tmp_path: Path) -> None:
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot/vmlinuz-6.1.0-1-amd64").touch()
    with pytest.raises(LabProblem, match=r"found: 6\.1\.0-1-amd64"):
        newest_kernel(tmp_path)
