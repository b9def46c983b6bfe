"""Real Debian hosts with systemd for tests: `nspawn_lab` (one per session) and the factory `nspawn_host`.

def test_it(nspawn_host):
    host = nspawn_host("db", "debian", network="migration")
    connect(host.endpoint)
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from migrationhub.lab.datacentre import Datacentre
from migrationhub.lab.hosts import ExecResult, HostSpec, Nic
from migrationhub.lab.nameserver import Nameserver
from migrationhub.lab.network import Network
from migrationhub.lab.nspawn import NspawnBackend
from migrationhub.lab.state import Lab, LabProblem, known_labs
from servers.remote.base import Endpoint

LAB_NAME = re.compile(r"tn(\d+)-\w+")


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

    def ssh(self, command: str, stdin: bytes = b"", address: str = "") -> subprocess.CompletedProcess[bytes]:
        """Run a command by the real client from the hub, with the accepted host keys and nothing else."""
        address = address or self.endpoint.address
        directory = self.backend.lab.dir
        known, key = directory / f"known-{self.name}", directory / f"key-{self.name}"
        known.write_text("".join(f"{address} {one}\n" for one in self.endpoint.host_keys))
        key.touch(0o600)
        key.write_text(self.endpoint.private_key or "")
        argv = ["ssh", "-F", "none", "-i", str(key), "-o", f"UserKnownHostsFile={known}", "-o", "BatchMode=yes"]
        argv += ["-o", "ConnectTimeout=5", f"{self.endpoint.username}@{address}", command]
        return subprocess.run(argv, input=stdin, capture_output=True, timeout=60)

    def start(self) -> None:
        """Power on and wait for sshd."""
        self.backend.start(self.name)
        wait_for_ssh(self)

    def stop(self, *, hard: bool = False) -> None:
        self.backend.stop(self.name, hard=hard)

    def boot_id(self) -> str:
        """Of the guest's current boot, "" while it has none.

        Read from outside: systemd waits 90 s for the end of a process that it did not start itself, so one that asks
        inside in the moment of a shutdown holds it up.
        """
        pid = self.backend.init(self.name)
        try:
            return Path(f"/proc/{pid}/root/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            return ""

    def wait_for_reboot(self, boot_id: str, timeout: float = 60.0) -> None:
        """Until the guest is up in another boot than `boot_id`."""
        deadline = time.monotonic() + timeout
        while self.boot_id() in ("", boot_id) and time.monotonic() < deadline:
            time.sleep(0.1)
        wait_for_ssh(self)

    def at(self, address: str) -> Endpoint:
        """The same host at another address (after a move)."""
        return replace(self.endpoint, address=address)


@dataclass(frozen=True)
class NspawnLab:
    lab: Lab
    network: Network
    backend: NspawnBackend
    nameserver: Nameserver  # runs; has no records but its own
    private_key: str  # OpenSSH text; its public part is in root's authorized_keys of every `nspawn_host`
    public_key: str


@pytest.fixture(scope="session")
def nspawn_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NspawnLab]:
    """A lab of this session's own: its network and name server, no hosts yet."""
    remove_orphans()
    lab = Lab(f"tn{os.getpid()}-lab", tmp_path_factory.mktemp("var"))
    key = tmp_path_factory.mktemp("key") / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", str(key)], check=True)
    network, backend, nameserver = Network(lab), NspawnBackend(lab), Nameserver(lab)
    try:
        network.up()
        nameserver.up()
        yield NspawnLab(lab, network, backend, nameserver, key.read_text(), key.with_suffix(".pub").read_text().strip())
    finally:
        Datacentre(lab).down()


@pytest.fixture
def spare_lab(tmp_path: Path) -> Iterator[Lab]:
    """A lab with nothing in it, for tests that bring it up and down themselves."""
    remove_orphans()
    lab = Lab(f"tn{os.getpid()}-spare", tmp_path)
    yield lab
    Datacentre(lab).down()


def remove_orphans() -> None:
    """Labs of test sessions that were killed."""
    for lab in known_labs():
        owner = LAB_NAME.fullmatch(lab.name)
        if owner and not Path(f"/proc/{owner[1]}").exists():
            Datacentre(lab).down()


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


def wait_for_ssh(host: NspawnHost, timeout: float = 60.0) -> None:
    """Until sshd listens in the guest; the console's last lines are in the failure."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        with contextlib.suppress(LabProblem):  # off for a moment while it reboots
            if host.execute("ss -Hltn sport = :22 | grep -q .").rc == 0:
                return
        time.sleep(0.2)
    pytest.fail(f"{host.name} has no sshd after {timeout} s:\n{host.backend.console(host.name, 30)}")
