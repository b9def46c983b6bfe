"""The target receives only while nothing of the application runs there: stopped, and proven stopped."""

from __future__ import annotations

from typing import Any

from migrationhub.lib.findings import Finding, Level, Problem
from servers.movers.base import MoveJob
from servers.remote import power
from servers.remote import receive as receive_mode
from servers.remote.base import Connection
from servers.remote.services import ServiceRecord, manager_for

_ENTER_SECONDS = 45.0
_STOP_SECONDS = 20.0  # for each service


def enter(job: MoveJob, target: Connection) -> dict[str, Any]:
    """Stop what must not run while data arrives. Returns what `prove` and `leave` need, as JSON.

    Raises `Problem` where a recorded service does not stop.
    """
    boot = power.boot_id(target) if holds(job) else ""
    if job.receive_mode:
        receive_mode.enter(target, timeout=_ENTER_SECONDS)
        return {"names": [], "boot": boot}
    if not job.services:
        return {"names": []}
    manager = manager_for(target)
    record = manager.record()
    names = [name for name in _names(job) if record.unit(name) is not None]
    found = manager.stop(record, names, timeout=_STOP_SECONDS) if names else []
    if found:
        raise Problem(
            "A service of the target does not stop: " + " ".join(finding.text for finding in found),
            found[0].act,
            code="receive.stop",
        )
    return {"record": record.as_dict(), "names": names, "boot": boot}


def prove(job: MoveJob, target: Connection, entered: dict[str, Any]) -> list[Finding]:
    """What runs on the target and must not; [] is the proof."""
    if job.receive_mode:
        found = receive_mode.prove(target)
    elif entered.get("names"):
        record = ServiceRecord.from_dict(entered["record"])
        found = manager_for(target).prove(record, list(entered["names"]))
    else:
        found = []
    return [finding for finding in found if finding.level == Level.BLOCKING]


def holds(job: MoveJob) -> bool:
    """Whether there is anything on the target that `leave` would start."""
    return job.receive_mode or bool(job.services)


def leave(job: MoveJob, target: Connection, entered: dict[str, Any]) -> None:
    """Start the target as it would start by itself, with what the sync brought: after this it is in use.

    The connection may break: the target restarts. May be repeated: one that has restarted is not restarted again.
    """
    if not holds(job) or entered.get("boot", "") not in ("", power.boot_id(target)):
        return
    if job.receive_mode:
        receive_mode.leave(target)
    else:
        power.reboot(target)


def _names(job: MoveJob) -> list[str]:
    return [str(service["name"]) for service in job.services if service.get("name")]
