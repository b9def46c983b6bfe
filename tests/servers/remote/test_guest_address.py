"""The guest's address for the next boot: the files' text, and real guests reached at the new address."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from migrationhub.lab.hosts import Nic
from migrationhub.lib.findings import Level, Problem
from servers.remote import guest_address
from servers.remote.base import Connection, Endpoint, RemoteProblem
from servers.remote.guest_address import AddressConfig, NewAddress, Record
from servers.remote.guest_network import ifupdown_texts, networkd_text, resolv_text
from servers.remote.ssh import connect

NEW = NewAddress("192.0.2.10/24", "192.0.2.1", ("192.0.2.2",), ("shop.lab",))
INTERFACES = """source /etc/network/interfaces.d/*

auto lo
iface lo inet loopback

auto eth0 br0
allow-hotplug eth0
iface eth0 inet static
    address 10.0.0.5/24
    # with a comment
    gateway \\
        10.0.0.1
    up ip route add 10.9.0.0/16 via 10.0.0.2

iface eth0 inet6 auto

iface br0 inet static
    address 10.1.0.5/24
    bridge_ports none
"""


def ifupdown(**files: str) -> AddressConfig:
    paths = {f"/etc/network/{name.replace('_', '/')}": text for name, text in files.items()}
    return AddressConfig("ifupdown", "eth0", interfaces=("eth0",), files=paths)


def test_ifupdown_drops_the_old_stanzas_of_the_card_and_keeps_all_else() -> None:
    text = ifupdown_texts(NEW, ifupdown(interfaces=INTERFACES))["/etc/network/interfaces"]
    assert text.count("eth0") == 0
    assert "10.0.0" not in text
    for kept in (
        "source /etc/network/interfaces.d/*\n",
        "iface lo inet loopback\n",
        "auto br0\n",
        "bridge_ports none\n",
    ):
        assert kept in text
    assert text.endswith(
        "auto /e[nt]*/1=production\niface production inet static\n    address 192.0.2.10/24\n    gateway 192.0.2.1\n"
        "    dns-nameservers 192.0.2.2\n    dns-search shop.lab\n"
    )


def test_ifupdown_cleans_the_files_that_are_taken_in_too() -> None:
    config = ifupdown(interfaces="auto lo\niface lo inet loopback\n", interfaces_d="auto eth0\niface eth0 inet dhcp\n")
    texts = ifupdown_texts(NEW, config)
    assert texts["/etc/network/interfaces/d"] == ""


def test_ifupdown_text_is_the_same_when_written_again() -> None:
    once = ifupdown_texts(NEW, ifupdown(interfaces=INTERFACES))["/etc/network/interfaces"]
    again = ifupdown_texts(NEW, ifupdown(interfaces=once))["/etc/network/interfaces"]
    assert again == once
    other = ifupdown_texts(replace(NEW, address="192.0.2.11/24"), ifupdown(interfaces=once))["/etc/network/interfaces"]
    assert other == once.replace("192.0.2.10", "192.0.2.11")


def test_named_interface_is_written_by_its_name() -> None:
    config = replace(ifupdown(interfaces=INTERFACES), interfaces=("eth0", "eth1"))
    text = ifupdown_texts(replace(NEW, interface="eth1"), config)["/etc/network/interfaces"]
    assert "auto eth1\niface eth1 inet static\n" in text


def test_networkd_matches_by_pattern_and_never_by_mac() -> None:
    text = networkd_text(NEW, AddressConfig("networkd", "eth0"))
    assert "Name=en* eth*\nType=ether\n" in text
    assert "MACAddress" not in text
    assert "Address=192.0.2.10/24\nGateway=192.0.2.1\nDNS=192.0.2.2\nDomains=shop.lab\n" in text
    assert "Name=en* eth* lan0\n" in networkd_text(NEW, AddressConfig("networkd", "lan0"))


def test_resolv_conf_keeps_its_options() -> None:
    old = "search old.lab\nnameserver 10.0.0.2\noptions edns0 timeout:1\n"
    assert resolv_text(NEW, old) == "search shop.lab\nnameserver 192.0.2.2\noptions edns0 timeout:1\n"
    assert resolv_text(replace(NEW, search=()), old).startswith("search old.lab\n")


@pytest.mark.parametrize(
    ("new", "field"),
    [
        (NewAddress("192.0.2.10"), "address"),
        (NewAddress("192.0.2.300/24"), "address"),
        (NewAddress("192.0.2.0/24"), "address"),
        (NewAddress("192.0.2.255/24"), "address"),
        (NewAddress("192.0.2.10/24", "192.0.3.1"), "gateway"),
        (NewAddress("192.0.2.10/24", "192.0.2.10"), "gateway"),
        (NewAddress("192.0.2.10/24", "fe80::1"), "gateway"),
        (NewAddress("192.0.2.10/24", "router"), "gateway"),
        (NewAddress("192.0.2.10/24", resolvers=("dns.example",)), "resolvers"),
        (NewAddress("192.0.2.10/24", search=("a b",)), "search"),
        (NewAddress("192.0.2.10/24", interface="eth0\nup reboot"), "interface"),
    ],
)
def test_wrong_fields_are_named(new: NewAddress, field: str) -> None:
    assert list(guest_address.validate(new)) == [field]


@pytest.mark.parametrize("new", [NEW, NewAddress("2001:db8::5/64", "fe80::1"), NewAddress("192.0.2.1/31", "192.0.2.0")])
def test_right_fields_are_accepted(new: NewAddress) -> None:
    assert guest_address.validate(new) == {}


class Elsewhere:
    """A connection of which only the endpoint may be used."""

    endpoint = Endpoint("p", "127.0.0.1", manager="supervisord", directory="/x")

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was called on a supervisord host")


def test_on_a_supervisord_host_nothing_is_asked_and_nothing_done() -> None:
    [finding] = guest_address.plan(Elsewhere(), NEW)
    assert finding.code == "guest_address.not_applicable"
    with pytest.raises(Problem, match="directory on a shared machine"):
        guest_address.apply(Elsewhere(), NEW)


# -- on real guests -----------------------------------------------------------------------------------------


def reached(endpoint: Endpoint, timeout: float = 180.0) -> Connection:
    deadline = time.monotonic() + timeout
    while True:
        try:
            return connect(endpoint, connect_timeout=2)
        except RemoteProblem:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)


def production(host: Any, last: int) -> NewAddress:
    lab = host.backend.lab
    resolver = host.backend.network.resolver("production")
    gateway = host.backend.network.gateway("production")
    return NewAddress(f"{lab.address('production', last)}/24", gateway, (resolver,), ("shop.lab",))


def moved(host: Any, new: NewAddress) -> None:
    """What the network move does: off, other network (and another MAC address), on."""
    host.backend.stop(host.name)
    host.backend.attach(host.name, (Nic("production", new.address),))
    host.backend.start(host.name)


@pytest.mark.nspawn
@pytest.mark.parametrize(("image", "kind", "last"), [("debian", "ifupdown", 210), ("debian-networkd", "networkd", 211)])
def test_guest_is_reached_at_the_new_address_after_the_move(
    nspawn_host: Callable[..., Any], image: str, kind: str, last: int
) -> None:
    host = nspawn_host(f"move-{kind}", image, "migration")
    connection = connect(host.endpoint)
    before = guest_address.current(connection)
    assert (before.kind, before.interface) == (kind, "eth0")
    assert before.addresses == (f"{host.endpoint.address}/24",)
    mac = connection.run("ip -o link show eth0").text.split("link/ether ")[1].split()[0]
    new = production(host, last)
    assert [finding.level for finding in guest_address.plan(connection, new)] == [Level.READY]
    assert {finding.level for finding in guest_address.verify_file(connection, new)} == {Level.BLOCKING}
    record = guest_address.apply(connection, new)
    again = guest_address.apply(connection, new)  # a repeated run keeps the original for the undo
    assert again.before == record.before
    assert [finding.level for finding in guest_address.verify_file(connection, new)] == [Level.READY]
    assert connection.run(["echo", "not cut"]).text == "not cut\n"
    assert guest_address.current(connection).addresses == before.addresses
    connection.close()
    moved(host, new)
    there = reached(host.at(new.address.partition("/")[0]))
    after = guest_address.current(there)
    assert (after.addresses, after.gateway, after.resolvers) == ((new.address,), new.gateway, new.resolvers)
    assert mac not in there.run("ip -o link show eth0").text
    assert there.run(["systemctl", "is-system-running", "--wait"], timeout=180).text == "running\n"
    guest_address.undo(there, Record.from_dict(record.as_dict()))
    guest_address.undo(there, record)  # once more changes nothing
    assert guest_address.current(there).files == before.files
    assert there.get("/etc/resolv.conf") == next(s.data for s in record.before if s.path == "/etc/resolv.conf")
    if kind == "networkd":
        assert there.get(before.where) == next(s.data for s in record.before if s.path == before.where)
    there.close()


@pytest.mark.nspawn
def test_other_ways_and_cards_are_blocking_findings_that_say_what_to_do(nspawn_host: Callable[..., Any]) -> None:
    host = nspawn_host("odd-ways", "debian", "migration")
    connection, new = connect(host.endpoint), production(host, 212)

    def codes() -> list[tuple[str, bool]]:
        blocking = [one for one in guest_address.plan(connection, new) if one.level is Level.BLOCKING]
        return [(one.code, bool(one.act)) for one in blocking]

    assert codes() == []
    connection.run("ip link add eth7 type veth peer name peer7", check=True)
    assert codes() == [("guest_address.interfaces", True)]
    connection.run("ip link del eth7; mkdir -p /etc/netplan; echo 'network: {}' >/etc/netplan/01.yaml", check=True)
    assert codes() == [("guest_address.kind", True)]
    with pytest.raises(Problem, match="netplan"):
        guest_address.apply(connection, new)
    by_hand = guest_address.plan_by_hand(connection, new)
    assert [one.level for one in by_hand] == [Level.WARNING] and "/etc/netplan/01.yaml" in by_hand[0].act
    address = new.address.split("/")[0]
    for text, found in ((f"[{address}0/24]", []), (f"[{new.address}]", ["/etc/netplan/01.yaml"])):
        connection.run(f"echo 'addresses: {text}' >/etc/netplan/01.yaml", check=True)
        assert guest_address.named_in(connection, new) == found
    connection.run("rm -r /etc/netplan; mv /etc/network/interfaces /tmp; rm -r /etc/network/interfaces.d", check=True)
    assert codes() == [("guest_address.kind", True)]
    assert guest_address.verify_file(connection, new)[0].level is Level.BLOCKING
    connection.close()
