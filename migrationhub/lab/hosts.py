"""One interface over both kinds of lab host, so that the VME stand-in and the lab do not care which is used."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Nic:
    """One interface of a lab host: the bridge it is on and the address that the network hands out ("" = none)."""

    network: str  # "production" | "migration"
    address: str = ""  # with prefix: "10.77.1.20/24"


@dataclass(frozen=True)
class HostSpec:
    name: str
    image: str  # name of a recipe: "debian", "shop-db", …
    nics: tuple[Nic, ...]
    user_data: str = ""  # run once in the guest at its first boot, as cloud-init would
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ExecResult:
    rc: int
    out: str
    err: str


class HostBackend(Protocol):
    """Makes and runs hosts of one kind. All calls are idempotent; a crash in between is repaired by calling again.

    Neither lab nor stand-in writes into a guest after its creation except by `user_data` at first boot and by
    `execute`, which is what a hypervisor's API offers.
    """

    kind: str  # "nspawn" | "process"

    def create(self, spec: HostSpec) -> None:
        """Make the host's disk from the image; not started."""

    def start(self, name: str) -> None:
        """Power on."""

    def stop(self, name: str, *, hard: bool = False) -> None:
        """Power off: orderly (the guest's init is asked) or, hard, by pulling the plug."""

    def power(self, name: str) -> str:
        """on | off | absent: asked of the process, never of a file we wrote."""

    def attach(self, name: str, nics: tuple[Nic, ...]) -> None:
        """The complete list of interfaces from the next power-on. Never rewrites the guest's own configuration."""

    def execute(self, name: str, script: str, timeout: float = 120.0) -> ExecResult:
        """Run a script inside the running guest, as a hypervisor's agent does."""

    def snapshot(self, name: str, snapshot: str) -> None: ...
    def revert(self, name: str, snapshot: str) -> None: ...

    def delete(self, name: str) -> None: ...

    def root(self, name: str) -> Path:
        """Where the host's root directory is on this machine: for verification while it is off, never to write."""

    def console(self, name: str, lines: int = 50) -> str: ...

    def names(self) -> list[str]: ...
