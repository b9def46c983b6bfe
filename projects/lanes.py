"""Load lanes: everything that a decision about servers looks at, in two queries however many there are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.contrib.auth.models import User
from django.db.models import BooleanField, Exists, ExpressionWrapper, F, OuterRef, Q, QuerySet
from django.utils import timezone

from migrationhub.lib import together
from projects.models import (
    Action,
    Application,
    Approval,
    BreakGlass,
    ChangeFreeze,
    ChecklistItem,
    Decision,
    Defect,
    Hold,
    Membership,
    Migration,
    Step,
    StepAttempt,
)
from projects.models.step import Runners
from projects.steps.base import Lane
from servers.models import HostKey, Probe, SyncPoint

AT_ONCE = 1000  # servers; a query has room for so many keys and no more
SECRETS = ("secret", "passphrase", "become_password")  # no decision needs them; one that is broken breaks no page
NAMES = ("id", "username", "first_name", "last_name", "email")  # what rules and pages need of an account

Fetched = dict[str, list[Any]]


def lanes_for(migrations: Iterable[Migration], now: datetime | None = None) -> list[Lane]:
    """One lane for each migration, with the lanes that they wait for."""
    now = now or timezone.now()
    wanted, rows, awaited = _migrations(migrations)
    lanes = {pk: Lane(row, now, {}, defaultdict(list), defaultdict(list), [], {}, None, []) for pk, row in rows.items()}
    pks = list(lanes)
    for start in range(0, len(pks), AT_ONCE):
        _fill({pk: lanes[pk] for pk in pks[start : start + AT_ONCE]}, now)
    for pk, others in awaited.items():
        lanes[pk].awaited = [lanes[other] for other in others]
    return [lanes[pk] for pk in wanted if pk in lanes]


def lane_of(migration: Migration, now: datetime | None = None) -> Lane:
    return lanes_for([migration], now)[0]


def _migrations(migrations: Iterable[Migration]) -> tuple[list[int], dict[int, Migration], dict[int, list[int]]]:
    """The wanted ones in order, their rows and those that they wait for, and who waits for whom: one query.

    Awaited are open or complete migrations of the applications that each one's application waits for.
    """
    given = None if isinstance(migrations, QuerySet) else [migration.pk for migration in migrations]
    ids: Any = migrations.order_by().values("pk") if isinstance(migrations, QuerySet) else given
    joins = Application.waits_for.through.objects.filter(from_application__migrations__in=ids)
    others = Q(application__in=joins.values("to_application")) & ~Q(state=Migration.State.CANCELLED)
    found: Any = (
        Migration.objects.filter(Q(pk__in=ids) | others)
        .annotate(is_wanted=ExpressionWrapper(Q(pk__in=ids), BooleanField()), awaits=F("application__waits_for"))
        .select_related("project", "application__owner", "wave", "profile__platform", "target", "declared_by")
        .select_related("source__credential", "name_server")
        .defer(*(f"source__credential__{name}" for name in SECRETS))
        .order_by("source__name", "pk")
    )
    rows: dict[int, Any] = {}
    awaits: dict[int, set[int]] = defaultdict(set)  # applications, by migration: one row for each
    for row in found:
        rows.setdefault(row.pk, row)
        if row.is_wanted and row.awaits:
            awaits[row.pk].add(row.awaits)
    awaited = {
        pk: [
            other.pk
            for other in rows.values()
            if other.pk != pk and other.application_id in applications and other.state != Migration.State.CANCELLED
        ]
        for pk, applications in awaits.items()
    }
    wanted = [pk for pk, row in rows.items() if row.is_wanted] if given is None else given
    return wanted, rows, awaited


def _fill(lanes: dict[int, Lane], now: datetime) -> None:
    """Everything else that belongs to these lanes: one query."""
    found = _fetch([lane.migration for lane in lanes.values()], now)
    people = {user.pk: user for user in found["people"]}
    _add_steps(lanes, found, people)
    _add_gates(lanes, found, people)
    _add_findings(lanes, found, people)
    _add_holds(lanes, found, people)
    _add_machines(lanes, found)


def _fetch(migrations: list[Migration], now: datetime) -> Fetched:
    pks = [migration.pk for migration in migrations]
    waves = {migration.wave_id for migration in migrations}
    projects = {migration.project_id for migration in migrations}
    sources = {migration.source_id for migration in migrations}
    targets = {migration.target_id for migration in migrations}
    steps = Step.objects.filter(migration__in=pks)
    attempts = StepAttempt.objects.filter(step__migration__in=pks)
    items = ChecklistItem.objects.filter(step__migration__in=pks)
    approvals = Approval.objects.filter(wave__in=waves)
    decisions = Decision.objects.filter(approval__wave__in=waves)
    holds = Hold.objects.filter(project__in=projects, released_at=None)
    defects = Defect.objects.filter(wave__in=waves, state__in=Defect.UNSETTLED)
    passes = BreakGlass.objects.filter(wave__in=waves)
    newer = SyncPoint.objects.filter(target=OuterRef("target"), number__gt=OuterRef("number"))
    named = (
        *(attempts.values("started_by"), items.values("by"), holds.values("by")),
        *(decisions.values("user"), decisions.values("on_behalf_of"), approvals.values("delegated_to")),
        *(passes.values("by"), passes.values("confirmed_by"), defects.values("assignee"), defects.values("raised_by")),
    )
    parts = (
        *(approvals.values("delegated_by"), approvals.values("delegated_to")),
        *(decisions.values("user"), decisions.values("on_behalf_of")),
    )
    taking_part = Q.create([("user__in", each) for each in parts], Q.OR)
    people = User.objects.filter(*[Q.create([("pk__in", each) for each in named], Q.OR)])
    return together.fetch(
        steps=steps,
        attempts=attempts,
        actions=Action.objects.filter(attempt__step__migration__in=pks),
        items=items,
        approvals=approvals,
        members=Membership.objects.filter(taking_part, project__in=projects),
        decisions=decisions,
        defects=defects,
        passes=passes,
        passed=Step.objects.filter(pk__in=passes.values("step")),
        holds=holds,
        freezes=ChangeFreeze.objects.filter(project__in=projects, ends_at__gt=now, starts_at__lte=now),
        syncs=SyncPoint.objects.filter(~Exists(newer), target__in=targets),
        host_keys=HostKey.objects.filter(server__in=sources),
        probes=Probe.objects.filter(server__in=sources),
        people=people.only(*NAMES),
    )


def _add_steps(lanes: dict[int, Lane], found: Fetched, people: dict[int, User]) -> None:
    steps: dict[int, Step] = {}
    for step in sorted(found["steps"], key=lambda step: step.position):
        steps[step.pk] = step
        step.migration = lanes[step.migration_id].migration  # the same row, without a query for each
        lanes[step.migration_id].steps[step.kind] = step
    actions: dict[int, list[Action]] = defaultdict(list)
    for action in sorted(found["actions"], key=lambda action: action.position):
        actions[action.attempt_id].append(action)
    for attempt in sorted(found["attempts"], key=lambda attempt: attempt.number):
        attempt.step = steps[attempt.step_id]
        if attempt.started_by_id:
            attempt.started_by = people[attempt.started_by_id]
        for action in actions[attempt.pk]:
            action.attempt = attempt
        together.prefilled(attempt, "actions", actions[attempt.pk])
        lanes[attempt.step.migration_id].attempts[attempt.step_id].append(attempt)
    for item in sorted(found["items"], key=lambda item: item.position):
        item.step = steps[item.step_id]
        if item.by_id:
            item.by = people[item.by_id]
        lanes[item.step.migration_id].checklist[item.step_id].append(item)


def _add_gates(lanes: dict[int, Lane], found: Fetched, people: dict[int, User]) -> None:
    decisions: dict[int, list[Decision]] = defaultdict(list)
    for decision in sorted(found["decisions"], key=lambda decision: -decision.pk):
        decision.user = people[decision.user_id]
        decision.on_behalf_of = people.get(decision.on_behalf_of_id)
        decisions[decision.approval_id].append(decision)
    gates: dict[tuple[int, int], dict[str, Approval]] = defaultdict(dict)
    for approval in found["approvals"]:
        approval.delegated_to = people.get(approval.delegated_to_id)
        together.prefilled(approval, "decisions", decisions[approval.pk])
        gates[approval.wave_id, approval.application_id][approval.gate] = approval
    roles: dict[int, dict[int, str]] = defaultdict(dict)
    for member in found["members"]:
        roles[member.project_id][member.user_id] = member.role
    runners = Runners(approval.application_id for approval in found["approvals"])
    for lane in lanes.values():
        migration = lane.migration
        lane.approvals = gates.get((migration.wave_id or 0, migration.application_id or 0), {})
        for approval in lane.approvals.values():
            if migration.wave and migration.application:
                approval.wave, approval.application = migration.wave, migration.application
                approval.roles_now, approval.runners = roles[migration.project_id], runners


def _add_findings(lanes: dict[int, Lane], found: Fetched, people: dict[int, User]) -> None:
    """Unsettled defects and break-glass of each lane's application in its wave."""
    passed = {step.pk: step for step in found["passed"]}
    for each in found["passes"]:
        each.step = passed.get(each.step_id)
        each.by, each.confirmed_by = people.get(each.by_id), people.get(each.confirmed_by_id)
    for each in found["defects"]:
        each.assignee, each.raised_by = people.get(each.assignee_id), people.get(each.raised_by_id)
    defects: dict[tuple[int | None, int | None], list[Defect]] = defaultdict(list)
    passes: dict[tuple[int | None, int | None], list[BreakGlass]] = defaultdict(list)
    for each in sorted(found["defects"], key=lambda each: each.number):
        defects[each.wave_id, each.application_id].append(each)
    for each in sorted(found["passes"], key=lambda each: -each.pk):
        passes[each.wave_id, each.application_id].append(each)
    for lane in lanes.values():
        migration = lane.migration
        key = (migration.wave_id, migration.application_id)
        lane.defects, lane.passes = defects.get(key, []), passes.get(key, [])
        if migration.wave and migration.application:
            for defect in lane.defects:
                defect.wave, defect.application = migration.wave, migration.application
            for made in lane.passes:
                made.wave, made.application = migration.wave, migration.application


def _add_holds(lanes: dict[int, Lane], found: Fetched, people: dict[int, User]) -> None:
    holds = sorted(found["holds"], key=lambda hold: hold.pk)
    for hold in holds:
        if hold.by_id:
            hold.by = people[hold.by_id]
    for lane in lanes.values():
        migration = lane.migration
        lane.holds = [hold for hold in holds if applies(hold, migration)]
        for hold in lane.holds:
            hold.application = migration.application if hold.application_id else None
            hold.migration = migration if hold.migration_id else None
        lane.holds += [
            Hold(
                kind=Hold.Kind.FREEZE,
                project=migration.project,
                why=f"{freeze.name}, until {_local(freeze.ends_at, migration)}",
            )
            for freeze in found["freezes"]
            if freeze.project_id == migration.project_id
        ]
        window = _late_words(lane) if _is_cut(lane) else window_words(migration, lane.now)
        if window:
            lane.holds.append(Hold(kind=Hold.Kind.WINDOW, project=migration.project, wave=migration.wave, why=window))


def _add_machines(lanes: dict[int, Lane], found: Fetched) -> None:
    keys: dict[int, list[HostKey]] = defaultdict(list)
    probes: dict[int, list[Probe]] = defaultdict(list)
    for key in sorted(found["host_keys"], key=lambda key: key.pk):
        keys[key.server_id].append(key)
    for probe in sorted(found["probes"], key=lambda probe: (probe.position, probe.pk)):
        probes[probe.server_id].append(probe)
    syncs = {sync.target_id: sync for sync in found["syncs"]}
    for lane in lanes.values():
        source = lane.migration.source
        together.prefilled(source, "host_keys", keys[source.pk])
        together.prefilled(source, "probes", probes[source.pk])
        lane.last_sync = syncs.get(lane.migration.target_id or 0)


def _is_cut(lane: Lane) -> bool:
    """Its services are being stopped or were: the window holds nothing back any more."""
    if Step.Kind.STOP not in lane.steps:
        return False
    return lane.over(Step.Kind.STOP) or lane.begun_in(Step.Kind.STOP, "stop_services") is not None


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
    zone = migration.wave.time_zone if migration.wave else migration.project.time_zone
    return f"{moment.astimezone(ZoneInfo(zone)):%a %-d %b %H:%M} ({zone})"


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
