"""Load lanes: everything that a decision about servers looks at, in a fixed number of queries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

from django.db.models import Q
from django.utils import timezone

from projects.models import (
    Action,
    Application,
    Approval,
    ChangeFreeze,
    ChecklistItem,
    Hold,
    Migration,
    Step,
    StepAttempt,
)
from projects.steps.base import Lane
from servers.models import SyncPoint


def lanes_for(migrations: Iterable[Migration], now: datetime | None = None) -> list[Lane]:
    """One lane for each migration, with the lanes that they wait for."""
    now = now or timezone.now()
    wanted = [migration.pk for migration in migrations]
    awaited = _awaited(wanted)
    everything = set(wanted) | {other for others in awaited.values() for other in others}
    lanes = _load(everything, now)
    for pk, others in awaited.items():
        lanes[pk].awaited = [lanes[other] for other in others if other in lanes]
    return [lanes[pk] for pk in wanted if pk in lanes]


def lane_of(migration: Migration, now: datetime | None = None) -> Lane:
    return lanes_for([migration], now)[0]


def _awaited(wanted: list[int]) -> dict[int, list[int]]:
    """Open or complete migrations of the applications that each one's application waits for."""
    by_migration: dict[int, list[int]] = defaultdict(list)
    joins = Application.waits_for.through.objects.filter(from_application__migrations__in=wanted)
    applications: dict[int, list[int]] = defaultdict(list)
    for pk, application in joins.values_list("from_application__migrations", "to_application"):
        if pk in wanted:
            applications[application].append(pk)
    others = Migration.objects.filter(application__in=list(applications)).exclude(state=Migration.State.CANCELLED)
    for other, application in others.values_list("pk", "application_id"):
        for pk in applications[application or 0]:
            if pk != other:
                by_migration[pk].append(other)
    return by_migration


def _load(pks: set[int], now: datetime) -> dict[int, Lane]:
    migrations = (
        Migration.objects.filter(pk__in=pks)
        .select_related("project", "application__owner", "wave", "profile__platform", "source__credential", "target")
        .prefetch_related("source__host_keys", "source__probes")
    )
    lanes = {
        migration.pk: Lane(migration, now, {}, defaultdict(list), defaultdict(list), [], {}, None, [])
        for migration in migrations
    }
    steps = {step.pk: step for step in Step.objects.filter(migration__in=pks)}
    for step in steps.values():
        step.migration = lanes[step.migration_id].migration
        lanes[step.migration_id].steps[step.kind] = step
    attempts = StepAttempt.objects.filter(step__migration__in=pks).order_by("number").prefetch_related("actions")
    for attempt in attempts:
        attempt.step = steps[attempt.step_id]  # the same row, without a query for each attempt
        lanes[steps[attempt.step_id].migration_id].attempts[attempt.step_id].append(attempt)
    for item in ChecklistItem.objects.filter(step__migration__in=pks).select_related("by"):
        lanes[steps[item.step_id].migration_id].checklist[item.step_id].append(item)
    _add_gates(lanes)
    _add_holds(lanes, now)
    _add_syncs(lanes)
    return lanes


def _add_gates(lanes: dict[int, Lane]) -> None:
    waves = {lane.migration.wave_id for lane in lanes.values()}
    gates: dict[tuple[int, int], dict[str, Approval]] = defaultdict(dict)
    for approval in Approval.objects.filter(wave__in=waves).prefetch_related("decisions__user"):
        gates[approval.wave_id, approval.application_id][approval.gate] = approval
    for lane in lanes.values():
        lane.approvals = gates.get((lane.migration.wave_id or 0, lane.migration.application_id or 0), {})


def _add_holds(lanes: dict[int, Lane], now: datetime) -> None:
    projects = {lane.migration.project_id for lane in lanes.values()}
    holds = list(Hold.objects.filter(project__in=projects, released_at=None).select_related("by", "application"))
    freezes = list(ChangeFreeze.objects.filter(project__in=projects, ends_at__gt=now, starts_at__lte=now))
    for lane in lanes.values():
        migration = lane.migration
        lane.holds = [hold for hold in holds if applies(hold, migration)]
        lane.holds += [
            Hold(
                kind=Hold.Kind.FREEZE,
                project=migration.project,
                why=f"{freeze.name}, until {_local(freeze.ends_at, migration)}",
            )
            for freeze in freezes
            if freeze.project_id == migration.project_id
        ]
        window = _late_words(lane) if _is_cut(lane) else window_words(migration, now)
        if window:
            lane.holds.append(Hold(kind=Hold.Kind.WINDOW, project=migration.project, wave=migration.wave, why=window))


def _is_cut(lane: Lane) -> bool:
    """Its services are being stopped or were: the window holds nothing back any more."""
    return Step.Kind.STOP in lane.steps and bool(lane.over(Step.Kind.STOP) or lane.open_attempt(Step.Kind.STOP))


def _late_words(lane: Lane) -> str:
    """Whoever runs it must know that the window is over while the service is down; nothing waits for it."""
    wave = lane.migration.wave
    if wave is None or wave.ends_at is None or lane.now < wave.ends_at or lane.over(Step.Kind.CUTOVER):
        return ""
    return (
        f"closed {_local(wave.ends_at, lane.migration)} in the middle of this cutover, which goes on: "
        "it is for the lead to abort it, as long as the source is on"
    )


def applies(hold: Hold, migration: Migration) -> bool:
    return (
        hold.project_id == migration.project_id
        and hold.wave_id in (None, migration.wave_id)
        and hold.application_id in (None, migration.application_id)
        and hold.migration_id in (None, migration.pk)
    )


def window_words(migration: Migration, now: datetime) -> str:
    """Why the wave's window keeps services from being stopped now; empty inside it or where there is none."""
    wave = migration.wave
    if wave is None:
        return ""
    if wave.starts_at and now < wave.starts_at:
        return f"opens {_local(wave.starts_at, migration)}"
    if wave.ends_at and now >= wave.ends_at:
        return f"closed {_local(wave.ends_at, migration)}: give the wave a new window"
    return ""


def _local(moment: datetime, migration: Migration) -> str:
    from zoneinfo import ZoneInfo

    zone = migration.wave.time_zone if migration.wave else migration.project.time_zone
    return f"{moment.astimezone(ZoneInfo(zone)):%a %-d %b %H:%M} ({zone})"


def _add_syncs(lanes: dict[int, Lane]) -> None:
    targets = {lane.migration.target_id: lane for lane in lanes.values() if lane.migration.target_id}
    newest: dict[int, SyncPoint] = {}
    for point in SyncPoint.objects.filter(Q(target__in=targets)).order_by("number"):
        newest[point.target_id] = point
    for target, point in newest.items():
        targets[target].last_sync = point


def application_lanes(wave_id: int, application: Application) -> list[Lane]:
    """The lanes of one application in one wave."""
    return lanes_for(
        Migration.objects.filter(wave=wave_id, application=application).exclude(state=Migration.State.CANCELLED)
    )


def running_actions(lane: Lane) -> list[Action]:
    return [
        action
        for attempts in lane.attempts.values()
        for attempt in attempts
        for action in attempt.actions.all()
        if action.state == Action.State.RUNNING
    ]
