"""Break-glass: a lead passes a gate or a step's checklist alone, with a reason; a second person looks at it afterwards.

It passes what people owe: an answer, a tick, a verified defect. What machines prove is never passed: services not
stopped, a source that is not off, both sides not equal, a proof that failed.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from migrationhub.audit.record import record
from projects import approvals, decisions, policies
from projects import digest as digests
from projects.access import PLAN, may_sign, role_in
from projects.errors import Conflict, Forbidden, NotReady
from projects.lanes import application_lanes, lane_of
from projects.models import Approval, BreakGlass, ChecklistItem, Defect, Holds, Migration, Step, Wave
from projects.steps.base import Lane, open_items
from servers.models import Change

State = BreakGlass.State


def pass_gate(approval_id: int, *, user: User, reason: str, digest: str) -> BreakGlass:
    """Open a sign-off or a go without the answer, for exactly what the page showed (`digest`)."""
    approval = Approval.objects.select_related("application__owner", "wave__project").get(pk=approval_id)
    _check_lead(approval.wave.project_id, role_in(approval.wave.project, user), reason)
    if approval.digest != digest:
        raise Conflict("What you looked at has changed since the page was drawn.", "Look at the difference first.")
    lanes = application_lanes(approval.wave_id, approval.application)
    if not lanes:
        raise Conflict(f"No server of {approval.application} is in {approval.wave} any more.", "Look at its page.")
    never = never_passed(approval, lanes)
    if never:
        raise NotReady(never, "This is not passed by break-glass.")
    items = _people_items([item for lane in lanes for item in _gate_items(approval, lane)])
    held = lanes[0].holding()
    owed = [f"{approval.get_gate_display()}: {approval.get_state_display().lower()}."]
    with transaction.atomic():
        decisions.claim(approval, lanes)
        if not Approval.objects.filter(pk=approval.pk, version=approval.version, digest=digest).update(
            state=Approval.State.PASSED, version=F("version") + 1
        ):
            raise Conflict("Somebody else answered a moment ago.", "Look at what is there now.")
        return _keep(
            lanes[0],
            BreakGlass.Gate(approval.gate),
            user,
            reason,
            items=items,
            defects=[defect.pk for defect in held],
            passed=[*owed, *_words(items), *[f"{defect}, {defect.get_state_display().lower()}." for defect in held]],
            approval=approval,
            digest=digest,
        )


def never_passed(approval: Approval, lanes: list[Lane]) -> list[str]:
    """What keeps a gate shut whoever presses."""
    if approval.is_open:
        return [f"It is {approval.get_state_display().lower()} already."]
    if all(lane.over(Step.Kind.STOP) for lane in lanes):
        return ["Services are stopped already: there is nothing left to pass."]
    if approval.gate == Approval.Gate.SIGN_OFF:
        if digests.now(lanes) != approval.digest:
            return ["What is there now is not what the request is about: it changed a moment ago."]
        return [
            f"{lane.migration.source.name}: “{item.title}” is proven by a run, and is not passed."
            for lane in lanes
            for item in open_items(lane, Step.Kind.UAT)
            if item.automatic
        ]
    missing = []
    for lane in lanes:
        name = lane.migration.source.name
        if not lane.approved(Approval.Gate.SIGN_OFF):
            missing.append(f"{name}: the sign-off comes first; it has a break-glass of its own.")
        elif not lane.over(Step.Kind.UAT):
            missing.append(f"{name}: acceptance testing is not done; end the test first.")
    return missing or ([] if approval.digest else [approvals.UNASKED])


def _gate_items(approval: Approval, lane: Lane) -> list[ChecklistItem]:
    return open_items(lane, Step.Kind.UAT) if approval.gate == Approval.Gate.SIGN_OFF else []


def pass_step(step_id: int, *, user: User, reason: str) -> BreakGlass:
    """Let a step go past what people still owe it: open required items, at the stop and the end blocking defects."""
    step = Step.objects.select_related("migration__project").get(pk=step_id)
    migration = step.migration
    _check_lead(migration.project_id, role_in(migration.project, user), reason)
    if migration.state != Migration.State.OPEN:
        raise NotReady([f"The migration of {migration} is {migration.get_state_display().lower()}."])
    if migration.wave_id is None or migration.application_id is None:
        raise NotReady([f"{migration} is in no wave, or belongs to no application."])
    lane = lane_of(migration)
    items, held = passable(lane, step.kind)
    if not items and not held:
        raise NotReady([f"Nothing that people owe holds “{step}”."], "What machines prove is never passed.")
    with transaction.atomic():
        claimed = Migration.objects.filter(pk=migration.pk, version=lane.migration.version).update(
            version=F("version") + 1
        )
        if not claimed:
            raise Conflict(f"{migration} was changed a moment ago.", "Look again.", code="migration.version")
        Wave.objects.filter(pk=migration.wave_id).update(version=F("version") + 1)
        return _keep(
            lane,
            BreakGlass.Gate.STEP,
            user,
            reason,
            items=items,
            defects=held,
            passed=[*_words(items), *[f"{each}, {each.get_state_display().lower()}." for each in _named(lane, held)]],
            step=step,
        )


def passable(lane: Lane, kind: str) -> tuple[list[int], list[int]]:
    """Keys of the items and of the blocking defects that hold this step and that a lead may pass."""
    step = lane.steps[kind]
    if step.state in (Step.State.DONE, Step.State.SKIPPED, Step.State.NOT_APPLICABLE):
        return [], []
    # The end of the test is the sign-off's, which has a break-glass of its own.
    items = [
        item for item in open_items(lane, kind, Holds.START if kind == Step.Kind.UAT else "") if not item.automatic
    ]
    holds_defects = kind in (Step.Kind.STOP, Step.Kind.VALIDATION)
    return [item.pk for item in items], [defect.pk for defect in lane.holding(kind)] if holds_defects else []


def _named(lane: Lane, pks: list[int]) -> list[Defect]:
    return [defect for defect in lane.defects if defect.pk in pks]


def _people_items(items: list[ChecklistItem]) -> list[int]:
    return [item.pk for item in items if not item.automatic]


def _words(items: list[int]) -> list[str]:
    rows = ChecklistItem.objects.filter(pk__in=items).select_related("step__migration__source")
    return [f"{row.step.migration}: “{row.title}” was {row.get_state_display().lower()}." for row in rows]


def _check_lead(project_id: int, role: str | None, reason: str) -> None:
    if role not in PLAN:
        raise Forbidden("Break-glass is for a lead of the project.", "Ask a lead.")
    if len(reason.strip()) < 10:
        raise NotReady(["reason: say in a sentence why it cannot wait; it stands in every report."])


def _keep(lane: Lane, gate: str, user: User, reason: str, **values: Any) -> BreakGlass:
    """The row and its audit event, inside the caller's transaction."""
    migration = lane.migration
    assert migration.wave is not None and migration.application is not None  # an approval and a step of both
    made = BreakGlass.objects.create(
        project=migration.project,
        wave=migration.wave,
        application=migration.application,
        gate=gate,
        reason=reason.strip(),
        by=user,
        **values,
    )
    record(
        "break_glass.pass",
        made,
        actor=user,
        project_id=migration.project_id,
        why=reason.strip(),
        after={"gate": gate, "passed": made.passed},
    )
    Change.bump()
    return made


def may_confirm(made: BreakGlass, user: User, role: str | None) -> bool:
    """Whether this person is asked for the second word."""
    second = made.by_id != user.pk and (role in PLAN or may_sign(made.application, user))
    return made.state == State.UNCONFIRMED and second


def confirm(break_glass_id: int, *, user: User, in_order: bool, comment: str = "") -> BreakGlass:
    """A second person's word on it: a lead or the application's owner, never whoever passed it. Said once.

    Not in order: it lets nothing pass any more. What has begun is not taken back; the word stays in the record.
    """
    made = BreakGlass.objects.select_related("project", "application__owner", "approval").get(pk=break_glass_id)
    if made.by_id == user.pk:
        raise Forbidden("Whoever passed it does not confirm it.", "Ask another lead, or the application's owner.")
    if not (role_in(made.project, user) in PLAN or may_sign(made.application, user)):
        raise Forbidden("It is confirmed by another lead or the application's owner.", "Ask one of them.")
    if not in_order and not comment.strip():
        raise NotReady(["comment: say what was not in order; it stands in the record."])
    state = State.IN_ORDER if in_order else State.NOT_IN_ORDER
    with transaction.atomic():
        if not BreakGlass.objects.filter(pk=made.pk, state=State.UNCONFIRMED).update(
            state=state, confirmed_by=user, confirmed_at=timezone.now(), comment=comment.strip()
        ):
            made.refresh_from_db()
            raise Conflict(f"{made} was answered already: {made.get_state_display().lower()}.", "Look at it.")
        Migration.objects.filter(wave=made.wave_id, application=made.application_id).update(version=F("version") + 1)
        Wave.objects.filter(pk=made.wave_id).update(version=F("version") + 1)
        if not in_order and made.approval is not None:
            _shut_again(made.approval)
        record(
            "break_glass.confirm" if in_order else "break_glass.not_in_order",
            made,
            actor=user,
            project_id=made.project_id,
            why=comment.strip(),
            before={"state": State.UNCONFIRMED},
            after={"state": state},
        )
        Change.bump()
    made.refresh_from_db()
    return made


def _shut_again(approval: Approval) -> None:
    """A gate that was passed and not used yet needs an answer again."""
    lanes = application_lanes(approval.wave_id, approval.application)
    if not all(digests.settled(lane) for lane in lanes):
        asked = policies.asked(policies.policy_of(approval.wave.project_id, approval.gate), timezone.now())
        Approval.objects.filter(pk=approval.pk, state=Approval.State.PASSED).update(
            state=Approval.State.STALE, version=F("version") + 1, **asked
        )
