"""The lab's network and name server, asked from inside real hosts on both sides."""

from __future__ import annotations

import subprocess
import time

import pytest

from migrationhub.lab.network import Network, namespaces
from migrationhub.lab.state import LabProblem

pytestmark = pytest.mark.nspawn


@pytest.fixture(scope="module")
def production(nspawn_module_host):
    return nspawn_module_host("prod", "debian-networkd", rate="8mbit")


@pytest.fixture(scope="module")
def migration(nspawn_module_host):
    host = nspawn_module_host("clone", "debian", "migration")
    config = "/etc/ssh/sshd_config.d/two-ports.conf"
    assert host.execute(f"printf 'Port 22\\nPort 2299\\n' > {config}; systemctl restart ssh").rc == 0
    return host


def opens(host, address, port):
    """True when a TCP connection from inside the host is taken; refusals come at once, not by time-out."""
    done = host.execute(f"timeout 20 bash -c '</dev/tcp/{address}/{port}'")
    assert done.rc != 124, "neither taken nor refused"
    return done.rc == 0


def test_hub_reaches_both_sides(production, migration):
    for host in (production, migration):
        done = subprocess.run(["bash", "-c", f"</dev/tcp/{host.endpoint.address}/22"], timeout=30)
        assert done.returncode == 0


def test_production_reaches_only_the_receiving_port_of_a_clone(production, migration):
    assert opens(production, migration.endpoint.address, 2299)
    assert not opens(production, migration.endpoint.address, 22)


def test_isolated_side_opens_nothing(nspawn_lab, production, migration):
    before = nspawn_lab.network.refused()
    lab = nspawn_lab.lab
    assert not opens(migration, production.endpoint.address, 22)
    assert not opens(migration, lab.address("hub", 1), 22)
    assert nspawn_lab.network.refused() >= before + 2
    for router in (lab.address("production", 1), nspawn_lab.network.resolver("production")):
        assert not opens(migration, router, 53)
    assert opens(migration, nspawn_lab.network.resolver("migration"), 53)


def test_each_side_has_its_own_view(nspawn_lab, production, migration):
    server = nspawn_lab.nameserver
    server.enter("db", "10.9.9.1", "production")
    server.enter("db", "10.9.9.2", "migration")
    assert production.execute("getent hosts db.shop.lab").out.split()[0] == "10.9.9.1"
    assert migration.execute("getent hosts db").out.split()[0] == "10.9.9.2"
    server.enter("db", "", "production")
    assert server.look_up("production", "db") == []
    assert server.look_up("migration", "db") == ["10.9.9.2"]


def test_records_outlive_the_name_server(nspawn_lab):
    server = nspawn_lab.nameserver
    server.enter("kept", "10.9.9.3", "production")
    server.down()
    assert server.daemon.pid() is None
    with pytest.raises(LabProblem, match="did not take"):
        server.enter("kept", "10.9.9.4", "production")
    server.up()
    assert server.look_up("production", "kept") == ["10.9.9.3"]


def test_the_lab_key_does_not_open_production(nspawn_lab, monkeypatch):
    server = nspawn_lab.nameserver
    wrong = server.key("lab")
    monkeypatch.setattr(server, "key", lambda name="": wrong)
    with pytest.raises(LabProblem, match="REFUSED"):
        server.enter("db", "10.9.9.9", "production")


def test_a_slow_line_is_slow_one_way(production):
    size = 2_000_000  # two seconds at 8 Mbit/s
    began = time.monotonic()
    assert len(production.ssh(f"head -c {size} /dev/urandom").stdout) == size
    outward = time.monotonic() - began
    began = time.monotonic()
    assert production.ssh("wc -c", stdin=b"x" * size).stdout.strip() == str(size).encode()
    assert outward > 1.5
    assert time.monotonic() - began < outward


def test_up_twice_is_up_once(nspawn_lab, production):
    nspawn_lab.network.up()
    assert production.execute("true").rc == 0
    assert nspawn_lab.network.is_up()


def test_down_leaves_nothing_and_up_repairs_half_a_network(spare_lab):
    network = Network(spare_lab)
    subprocess.run(["ip", "netns", "add", network.router], check=True)  # as a killed `up` leaves it
    network.up()
    assert network.is_up()
    subprocess.run(["ip", "link", "delete", network.hub_link], check=True)
    assert not network.is_up()
    network.up()
    assert network.is_up()
    network.down()
    assert network.leftovers() == []
    assert network.router not in namespaces()


def test_a_route_in_the_way_is_named(spare_lab, request):
    network = Network(spare_lab)
    route = ["dev", "lo", "proto", "static"]
    subprocess.run(["ip", "route", "add", str(spare_lab.subnet("production")), *route], check=True)
    request.addfinalizer(lambda: subprocess.run(["ip", "route", "del", str(spare_lab.subnet("production")), *route]))
    with pytest.raises(LabProblem, match=f"route to {spare_lab.subnet('production')} by lo"):
        network.up()
