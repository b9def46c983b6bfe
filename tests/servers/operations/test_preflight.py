"""Networks that would not fit after a copy of the whole system, by what the two machines say of themselves."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from migrationhub.lib.findings import Finding, Level
from servers.operations import preflight
from servers.operations.preflight import Preflight, guest_network, unlike_networks
from servers.progress import State
from servers.remote import guest_address
from servers.remote.base import Endpoint, Result

LINK = [{"ifname": "eth0", "link_type": "ether", "ifindex": 2}]
ADDRESS = [{"ifname": "eth0", "addr_info": [{"local": "10.0.0.5", "prefixlen": 24}]}]
ROUTE = [{"dst": "default", "gateway": "10.0.0.1", "dev": "eth0"}]
NETPLAN = {"netplan": "/etc/netplan/50-cloud-init.yaml"}
LINK_OF_NETWORKD = {"networkd": "2 /run/systemd/network/10-netplan-eth0.network"}


class Machine:
    """A connection to a machine on which `units` are active."""

    def __init__(self, units: str, **more: str) -> None:
        self.endpoint = Endpoint("m", "10.0.0.5")
        self.units, self.more = units.split(), more

    def run(self, command: str, **_: Any) -> Result:
        if "section active" not in command:
            return Result(0, b"", b"")
        asked = [unit for unit in self.units if unit in command]  # what nobody asks for is not told
        parts = {"link": json.dumps(LINK), "addr": json.dumps(ADDRESS), "route": json.dumps(ROUTE)}
        parts |= {"active": "\n".join(asked), **self.more, "end": ""}
        return Result(0, "".join(f"\n== {name}\n{text}\n" for name, text in parts.items()).encode(), b"")


def found(source: Machine, target: Machine) -> Finding:
    machines = {"source": source, "target": target}
    job = SimpleNamespace(
        parameters={"scope": "system"},
        server=lambda name: SimpleNamespace(manager="systemd"),
        connection=machines.__getitem__,
    )
    (finding,) = unlike_networks(job)  # type: ignore[arg-type]
    return finding


WICKED, MANAGER = Machine("wicked network"), Machine("NetworkManager network")
SERVICE, NOTHING = Machine("network"), Machine("")
PLAN_D = Machine("systemd-networkd", **NETPLAN, **LINK_OF_NETWORKD)
PLAN_M = Machine("NetworkManager systemd-networkd", **NETPLAN)
PLAN = Machine("", **NETPLAN)


@pytest.mark.parametrize(
    ("source", "target", "level", "said"),
    [
        (WICKED, WICKED, Level.READY, "by wicked."),
        (MANAGER, MANAGER, Level.READY, "by NetworkManager."),
        (SERVICE, SERVICE, Level.READY, "by network.service."),
        (WICKED, MANAGER, Level.BLOCKING, "by wicked, the target by NetworkManager"),
        (MANAGER, WICKED, Level.BLOCKING, "by NetworkManager, the target by wicked"),
        (SERVICE, WICKED, Level.BLOCKING, "by network.service, the target by wicked"),
        (PLAN_D, MANAGER, Level.BLOCKING, "by netplan for networkd, the target by NetworkManager"),
        (PLAN_D, PLAN_D, Level.READY, "by netplan for networkd."),
        (PLAN_M, PLAN_M, Level.READY, "by netplan for NetworkManager."),
        (PLAN_D, PLAN_M, Level.BLOCKING, "by netplan for networkd, the target by netplan for NetworkManager"),
        (PLAN, PLAN_D, Level.WARNING, "netplan; whether for the same renderer does not show"),
        (NOTHING, NOTHING, Level.WARNING, "is not known"),
        (NOTHING, WICKED, Level.BLOCKING, "the target by wicked"),
    ],
)
def test_networks_are_alike_only_by_what_configures_them(
    source: Machine, target: Machine, level: Level, said: str
) -> None:
    finding = found(source, target)
    assert finding.code == "network.kind"
    assert (finding.level, said in finding.text) == (level, True), finding
    assert finding.act or level == Level.READY


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        (WICKED, "/etc/sysconfig/network/ifcfg-eth0"),
        (SERVICE, "/etc/sysconfig/network-scripts/ifcfg-eth0"),
        (MANAGER, "nmcli"),
    ],
)
def test_whoever_sets_the_address_by_hand_is_told_where(machine: Machine, words: str) -> None:
    findings = guest_address.plan(machine, guest_address.NewAddress("192.0.2.10/24"))  # type: ignore[arg-type]
    (finding,) = [one for one in findings if one.code == "guest_address.kind"]
    assert finding.level == Level.BLOCKING and words in finding.act


def step_six_on(machine: Machine, **parameters: Any) -> list[Finding]:
    planned = {"address": "192.0.2.10/24", "gateway": "", "resolvers": ["192.0.2.2"], "take_over": False}
    job = SimpleNamespace(parameters={**planned, **parameters}, connection=lambda name: machine)
    return guest_network(job)  # type: ignore[arg-type]


@pytest.mark.parametrize("machine", [WICKED, MANAGER, SERVICE, NOTHING, PLAN_D])
def test_what_step_six_would_refuse_is_told_before_the_copy(machine: Machine) -> None:
    """The copy itself is not hindered; found with the source off, it costs the downtime."""
    (finding,) = step_six_on(machine, by_hand=False)
    assert (finding.level, finding.code) == (Level.WARNING, "guest_address.kind")
    assert finding.text.endswith("The cutover will not begin like this.") and "“Set by hand”" in finding.act
    (note,) = step_six_on(machine, by_hand=True)
    assert note.level == Level.READY and "by hand" in note.text


def test_a_known_network_and_an_older_plan_are_no_finding() -> None:
    known = Machine("systemd-networkd", networkd="2 /etc/systemd/network/lan.network")
    assert step_six_on(known, by_hand=False) == step_six_on(MANAGER) == []


def test_the_check_of_both_machines_says_so_and_lets_the_copy_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "mover", lambda name: SimpleNamespace(preflight=lambda job: []))
    monkeypatch.setattr(preflight, "move_job", lambda job: None)
    parameters = {"mover": "rsync", "scope": "system", "address": "", "gateway": "", "resolvers": ["192.0.2.2"]}
    job = SimpleNamespace(
        parameters={**parameters, "take_over": False, "by_hand": False},
        memo={},
        server=lambda name: SimpleNamespace(manager="systemd"),
        connection=lambda name: WICKED,
    )
    _, progress = Preflight().advance(job)  # type: ignore[arg-type]
    assert progress.state == State.SUCCEEDED and "The cutover will not begin like this." in progress.reason
