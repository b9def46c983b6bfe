"""From a run's parameters to a mover's job."""

from __future__ import annotations

from dataclasses import asdict

from servers.models import ServiceRecord as Row
from servers.models import SyncPoint
from servers.movers.base import Freeze, MoveJob
from servers.remote.services import ServiceRecord

from .base import Job


def move_job(job: Job) -> MoveJob:
    """The job as the mover wants it; endpoints carry secrets and are made anew each time."""
    parameters = job.parameters
    source, target = job.server("source"), job.server("target")
    last = SyncPoint.objects.filter(source=source, target=target).order_by("-number").first()
    freeze = parameters["freeze"]
    return MoveJob(
        work_key=job.key,
        kind=parameters["kind"],
        source=source.endpoint(),
        target=target.endpoint(),
        connect=job.connect,
        migration_key=parameters["migration_key"],
        scope=parameters["scope"],
        paths=tuple(parameters["paths"]),
        exclusions=tuple(parameters["exclusions"]),
        freeze=Freeze(freeze["method"], dict(freeze["options"])),
        proof=parameters["proof"],
        bandwidth=parameters["bandwidth"],
        generation=target.generation,
        last_sync=last.facts if last else {},
        services=recorded(job, source.pk),
        receive_mode=target.manager == "systemd",
        cancel=job.cancel,
    )


def recorded(job: Job, source_id: int) -> tuple[dict[str, object], ...]:
    """The chosen services as they were last recorded on the source; by name alone where nothing is recorded yet."""
    names = list(job.parameters.get("services", []))
    row = Row.objects.filter(server=source_id).order_by("-pk").first()
    record = ServiceRecord.from_dict(row.record) if row else None
    units = [(name, record.unit(name) if record else None) for name in names]
    return tuple(asdict(unit) if unit else {"name": name} for name, unit in units)
