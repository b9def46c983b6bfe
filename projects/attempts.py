"""Attempts: how a try at a step begins, walks through its actions, ends, is cancelled, is retried, is undone."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from migrationhub.audit.record import record
from projects import cancelled, undone
from projects.errors import Conflict, NotReady
from projects.lanes import lane_of, running_actions
from projects.models import Action, ChecklistItem, Migration, Step, StepAttempt, Wave
from projects.states import move_attempt, move_step
from projects.steps import MODULES
from projects.steps.base import Lane, Plan, Unmet
from servers import runs
from servers.models import Change, Run, Server

A = Action.State
CLOSED = (A.DONE, A.NOT_APPLICABLE, A.CANCELLED)
# Once begun, only its end or a retry leads out: a later try at the step would find the machine gone or shut to us.
NOT_LEFT_HALFWAY = {
    "shutdown": "The source was asked to go down, and that cannot be stopped: it is proven gone, or retried.",
    "remove_access": "Our access is being removed from the target: that is not left halfway. Retry it if it fails.",
}
Mode = StepAttempt.Mode
# A DNS name alone may be longer.
TITLE = 200
# Services are down, or about to be: its runs do not wait behind the copies of other servers.
AT_ONCE = (Step.Kind.STOP, Step.Kind.FINAL, Step.Kind.CUTOVER)


def begin(
    lane: Lane, kind: str, *, user: User | None, mode: str = Mode.REAL, plans: list[Plan] | None = None
) -> StepAttempt:
    """A new attempt with its actions, inside the caller's transaction."""
    step, module = lane.steps[kind], MODULES[kind]
    if plans is None:
        module.prepare(lane)
        plans = module.plan(lane)
    number = 1 + max((attempt.number for attempt in lane.attempts.get(step.pk, [])), default=0)
    attempt = StepAttempt.objects.create(
        step=step, number=number, mode=mode, started_by=user, started_at=timezone.now()
    )
    Action.objects.bulk_create(
        Action(
            attempt=attempt,
            position=position,
            depends_on=_depends(plans, position),
            operation=plan.operation,
            title=plan.title if len(plan.title) <= TITLE else f"{plan.title[: TITLE - 1]}…",
            parameters={**plan.parameters, **({"waits_for": plan.waits_for} if plan.waits_for else {})},
            undo=plan.undo,
            reversible=plan.reversible,
            state=A.NOT_APPLICABLE if plan.not_applicable else A.PLANNED,
            reason=plan.not_applicable,
            work_key=f"m{lane.migration.pk}.{step.position}.{number}.{position}.{plan.operation}",
        )
        for position, plan in enumerate(plans, start=1)
    )
    for plan in plans:
        if plan.not_applicable:
            names = _ticks(plan.operation, plan.parameters)
            ChecklistItem.objects.filter(step=step, operation__in=names).update(
                state=ChecklistItem.State.NOT_APPLICABLE, note=plan.not_applicable, at=attempt.started_at
            )
    return attempt


def _depends(plans: list[Plan], position: int) -> list[int]:
    """Positions that must be closed first. One that does not apply is closed from the start, however many there are
    in a row: what it would have waited for is waited for in its place."""
    after = plans[position - 1].after
    if after:
        before = [number for number in range(1, position) if plans[number - 1].operation == after]
    else:
        before = list(range(max(1, position - 1), position))
    behind = [_depends(plans, number) for number in before if plans[number - 1].not_applicable]
    return sorted({*before, *(number for numbers in behind for number in numbers)})


def _ticks(operation: str, parameters: dict[str, Any]) -> list[str]:
    """What the automatic items that this operation ticks are called by: with the place where it asks, or without."""
    return [operation, f"{operation}:{parameters.get('place', '')}"]


def newest_runs(lanes: list[Lane]) -> dict[str, Run]:
    """The newest run of every action that runs, by work key, in one query."""
    keys = [action.work_key for lane in lanes for action in running_actions(lane)]
    return {run.work_key: run for run in Run.objects.filter(work_key__in=keys).order_by("number")}


def advance(lane: Lane, newest: dict[str, Run]) -> bool:
    """Walk every open attempt of the lane one pass on. True if a step moved: the lane is to be read again."""
    moved = False
    for attempts in lane.attempts.values():
        for attempt in attempts:
            if attempt.state in StepAttempt.OPEN:
                moved |= _walk(lane, attempt, newest)
    return moved


def _walk(lane: Lane, attempt: StepAttempt, newest: dict[str, Run]) -> bool:
    """What happens to actions and checklist is in the lane afterwards; True if attempt or step moved."""
    actions = list(attempt.actions.all())
    for action in actions:
        if action.state == A.RUNNING:
            _read(lane, attempt, action, newest.get(action.work_key))
    if attempt.state == StepAttempt.State.CANCELLING:
        return _finish_cancel(lane, attempt, actions)
    broken = [action for action in actions if action.state in (A.FAILED, A.CANCELLED)]
    if broken:
        return _needs_attention(lane, attempt, actions, broken[0])
    for action in actions:
        if action.state == A.PLANNED and _free(actions, action) and not _paused(lane, attempt, action):
            _launch(lane, action, attempt)
    return all(action.state in CLOSED for action in actions) and _finish(lane, attempt)


def waits(lane: Lane, action: Action) -> bool:
    """The action is not to be begun before a person has said a word that is still missing."""
    return action.parameters.get("waits_for") == "declared" and lane.migration.declared_at is None


def _free(actions: list[Action], action: Action) -> bool:
    by_position = {other.position: other for other in actions}
    return all(by_position[position].state in CLOSED for position in action.depends_on)


def _paused(lane: Lane, attempt: StepAttempt, action: Action) -> bool:
    return bool(held(lane, attempt, action)) or waits(lane, action)


def held(lane: Lane, attempt: StepAttempt, action: Action) -> list[Unmet]:
    """What stops a real attempt before its next act; taking back is never held."""
    return MODULES[attempt.step.kind].act_unmet(lane, action.operation) if attempt.mode == Mode.REAL else []


def next_held(lane: Lane, attempt: StepAttempt) -> list[Unmet]:
    """What an attempt in which nothing runs waits for before it goes on."""
    actions = list(attempt.actions.all())
    free = (action for action in actions if action.state == A.PLANNED and _free(actions, action))
    return next((found for action in free if (found := held(lane, attempt, action))), [])


def _as_seen(lane: Lane, attempt: StepAttempt) -> bool:
    """Whether hold, plan and a request to stop are still as the lane has them; locked until the transaction ends.

    Taking back is never held, so only a request to stop is asked about there.
    """
    migration = lane.migration
    if attempt.mode == Mode.REAL:
        same = F("version")  # a check, not a change
        if not Migration.objects.filter(pk=migration.pk, version=migration.version).update(version=same):
            return False
        wave = migration.wave
        if wave and not Wave.objects.filter(pk=wave.pk, version=wave.version).update(version=same):
            return False
    running = StepAttempt.State.RUNNING
    return bool(StepAttempt.objects.filter(pk=attempt.pk, state=running).update(state=running))


def _launch(lane: Lane, action: Action, attempt: StepAttempt) -> None:
    """Action and run begin in one transaction; the run's work key says whose it is."""
    parameters = {key: value for key, value in action.parameters.items() if key != "waits_for"}
    about: int | None = (
        parameters.get("machine") or parameters.get("server") or parameters.get("target") or parameters.get("source")
    )
    if attempt.mode == Mode.ROLLBACK or attempt.step.kind in AT_ONCE:
        parameters[runs.AT_ONCE] = True
    with transaction.atomic():
        if not _as_seen(lane, attempt):
            raise Conflict(f"“{action.title}” was not begun: {lane.migration} was changed a moment ago.")
        if not Action.objects.filter(pk=action.pk, state=A.PLANNED).update(state=A.RUNNING, reason=""):
            raise Conflict(f"“{action.title}” was begun by somebody else.")
        runs.request(
            action.work_key,
            action.operation,
            title=action.title,
            parameters=parameters,
            server=Server.objects.get(pk=about) if about else None,
            user=attempt.started_by,
        )
    action.state = A.RUNNING


ENDS = {
    Run.State.SUCCEEDED: A.DONE,
    Run.State.FAILED: A.FAILED,
    Run.State.LOST: A.FAILED,
    Run.State.CANCELLED: A.CANCELLED,
}


def _read(lane: Lane, attempt: StepAttempt, action: Action, run: Run | None) -> None:
    """Take the end of the action's newest run over."""
    if run is None or run.is_open:
        return
    state = ENDS[Run.State(run.state)]
    # A time is there once its work began (`Action.was_begun`), in this try or an earlier one.
    ended = action.finished_at if run.reason == runs.NOT_BEGUN else run.finished_at
    with transaction.atomic():
        if not Action.objects.filter(pk=action.pk, state=A.RUNNING).update(
            state=state, reason=run.reason, finished_at=ended
        ):
            raise Conflict(f"The end of “{action.title}” was taken over by somebody else.")
        _tick_automatic(lane, attempt, action, run)
    action.state, action.reason, action.finished_at = state, run.reason, ended


def _tick_automatic(lane: Lane, attempt: StepAttempt, action: Action, run: Run) -> None:
    """An automatic item ticks itself from the run and links to it."""
    names = _ticks(action.operation, action.parameters)
    passed = run.state == Run.State.SUCCEEDED and not run.result.get("failed") and run.result.get("all") != 0
    state = ChecklistItem.State.DONE if passed else ChecklistItem.State.FAILED
    ChecklistItem.objects.filter(step=attempt.step_id, operation__in=names).update(
        state=state, run=run, note=run.reason[:500], at=run.finished_at
    )
    for item in lane.checklist.get(attempt.step_id, []):
        if item.operation in names:
            item.state = state


def _needs_attention(lane: Lane, attempt: StepAttempt, actions: list[Action], action: Action) -> bool:
    reason = f"{action.reason or f'“{action.title}” was cancelled.'} {_done_again(attempt, actions)}".rstrip()
    with transaction.atomic():
        if attempt.state != StepAttempt.State.RUNNING or not move_attempt(
            attempt, StepAttempt.State.ATTENTION, reason=reason
        ):
            return False
        step = attempt.step
        step.refresh_from_db()
        if step.state in (Step.State.RUNNING, Step.State.UNDOING):
            move_step(step, Step.State.ATTENTION, reason=reason)
        record("step.attention", step, project_id=lane.migration.project_id, why=reason)
        Change.bump()
    return True


def _finish(lane: Lane, attempt: StepAttempt) -> bool:
    """All actions are closed: the step is done, unless a person's part is missing."""
    module, step = MODULES[attempt.step.kind], attempt.step
    if attempt.mode == Mode.ROLLBACK:
        return undone.finish(lane, attempt)
    missing = module.unfinished(lane)
    if missing:
        if step.reason != missing:
            Step.objects.filter(pk=step.pk, state=Step.State.RUNNING).update(reason=missing, version=F("version") + 1)
        return False
    with transaction.atomic():
        if not _as_seen(lane, attempt):
            raise Conflict(f"“{step}” was not ended: {lane.migration} was changed a moment ago.")
        if not move_attempt(attempt, StepAttempt.State.DONE):
            return False
        step.refresh_from_db()
        again = step.kind == Step.Kind.DELTA
        move_step(step, Step.State.READY if again else Step.State.DONE, reason="", finished=True)
        if step.kind == Step.Kind.VALIDATION:
            Migration.objects.filter(pk=lane.migration.pk).update(
                state=Migration.State.COMPLETE, completed_at=timezone.now(), version=F("version") + 1
            )
        record("step.done", step, project_id=lane.migration.project_id, after={"attempt": attempt.number})
        Change.bump()
    return True


def cancel(step_id: int, *, user: User | None, seen_attempt: int) -> None:
    """Ask the step's open attempt to stop: before the next act where an act cannot be cut."""
    step = Step.objects.select_related("migration").get(pk=step_id)
    attempt = _open(step, seen_attempt)
    with transaction.atomic():
        if not move_attempt(attempt, StepAttempt.State.CANCELLING, reason="Asked to stop."):
            raise Conflict(f"“{step}” moved on a moment ago.", "Look at what is there now.")
        # From here no action of this attempt begins; one that began a moment ago counts.
        missing = cancel_unmet(attempt, list(attempt.actions.all()))
        if missing:
            raise NotReady(missing)
        for action in attempt.actions.filter(state=A.RUNNING):
            for pk in (
                Run.objects.filter(work_key=action.work_key)
                .exclude(finished_at__isnull=False)
                .values_list("pk", flat=True)
            ):
                runs.cancel(pk)
        record("step.cancel", step, actor=user, project_id=step.migration.project_id)
        Change.bump()


def cancel_unmet(attempt: StepAttempt, actions: list[Action]) -> list[str]:
    """Why the attempt cannot be asked to stop; empty when it can."""
    if attempt.mode == Mode.ROLLBACK:
        return ["The cutover is being taken back: that is not left halfway. Retry it where it failed."]
    begun = [action for action in actions if action.was_begun and action.state != A.DONE]
    return [NOT_LEFT_HALFWAY[action.operation] for action in begun if action.operation in NOT_LEFT_HALFWAY]


def _open(step: Step, seen_attempt: int) -> StepAttempt:
    attempt = step.attempts.filter(state__in=StepAttempt.OPEN).first()
    if attempt is None or attempt.number != seen_attempt:
        raise Conflict(
            f"“{step}” is {step.get_state_display().lower()} now: the page you pressed on was older.",
            "Look at what is there now, and press again if it is still right.",
            code="step.conflict",
        )
    return attempt


def _finish_cancel(lane: Lane, attempt: StepAttempt, actions: list[Action]) -> bool:
    """The last running action has ended: now the attempt is cancelled."""
    if any(action.state == A.RUNNING for action in actions):
        return False
    with transaction.atomic():
        Action.objects.filter(attempt=attempt, state=A.PLANNED).update(state=A.CANCELLED, reason=runs.NOT_BEGUN)
        if not move_attempt(attempt, StepAttempt.State.CANCELLED, reason="Cancelled."):
            return False
        step = attempt.step
        step.refresh_from_db()
        if step.state in (Step.State.RUNNING, Step.State.ATTENTION):
            move_step(step, Step.State.CANCELLED, reason=cancelled.words(lane, step.kind, actions), finished=True)
        Change.bump()
    return True


def _done_again(attempt: StepAttempt, actions: list[Action]) -> str:
    """Why a retry does again what is done, in words; "" where that is kept. What is taken back is kept always."""
    return MODULES[attempt.step.kind].done_again(actions) if attempt.mode == Mode.REAL else ""


def retry(step_id: int, *, user: User | None, seen_attempt: int) -> None:
    """Failed actions again as new runs of the same work; what is done is kept, unless the step says that it counts no
    more. Parameters follow today's plan."""
    step = Step.objects.select_related("migration").get(pk=step_id)
    attempt = _open(step, seen_attempt)
    lane = lane_of(step.migration)
    module = MODULES[step.kind]
    missing = module.retry_unmet(lane) if attempt.mode == Mode.REAL else []
    if missing:
        raise NotReady([item.text for item in missing])
    with transaction.atomic():
        if not move_attempt(attempt, StepAttempt.State.RUNNING):
            raise Conflict(f"“{step}” is not waiting for a retry any more.", "Look at what is there now.")
        if user is not None and user.pk not in attempt.retried_by:
            attempt.retried_by = [*attempt.retried_by, user.pk]
            attempt.save(update_fields=["retried_by"])
        plans = module.plan(lane) if attempt.mode == Mode.REAL else []
        actions = list(attempt.actions.all())
        again = _done_again(attempt, actions)
        if again:
            _reopen(step, [action for action in actions if action.state == A.DONE], again)
        # Those to come, too: what was mended in the plan must not be done as it was planned before.
        kept = (A.RUNNING, A.NOT_APPLICABLE) if again else (A.RUNNING, A.NOT_APPLICABLE, A.DONE)
        for action in (action for action in actions if action.state not in kept):
            same = plans[action.position - 1] if len(plans) >= action.position else None
            if same is not None and same.operation == action.operation:
                action.parameters = {**action.parameters, **same.parameters}
            action.state, action.reason = A.PLANNED, ""
            action.save(update_fields=["parameters", "state", "reason"])
        step.refresh_from_db()
        undoing = attempt.mode == Mode.ROLLBACK
        if step.state == Step.State.ATTENTION:
            move_step(step, Step.State.UNDOING if undoing else Step.State.RUNNING, reason=again)
        record("step.retry", step, actor=user, project_id=step.migration.project_id, after={"attempt": attempt.number})
        Change.bump()


def _reopen(step: Step, actions: list[Action], why: str) -> None:
    """What these actions ticked is open until they are done again."""
    names = [name for action in actions for name in _ticks(action.operation, action.parameters)]
    ChecklistItem.objects.filter(step=step, operation__in=names).update(
        state=ChecklistItem.State.OPEN, note=why, run=None, by=None, at=timezone.now()
    )
    Migration.objects.filter(pk=step.migration_id).update(version=F("version") + 1)
