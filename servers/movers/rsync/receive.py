"""The target receives only while nothing of the application runs there: stopped, and proven stopped."""

from __future__ import annotations

from typing import Any

from migrationhub.lib.findings import Finding, Level
from servers.movers.base import MoveJob
from servers.remote.base import Connection

_STOP_SECONDS = 40.0


def enter(job: MoveJob, target: Connection) -> dict[str, Any]:
    """Stop what must not run while data arrives. Returns what `leave` needs, as JSON."""
    if job.receive_mode:
        from servers.remote import receive as receive_mode

        receive_mode.enter(target)
        return {"mode": "receive"}
    if not job.services:
        return {"mode": "services", "record": {}, "names": []}
    from servers.remote.services import manager_for

    manager = manager_for(target)
    record = manager.record()
    names = _names(job, record)
    if names:
        manager.stop(record, names, timeout=_STOP_SECONDS)
    return {"mode": "services", "record": record.as_dict(), "names": names}


def prove(job: MoveJob, target: Connection, entered: dict[str, Any]) -> list[Finding]:
    """What runs on the target and must not; [] is the proof."""
    if job.receive_mode:
        from servers.remote import receive as receive_mode

        found = receive_mode.prove(target)
    else:
        names = list(entered.get("names", []))
        if not names:
            return []
        from servers.remote.services import manager_for

        found = manager_for(target).prove(_record(entered), names)
    return [finding for finding in found if finding.level == Level.BLOCKING]


def leave(job: MoveJob, target: Connection, entered: dict[str, Any]) -> None:
    """Start again what was stopped: after this the target is in use."""
    if job.receive_mode:
        from servers.remote import receive as receive_mode

        receive_mode.leave(target)
        return
    names = list(entered.get("names", []))
    if names:
        from servers.remote.services import manager_for

        manager_for(target).restore(_record(entered), names)


def _record(entered: dict[str, Any]) -> Any:
    from servers.remote.services import ServiceRecord

    return ServiceRecord.from_dict(entered["record"])


def _names(job: MoveJob, record: Any) -> list[str]:
    """The recorded services of the source that the target knows by now."""
    there = {unit.name for unit in record.units}
    return [name for name in (str(service.get("name", "")) for service in job.services) if name in there]
