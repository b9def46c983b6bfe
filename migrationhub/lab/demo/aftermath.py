"""What can be seen from outside when wave 1 is declared complete: names, services, power, the platform's journal."""

from __future__ import annotations

import re
import socket
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import dns.exception
import dns.message
import dns.query
import dns.rdatatype
import requests

from migrationhub.lab.demo.scenario import Scenario, ServerPlan
from migrationhub.lab.demo.verification import Result, source_name
from migrationhub.lab.hosts import HostBackend
from migrationhub.lab.vme.store import effective, repeated_keys

ACCESS_PORT = 2299  # of the hub's own sshd on targets


def look(plan: Scenario, server: ServerPlan, backend: HostBackend, host: str, journal: Path) -> dict[str, Result]:
    """All looks for one server, by name of the check."""
    address = plan.source(server.name)["new_address"]
    found = {"record": record(plan, server, address), "answers": answers(plan, server, address)}
    if plan.on_process_hosts:
        found["access_removed"] = {
            "ok": None,
            "said": "a process host has no sshd of ours, only a key, whose removal the hub proves itself",
        }
    else:
        found["access_removed"] = refused(address, ACCESS_PORT)
    power = {"source": backend.power(server.name), "target": backend.power(host)}
    found["source_off"] = {
        "ok": power == {"source": "off", "target": "on"},
        "said": f"source {power['source']}, target {power['target']}",
    }
    found["journal"] = acts(journal, server.name)
    return found


def resolve(plan: Scenario, name: str) -> list[str]:
    """The A records of a name at the lab's production resolver."""
    network = plan.production
    query = dns.message.make_query(name, dns.rdatatype.A)
    answer = dns.query.udp(query, network["resolver"], port=network["resolver_port"], timeout=5)
    return sorted(one.to_text() for rrset in answer.answer for one in rrset)


def record(plan: Scenario, server: ServerPlan, address: str) -> Result:
    """The record shows where the target is."""
    name = plan.source(server.name)["record"]
    try:
        shown = resolve(plan, name)
    except (dns.exception.DNSException, OSError) as error:
        return {"ok": False, "said": f"{name}: {error}"}
    kind = "the source's old address" if server.taking_over else "the new address"
    return {
        "ok": shown == [address],
        "said": f"{name} shows {', '.join(shown) or 'nothing'}; expected {kind} {address}",
    }


def answers(plan: Scenario, server: ServerPlan, address: str) -> Result:
    """The service answers as its users ask it: by its name, or at the address that was taken over."""
    try:
        if server.renamed:
            address = next(iter(resolve(plan, plan.source(server.name)["record"])), address)
        if server.name in ("shop-web", "wiki"):
            page = _session().get(f"http://{address}:{server.port}/", timeout=15)
            wanted = "Last order" if server.name == "shop-web" else "Wiki"
            words = " ".join(re.sub(r"<[^>]*>", " ", page.text).split())[:120]
            return {
                "ok": page.status_code == 200 and wanted in page.text,
                "said": f"http://{address}:{server.port}/ answers {page.status_code}: {words}",
            }
        if server.port == 873:
            listed = subprocess.run(
                ["rsync", "--list-only", "--contimeout=10", f"rsync://{address}/files/"],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            lines = len(listed.stdout.splitlines())
            return {
                "ok": listed.returncode == 0 and lines > 1,
                "said": f"rsync at {address} lists {lines} entries {listed.stderr.strip()}".strip(),
            }
        with socket.create_connection((address, server.port), timeout=10):
            return {"ok": True, "said": f"{address} port {server.port} accepts connections"}
    except (OSError, dns.exception.DNSException, requests.RequestException) as error:
        return {"ok": False, "said": f"{address} port {server.port}: {error}"}


def _session() -> requests.Session:
    session = requests.Session()
    session.trust_env = False  # the lab is not behind the machine's proxy
    return session


def refused(address: str, port: int) -> Result:
    """Nothing listens there any more, on a machine that answers."""
    try:
        with socket.create_connection((address, port), timeout=10):
            return {"ok": False, "said": f"{address} port {port} still accepts connections"}
    except ConnectionRefusedError:
        return {"ok": True, "said": f"{address} port {port} refuses connections"}
    except OSError as error:
        return {"ok": False, "said": f"{address} port {port}: {error}"}


def acts(journal: Path, server: str) -> Result:
    """One create and one effective resize of the server's instance, and no work key twice."""
    mine: Counter[str] = Counter(
        str(entry["act"]) for entry in effective(journal) if source_name(str(entry.get("name", ""))) == server
    )
    repeated = repeated_keys(journal)
    counts: dict[str, Any] = dict(sorted(mine.items()))
    return {
        "ok": mine["create"] == 1 and mine["resize"] == 1 and not repeated,
        "said": f"effective acts: {', '.join(f'{count} {act}' for act, count in counts.items())}; "
        f"work keys used twice: {', '.join(repeated) or 'none'}",
    }
