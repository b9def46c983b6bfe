"""Facts: read from real hosts of both kinds, and robust to what a machine does not have."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

from servers.models import Server
from servers.operations.guest_address import source_network
from servers.operations.shutdown import known_ports
from servers.remote import facts, power
from servers.remote.base import Endpoint, RemoteProblem, Result
from servers.remote.ssh import connect
from tests.fixtures_lab import ProcessHost
from tests.fixtures_nspawn import NspawnHost


class Answering:
    """A connection that answers with what a machine once printed; its clock is 100 s behind."""

    def __init__(self, text: str) -> None:
        self.endpoint = Endpoint("there", "10.0.0.1")
        self.text = text

    def run(self, command: object, **options: object) -> Result:
        if command == ["date", "+%s.%N"]:
            return Result(0, f"{time.time() - 100:.9f}\n".encode(), b"")
        return Result(0, self.text.encode(), b"sh: not found\n")


def test_a_machine_without_tools_tells_little_but_no_untruth() -> None:
    found = facts.gather(Answering("@@ os\n@@ ports\nabsent\n@@ usr\n"))  # type: ignore[arg-type]
    assert found["os"]["id"] == found["machine_id"] == found["tools"]["rsync"] == ""
    assert (found["cpus"], found["memory"], found["package_count"]) == (None, None, None)
    assert (found["listening"], found["units"], found["databases"]) == ([], [], [])
    assert (found["default_route"], found["network"]["kind"], found["root"]["snapshot"]) == ({}, "other", "")
    assert found["clock"]["offset"] == pytest.approx(-100, abs=1)


def test_machine(nspawn_host: Callable[..., NspawnHost]) -> None:
    host = nspawn_host("facts", "debian")
    connection = connect(host.endpoint)
    connection.run("mkdir -p /var/lib/postgresql/15/main && touch /var/lib/postgresql/15/main/PG_VERSION")
    found = facts.gather(connection)
    assert json.loads(json.dumps(found)) == found

    release = connection.run(". /etc/os-release; echo $ID $VERSION_ID; nproc; cat /etc/machine-id; hostname")
    assert [found["os"]["id"], found["os"]["version"]] == release.text.split()[:2]
    assert [str(found["cpus"]), found["machine_id"], found["hostname"]] == release.text.split()[2:]
    assert found["boot_id"] == power.boot_id(connection)
    assert found["kernel"] == connection.run("uname -r").text.strip()
    assert found["package_count"] == int(connection.run("dpkg -l | grep -c ^ii").text)
    assert (found["usr"], found["memory"] > 1 << 20) == ("merged", True)

    address = host.endpoint.address
    assert {"address": address, "cidr": f"{address}/24"}.items() <= found["addresses"][0].items()
    route = connection.run("ip route show default").text.split()
    assert found["default_route"] == {"gateway": route[2], "interface": route[4]}
    assert found["resolvers"] == connection.run("sed -n 's/^nameserver //p' /etc/resolv.conf").text.split()
    assert found["network"]["kind"] in ("ifupdown", "networkd")

    ssh = [one for one in found["listening"] if one["port"] == 22]
    assert ssh[0]["protocol"] == "tcp" and "sshd" in ssh[0]["process"]
    units = {unit["name"]: unit for unit in found["units"]}
    assert (units["ssh.service"]["active"], units["ssh.service"]["start_mode"]) == ("active", "enabled")
    assert "cron.service" in units

    root = next(one for one in found["file_systems"] if one["mount"] == "/")
    assert 0 < root["used"] < root["size"]
    assert found["root"]["type"] == root["type"]
    assert found["tools"]["rsync"].startswith("3.")
    assert found["databases"] == [
        {"kind": "postgresql", "path": "/var/lib/postgresql/15/main", "open": False, "pid": None}
    ]
    assert abs(found["clock"]["offset"]) < 1 + found["clock"]["round_trip"]  # it is the same kernel's

    seen = cast(Server, SimpleNamespace(facts=found, manager="systemd", address=address))
    network = source_network(seen)
    assert (network["address"], network["gateway"]) == (f"{address}/24", route[2])
    assert 22 in known_ports(seen)
    connection.close()


@pytest.mark.usefixtures("trap_commands")
def test_process_host_tells_of_its_directory_and_address_alone(process_host: Callable[..., ProcessHost]) -> None:
    host = process_host("facts", "shop-db")
    connection = connect(host.endpoint)
    with socket.create_server(("127.0.0.1", 0)) as foreign:
        found = facts.gather(connection)
        assert foreign.getsockname()[1] not in [one["port"] for one in found["listening"]]
    assert json.loads(json.dumps(found)) == found
    assert found["machine_id"] == (host.root / "etc/machine-id").read_text().strip()
    assert found["boot_id"] == (host.root / "run/boot_id").read_text().strip()
    assert found["hostname"] == "facts"
    assert {2222, 5432} <= {one["port"] for one in found["listening"]}
    assert {one["address"] for one in found["listening"]} == {host.endpoint.address}
    assert found["addresses"][0]["address"] == host.endpoint.address
    assert {"postgresql"} == {one["kind"] for one in found["databases"]}
    assert [one["path"] for one in found["databases"] if one["open"]] == [f"{host.root}/srv/postgresql"]
    assert {unit["active"] for unit in found["units"]} == {"running"}
    assert (found["package_count"], found["default_route"], found["mounts"]) == (None, {}, [])
    connection.close()

    elsewhere = connect(replace(host.endpoint, directory=f"{host.root}/none"))
    with pytest.raises(RemoteProblem):
        facts.gather(elsewhere)
    elsewhere.close()
