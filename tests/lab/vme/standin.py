"""A stand-in over hosts that live in memory, for tests of the stand-in itself and of the client."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import requests

from migrationhub.lab.hosts import ExecResult, HostSpec, Nic
from migrationhub.lab.vme.appliance import Appliance
from migrationhub.lab.vme.auth import READER, SERVICE
from migrationhub.lab.vme.server import Server
from migrationhub.lab.vme.settings import Settings
from migrationhub.lab.vme.store import effective, read_journal, repeated_keys
from servers.platforms.base import InstanceSpec, PlatformAccess
from servers.platforms.vme.platform import VmePlatform
from servers.progress import Memo, Progress


@dataclass
class Host:
    spec: HostSpec
    nics: tuple[Nic, ...]
    power: str = "off"
    content: str = "fresh"
    snapshots: dict[str, str] = field(default_factory=dict)


class MemoryBackend:
    """`HostBackend` without machines. `calls` is what was done, in order."""

    kind = "process"

    def __init__(self) -> None:
        self.hosts: dict[str, Host] = {}
        self.calls: list[tuple[str, str]] = []
        self.hang = threading.Event()  # cleared: `create` waits
        self.hang.set()

    def _note(self, what: str, name: str) -> None:
        self.calls.append((what, name))

    def create(self, spec: HostSpec) -> None:
        self.hang.wait(10)
        self._note("create", spec.name)
        self.hosts.setdefault(spec.name, Host(spec, spec.nics))

    def start(self, name: str) -> None:
        self._note("start", name)
        self.hosts[name].power = "on"

    def stop(self, name: str, *, hard: bool = False) -> None:
        self._note("stop", name)
        self.hosts[name].power = "off"

    def power(self, name: str) -> str:
        return self.hosts[name].power if name in self.hosts else "absent"

    def attach(self, name: str, nics: tuple[Nic, ...]) -> None:
        self._note("attach", name)
        self.hosts[name].nics = nics

    def execute(self, name: str, script: str, timeout: float = 120.0) -> ExecResult:
        self._note("execute", name)
        if script.startswith("exit "):
            return ExecResult(int(script.split()[1]), "", "it said no")
        return ExecResult(0, f"ran {script}\n", "")

    def snapshot(self, name: str, snapshot: str) -> None:
        self.hosts[name].snapshots[snapshot] = self.hosts[name].content

    def revert(self, name: str, snapshot: str) -> None:
        self.hosts[name].content = self.hosts[name].snapshots[snapshot]

    def delete(self, name: str) -> None:
        self._note("delete", name)
        self.hosts.pop(name, None)

    def root(self, name: str) -> Path:
        return Path("/nonexistent") / name

    def console(self, name: str, lines: int = 50) -> str:
        return ""

    def names(self) -> list[str]:
        return sorted(self.hosts)


class StandIn:
    """A running stand-in that can be stopped and started again on the same state and port."""

    def __init__(self, directory: Path, backend: Any = None, **settings: Any) -> None:
        values = {
            "kind": "process",
            "duration": 0.02,
            "power_sync": 0.01,
            "name": "test",
            "production": "127.101.1.0/24",
            "migration": "127.101.2.0/24",
        } | settings
        self.settings = Settings(directory=directory, **values)
        self.backend = backend or MemoryBackend()
        self.addresses: list[tuple[str, str]] = []
        self.server: Server
        self.start(0)

    def start(self, port: int) -> None:
        self.appliance = Appliance(
            self.settings, self.backend, lambda name, address: self.addresses.append((name, address))
        )
        self.server = Server(self.appliance, port)
        self.server.start()

    def restart(self, **settings: Any) -> None:
        port = self.server.port
        self.server.stop()
        self.settings = replace(self.settings, **settings)
        self.start(port)

    def stop(self) -> None:
        self.server.stop()

    # -- for tests ------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def ca(self) -> Path:
        return self.settings.directory / "ca.pem"

    @property
    def catalog(self) -> Any:
        return self.appliance.catalog

    def access(self, username: str = SERVICE, **more: Any) -> PlatformAccess:
        file = "reader.json" if username == READER else "account.json"
        password = json.loads((self.settings.directory / file).read_text())["password"]
        values = {"password": password, "ca_bundle": self.ca.read_text(), "url": self.url} | more
        return PlatformAccess(name="VME", username=username, **values)

    def platform(self, username: str = SERVICE, **more: Any) -> VmePlatform:
        return VmePlatform(self.access(username), **more)

    def order(self, *faults: dict[str, Any]) -> None:
        requests.post(f"{self.url}/lab/faults", json=list(faults), verify=str(self.ca), timeout=30).raise_for_status()

    def network(self, side: str) -> str:
        return next(f"network-{net.id}" for net in self.catalog.networks.values() if net.side == side)

    def network_named(self, name: str) -> str:
        return next(f"network-{net.id}" for net in self.catalog.networks.values() if net.name == name)

    def spec(self, label: str = "shop-db-vme", **more: Any) -> InstanceSpec:
        catalog = self.catalog
        values = {
            "label": label,
            "group_id": str(catalog.group["id"]),
            "zone_id": str(catalog.zone["id"]),
            "pool_id": f"pool-{catalog.pool['id']}",
            "instance_type": "mvm",
            "layout_id": str(catalog.layout["id"]),
            "plan_id": str(next(iter(catalog.plans))),
            "image_id": str(next(iter(catalog.images))),
            "network_id": self.network("migration"),
            "datastore_id": str(catalog.datastore["id"]),
            "disks": (10, 4),
            "user_data": "#!/bin/sh\ntrue\n",
        } | more
        return InstanceSpec(**values)

    @property
    def journal(self) -> list[dict[str, Any]]:
        return read_journal(self.settings.directory / "journal.jsonl")

    def effective(self, act: str) -> list[dict[str, Any]]:
        return [entry for entry in effective(self.settings.directory / "journal.jsonl") if entry["act"] == act]

    def repeated_keys(self) -> list[str]:
        return repeated_keys(self.settings.directory / "journal.jsonl")


def run(step: Any, memo: Memo | None = None, *, timeout: float = 20.0) -> tuple[Memo, Progress]:
    """Call an act's `advance` until it ends, as controller and tasks do together."""
    memo = memo or {}
    deadline = time.monotonic() + timeout
    while True:
        memo, progress = step(memo)
        json.dumps(memo)  # a memo is JSON
        if progress.ended:
            return memo, progress
        assert time.monotonic() < deadline, f"still {progress.phase}: {progress.reason}"
        time.sleep(0.005)


def made(standin: StandIn, label: str = "shop-db-vme", **more: Any) -> str:
    """A running instance; its id."""
    platform = standin.platform()
    spec = standin.spec(label, **more)
    _, progress = run(lambda memo: platform.advance_create(f"create-{label}", spec, memo))
    assert progress.state == "succeeded", progress.reason
    return str(progress.result["external_id"])
