"""From a run's parameters to a mover's job."""

from __future__ import annotations

from servers.models import ServiceRecord, SyncPoint
from servers.movers.base import Freeze, MoveJob

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
    record = ServiceRecord.objects.filter(server=source_id).order_by("-pk").first()
    units = {unit["name"]: unit for unit in (record.record.get("units", []) if record else [])}
    return tuple(units.get(name, {"name": name}) for name in names)
