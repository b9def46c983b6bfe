"""Hosts of the nspawn lab that go on as virtual machines, with the same disk, addresses and keys."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from migrationhub.lab.qemu import PROGRAM, Address, Guest
from servers.remote import access
from servers.remote.base import Connection, Endpoint, RemoteProblem
from servers.remote.ssh import Pool, connect
from tests.fixtures_nspawn import NspawnHost, NspawnLab


def need_qemu() -> None:
    if shutil.which(PROGRAM) is None:
        if os.environ.get("MIGRATIONHUB_REQUIRE_ALL") == "1":
            pytest.fail("qemu-system-x86 is missing", pytrace=False)
        pytest.skip("qemu-system-x86 is missing")


def guest_of(
    host: NspawnHost,
    lab: NspawnLab,
    directory: Path,
    label: str,
    ports: tuple[int, ...] = (22,),
    side: str = "migration",
) -> Guest:
    """The host, which must be off, as a virtual machine that is not started yet."""
    need_qemu()
    own = host.endpoint.address
    address = Address(f"{own.rpartition('.')[0]}.0/24", own, lab.network.gateway(side))
    guest = Guest(directory, address, label=label, ports=ports)
    guest.make_root(host.root)
    return guest


def at_guest(endpoint: Endpoint, guest: Guest) -> Endpoint:
    """Where this machine reaches the guest's endpoint."""
    return replace(endpoint, address="127.0.0.1", port=guest.ports[endpoint.port])


def patiently[Found](ask: Callable[[], Found]) -> Found:
    """As the controller: what an emulated processor is too slow for is asked again."""
    for _ in range(4):
        with contextlib.suppress(RemoteProblem):
            return ask()
    return ask()


def log_in(endpoint: Endpoint, guest: Guest) -> Connection:
    """A connection to the guest, once its sshd greets."""
    guest.wait_for_ssh(endpoint.port)
    return patiently(lambda: connect(at_guest(endpoint, guest)))


def access_of(target: NspawnHost, private_key: str) -> Endpoint:
    """Our access to a target that was made with its user data."""
    deadline, said = time.monotonic() + 60, ""
    while "host-key" not in said:
        assert time.monotonic() < deadline, said
        said = target.execute(access.read_back_script()).out
        time.sleep(0.3)
    keys = access.parse_read_back(said)
    return access.endpoint(target.name, target.endpoint.address, private_key=private_key, host_keys=keys)


def wait_until_back(pool: Pool, endpoint: Endpoint) -> None:
    """Until the target has left receive mode, by a restart that our access comes back from."""
    deadline = time.monotonic() + 60
    while True:
        try:
            if pool.connect(endpoint).run("[ -e /run/migrationhub/received ]", timeout=5).rc == 1:
                return
        except RemoteProblem:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.3)
