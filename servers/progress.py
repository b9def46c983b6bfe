"""How far a piece of work is: the one shape that movers, platforms and operations report in."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any


class State(StrEnum):
    RUNNING = "running"
    SCHEDULED = "scheduled"  # by the engine itself
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"  # the far side was asked and knows nothing of the work


class Consistency(StrEnum):
    LIVE = "live"
    FROZEN = "frozen"
    SNAPSHOT = "snapshot"
    STOPPED = "stopped"


Memo = dict[str, Any]  # JSON; what an operation remembers between two acts, stored before the next act


@dataclass(frozen=True)
class SyncFacts:
    """What one sync left behind. Bytes are what the network carried from source to target."""

    kind: str  # initial | delta | final
    method: str  # "rsync"
    bytes_sent: int
    files_sent: int
    seconds: float
    as_of: datetime  # the source's content is as of this moment
    consistency: Consistency
    generation: int = 1  # of the target: raised by a revert, restore or unknown contact
    full: bool = False  # everything was compared, not only what the manifests name
    proof: str = ""  # manifest | full | checksum, for the final one
    discarded: tuple[str, ...] = ()  # changes on the target that this sync took away (first 200 paths)
    discarded_count: int = 0
    config_changed: tuple[str, ...] = ()  # files below /etc that were sent (first 200)
    notes: tuple[str, ...] = ()
    manifest: str = ""  # the mover's name of the lists that the next delta is compared with

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "as_of": self.as_of.isoformat()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> SyncFacts:
        """The facts that `as_dict` made, also after JSON turned tuples into lists."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in data.items()
        }
        values["as_of"] = datetime.fromisoformat(values["as_of"])
        values["consistency"] = Consistency(values["consistency"])
        return cls(**values)


@dataclass(frozen=True)
class Progress:
    """State of a piece of work as of `observed_at`.

    `next_act` names the one act that is due now (None: nothing to do but look again after `check_after`
    seconds). A reason is a sentence that names the cause and the next act.
    """

    state: State = State.RUNNING
    phase: str = ""
    raw: str = ""  # the outside's own word for its state
    reason: str = ""
    code: str = ""  # stable word for a failure's cause
    bytes_done: int = 0
    bytes_total: int | None = None
    files_done: int = 0
    files_total: int | None = None
    rate: float | None = None  # bytes per second, measured
    observed_at: datetime | None = None
    next_act: str | None = None
    check_after: float = 2.0
    target_power: str = ""  # on | off | unknown
    sync: SyncFacts | None = None
    result: dict[str, Any] = field(default_factory=dict)  # facts for the run's own row, JSON
    log: tuple[str, ...] = ()  # lines for the run's events

    @property
    def ended(self) -> bool:
        return self.state not in (State.RUNNING, State.SCHEDULED)


def storable(value: Any) -> Any:
    """The same without NUL characters, which PostgreSQL takes in no text and no JSON. Machines and probes send them."""
    if isinstance(value, str):
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if "\0" in value else value
    if isinstance(value, dict):
        return {storable(key): storable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(storable, value))
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{each.name: storable(getattr(value, each.name)) for each in fields(value)})
    return value
