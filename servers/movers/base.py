"""The contract of a mover: it moves the data of one source to one target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from migrationhub.lib.findings import Finding
from servers.progress import Memo, Progress
from servers.remote.base import Connection, Endpoint


@dataclass(frozen=True)
class Capabilities:
    provisions_target: bool = False
    interrupts_target: bool = True
    reverts_target: bool = False
    deltas: bool = True
    continuous: bool = False
    schedules_itself: bool = False
    shuts_source_down: bool = False
    finalizes: bool = False


@dataclass(frozen=True)
class Freeze:
    """How the data is made consistent during a sync."""

    method: str = "none"  # none | postgresql | snapshot-btrfs | snapshot-lvm | snapshot-zfs | stop
    options: dict[str, Any] = field(default_factory=dict)
    # postgresql: {"data": "/var/lib/postgresql/15/main", "user": "postgres", "port": 5432, "service": "postgresql"}
    # snapshot-btrfs: {"subvolume": "/"}   snapshot-lvm: {"size": "20%"} or "5G", of each volume
    # stop: {"services": [...]}


@dataclass(frozen=True)
class MoveJob:
    """One sync. `work_key` names it on both machines; the same key never runs twice."""

    work_key: str
    kind: str  # initial | delta | final
    source: Endpoint
    target: Endpoint
    connect: Callable[[Endpoint], Connection]  # a kept connection; the caller owns it
    migration_key: str  # stable over all syncs of one migration: key pair, manifests, directories
    scope: str = "system"  # system | paths
    paths: tuple[str, ...] = ()  # scope "paths": named directories; on process hosts relative to `directory`
    exclusions: tuple[str, ...] = ()
    freeze: Freeze = Freeze()
    proof: str = "full"  # manifest | full | checksum
    bandwidth: int = 0  # KiB/s on the wire, 0: unlimited
    generation: int = 1  # of the target; raised: full sync
    last_sync: dict[str, Any] = field(default_factory=dict)  # `sync` facts of the last sync point, {} if none
    services: tuple[dict[str, Any], ...] = ()  # recorded services (servers.remote.services), stopped on the target
    receive_mode: bool = True  # False only on process hosts beyond recorded services
    cancel: bool = False  # a person asked to stop: `advance` confirms


class Mover(Protocol):
    def capabilities(self, job: MoveJob) -> Capabilities: ...

    def preflight(self, job: MoveJob) -> list[Finding]:
        """ready | warning | blocking; each says what to do."""

    def observe(self, job: MoveJob, memo: Memo) -> Progress:
        """Read only; names the next act, if one is due. Called every few seconds by the controller."""

    def advance(self, job: MoveJob, memo: Memo) -> tuple[Memo, Progress]:
        """Exactly the one act that is due; safe to call again after a crash in the middle of it."""

    def abandon(self, job: MoveJob) -> str:
        """End what can be ended although the target does not answer, and prove it; what came of it, in words.

        Raises `Problem` where it could not be proven that nothing is at work any more.
        """
