"""The lab's name server: BIND with the zone shop.lab in two views, one resolver address for each side.

Production is updated by the key that the product is given; the migration view only by the lab itself, which
enters a clone's transient address when the platform hands it out.
"""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.tsig
import dns.tsigkeyring
import dns.update

from migrationhub.lab import dns_relay
from migrationhub.lab.daemon import Daemon
from migrationhub.lab.network import SIDES, Network
from migrationhub.lab.state import Lab, LabProblem
from migrationhub.lib.keys import stored

ZONE = "shop.lab"
TTL = 60  # seconds
PRODUCT_KEY, LAB_KEY = "migrationhub", "lab"
NAMED = Path("/usr/sbin/named")

CONFIGURATION = """\
options {{
  directory "{directory}";
  listen-on port {port} {{ {places} }};
  listen-on-v6 {{ none; }};
  recursion no;
  dnssec-validation no;
  allow-transfer {{ none; }};
  notify no;
  pid-file none;
  lock-file "{directory}/lock";
  session-keyfile "{directory}/session.key";
  managed-keys-directory "{directory}";
}};
controls {{ }};
{keys}
{views}
"""
KEY = 'key "{name}" {{ algorithm hmac-sha256; secret "{secret}"; }};\n'
VIEW = """\
view "{side}" {{
  {match} {{ {address}; }};
  zone "{zone}" {{
    type primary;
    file "{directory}/{side}.zone";
    allow-update {{ key "{key}"; }};
  }};
}};
"""
EMPTY = """\
$TTL {ttl}
{zone}. IN SOA ns.{zone}. hostmaster.{zone}. 1 3600 600 86400 {ttl}
{zone}. IN NS ns.{zone}.
ns.{zone}. IN A {address}
"""


@dataclass(frozen=True)
class Key:
    name: str
    secret: str  # base64
    algorithm: str = "hmac-sha256"


class Nameserver:
    """`named` of one lab. State: `dns/` in the lab's directory, with its zones' journals."""

    def __init__(self, lab: Lab, kind: str = "nspawn") -> None:
        self.lab = lab
        self.kind = kind
        self.directory = lab.dir / "dns"
        group = f"migrationhub-lab/{lab.tag}/" if os.geteuid() == 0 else ""
        self.daemon = Daemon(self.directory, "named", group and f"{group}.named")
        self.relay = Daemon(self.directory, "relay", group and f"{group}.relay")

    @property
    def port(self) -> int:
        return self.lab.resolver("production", self.kind)[1]

    @property
    def _inner_port(self) -> int:
        """Where BIND itself listens on 127.0.0.1, behind the relay of process hosts."""
        return 15300 + self.lab.index

    def address(self, side: str) -> str:
        """Where the view of a side answers."""
        return self.lab.resolver(side, self.kind)[0]

    def key(self, name: str = PRODUCT_KEY) -> Key:
        made = stored(self.directory / f"{name}.key", lambda: base64.b64encode(secrets.token_bytes(32)).decode())
        return Key(name, made)

    def up(self) -> None:
        """Start it and wait for its answer; records of an earlier run stay."""
        if not self.daemon.pid():
            self._write()
            argv = [str(self._program()), "-g", "-n", "1", "-c", str(self.directory / "named.conf")]
            if self.kind == "nspawn":
                # Not `ip netns exec`: its copy of all mounts would hold the disks of hosts that are deleted.
                argv = ["nsenter", f"--net=/run/netns/{Network(self.lab).router}", *argv]
            self.daemon.start(argv)
        if self.kind != "nspawn":
            places = [f"{self.address(side)}:{self.port}" for side in SIDES]
            self.relay.start([sys.executable, "-I", dns_relay.__file__, f"127.0.0.1:{self._inner_port}", *places])
        deadline = time.monotonic() + 120
        while not all(self._answers(side) for side in SIDES):
            if not self.daemon.pid() or time.monotonic() > deadline:
                raise LabProblem(
                    f"The lab's name server did not start:\n{self.daemon.last_words()}\n{self.relay.last_words()}",
                    "Run `manage.py lab down`, then `manage.py lab up`.",
                    code="lab.dns",
                )
            time.sleep(0.1)

    def down(self) -> None:
        self.relay.stop()
        self.daemon.stop()

    # -- records --------------------------------------------------------------------------------------------

    def look_up(self, side: str, name: str, timeout: float = 3.0) -> list[str]:
        """Addresses of a name ("db" or "db.shop.lab") in a side's view."""
        question = dns.message.make_query(self._absolute(name), dns.rdatatype.A)
        answer = dns.query.udp(question, self.address(side), timeout=timeout, port=self.port)
        return sorted(record.address for rrset in answer.answer if rrset.rdtype == dns.rdatatype.A for record in rrset)

    def enter(self, name: str, address: str, side: str = "migration") -> None:
        """Set the address of a name in a side's view, whatever it was; "" takes the name away."""
        key = self.key(LAB_KEY if side == "migration" else PRODUCT_KEY)
        ring = dns.tsigkeyring.from_text({key.name: key.secret})
        update = dns.update.UpdateMessage(ZONE, keyring=ring, keyalgorithm=dns.tsig.HMAC_SHA256)
        if address:
            update.replace(self._absolute(name), TTL, "A", address)
        else:
            update.delete(self._absolute(name))
        try:
            answer = dns.query.tcp(update, self.address(side), timeout=5, port=self.port)
        except (dns.exception.DNSException, OSError) as error:
            raise LabProblem(
                f"The lab's name server did not take {name}.{ZONE} = {address}: {error}",
                "`manage.py lab up` starts it again.",
                code="lab.dns",
                lasting=False,
            ) from error
        if answer.rcode() != dns.rcode.NOERROR:
            raise LabProblem(
                f"The lab's name server refused {name}.{ZONE} = {address}: {dns.rcode.to_text(answer.rcode())}.",
                f"Look at {self.daemon.log}.",
                code="lab.dns",
            )

    @staticmethod
    def _absolute(name: str) -> str:
        name = name.rstrip(".")
        return f"{name}." if name == ZONE or name.endswith(f".{ZONE}") else f"{name}.{ZONE}."

    def _answers(self, side: str) -> bool:
        try:
            return self.look_up(side, "ns", timeout=0.3) == [self.address(side)]
        except (dns.exception.DNSException, OSError):
            return False

    # -- files ----------------------------------------------------------------------------------------------

    def _write(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        views = ""
        for side, key in (("production", PRODUCT_KEY), ("migration", LAB_KEY)):
            place = self.directory / f"{side}.zone"
            if not place.exists():  # else it is BIND's: with its journal it holds what was updated
                place.write_text(EMPTY.format(ttl=TTL, zone=ZONE, address=self.address(side)))
            views += VIEW.format(
                match="match-destinations" if self.kind == "nspawn" else "match-clients",
                side=side,
                address=self.address(side),
                zone=ZONE,
                directory=self.directory,
                key=key,
            )
        keys = "".join(KEY.format(name=name, secret=self.key(name).secret) for name in (PRODUCT_KEY, LAB_KEY))
        path = self.directory / "named.conf"
        path.touch(0o600)
        path.write_text(
            CONFIGURATION.format(
                directory=self.directory,
                port=self.port if self.kind == "nspawn" else self._inner_port,
                places="".join(f"{self.address(side)}; " for side in SIDES) if self.kind == "nspawn" else "127.0.0.1;",
                keys=keys,
                views=views,
            )
        )

    def _program(self) -> Path:
        if not NAMED.exists():
            raise LabProblem(f"{NAMED} is not on this machine.", "Install Debian's package bind9.", code="lab.program")
        if os.geteuid() != 0:
            return NAMED
        # A copy: AppArmor's profile of the packaged path lets it read and write only below /etc/bind and /var.
        place = self.directory / "named"
        if not place.exists():
            shutil.copy(NAMED, place)
        return place
