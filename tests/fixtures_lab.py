"""Process hosts for tests: `process_lab` (one per session), the factory `process_host`, and `trap_commands`.

def test_it(process_host):
    host = process_host("db", "shop-db", interval="0.05")
    connect(host.endpoint)
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from migrationhub.lab.hosts import ExecResult, HostSpec, Nic
from migrationhub.lab.process import PORT, ProcessBackend
from migrationhub.lab.process_table import wait_for
from migrationhub.lab.state import Lab, known_labs
from servers.remote.base import Endpoint

LAB_NAME = re.compile(r"tp(\d+)-\w+")


@dataclass
class ProcessHost:
    """A process host. `endpoint` logs in by key as the lab's account and has the host's key accepted."""

    name: str
    backend: ProcessBackend
    endpoint: Endpoint

    @property
    def root(self) -> Path:
        return self.backend.root(self.name)

    def execute(self, script: str, timeout: float = 60.0) -> ExecResult:
        """Run a script on the host, in its directory, without SSH."""
        return self.backend.execute(self.name, script, timeout)

    def start(self) -> None:
        """Power on, wait until supervisord calls every service started, and accept the host's keys."""
        self.backend.start(self.name)
        if not wait_for(lambda: "STARTING" not in self.supervisorctl("status"), 60):
            pytest.fail(f"{self.name}: services do not start: {self.supervisorctl('status')}")
        self.endpoint = replace(self.endpoint, address=self.backend.address(self.name), host_keys=self.host_keys())

    def stop(self, *, hard: bool = False) -> None:
        self.backend.stop(self.name, hard=hard)

    def host_keys(self) -> tuple[str, ...]:
        """The host's own keys, as “type base64”."""
        files = sorted((self.root / "etc/ssh").glob("ssh_host_*_key.pub"))
        return tuple(" ".join(file.read_text().split()[:2]) for file in files)

    def supervisorctl(self, *arguments: str) -> str:
        """What `supervisorctl` of this host answers."""
        command = " ".join(arguments)
        return self.execute(f'supervisorctl -c "$HOST_DIR/etc/supervisord.conf" {command}').out

    def write(self, path: str, data: bytes | str, mode: int = 0o644) -> Path:
        """Write a file below the host's root, owned by its account."""
        target = self.root / path
        account = self.backend.account
        for directory in reversed(target.relative_to(self.root).parents):
            with contextlib.suppress(FileExistsError):
                (self.root / directory).mkdir()
                os.chown(self.root / directory, account.uid, account.gid)
        target.write_bytes(data if isinstance(data, bytes) else data.encode())
        target.chmod(mode)
        os.chown(target, account.uid, account.gid)
        return target

    def trapped(self) -> list[str]:
        return self.backend.trapped(self.name)


@dataclass
class ProcessLab:
    lab: Lab
    backend: ProcessBackend
    private_key: str  # OpenSSH text; its public part is in authorized_keys of every `process_host`
    public_key: str
    trapped: list[str] = field(default_factory=list)  # of hosts that are gone
    numbers: Iterator[int] = field(default_factory=lambda: itertools.cycle(range(10, 250)))

    def trapped_so_far(self) -> list[str]:
        living = [f"{name}\t{line}" for name in self.backend.names() for line in self.backend.trapped(name)]
        return [*self.trapped, *living]

    def delete(self, name: str) -> None:
        with contextlib.suppress(OSError):
            self.trapped += [f"{name}\t{line}" for line in self.backend.trapped(name)]
        self.backend.delete(name)


@pytest.fixture(scope="session")
def process_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessLab]:
    """A lab of this session's own, without hosts yet. What a killed session left is ended first."""
    end_abandoned_labs()
    lab = Lab(f"tp{os.getpid()}-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}")
    key = tmp_path_factory.mktemp("process-key") / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", str(key)], check=True)
    backend = ProcessBackend(lab)
    try:
        yield ProcessLab(lab, backend, key.read_text(), key.with_suffix(".pub").read_text().strip())
    finally:
        backend.down()
        lab.remove()


def end_abandoned_labs() -> None:
    for lab in known_labs():
        match = LAB_NAME.fullmatch(lab.name)
        if match and not Path(f"/proc/{match[1]}").exists():
            ProcessBackend(lab).down()
            lab.remove()


def _factory(found: ProcessLab) -> Iterator[Callable[..., ProcessHost]]:
    made: list[str] = []

    def make(
        name: str,
        recipe: str = "base",
        network: str = "production",
        *,
        address: str = "",
        user_data: str = "",
        start: bool = True,
        **options: str,
    ) -> ProcessHost:
        """A host, on unless `start=False`; `address` without prefix, else the next free one of the network."""
        address = address or found.lab.address(network, next(found.numbers), "process")
        options.setdefault("authorized_key", found.public_key)
        made.append(name)
        found.backend.create(HostSpec(name, recipe, (Nic(network, f"{address}/24"),), user_data, options))
        endpoint = Endpoint(
            name,
            address,
            port=PORT,
            username=found.backend.account.name,
            private_key=found.private_key,
            manager="supervisord",
            directory=str(found.backend.root(name)),
        )
        host = ProcessHost(name, found.backend, endpoint)
        if start:
            host.start()
        return host

    try:
        yield make
    finally:
        for name in reversed(made):
            found.delete(name)


@pytest.fixture
def process_host(process_lab: ProcessLab) -> Iterator[Callable[..., ProcessHost]]:
    """Makes hosts that live as long as the test."""
    yield from _factory(process_lab)


@pytest.fixture(scope="module")
def process_module_host(process_lab: ProcessLab) -> Iterator[Callable[..., ProcessHost]]:
    """Makes hosts that live as long as the test module: cheaper where tests can share one."""
    yield from _factory(process_lab)


@pytest.fixture
def trap_commands(process_lab: ProcessLab) -> Iterator[Callable[[], list[str]]]:
    """Fails the test if systemctl, shutdown, reboot, ip, apt, sudo and the like were called on a process host.

    They lie first in PATH of every login and service there and refuse. The fixture's value tells the calls so far.
    """
    with watch_traps(process_lab) as calls:
        yield calls


@contextlib.contextmanager
def watch_traps(process_lab: ProcessLab) -> Iterator[Callable[[], list[str]]]:
    before = len(process_lab.trapped_so_far())

    def calls() -> list[str]:
        return process_lab.trapped_so_far()[before:]

    yield calls
    assert not calls(), "commands that touch the real machine were called on a process host"
