"""Real Debian hosts with systemd for tests: `nspawn_lab` (one per session) and the factory `nspawn_host`.

def test_it(nspawn_host):
    host = nspawn_host("db", "debian", network="migration")
    connect(host.endpoint)
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from migrationhub.lab.hosts import ExecResult, HostSpec, Nic
from migrationhub.lab.network import Network
from migrationhub.lab.nspawn import NspawnBackend
from migrationhub.lab.state import Lab
from servers.remote.base import Endpoint


@dataclass
class NspawnHost:
    """A running host. `endpoint` logs in as root by key on port 22 and has the host's key accepted."""

    name: str
    backend: NspawnBackend
    endpoint: Endpoint

    @property
    def root(self) -> Path:
        return self.backend.root(self.name)

    def execute(self, script: str, timeout: float = 60.0) -> ExecResult:
        return self.backend.execute(self.name, script, timeout)

    def host_keys(self) -> tuple[str, ...]:
        """What the guest's own sshd shows, as “type base64”."""
        keys = self.execute("cat /etc/ssh/ssh_host_*_key.pub").out.splitlines()
        return tuple(" ".join(key.split()[:2]) for key in keys)

    def at(self, address: str) -> Endpoint:
        """The same host at another address (after a move)."""
        return replace(self.endpoint, address=address)


@dataclass(frozen=True)
class NspawnLab:
    lab: Lab
    network: Network
    backend: NspawnBackend
    private_key: str  # OpenSSH text; its public part is in root's authorized_keys of every `nspawn_host`
    public_key: str


@pytest.fixture(scope="session")
def nspawn_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NspawnLab]:
    """A lab of this session's own: its network, no hosts yet."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    lab = Lab(f"test-{os.getpid()}{worker}", tmp_path_factory.mktemp("var"))
    key = tmp_path_factory.mktemp("key") / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", str(key)], check=True)
    network, backend = Network(lab), NspawnBackend(lab)
    try:
        network.up()
        yield NspawnLab(lab, network, backend, key.read_text(), key.with_suffix(".pub").read_text().strip())
    finally:
        for name in backend.names():
            backend.delete(name)
        network.down()
        lab.remove()


def _factory(found: NspawnLab) -> Iterator[Callable[..., NspawnHost]]:
    made: list[str] = []

    def make(
        name: str,
        image: str = "debian",
        network: str = "production",
        *,
        address: str = "",
        user_data: str = "",
        start: bool = True,
        **options: str,
    ) -> NspawnHost:
        """A running host with SSH up; `address` without prefix, else the next one from .20 on."""
        address = address or found.lab.address(network, 20 + _next_number())
        options.setdefault("authorized_key", found.public_key)
        nics = (Nic(network, f"{address}/24"),)
        made.append(name)
        found.backend.create(HostSpec(name, image, nics, user_data, options))
        endpoint = Endpoint(name, address, private_key=found.private_key)
        host = NspawnHost(name, found.backend, endpoint)
        if start:
            found.backend.start(name)
            wait_for_ssh(host)
            host.endpoint = replace(endpoint, host_keys=host.host_keys())
        return host

    yield make
    for name in made:
        found.backend.delete(name)


_numbers = iter(range(200))


def _next_number() -> int:
    return next(_numbers) % 200


@pytest.fixture
def nspawn_host(nspawn_lab: NspawnLab) -> Iterator[Callable[..., NspawnHost]]:
    """Makes hosts that live as long as the test."""
    yield from _factory(nspawn_lab)


@pytest.fixture(scope="module")
def nspawn_module_host(nspawn_lab: NspawnLab) -> Iterator[Callable[..., NspawnHost]]:
    """Makes hosts that live as long as the test module: cheaper where tests can share one."""
    yield from _factory(nspawn_lab)


def wait_for_ssh(host: NspawnHost, timeout: float = 40.0) -> None:
    """Until sshd listens in the guest; the console's last lines are in the failure."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if host.execute("ss -Hltn sport = :22 | grep -q .").rc == 0:
            return
        time.sleep(0.2)
    pytest.fail(f"{host.name} has no sshd after {timeout} s:\n{host.backend.console(host.name, 30)}")
