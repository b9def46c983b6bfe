"""The lab's network: a router namespace with the bridges “production” and “migration”, nftables, and the hub's link.

The hub is this machine's own network; it joins by one veth. The router forwards what a data centre's firewall
would: the hub reaches everything, production reaches the receiving port of the migration side, and the migration
side opens nothing but DNS to its own resolver address. Refused is said at once, not after a time-out.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from migrationhub.lab import keeper
from migrationhub.lab.state import Lab, LabProblem, known_labs

RECEIVING_PORT = 2299
ROUTER, RESOLVER = 1, 2  # host numbers on both sides
HUB_SIDE, ROUTER_SIDE = 1, 2  # host numbers on the hub's link
SIDES = ("production", "migration")

# Traffic within a side passes here too on a machine whose bridges call netfilter (Docker's do).
FIREWALL = """
table inet lab {{
  counter refused_migration {{ }}
  chain forward {{
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    iifname "hub" accept
    iifname "production" oifname "production" accept
    iifname "migration" oifname "migration" accept
    iifname "production" oifname "migration" tcp dport {port} accept
    iifname "migration" counter name refused_migration
    reject with icmpx admin-prohibited
  }}
  chain input {{
    type filter hook input priority filter; policy drop;
    iifname "lo" accept
    ct state established,related accept
    icmp type echo-request accept
    iifname "hub" meta l4proto {{ tcp, udp }} th dport 53 accept
    iifname "production" ip daddr {production} meta l4proto {{ tcp, udp }} th dport 53 accept
    iifname "migration" ip daddr {migration} meta l4proto {{ tcp, udp }} th dport 53 accept
    reject with icmpx admin-prohibited
  }}
}}
"""


# A command that writes must not go on when we are killed; the second also takes what a script has started.
WITH_US = ("setpriv", "--pdeathsig", "KILL")
ALL_WITH_US = (*WITH_US, "unshare", "--mount", "--pid", "--fork", "--kill-child")


PATIENCE = 600  # seconds: a guest's disk is copied, and others may use this machine's disk meanwhile


def run(argv: Sequence[str], *, check: bool = True, data: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command of this machine; a failure is a `LabProblem` with the command's own words."""
    try:
        done = subprocess.run(argv, input=data, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise LabProblem(
            f"`{' '.join(argv)}` was not done within {PATIENCE} seconds.",
            "Look what else keeps this machine's disk busy, run `manage.py lab down`, then `manage.py lab up`.",
            code="lab.command-time",
        ) from None
    except FileNotFoundError:
        raise LabProblem(
            f"The lab needs the program “{argv[0]}”, which is not on this machine.",
            "Install the Debian packages that README.md lists for the lab.",
            code="lab.program",
        ) from None
    if check and done.returncode != 0:
        words = (done.stderr or done.stdout).strip()
        raise LabProblem(
            f"`{' '.join(argv)}` failed with {done.returncode}: {words}",
            "Run `manage.py lab down`, then `manage.py lab up`.",
            code="lab.command",
        )
    return done


class Network:
    """The network of one lab. `up` twice is `up` once; either call repairs what a crash left."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    @property
    def router(self) -> str:
        """Name of the router's network namespace."""
        return f"{self.lab.tag}-router"

    @property
    def hub_link(self) -> str:
        """Name of the hub's interface in this machine's own network."""
        return f"{self.lab.tag}-hub"

    def namespace(self, host: str) -> str:
        """Name of a host's network namespace."""
        return f"{self.lab.tag}.{host}"

    def gateway(self, side: str) -> str:
        return self.lab.address(side, ROUTER)

    def resolver(self, side: str) -> str:
        """Address of the name server as it is seen from a side: each has its own view."""
        return self.lab.address(side, RESOLVER)

    # -- whole network --------------------------------------------------------------------------------------

    def is_up(self) -> bool:
        # The firewall is loaded last, so it tells that all before it is there.
        if self.router not in namespaces():
            return False
        rules = run(["ip", "netns", "exec", self.router, "nft", "list", "tables"], check=False)
        owner = Path(f"/sys/class/net/{self.hub_link}/ifalias")
        # Another lab had this number before, if it was never brought down and its directory is gone.
        return "inet lab" in rules.stdout and owner.exists() and owner.read_text().strip() == self.lab.unique_name

    def up(self) -> None:
        if self.is_up():
            return
        # Whatever runs on a network that is no more, or that was another lab's, has lost it anyway.
        keeper.kill_cgroup(f"migrationhub-lab/{self.lab.tag}")
        self.down()
        self._refuse_conflicts()
        name = self.router
        run(["ip", "netns", "add", name])
        lines = ["link set lo up"]
        for side in SIDES:
            # No spanning tree and no learning delay: a host is reachable as soon as it answers.
            lines.append(f"link add {side} type bridge stp_state 0 forward_delay 0")
            lines.append(f"addr add {self.lab.address(side, ROUTER, prefix=True)} dev {side}")
            lines.append(f"addr add {self.lab.address(side, RESOLVER, prefix=True)} dev {side}")
            lines.append(f"link set {side} up")
        run(["ip", "-n", name, "-batch", "-"], data="\n".join(lines) + "\n")
        for setting, value in self._settings():
            run(["ip", "netns", "exec", name, "sysctl", "-qw", f"{setting}={value}"])
        run(["ip", "link", "add", self.hub_link, "type", "veth", "peer", "name", "hub", "netns", name])
        hub = self.lab.address("hub", HUB_SIDE, prefix=True)
        run(["ip", "-n", name, "addr", "add", self.lab.address("hub", ROUTER_SIDE, prefix=True), "dev", "hub"])
        run(["ip", "-n", name, "link", "set", "hub", "up"])
        run(["ip", "addr", "replace", hub, "dev", self.hub_link])
        run(["ip", "link", "set", self.hub_link, "up", "alias", self.lab.unique_name])
        for side in SIDES:
            via = self.lab.address("hub", ROUTER_SIDE)
            run(["ip", "route", "replace", str(self.lab.subnet(side)), "via", via, "dev", self.hub_link])
        firewall = FIREWALL.format(
            port=RECEIVING_PORT,
            production=self.resolver("production"),
            migration=self.resolver("migration"),
        )
        run(["ip", "netns", "exec", name, "nft", "-f", "-"], data=firewall)

    def down(self) -> None:
        """Remove the hub's link and the router with everything in it."""
        run(["ip", "link", "delete", self.hub_link], check=False)
        for name in self._namespaces():
            remove_namespace(name)
        if not namespaces() and len(known_labs()) <= 1:
            # What `ip netns add` made and mounted when it was used first; another lab may be about to use it.
            run(["umount", "/run/netns"], check=False)
            with contextlib.suppress(OSError):
                Path("/run/netns").rmdir()

    def _namespaces(self) -> list[str]:
        return [name for name in namespaces() if name.startswith((f"{self.lab.tag}.", f"{self.lab.tag}-"))]

    def leftovers(self) -> list[str]:
        """What is still on this machine under this lab's number."""
        found = self._namespaces()
        if Path(f"/sys/class/net/{self.hub_link}").exists():
            found.append(self.hub_link)
        return found

    def refused(self) -> int:
        """Packets of the migration side that the firewall turned away since `up`."""
        argv = ["ip", "netns", "exec", self.router, "nft", "-j", "list", "counter", "inet", "lab"]
        answer = json.loads(run([*argv, "refused_migration"]).stdout)
        return sum(part["counter"]["packets"] for part in answer["nftables"] if "counter" in part)

    def _settings(self) -> list[tuple[str, str]]:
        settings = [("net.ipv4.ip_forward", "1"), ("net.ipv6.conf.all.disable_ipv6", "1")]
        settings.append(("net.ipv4.icmp_ratelimit", "0"))  # else every second refusal would be a time-out
        for side in SIDES:
            # A target that takes over its source's address has another MAC: the router asks again soon, as one
            # does that gets the announcement which switches and routers in a data centre act on.
            settings.append((f"net.ipv4.neigh.{side}.base_reachable_time_ms", "2000"))
            settings.append((f"net.ipv4.neigh.{side}.delay_first_probe_time", "1"))
        return settings

    def _refuse_conflicts(self) -> None:
        """A route of this machine into the lab's ranges would lose its traffic to the lab.

        A wide one (10.0.0.0/8 of a VPN) is let be: the lab's are narrower, and few use just these numbers.
        """
        ours = [self.lab.subnet(network) for network in ("hub", *SIDES)]
        for route in json.loads(run(["ip", "-j", "-4", "route", "show", "table", "all"]).stdout or "[]"):
            with contextlib.suppress(ValueError):
                there = ipaddress.IPv4Network(route.get("dst", ""), strict=False)
                if there.prefixlen >= 16 and any(there.overlaps(net) for net in ours):
                    raise LabProblem(
                        f"This machine has a route to {there} by {route.get('dev')}, which the lab needs itself.",
                        "Use another lab name, so that the lab gets another number, or remove the route.",
                        code="lab.route",
                    )

    # -- one host's wiring ----------------------------------------------------------------------------------

    def wiring(self, host: str, nics: Sequence[tuple[str, str, str]]) -> list[list[str]]:
        """Commands that give a host a fresh namespace with eth0, eth1, … on the bridges of `nics`.

        `nics`: (side, MAC address, rate such as "40mbit" or "") for each interface. The guest finds its
        interfaces down and without address, as a machine does that was switched on.
        """
        name = self.namespace(host)
        commands = [["ip", "netns", "add", name], ["ip", "-n", name, "link", "set", "lo", "up"]]
        for number, (side, mac, rate) in enumerate(nics):
            inside, port = f"eth{number}", f"p{mac.replace(':', '')[4:]}"
            make = f"ip link add {inside} address {mac} netns {name} type veth peer name {port} netns {self.router}"
            commands.append(make.split())
            commands.append(["ip", "-n", self.router, "link", "set", port, "master", side, "up"])
            if rate:
                # On the host's own side: what it sends waits in its queue, as behind a slow line.
                slow = f"tc -n {name} qdisc add dev {inside} root tbf rate {rate} burst 128kb latency 100ms"
                commands.append(slow.split())
        return commands

    def unwiring(self, host: str) -> list[list[str]]:
        """Commands that take a host off the network: a machine that is off answers nothing."""
        # The veths go first and by themselves: the namespace lives on while anything is in it.
        name = self.namespace(host)
        links = [["ip", "-n", name, "link", "delete", f"eth{number}"] for number in range(4)]
        return [*links, ["ip", "netns", "delete", name]]


def namespaces() -> list[str]:
    """Names of the network namespaces of this machine."""
    directory = Path("/run/netns")
    return sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []


def remove_namespace(name: str) -> None:
    if name not in namespaces():
        return
    # Links first: the kernel frees a namespace late when something in it is still open.
    for link in json.loads(run(["ip", "-n", name, "-j", "link"], check=False).stdout or "[]"):
        if link["ifname"] != "lo":
            run(["ip", "-n", name, "link", "delete", link["ifname"]], check=False)
    run(["ip", "netns", "delete", name])


def mac_address(lab: Lab, host: str, number: int, side: str) -> str:
    """A locally administered address, the same for the same interface on the same side and unique on this machine."""
    digest = hashlib.sha256(f"{lab.unique_name}/{host}/{number}/{side}".encode()).digest()
    return "02:" + ":".join(f"{byte:02x}" for byte in digest[:5])
