"""How an undo ends: what it took back counts as never done, and the steps before it can go on."""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from migrationhub.audit.record import record
from projects import checklists
from projects.models import Migration, Step, StepAttempt
from projects.states import move_attempt, move_step
from projects.steps.base import Lane
from servers.models import Change

HELD = " Services of the clone that the final sync stopped stay so until the next delta."


def finish(lane: Lane, attempt: StepAttempt) -> bool:
    """What was done is taken back: step 6 is undone, or steps 4 and 5 are, and deltas may go on."""
    if attempt.step.kind == Step.Kind.CUTOVER:
        return _finish_taking_back(lane, attempt)
    with transaction.atomic():
        if not move_attempt(attempt, StepAttempt.State.DONE):
            return False
        held = HELD if lane.begun_in(Step.Kind.FINAL, "sync") else ""
        for kind in (Step.Kind.STOP, Step.Kind.FINAL):
            _undone(lane.steps[kind], attempt, f"Taken back: services run as recorded.{held}")
        delta = lane.steps[Step.Kind.DELTA]
        delta.refresh_from_db()
        if delta.state == Step.State.DONE:
            move_step(delta, Step.State.READY, reason="")
        minutes = lane.migration.delta_every_minutes
        Migration.objects.filter(pk=lane.migration.pk).update(
            next_delta_at=timezone.now() + timedelta(minutes=minutes) if minutes else None, version=F("version") + 1
        )
        record("cutover.undone", lane.migration, project_id=lane.migration.project_id)
        Change.bump()
    return True


def _finish_taking_back(lane: Lane, attempt: StepAttempt) -> bool:
    """The target is where it was before step 6. The source stays off; a person starts the step again."""
    with transaction.atomic():
        if not move_attempt(attempt, StepAttempt.State.DONE):
            return False
        _undone(attempt.step, attempt, "Taken back: the target is on the migration network again, the source is off.")
        Migration.objects.filter(pk=lane.migration.pk).update(version=F("version") + 1)
        record("cutover.moved_back", lane.migration, project_id=lane.migration.project_id)
        Change.bump()
    return True


def _undone(step: Step, by: StepAttempt, reason: str) -> None:
    step.refresh_from_db()
    if step.state == Step.State.UNDOING:
        move_step(step, Step.State.UNDONE, reason=reason, finished=True)
    StepAttempt.objects.filter(step=step, mode=StepAttempt.Mode.REAL, undone_by=None).exclude(
        state__in=StepAttempt.OPEN
    ).update(undone_by=by, state=StepAttempt.State.UNDONE)
    checklists.reopen(step, "Open again: the step was taken back.")
