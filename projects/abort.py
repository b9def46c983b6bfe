"""Abort a cutover: until the source is off, one button runs the recorded undo and starts the services again."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F

from migrationhub.audit.record import record
from projects import attempts
from projects.errors import Conflict, NotReady
from projects.lanes import lane_of
from projects.models import Approval, Migration, Step, StepAttempt
from projects.states import move_step
from projects.steps import MODULES
from projects.steps.base import Lane, Plan
from servers.models import Change

CUT = (Step.Kind.STOP, Step.Kind.FINAL)


def abort_unmet(lane: Lane) -> list[str]:
    """Why the cutover cannot be aborted by starting the services again; empty when it can."""
    if lane.source_may_be_off():
        return [
            "The shutdown of the source has begun: services cannot just be started again. "
            "Go on to the end, or call the lead before anybody switches the source on."
        ]
    undoing = any(lane.state(kind) == Step.State.UNDOING for kind in CUT)
    if undoing or any(attempt.mode == StepAttempt.Mode.ROLLBACK and attempt.is_open for attempt in _tries(lane)):
        return ["The cutover is being taken back already."]
    if not any(attempt.mode == StepAttempt.Mode.REAL and attempt.undone_by_id is None for attempt in _tries(lane)):
        return ["No service was stopped: there is nothing to take back."]
    return []


def _tries(lane: Lane) -> list[StepAttempt]:
    return [attempt for kind in CUT for attempt in lane.attempts.get(lane.steps[kind].pk, [])]


def abort_cutover(migration_id: int, *, user: User, why: str) -> None:
    """Ask what runs to stop; once it has, the undo begins (`advance`). The go is void from now on."""
    lane = lane_of(Migration.objects.get(pk=migration_id))
    missing = abort_unmet(lane)
    if missing:
        raise NotReady(missing)
    migration = lane.migration
    with transaction.atomic():
        if not Migration.objects.filter(pk=migration_id, version=migration.version).update(version=F("version") + 1):
            raise Conflict(f"{migration} was changed a moment ago.", "Look again.", code="migration.version")
        # From here no action of this server begins; one that began since the first look, a shutdown, counts.
        lane = lane_of(Migration.objects.get(pk=migration_id))
        missing = abort_unmet(lane)
        if missing:
            raise NotReady(missing)
        for kind in CUT:
            step, attempt = lane.steps[kind], lane.open_attempt(kind)
            if attempt is not None and attempt.state != StepAttempt.State.CANCELLING:
                attempts.cancel(step.pk, user=user, seen_attempt=attempt.number)
            if lane.attempts.get(step.pk) and step.state not in (
                Step.State.UNDONE,
                Step.State.WAITING,
                Step.State.READY,
            ):
                step.refresh_from_db()
                move_step(step, Step.State.UNDOING, reason=f"Aborted by {user}: {why or 'no reason given'}.")
        Approval.objects.filter(
            wave=migration.wave_id, application=migration.application_id, gate=Approval.Gate.GO
        ).update(state=Approval.State.REQUESTED, version=F("version") + 1)
        record("cutover.abort", migration, actor=user, project_id=migration.project_id, why=why)
        Change.bump()


def advance(lane: Lane) -> bool:
    """Begin the undo once nothing of steps 4 and 5 runs any more."""
    undoing = [kind for kind in CUT if lane.state(kind) == Step.State.UNDOING]
    if not undoing or any(lane.open_attempt(kind) for kind in CUT):
        return False
    plans = [plan for kind in reversed(CUT) for plan in _undo_of(lane, kind)]
    with transaction.atomic():
        attempts.begin(lane, Step.Kind.STOP, user=None, mode=StepAttempt.Mode.ROLLBACK, plans=plans)
        Change.bump()
    return True


def _undo_of(lane: Lane, kind: str) -> list[Plan]:
    plans: list[Plan] = []
    for attempt in reversed(lane.attempts.get(lane.steps[kind].pk, [])):
        if attempt.mode == StepAttempt.Mode.REAL and attempt.undone_by_id is None:
            plans += MODULES[kind].undo(lane, attempt)
    return plans
