"""The stand-in as a process of its own over real process hosts: SIGKILL in mid-provision, SSH, move, delete."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from migrationhub.lab.vme.store import effective, hosts_by_instance, repeated_keys
from servers.platforms.base import InstanceSpec, Nic, PlatformAccess
from servers.platforms.vme.platform import VmePlatform
from servers.remote.access import parse_read_back, read_back_script, user_data
from servers.remote.base import Endpoint, Unreachable
from servers.remote.ssh import connect
from tests.fixtures_lab import ProcessLab
from tests.fixtures_nspawn import NspawnLab
from tests.lab.vme.standin import StandIn, run


class Served:
    """`python -m migrationhub.lab.vme`."""

    def __init__(self, process_lab: ProcessLab) -> None:
        self.lab = process_lab.lab
        self.directory: Path = self.lab.dir / "vme"
        self.process: subprocess.Popen[bytes] | None = None
        if self.directory.exists():  # of another test in this session's lab: each begins with an empty appliance
            for name in set(hosts_by_instance(self.directory).values()) & {*process_lab.backend.names()}:
                process_lab.delete(name)
            shutil.rmtree(self.directory)

    def start(self) -> None:
        command = [sys.executable, "-m", "migrationhub.lab.vme", "--lab", self.lab.name, "--kind", "process"]
        environment = os.environ | {"MIGRATIONHUB_VAR": str(self.lab.var)}
        self.process = subprocess.Popen([*command, "--duration", "0.5"], env=environment)
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.lab.vme_port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError("the stand-in does not listen")

    def end(self, *, hard: bool = False) -> int:
        assert self.process is not None
        if hard:
            self.process.kill()
        else:
            self.process.terminate()
        return self.process.wait(60)

    def platform(self) -> VmePlatform:
        account = json.loads((self.directory / "account.json").read_text())
        return VmePlatform(
            PlatformAccess(
                name="VME",
                url=f"https://127.0.0.1:{self.lab.vme_port}",
                username=account["username"],
                password=account["password"],
                ca_bundle=(self.directory / "ca.pem").read_text(),
            )
        )


@pytest.fixture
def served(process_lab: ProcessLab) -> Iterator[Served]:
    served = Served(process_lab)
    served.start()
    yield served
    if served.process and served.process.poll() is None:
        served.end()
    for name in ("vm-real", "vm-real-vm"):
        if name in process_lab.backend.names():
            process_lab.delete(name)


def choose(platform: VmePlatform, label: str, script: str) -> tuple[InstanceSpec, str]:
    """A choice from what the appliance really has, as a person makes it on the page; the production network."""
    group = next(one for one in platform.groups() if one.facts["zones"])
    zone = platform.zones(group.value)[0]
    layout = platform.layouts()[0]
    pool = platform.pools(zone.value, group.value, layout.value)[0]
    networks = {one.facts["name"]: one.value for one in platform.networks(zone.value, pool.value)}
    spec = InstanceSpec(
        label=label,
        group_id=group.value,
        zone_id=zone.value,
        pool_id=pool.value,
        instance_type=layout.facts["instance_type"],
        layout_id=layout.value,
        plan_id=platform.plans(zone.value, layout.value, group.value, pool.value)[0].value,
        image_id=platform.images()[0].value,
        network_id=networks["Migration VLAN 66"],
        datastore_id=next(one.value for one in platform.datastores(zone.value) if one.facts["online"]),
        user_data=script,
    )
    return spec, networks["Production VLAN 20"]


@pytest.mark.lab
def test_a_clone_is_made_through_a_crash_reached_moved_and_deleted(served: Served, process_lab: ProcessLab) -> None:
    platform = served.platform()
    script = user_data(process_lab.public_key, manager="supervisord")
    spec, production = choose(platform, "vm-real", script)
    assert {one.level.value for one in platform.check(spec, production)} == {"ready"}

    memo, progress = platform.advance_create("create", spec, {})
    assert progress.state == "running"
    served.end(hard=True)  # SIGKILL in mid-provision
    served.start()
    _, progress = run(lambda memo: platform.advance_create("create", spec, memo), memo, timeout=180)
    assert progress.state == "succeeded", progress.reason
    external_id, address = progress.result["external_id"], progress.result["address"]
    assert ipaddress.ip_address(address) in process_lab.lab.subnet("migration", "process")

    # The host key is read back through the API; the key that userData installed logs in.
    read = "cat etc/ssh/ssh_host_ed25519_key.pub; pwd"
    _, progress = run(lambda memo: platform.advance_execute("read", external_id, read, memo))
    key, directory = progress.result["out"].strip().splitlines()
    endpoint = Endpoint(
        "vm-real",
        address,
        port=2222,
        username=process_lab.backend.account.name,
        private_key=process_lab.private_key,
        host_keys=(" ".join(key.split()[:2]),),
        manager="supervisord",
        directory=directory,
    )
    assert says_hello(endpoint)

    run(lambda memo: platform.advance_power("off", external_id, "off", memo), timeout=180)
    assert process_lab.backend.power("vm-real") == "off"
    snapshot = run(lambda memo: platform.advance_snapshot("snap", external_id, "before", memo), timeout=180)[1]
    new = process_lab.lab.address("production", 77, "process")
    nics = (Nic(production, address=new),)
    _, progress = run(lambda memo: platform.advance_connect("move", external_id, nics, memo), timeout=180)
    assert progress.state == "succeeded", progress.reason
    _, progress = run(lambda memo: platform.advance_power("on", external_id, "on", memo), timeout=180)
    assert progress.state == "succeeded", progress.reason
    assert says_hello(replace(endpoint, address=new))

    reverted = run(
        lambda memo: platform.advance_revert("revert", external_id, snapshot.result["snapshot_id"], memo), timeout=180
    )[1]
    assert reverted.state == "succeeded", reverted.reason
    _, progress = run(lambda memo: platform.advance_delete("delete", external_id, memo), timeout=180)
    assert progress.state == "succeeded" and "vm-real" not in process_lab.backend.names()

    journal = served.directory / "journal.jsonl"
    acts = [entry["act"] for entry in effective(journal)]
    assert acts.count("create") == 1 and acts.count("resize") == 1 and repeated_keys(journal) == []
    assert served.end() == 0


@pytest.mark.nspawn
def test_a_debian_clone_boots_is_reached_and_moves(nspawn_lab: NspawnLab, tmp_path: Path) -> None:
    lab = nspawn_lab.lab
    standin = StandIn(
        tmp_path,
        nspawn_lab.backend,
        kind="nspawn",
        name=lab.name,
        duration=1.0,
        production=str(lab.subnet("production")),
        migration=str(lab.subnet("migration")),
    )
    try:
        platform = standin.platform()
        spec = standin.spec("vm-deb", user_data=user_data(nspawn_lab.public_key))
        _, progress = run(lambda memo: platform.advance_create("create", spec, memo), timeout=180)
        assert progress.state == "succeeded", progress.reason
        external_id, address = progress.result["external_id"], progress.result["address"]
        keys = await_keys(platform, external_id)
        endpoint = Endpoint("vm-deb", address, port=2299, private_key=nspawn_lab.private_key, host_keys=keys)
        assert says_hello(endpoint)

        _, progress = run(lambda memo: platform.advance_power("off", external_id, "off", memo), timeout=180)
        assert progress.state == "succeeded", progress.reason
        nics = (Nic(standin.network("production"), address=lab.address("production", 77)),)
        _, progress = run(lambda memo: platform.advance_connect("move", external_id, nics, memo), timeout=180)
        assert progress.state == "succeeded", progress.reason
        _, progress = run(lambda memo: platform.advance_power("on", external_id, "on", memo), timeout=180)
        assert progress.state == "succeeded", progress.reason
        # The guest still has its old address: a resize does not rewrite what is inside.
        waits = f"for i in $(seq 200); do ip -br -4 address | grep -q {address}/ && break; sleep 0.5; done"
        assert address in inside(platform, external_id, "ip-old", f"{waits}; ip -br -4 address")
        with pytest.raises(Unreachable):
            connect(replace(endpoint, address=lab.address("production", 77)), connect_timeout=2)
        _, progress = run(lambda memo: platform.advance_delete("delete", external_id, memo), timeout=180)
        assert progress.state == "succeeded" and "vm-deb" not in nspawn_lab.backend.names()
    finally:
        standin.stop()
        if "vm-deb" in nspawn_lab.backend.names():
            nspawn_lab.backend.delete("vm-deb")


def await_keys(platform: VmePlatform, external_id: str) -> tuple[str, ...]:
    """The host key that the first boot made, read back through the API."""
    script = read_back_script()
    for attempt in range(180):
        key = f"read-{attempt}"
        _, progress = run(lambda memo, key=key: platform.advance_execute(key, external_id, script, memo), timeout=180)
        if progress.state == "succeeded":
            return parse_read_back(progress.result["out"])
        time.sleep(0.5)  # not opened yet: the script says so and ends with 1
    raise AssertionError("no host key came back")


def inside(platform: VmePlatform, external_id: str, key: str, script: str) -> str:
    _, progress = run(lambda memo: platform.advance_execute(key, external_id, script, memo), timeout=180)
    assert progress.state == "succeeded", progress.reason
    return str(progress.result["out"])


def says_hello(endpoint: Endpoint) -> bool:
    deadline = time.monotonic() + 180
    while True:
        try:
            connection: Any = connect(endpoint)
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
            continue
        try:
            return bool(connection.run(["echo", "hello"], root=False).text.strip() == "hello")
        finally:
            connection.close()
