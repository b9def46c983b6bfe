"""What the hub's own rows say about the moved servers: read only, for the report and its table."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from projects.models import Action, Migration, Project, Step, StepAttempt
from servers.models import ProbeResult, Run, SyncPoint

from .scenario import SLUG


def servers(wave: int = 1) -> list[dict[str, Any]]:
    """Per server of a wave: name, steps, syncs, downtime_seconds; times as ISO strings with zone."""
    migrations = Migration.objects.filter(project__slug=SLUG, wave__number=wave).select_related("source", "target")
    return [server(migration) for migration in migrations.order_by("source__name")]


def server(migration: Migration) -> dict[str, Any]:
    return {
        "name": migration.source.name,
        "steps": [
            {
                "kind": step.kind,
                "state": step.state,
                "started_at": _iso(step.started_at),
                "finished_at": _iso(step.finished_at),
            }
            for step in migration.steps.order_by("position")
        ],
        "syncs": [
            {
                "kind": sync.kind,
                "method": sync.method,
                "consistency": sync.consistency,
                "bytes_sent": sync.bytes_sent,
                "files_sent": sync.files_sent,
                "seconds": round(sync.seconds, 2),
            }
            for sync in SyncPoint.objects.filter(source=migration.source, target=migration.target).order_by("number")
        ],
        "downtime_seconds": downtime(migration),
    }


def downtime(migration: Migration) -> float | None:
    """Seconds from the start of the first stop to the first passed probe in production; None before that."""
    stop = (
        Run.objects.filter(server=migration.source, operation="stop_services", started_at__isnull=False)
        .order_by("started_at")
        .values_list("started_at", flat=True)
        .first()
    )
    if stop is None:
        return None
    passed = (
        ProbeResult.objects.filter(probe__server=migration.source, place="target", passed=True, at__gte=stop)
        .order_by("at")
        .values_list("at", flat=True)
        .first()
    )
    return round((passed - stop).total_seconds(), 2) if passed else None


def join(waiting: str, awaited: str) -> dict[str, Any]:
    """Whether the cutover events of one server began after the record of the other was proven."""
    began = _attempt(waiting).started_at
    proven = (
        Action.objects.filter(attempt=_attempt(awaited), operation="dns", state=Action.State.DONE)
        .values_list("finished_at", flat=True)
        .first()
    )
    if proven is None:
        return {"ok": False, "said": f"{awaited} has no proven DNS record"}
    return {
        "ok": began >= proven,
        "said": f"the record of {awaited} was proven at {proven:%H:%M:%S}, "
        f"the cutover events of {waiting} began at {began:%H:%M:%S}",
    }


def _attempt(name: str) -> StepAttempt:
    attempt = StepAttempt.objects.filter(
        step__kind=Step.Kind.CUTOVER, step__migration__source__name=name, mode=StepAttempt.Mode.REAL
    ).first()
    if attempt is None:
        raise LookupError(f"{name} has no cutover events")
    return attempt


def not_applicable(name: str) -> list[str]:
    """What did not apply to a server, with the reason that its action gives."""
    actions = Action.objects.filter(
        attempt__step__migration__source__name=name, state=Action.State.NOT_APPLICABLE
    ).order_by("attempt__step__position", "position")
    return list(dict.fromkeys(f"{action.title}: {action.reason}" for action in actions))


def wave_address(number: int) -> str:
    """The path of a wave's board."""
    wave = Project.objects.get(slug=SLUG).waves.get(number=number)
    return f"/waves/{wave.pk}/"


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
