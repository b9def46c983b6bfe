"""Ways back. Until the source is off, one button runs the recorded undo and starts the services again; afterwards,
cutover events that failed or were stopped are taken back: the target returns to the migration network."""

from __future__ import annotations

import json

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from migrationhub.audit.record import record
from projects import attempts, policies
from projects.errors import Conflict, NotReady
from projects.lanes import lane_of
from projects.models import Approval, Migration, Step, StepAttempt
from projects.states import move_step
from projects.steps import MODULES
from projects.steps.base import Lane, Plan
from projects.steps.cutover_events import CutoverEvents
from servers.models import Change
from servers.operations.whereabouts import TARGET_GONE

CUT = (Step.Kind.STOP, Step.Kind.FINAL)
TAKE_BACK = "Take cutover events back"


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
        gate = Approval.Gate.GO
        asked = policies.asked(policies.policy_of(migration.project_id, gate), timezone.now())
        used = Approval.objects.filter(wave=migration.wave_id, application=migration.application_id, gate=gate)
        used.exclude(digest="").update(state=Approval.State.REQUESTED, version=F("version") + 1, **asked)
        record("cutover.abort", migration, actor=user, project_id=migration.project_id, why=why)
        Change.bump()


def take_back_unmet(lane: Lane) -> list[str]:
    """Why the cutover events cannot be taken back now; empty when they can."""
    step, attempt = lane.steps[Step.Kind.CUTOVER], lane.open_attempt(Step.Kind.CUTOVER)
    if step.state == Step.State.UNDOING or (attempt and attempt.mode == StepAttempt.Mode.ROLLBACK):
        return ["The cutover events are being taken back already."]
    if step.state == Step.State.RUNNING:
        return ["The cutover events are running: stop them first."]
    if step.state not in (Step.State.ATTENTION, Step.State.CANCELLED):
        return ["The cutover events neither failed nor were stopped: there is nothing to take back."]
    if not CutoverEvents().way_back(lane):
        return ["Nothing was done to the target: there is nothing to take back."]
    return []


def take_back(migration_id: int, *, user: User, why: str) -> None:
    """Give the failed try up; the undo begins once nothing of it runs (`advance`). The source stays off.

    Raises NotReady with what is in the way, Conflict where something changed a moment ago.
    """
    lane = lane_of(Migration.objects.get(pk=migration_id))
    missing = take_back_unmet(lane)
    if missing:
        raise NotReady(missing)
    migration, step = lane.migration, lane.steps[Step.Kind.CUTOVER]
    with transaction.atomic():
        if not Migration.objects.filter(pk=migration_id, version=migration.version, state=Migration.State.OPEN).update(
            version=F("version") + 1
        ):
            raise Conflict(f"{migration} was changed a moment ago.", "Look again.", code="migration.version")
        attempt = lane.open_attempt(Step.Kind.CUTOVER)
        if attempt is not None and attempt.state != StepAttempt.State.CANCELLING:
            attempts.cancel(step.pk, user=user, seen_attempt=attempt.number)
        step.refresh_from_db()
        move_step(step, Step.State.UNDOING, reason=f"Taken back by {user}: {why or 'no reason given'}.")
        record("cutover.take_back", migration, actor=user, project_id=migration.project_id, why=why)
        Change.bump()


def advance(lane: Lane) -> bool:
    """Begin the undo once nothing of what it takes back runs any more."""
    if _free(lane, CUT):
        plans = [plan for kind in reversed(CUT) for plan in _undo_of(lane, kind)]
        return _begin(lane, Step.Kind.STOP, plans)
    if _free(lane, (Step.Kind.CUTOVER,)):
        return _begin(lane, Step.Kind.CUTOVER, CutoverEvents().way_back(lane))
    return _begin_anew(lane)


def _begin_anew(lane: Lane) -> bool:
    """A clone that is gone on its platform is made anew by the initial migration, as long as nothing was stopped."""
    step, target = lane.steps[Step.Kind.INITIAL], lane.migration.target
    if step.state != Step.State.DONE or target is None:
        return False
    if not any(finding["code"] == TARGET_GONE for finding in target.findings):
        return False
    stop = lane.state(Step.Kind.STOP)
    if stop not in (Step.State.WAITING, Step.State.READY, Step.State.UNDONE) or any(
        lane.open_attempt(kind) for kind in (Step.Kind.DELTA, Step.Kind.UAT, *CUT)
    ):
        return False
    with transaction.atomic():
        move_step(step, Step.State.READY, reason="The clone is gone on its platform: start it again for a new one.")
        record("clone.gone", lane.migration, project_id=lane.migration.project_id, before={"target": target.name})
        Change.bump()
    return True


def _free(lane: Lane, kinds: tuple[Step.Kind, ...]) -> bool:
    """Whether these steps are to be undone and nothing of them runs."""
    undoing = any(lane.state(kind) == Step.State.UNDOING for kind in kinds)
    return undoing and not any(lane.open_attempt(kind) for kind in kinds)


def _begin(lane: Lane, kind: str, plans: list[Plan]) -> bool:
    with transaction.atomic():
        attempts.begin(lane, kind, user=None, mode=StepAttempt.Mode.ROLLBACK, plans=plans)
        Change.bump()
    return True


def _undo_of(lane: Lane, kind: str) -> list[Plan]:
    plans: list[Plan] = []
    for attempt in reversed(lane.attempts.get(lane.steps[kind].pk, [])):
        if attempt.mode == StepAttempt.Mode.REAL and attempt.undone_by_id is None:
            plans += MODULES[kind].undo(lane, attempt)
    return _each_once(plans)


def _each_once(plans: list[Plan]) -> list[Plan]:
    """What several attempts did alike is taken back once; the last attempt, which comes first, counts."""
    once: dict[str, Plan] = {}
    for plan in plans:
        alike = {name: value for name, value in plan.parameters.items() if name != "of"}
        once.setdefault(json.dumps([plan.operation, alike], sort_keys=True, default=str), plan)
    return list(once.values())
