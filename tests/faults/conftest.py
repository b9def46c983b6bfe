"""Two process hosts and their rows: where the faults of machines strike."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from servers.models import Credential, HostKey, Run, Server
from servers.remote.base import Endpoint
from servers.remote.hostkeys import fingerprint
from tests import factories
from tests.faults.matrix import Line
from tests.fixtures_lab import ProcessHost

_numbers = itertools.count(1)


@dataclass
class Hosts:
    """A source and a target, entered as servers by a person who knows how to log in to them."""

    source: ProcessHost
    target: ProcessHost
    rows: dict[str, Server]
    line: Line
    paths: tuple[str, ...] = ("srv/data",)

    def __post_init__(self) -> None:
        self.key = f"fault{next(_numbers)}"
        self.services: list[str] = []

    def words(self) -> dict[str, str]:
        found = {"user": self.source.endpoint.username, "key": self.key}
        for name, host in (("source", self.source), ("target", self.target)):
            endpoint = host.endpoint
            found |= {
                name: host.name,
                f"{name}_address": endpoint.address,
                f"{name}_at": f"{host.name} ({endpoint.address} port {endpoint.port})",
                f"{name}_root": str(host.root),
                f"{name}_key": fingerprint(key_of(endpoint).split()[1]),
            }
        return found

    def choices(self, operation: str) -> dict[str, Any]:
        source, target = self.rows["source"].pk, self.rows["target"].pk
        if operation not in ("sync", "preflight"):
            return {"server": source, "services": list(self.services)}
        return {
            "source": source,
            "target": target,
            "kind": "initial",
            "mover": "rsync",
            "migration_key": self.key,
            "scope": "paths",
            "paths": list(self.paths),
            "exclusions": [],
            "freeze": {"method": "none", "options": {}},
            "proof": "full",
            "bandwidth": 0,
            "services": [],
        }

    def done(self, operation: str, **choices: Any) -> Run:
        """A run before the fault, which must succeed."""
        run = self.line.take(f"{self.key}.before", operation, {**self.choices(operation), **choices}).run
        assert run.state == Run.State.SUCCEEDED, run.reason
        return run

    def credential(self, **changes: Any) -> None:
        Credential.objects.filter(server=self.rows["source"]).update(**changes)

    def service(self, name: str, command: str, options: str = "") -> None:
        """A program under the source's supervisord, running and recorded."""
        text = f"[program:{name}]\ncommand={command}\nautostart=true\nstartsecs=0\nkillasgroup=true\n{options}"
        self.source.write(f"etc/supervisor.d/{name}.ini", text)
        self.source.supervisorctl("update")
        self.services = [name]
        self.done("record_services")

    def no_service(self, name: str) -> None:
        (self.source.root / f"etc/supervisor.d/{name}.ini").unlink()
        self.source.supervisorctl("update")


def enter(endpoint: Endpoint) -> Server:
    """The machine as a person enters it who knows how to log in, with its ed25519 key accepted."""
    server = factories.make_server(
        endpoint.name,
        accepted=False,
        address=endpoint.address,
        port=endpoint.port,
        manager=endpoint.manager,
        directory=endpoint.directory,
        credential=factories.make_credential(
            kind=Credential.Kind.KEY, username=endpoint.username, secret=endpoint.private_key
        ),
    )
    accept(server, key_of(endpoint))
    return server


def key_of(endpoint: Endpoint) -> str:
    return next(line for line in endpoint.host_keys if line.startswith("ssh-ed25519 "))


def accept(server: Server, line: str) -> None:
    kind, public = line.split()[:2]
    HostKey.objects.update_or_create(
        server=server,
        fingerprint=fingerprint(public),
        defaults={"key_type": kind, "public": public, "state": HostKey.State.ACCEPTED},
    )


@pytest.fixture
def line(db: None) -> Line:
    return Line()


@pytest.fixture(scope="module")
def pair(process_module_host: Callable[..., ProcessHost]) -> Iterator[tuple[ProcessHost, ProcessHost]]:
    source = process_module_host("faults-old")
    yield source, process_module_host("faults-new", network="migration")


@pytest.fixture
def hosts(line: Line, pair: tuple[ProcessHost, ProcessHost]) -> Hosts:
    source, target = pair
    source.execute("rm -rf srv/data; mkdir -p srv/data; for n in 1 2 3; do head -c 1M /dev/urandom >srv/data/$n; done")
    target.execute("rm -rf srv/data; mkdir -p srv/data")
    return Hosts(source, target, {"source": enter(source.endpoint), "target": enter(target.endpoint)}, line)
