"""What may happen next, and the one function that makes it happen.

Every transition is one conditional UPDATE on the states it may come from; a decision that looks at several rows
also carries the version of migration and wave, which every write bumps that can change a decision.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from migrationhub.audit.record import record
from projects import abort, attempts, checklists, gates, uat_runs
from projects.abort import abort_cutover
from projects.attempts import cancel as cancel_step
from projects.attempts import retry as retry_step
from projects.errors import Conflict, NotReady
from projects.lanes import lane_of, lanes_for
from projects.models import Migration, Step, StepAttempt, Wave
from projects.states import move_step
from projects.steps import MODULES
from projects.steps.base import Lane, StepModule, Unmet, defects_unmet, open_items
from servers.away import AWAY
from servers.models import Change, Run

__all__ = [
    "abort_cutover",
    "advance",
    "cancel_step",
    "completion_unmet",
    "declare_complete",
    "plan_steps",
    "retry_step",
    "set_delta_schedule",
    "start_step",
    "unmet",
]

log = logging.getLogger(__name__)
State = Step.State
STARTABLE = (State.WAITING, State.READY, State.SCHEDULED, State.CANCELLED, State.UNDONE)
# A person cancelled it: it does not start again by itself.
SELF_STARTABLE = (State.WAITING, State.READY, State.SCHEDULED, State.UNDONE)


@transaction.atomic
def plan_steps(migration: Migration) -> None:
    """Make the seven steps and their checklists, from the project's newest templates; what exists is left alone."""
    known = set(migration.steps.values_list("kind", flat=True))
    made = Step.objects.bulk_create(
        Step(migration=migration, kind=kind, position=position)
        for position, kind in enumerate(Step.ORDER, start=1)
        if kind not in known
    )
    if made:
        checklists.apply(migration, made)


def unmet(step: Step) -> list[Unmet]:
    """Why the step cannot start, in words; empty when nothing is in the way."""
    return MODULES[step.kind].unmet(lane_of(step.migration))


def start_step(step_id: int, *, user: User | None, seen_state: str, seen_attempt: int) -> StepAttempt:
    """Start a step for a person. Raises Conflict when the page was old, NotReady with what is missing."""
    try:
        return _start_as_seen(step_id, user, seen_state, seen_attempt)
    except Conflict as conflict:
        if conflict.code != "step.conflict":
            raise
        # The controller may have reworded the step in this very moment: what is there now decides.
        return _start_as_seen(step_id, user, seen_state, seen_attempt)


def _start_as_seen(step_id: int, user: User | None, seen_state: str, seen_attempt: int) -> StepAttempt:
    step = Step.objects.select_related("migration").get(pk=step_id)
    lane = lane_of(step.migration)
    step = lane.steps[step.kind]
    last = max((attempt.number for attempt in lane.attempts.get(step.pk, [])), default=0)
    # The controller rewords these three by itself: that refuses no honest press, what is unmet does.
    same = step.state == seen_state or {step.state, seen_state} <= {State.WAITING, State.READY, State.SCHEDULED}
    if not same or last != seen_attempt:
        raise Conflict(
            f"“{step}” is {step.get_state_display().lower()} now: the page you pressed on was older.",
            "Look at what is there now, and press again if it is still right.",
            code="step.conflict",
        )
    if step.state not in STARTABLE:
        raise Conflict(f"“{step}” is {step.get_state_display().lower()}: it cannot be started.", code="step.state")
    missing = _unmet(lane, step.kind)
    if missing:
        raise NotReady([item.text for item in missing])
    return launch(lane, step.kind, user=user)


def launch(lane: Lane, kind: str, *, user: User | None) -> StepAttempt:
    """The one way in which a step starts. The lane's versions guard what was decided on."""
    step, migration = lane.steps[kind], lane.migration
    with transaction.atomic():
        claim_versions(lane)
        attempt = attempts.begin(lane, kind, user=user)
        move_step(step, State.RUNNING, reason="", started=True)
        if kind == Step.Kind.STOP:
            _end_deltas(lane)
        record("step.start", step, actor=user, project_id=migration.project_id, after={"attempt": attempt.number})
        Change.bump()
    return attempt


def claim_versions(lane: Lane) -> None:
    """Fail if anything that this decision looked at was changed since the lane was read."""
    migration = lane.migration
    if not Migration.objects.filter(pk=migration.pk, version=migration.version).update(version=F("version") + 1):
        raise Conflict(f"{migration} was changed a moment ago.", "Look again.", code="migration.version")
    if migration.wave and not Wave.objects.filter(pk=migration.wave.pk, version=migration.wave.version).update(
        version=F("version")  # a check, not a change: servers of one wave do not get in each other's way
    ):
        raise Conflict(f"{migration.wave} was changed a moment ago.", "Look again.", code="wave.version")


def _end_deltas(lane: Lane) -> None:
    """The stop ends the schedule of deltas: step 2 is done."""
    step = lane.steps[Step.Kind.DELTA]
    Migration.objects.filter(pk=lane.migration.pk).update(next_delta_at=None)
    if step.state not in (State.DONE, State.SKIPPED):
        move_step(step, State.DONE, reason="The cutover has begun.", finished=True)


def set_delta_schedule(migration_id: int, *, user: User | None, minutes: int) -> None:
    """A delta every `minutes` from now; 0: by hand."""
    migration = Migration.objects.get(pk=migration_id)
    if not 0 <= minutes <= 7 * 24 * 60:
        raise NotReady([f"minutes={minutes}: expected 0 (by hand) to 10080 (a week)."])
    lane = lane_of(migration)
    if minutes and (lane.over(Step.Kind.STOP) or lane.open_attempt(Step.Kind.STOP)):
        raise NotReady([f"The cutover of {migration} has begun: no delta comes any more."])
    if migration.state != Migration.State.OPEN:
        raise NotReady([f"The migration of {migration} is {migration.get_state_display().lower()}."])
    with transaction.atomic():
        if minutes and lane.state(Step.Kind.DELTA) == State.CANCELLED:
            # A cancelled delta starts nothing by itself; whoever sets a schedule wants it to.
            move_step(lane.steps[Step.Kind.DELTA], State.READY, reason="")
        Migration.objects.filter(pk=migration_id).update(
            delta_every_minutes=minutes,
            next_delta_at=timezone.now() + timedelta(minutes=minutes) if minutes else None,
            version=F("version") + 1,
        )
        record(
            "delta.schedule",
            migration,
            actor=user,
            project_id=migration.project_id,
            before={"minutes": migration.delta_every_minutes},
            after={"minutes": minutes},
        )
        Change.bump()


def declare_complete(migration_id: int, *, user: User) -> None:
    """A lead says that the migration is complete; then our access to the target is removed."""
    migration = Migration.objects.get(pk=migration_id)
    lane = lane_of(migration)
    missing = completion_unmet(lane)
    if missing:
        raise NotReady(missing)
    with transaction.atomic():
        if not Migration.objects.filter(
            pk=migration_id, version=lane.migration.version, declared_at=None, state=Migration.State.OPEN
        ).update(declared_at=timezone.now(), declared_by=user, version=F("version") + 1):
            raise Conflict(f"{migration} was changed a moment ago, or was declared complete by somebody else.")
        record("migration.complete", migration, actor=user, project_id=migration.project_id)
        Change.bump()


def completion_unmet(lane: Lane) -> list[str]:
    """What keeps the migration from being declared complete."""
    step = lane.steps[Step.Kind.VALIDATION]
    attempt = lane.open_attempt(Step.Kind.VALIDATION)
    if lane.migration.declared_at:
        return ["It was declared complete already."]
    if attempt is None:
        return [f"Final validation is {step.get_state_display().lower()}."]
    missing = [
        f"“{action.title}” is not done."
        for action in attempt.actions.all()
        if not attempts.waits(lane, action) and action.state not in attempts.CLOSED
    ]
    missing += [item.text for item in defects_unmet(lane, Step.Kind.VALIDATION)]
    return missing + [f"Open on the checklist: {item.title}." for item in open_items(lane, Step.Kind.VALIDATION)]


def advance(now: datetime) -> None:
    """One pass of the controller over every open migration. Each decision is its own transaction."""
    open_ones = list(Migration.objects.filter(state=Migration.State.OPEN, steps__isnull=False).distinct())
    lanes = _load(open_ones, now)
    newest = attempts.newest_runs(lanes)
    walked = [_advance_lane(lane, now, newest) for lane in lanes]
    # Where something began or was in conflict, the next pass, which follows at once, sees what is now.
    busy = {_group(lane) for lane, exact in walked if not exact}
    exact_ones = [lane for lane, _ in walked if _group(lane) not in busy]
    uat_runs.advance(exact_ones)
    gates.advance(exact_ones)


def _group(lane: Lane) -> tuple[int | None, int | None]:
    return lane.migration.wave_id, lane.migration.application_id


def _load(migrations: list[Migration], now: datetime) -> list[Lane]:
    """Their lanes; one whose rows cannot be read does not keep the others from going on."""
    try:
        return lanes_for(migrations, now)
    except AWAY:
        raise
    except Exception:
        if len(migrations) <= 1:
            log.exception("Loading %s failed.", migrations)
            return []
    half = len(migrations) // 2
    return _load(migrations[:half], now) + _load(migrations[half:], now)


def _advance_lane(lane: Lane, now: datetime, newest: dict[str, Run]) -> tuple[Lane, bool]:
    """One lane's part of a pass; the lane, and whether it is as the rows are afterwards."""
    migration = lane.migration
    try:
        if attempts.advance(lane, newest) or abort.advance(lane):
            lane = lane_of(migration, now)
        return lane, not _tend(lane, now)
    except Conflict as conflict:
        log.info("%s: %s", migration, conflict)  # the next pass sees what is now
    except AWAY:
        raise
    except Exception:
        log.exception("Advancing %s failed.", migration)
    return lane, False


def _unmet(lane: Lane, kind: str) -> list[Unmet]:
    """What the step's module says, and before services are stopped that exactly what was signed is about to happen."""
    missing = MODULES[kind].unmet(lane)
    return missing or (gates.changed(lane) if kind == Step.Kind.STOP else [])


def _tend(lane: Lane, now: datetime) -> bool:
    """Start what starts by itself, and keep the words of waiting steps true. True if something was started."""
    for kind in Step.ORDER:
        step, module = lane.steps[kind], MODULES[kind]
        if step.state not in STARTABLE:
            continue
        missing = _unmet(lane, kind)
        if kind == Step.Kind.DELTA:
            if step.state != State.CANCELLED and _delta_due(lane, now) and not missing:
                with transaction.atomic():  # a conflict must leave it due, not put it off by an interval
                    _schedule_next(lane, now)
                    launch(lane, kind, user=None)
                return True
        elif module.automatic and not missing and _starts_itself(step, module):
            launch(lane, kind, user=None)
            return True
        _restate(lane, step, missing)
    return False


def _starts_itself(step: Step, module: StepModule) -> bool:
    return step.state in SELF_STARTABLE and (step.state != State.UNDONE or module.again_by_itself)


def _delta_due(lane: Lane, now: datetime) -> bool:
    return lane.migration.next_delta_at is not None and lane.migration.next_delta_at <= now


def _schedule_next(lane: Lane, now: datetime) -> None:
    minutes = lane.migration.delta_every_minutes
    Migration.objects.filter(pk=lane.migration.pk).update(
        next_delta_at=now + timedelta(minutes=minutes) if minutes else None
    )


def _restate(lane: Lane, step: Step, missing: list[Unmet]) -> None:
    """waiting | ready | scheduled, and why. A step that is only held is ready; the page draws the hold."""
    if step.state in (State.CANCELLED, State.UNDONE):
        return
    hard = [item for item in missing if item.hold is None]
    reason = " ".join(item.text for item in (hard or missing))
    state = State.WAITING if hard else State.READY
    if step.kind == Step.Kind.DELTA and not hard and lane.migration.next_delta_at:
        state = State.SCHEDULED
    if step.state != state:
        move_step(step, state, reason=reason)
        Change.bump()
    elif step.reason != reason:
        Step.objects.filter(pk=step.pk, state=step.state).update(reason=reason, version=F("version") + 1)
