"""The tables of allowed transitions, and the one UPDATE that makes one."""

from __future__ import annotations

from typing import Any

from django.db.models import F
from django.utils import timezone

from projects.errors import Conflict
from projects.models import Step, StepAttempt

S = Step.State
STEP: dict[str, frozenset[str]] = {
    S.WAITING: frozenset({S.READY, S.SCHEDULED, S.RUNNING, S.DONE, S.NOT_APPLICABLE, S.SKIPPED, S.CANCELLED}),
    S.READY: frozenset({S.WAITING, S.SCHEDULED, S.RUNNING, S.DONE, S.NOT_APPLICABLE, S.SKIPPED, S.CANCELLED}),
    S.SCHEDULED: frozenset({S.WAITING, S.READY, S.RUNNING, S.DONE, S.SKIPPED, S.CANCELLED}),
    S.RUNNING: frozenset({S.ATTENTION, S.DONE, S.READY, S.SCHEDULED, S.CANCELLED, S.UNDOING}),
    S.ATTENTION: frozenset({S.RUNNING, S.DONE, S.CANCELLED, S.UNDOING}),
    S.DONE: frozenset({S.UNDOING, S.READY, S.WAITING}),
    S.NOT_APPLICABLE: frozenset(),
    S.SKIPPED: frozenset(),
    S.CANCELLED: frozenset({S.WAITING, S.READY, S.RUNNING, S.DONE, S.UNDOING}),
    S.UNDOING: frozenset({S.UNDONE, S.ATTENTION}),
    S.UNDONE: frozenset({S.WAITING, S.READY, S.RUNNING}),
}

A = StepAttempt.State
ATTEMPT: dict[str, frozenset[str]] = {
    A.RUNNING: frozenset({A.ATTENTION, A.CANCELLING, A.DONE, A.CANCELLED}),
    A.ATTENTION: frozenset({A.RUNNING, A.CANCELLING, A.CANCELLED}),
    A.CANCELLING: frozenset({A.CANCELLED, A.ATTENTION}),
    A.DONE: frozenset({A.UNDONE}),
    A.CANCELLED: frozenset({A.UNDONE}),
    A.UNDONE: frozenset(),
}


def sources(table: dict[str, frozenset[str]], to: str) -> list[str]:
    return [before for before, after in table.items() if to in after]


def move_step(step: Step, to: str, *, reason: str, started: bool = False, finished: bool = False) -> None:
    """Raises Conflict when the step is not in the state it was read in, or may not go there from it."""
    changes: dict[str, Any] = {"state": to, "reason": reason, "version": F("version") + 1}
    if started:
        changes |= {"started_at": step.started_at or timezone.now(), "finished_at": None}
    if finished:
        changes["finished_at"] = timezone.now()
    allowed = to in STEP[step.state]
    if not allowed or not Step.objects.filter(pk=step.pk, state=step.state).update(**changes):
        step.refresh_from_db()
        raise Conflict(
            f"“{step}” is {step.get_state_display().lower()} now; it was not made {S(to).label.lower()}.",
            "Look at what is there now.",
            code="step.conflict",
        )
    step.refresh_from_db()


def move_attempt(attempt: StepAttempt, to: str, *, reason: str = "") -> bool:
    """False when somebody else moved it meanwhile."""
    changes: dict[str, Any] = {"state": to, "reason": reason}
    if to not in StepAttempt.OPEN and attempt.finished_at is None:
        changes["finished_at"] = timezone.now()
    moved = StepAttempt.objects.filter(pk=attempt.pk, state=attempt.state, state__in=sources(ATTEMPT, to)).update(
        **changes
    )
    if moved:
        attempt.refresh_from_db(fields=["state", "reason", "finished_at"])
    return bool(moved)
