"""Services of a machine: recorded before the stop, stopped in order, proven stopped, and restored exactly."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from migrationhub.lib.findings import Finding, Level, Problem

KINDS = ("service", "socket", "timer", "path")
EPHEMERAL = 32768  # ports from here on are handed out at random: never part of a fingerprint


@dataclass(frozen=True)
class Unit:
    """One unit as it was. `start_mode` is systemd's UnitFileState, or autostart | manual under supervisord."""

    name: str
    kind: str  # service | socket | timer | path
    active: bool
    state: str  # the manager's own word: active/running
    start_mode: str = ""
    pid: int = 0
    commands: tuple[str, ...] = ()  # command lines of its processes
    ports: tuple[int, ...] = ()  # TCP ports that its processes listened on
    activators: tuple[str, ...] = ()  # timers, sockets and paths that start it
    parts: tuple[str, ...] = ()  # go down with it: units that require it, are bound to it or part of it
    processes: tuple[tuple[int, int], ...] = ()  # id and start time in clock ticks: together they name one for good
    file: str = ""
    ends: bool = False  # a job that runs to its end: Type=oneshot without RemainAfterExit
    accepts: bool = False  # a socket that starts an instance of its own for each connection

    def serves(self, name: str) -> bool:
        """Whether a unit of this name serves one connection of this socket: systemd numbers them."""
        prefix = self.name.removesuffix(".socket").partition("@")[0]
        return self.accepts and re.fullmatch(rf"{re.escape(prefix)}@\d+-.*\.service", name) is not None

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Unit:
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in data.items()
        }
        values["processes"] = tuple((int(pid), int(start)) for pid, start in data.get("processes", ()))
        return cls(**values)


@dataclass(frozen=True)
class ServiceRecord:
    """Everything that may start or run something, at one moment."""

    taken_at: str  # ISO 8601, the hub's clock
    boot_id: str
    units: tuple[Unit, ...]
    listeners: tuple[str, ...] = ()  # "5432 postgres": port and process names, TCP
    cron: tuple[str, ...] = ()  # crontabs: path and digest
    at_jobs: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()
    notes: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return dict(json.loads(json.dumps(asdict(self))))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ServiceRecord:
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in data.items()
        }
        values["units"] = tuple(Unit.from_dict(unit) for unit in data["units"])
        return cls(**values)

    def unit(self, name: str) -> Unit | None:
        """The unit of this name; `.service` may be left out."""
        wanted = unit_name(name)
        return next((unit for unit in self.units if unit.name in (name, wanted)), None)

    def need(self, name: str) -> Unit:
        unit = self.unit(name)
        if unit is None:
            raise Problem(
                f"The machine had no service {name} when its services were recorded.",
                "Correct the list of services in the plan, or record the services again.",
                code="services.unknown",
            )
        return unit

    def group(self, names: Sequence[str]) -> list[Unit]:
        """The named units in their order, each after its activators and before what goes down with it, once each."""
        found: dict[str, Unit] = {}
        for name in names:
            members: dict[str, Unit] = {}
            waiting = [self.need(name)]
            while waiting:
                unit = waiting.pop(0)
                if unit.name not in members:
                    members[unit.name] = unit
                    waiting += [other for part in unit.parts if (other := self.unit(part))]
            starters = [self.unit(other) for unit in members.values() for other in unit.activators]
            found |= {unit.name: unit for unit in starters if unit and unit.name not in found}
            found |= {name: unit for name, unit in members.items() if name not in found}
        return list(found.values())

    def fingerprint(self) -> str:
        """Over units, start modes and ports: no process ids or names, nothing that changes by itself."""
        text = json.dumps([sorted(self.start_modes().items()), sorted(self.lasting_ports()), sorted(self.cron)])
        return hashlib.sha256(text.encode()).hexdigest()

    def start_modes(self) -> dict[str, str]:
        """Of units with a file; those that a program makes while it runs come and go by themselves."""
        return {unit.name: unit.start_mode for unit in self.units if unit.start_mode not in ("", "transient")}

    def lasting_ports(self) -> dict[int, str]:
        """With a line on who listens: a server that forks for a connection changes that by itself."""
        lines = ((int(line.split()[0]), line) for line in self.listeners)
        return {port: line for port, line in lines if port < EPHEMERAL}


def unit_name(name: str) -> str:
    return name if name.rsplit(".", 1)[-1] in KINDS else f"{name}.service"


def difference(before: ServiceRecord, after: ServiceRecord) -> list[str]:
    """What differs between two records, in words, as far as the fingerprint looks."""
    words = []
    old, new = before.start_modes(), after.start_modes()
    for name in sorted({*old, *new}):
        if name not in new:
            words.append(f"{name} is gone")
        elif name not in old:
            words.append(f"{name} is new ({new[name]})")
        elif old[name] != new[name]:
            words.append(f"{name} was {old[name]} and is {new[name]}")
    had, has = before.lasting_ports(), after.lasting_ports()
    words += [f"{had[port]}: listens no more" for port in sorted({*had} - {*has})]
    words += [f"{has[port]}: listens now" for port in sorted({*has} - {*had})]
    words += _lines("crontab gone or changed", "crontab new or changed", before.cron, after.cron)
    return words


def _lines(gone: str, came: str, before: Iterable[str], after: Iterable[str]) -> list[str]:
    return [f"{line}: {gone}" for line in sorted({*before} - {*after})] + [
        f"{line}: {came}" for line in sorted({*after} - {*before})
    ]


def running(code: str, text: str, act: str, subject: str) -> Finding:
    return Finding(Level.BLOCKING, code, text, act, subject)


class ServiceManager(Protocol):
    """All acts may be repeated. Names may leave `.service` out."""

    def record(self) -> ServiceRecord: ...

    def stop_one(self, record: ServiceRecord, name: str, timeout: float) -> list[Finding]:
        """Stop one service, what starts it first, and block its restart. Empty: stopped and proven."""

    def stop(self, record: ServiceRecord, names: Sequence[str], *, timeout: float) -> list[Finding]:
        """All in the given order; ends at the first that does not stop."""

    def block(self, record: ServiceRecord, names: Sequence[str]) -> None:
        """Nothing starts them again until `unblock` or the next boot; writes nothing that a sync would copy."""

    def prove(self, record: ServiceRecord, names: Sequence[str]) -> list[Finding]:
        """Empty: inactive, ports closed, no process left."""

    def unblock(self, record: ServiceRecord, names: Sequence[str]) -> None: ...

    def block_persistently(self, record: ServiceRecord, names: Sequence[str]) -> None:
        """Also over a reboot: a source that is switched on by mistake starts no second writer."""

    def unblock_persistently(self, record: ServiceRecord, names: Sequence[str]) -> None: ...

    def restore(self, record: ServiceRecord, names: Sequence[str]) -> list[Finding]:
        """Exactly the recorded state, in reverse order of the names. Empty: it is so."""
