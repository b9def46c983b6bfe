"""Power: orderly off and on of real hosts, and absence that a hanging host does not prove."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from migrationhub.lab import process_table
from migrationhub.lib.findings import Problem
from servers.remote import power
from servers.remote.base import Connection, Endpoint, RemoteProblem
from servers.remote.ssh import connect
from tests.fixtures_lab import ProcessHost
from tests.fixtures_nspawn import NspawnHost
from tests.patience import wait_until

LOOPBACK = Endpoint("there", "127.0.0.1", manager="supervisord", directory="/nowhere")


def opened(endpoint: Endpoint, seconds: float = 180) -> Connection:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return connect(endpoint, connect_timeout=3)
        except RemoteProblem:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def boot_seen(endpoint: Endpoint) -> str:
    try:
        connection = connect(endpoint, connect_timeout=3)
        try:
            return power.boot_id(connection)
        finally:
            connection.close()
    except Problem:
        return ""


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_a_host_that_accepts_and_says_nothing_is_not_absent(listener: socket.socket) -> None:
    endpoint = replace(LOOPBACK, port=listener.getsockname()[1])
    proof = power.absent(endpoint, [], seconds=0)
    assert not proof.absent
    assert "hangs" in proof.text


def test_another_port_that_accepts_is_presence(listener: socket.socket) -> None:
    proof = power.absent(replace(LOOPBACK, port=1), [listener.getsockname()[1]], seconds=0)
    assert not proof.absent
    assert str(listener.getsockname()[1]) in proof.text


def test_refused_throughout_is_absence_of_a_process_host() -> None:
    began = time.monotonic()
    proof = power.absent(replace(LOOPBACK, port=1), [2, 3], seconds=0.6)
    assert proof.absent, proof.text
    assert time.monotonic() - began >= 0.6
    assert "port 1 refuses" in proof.text


def test_a_port_that_opens_during_the_period_is_presence() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        late = threading.Timer(0.7, server.listen)
        late.start()
        proof = power.absent(replace(LOOPBACK, port=1), [server.getsockname()[1]], seconds=3)
        late.join()
    assert not proof.absent


def test_a_refusal_comes_from_a_machine_that_runs() -> None:
    proof = power.absent(Endpoint("there", "127.0.0.1", port=1), [], seconds=0)
    assert not proof.absent
    assert "still runs" in proof.text


def test_a_refusal_of_any_port_is_life_on_a_machine_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its SSH port may be filtered; a process host is one of many at its address, where others run on."""
    signs = {22: power._Sign.SILENT, 80: power._Sign.REFUSED}
    monkeypatch.setattr(power, "_knock", lambda endpoint, port: signs[port])
    monkeypatch.setattr(power, "_echo", lambda endpoint: power._Sign.SILENT)
    proof = power.absent(Endpoint("there", "192.0.2.1"), [80], seconds=0)
    assert (proof.absent, "port 80 refuses connections" in proof.text) == (False, True)
    signs[80] = power._Sign.SILENT
    assert power.absent(Endpoint("there", "192.0.2.1"), [80], seconds=0).absent
    signs |= {22: power._Sign.REFUSED, 80: power._Sign.REFUSED}
    assert power.absent(LOOPBACK, [80], seconds=0).absent


def test_a_hub_without_a_way_proves_nothing() -> None:
    proof = power.absent(Endpoint("there", "not.a.name.invalid", port=22), [], seconds=0)
    assert not proof.absent
    assert "proves nothing" in proof.text


@pytest.mark.usefixtures("trap_commands")
def test_process_host_goes_down_restarts_and_hangs(process_host: Callable[..., ProcessHost]) -> None:
    host = process_host("power")
    connection = connect(host.endpoint)
    first = power.boot_id(connection)
    assert first == (host.root / "run/boot_id").read_text().strip()
    power.reboot(connection)
    connection.close()
    wait_until(lambda: boot_seen(host.endpoint) not in ("", first))

    # sshd stands still: the kernel accepts for it.
    sshd = int((host.root / "run/sshd.pid").read_text())
    process = next(p for p in host.backend._inside("power") if p.pid == sshd)
    process_table.send(process, signal.SIGSTOP)
    try:
        assert not power.absent(host.endpoint, [], seconds=0).absent
    finally:
        process_table.send(process, signal.SIGCONT)

    connection = connect(host.endpoint)
    (host.root / "run/boot_id").unlink()
    assert power.boot_id(connection) == power.boot_id(connection) != ""
    power.shut_down(connection)
    connection.close()
    wait_until(lambda: host.backend.power("power") == "off")
    assert power.absent(host.endpoint, [5432], seconds=1).absent


def test_power_that_fails_is_told(process_host: Callable[..., ProcessHost]) -> None:
    host = process_host("powerless")
    host.write("sbin/poweroff", "#!/bin/sh\necho no power here >&2; exit 3\n", 0o755)
    connection = connect(host.endpoint)
    with pytest.raises(Problem, match="no power here"):
        power.shut_down(connection)
    connection.close()


def test_machine_reboots_and_goes_down(nspawn_host: Callable[..., NspawnHost]) -> None:
    host = nspawn_host("power")
    connection = connect(host.endpoint)
    first = power.boot_id(connection)
    assert not power.absent(host.endpoint, [], seconds=0).absent
    power.reboot(connection)
    connection.close()
    wait_until(lambda: boot_seen(host.endpoint) not in ("", first), 180)
    connection = opened(host.endpoint)

    # Nothing accepts any more, but the machine runs.
    connection.run("systemctl stop ssh.service ssh.socket", check=True)
    proof = power.absent(host.endpoint, [80], seconds=0)
    assert (proof.absent, "still runs" in proof.text) == (False, True)
    power.shut_down(connection)
    connection.close()
    wait_until(lambda: power.absent(host.endpoint, [80], seconds=0).absent, 180)
    assert host.backend.power("power") == "off"
