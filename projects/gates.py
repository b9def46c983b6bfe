"""Approvals follow what they are about: requested when there is something to decide, stale when it changed."""

from __future__ import annotations

import logging
from typing import Any

from django.db import transaction

from migrationhub.audit.record import record
from projects import approvals, policies
from projects import digest as digests
from projects.lanes import application_lanes
from projects.models import Approval, ChecklistItem, Migration, Step, StepAttempt
from projects.steps.base import Lane, Unmet
from servers.away import AWAY
from servers.models import Change

log = logging.getLogger(__name__)
State = Approval.State
Gate = Approval.Gate


def advance(lanes: list[Lane]) -> None:
    """One pass over every application of every wave that still has a decision before it; `lanes`: all open ones."""
    groups: dict[tuple[int, int], list[Lane]] = {}
    for lane in lanes:
        migration = lane.migration
        if migration.state == Migration.State.OPEN and migration.wave_id and migration.application_id:
            groups.setdefault((migration.wave_id, migration.application_id), []).append(lane)
    for (wave_id, application_id), group in groups.items():
        try:
            _tend(wave_id, application_id, group)
        except AWAY:
            raise
        except Exception:
            log.exception("Gates of wave %s, application %s", wave_id, application_id)


def changed(lane: Lane) -> list[Unmet]:
    """What was signed and let go is not what would be done now. A decision stands for this server's part of it."""
    sign_off, go = lane.approvals[Gate.SIGN_OFF], lane.approvals[Gate.GO]
    signed, let_go = _part(sign_off.subject, lane), _part(go.subject, lane)
    if signed != _part(digests.plain(digests.subject_of([lane])), lane):
        return [Unmet("The plan or the evidence is not what the owner signed.", "gate.sign_off")]
    if go.subject.get("sign_off") != sign_off.digest or let_go != _part(
        digests.plain(digests.go_subject([lane], sign_off)), lane
    ):
        return [Unmet("The lead's go was about something else: it is needed again.", "gate.go")]
    return []


def _part(subject: dict[str, Any], lane: Lane) -> Any:
    return subject.get("servers", {}).get(str(lane.migration.pk))


def follow(migration: Migration) -> None:
    """Bring the approvals of this migration's application up to what is now, without waiting for the controller:
    whoever ticks a checklist and signs right after must sign what they just ticked."""
    if migration.wave_id is None or migration.application is None:
        return
    lanes = [
        lane
        for lane in application_lanes(migration.wave_id, migration.application)
        if lane.migration.state == Migration.State.OPEN
    ]
    if lanes:
        _tend(migration.wave_id, migration.application.pk, lanes)


def _tend(wave_id: int, application_id: int, lanes: list[Lane]) -> None:
    if all(digests.settled(lane) for lane in lanes):
        return  # services are being stopped or were: the decisions stand as they were made
    for approval in lanes[0].approvals.values():
        approvals.expire(approval, lanes[0].now, lanes[0].migration.project_id)
    if all(evidence_taken(lane) for lane in lanes):
        _follow(wave_id, application_id, Gate.SIGN_OFF, digests.sign_off_subject(lanes), lanes)
    if any(lane.open_attempt(Step.Kind.STOP) for lane in lanes):
        return  # the go was used: a stop that found other services goes on once the owner has looked again
    sign_off = lanes[0].approvals.get(Gate.SIGN_OFF)
    if sign_off and sign_off.is_open and all(lane.over(Step.Kind.UAT) for lane in lanes):
        _follow(wave_id, application_id, Gate.GO, digests.plain(digests.go_subject(lanes, sign_off)), lanes)
    else:
        _void_go(lanes)


def evidence_taken(lane: Lane) -> bool:
    """The acceptance test was opened and everything that ticks itself has been taken."""
    attempt = lane.last_attempt(Step.Kind.UAT)
    if attempt is None or attempt.state in (StepAttempt.State.CANCELLED, StepAttempt.State.UNDONE):
        return False
    items = lane.checklist.get(lane.steps[Step.Kind.UAT].pk, [])
    if any(item.operation == "isolation" and item.state == ChecklistItem.State.OPEN for item in items):
        return False  # of this opening; a proof that failed is there, and is named
    return all(action.state in ("done", "not_applicable") for action in attempt.actions.all())


def _follow(wave_id: int, application_id: int, gate: str, subject: dict[str, object], lanes: list[Lane]) -> None:
    """Request the approval, or follow a changed subject: an answer to something else needs another look."""
    now = digests.digest(subject)
    approval = lanes[0].approvals.get(gate)
    project_id = lanes[0].migration.project_id
    if approval is None:
        with transaction.atomic():
            asked = policies.asked(policies.policy_of(project_id, gate), lanes[0].now)
            approval, made = Approval.objects.get_or_create(
                wave_id=wave_id,
                application_id=application_id,
                gate=gate,
                defaults={"digest": now, "subject": subject, **asked},
            )
            if made:
                record("approval.request", approval, project_id=project_id, after={"digest": now})
                Change.bump()
        return
    if approval.digest != now:
        _ask_anew(approval, now, subject, lanes)


def _ask_anew(approval: Approval, now: str, subject: dict[str, object], lanes: list[Lane]) -> None:
    """Something else is to be decided on: what was said is not about it, and the time to answer begins anew."""
    project_id = lanes[0].migration.project_id
    kept = (State.REQUESTED, State.MORE_TIME)
    signed = bool(approvals.words(approval))
    state = approval.state if approval.state in kept and not signed else State.STALE
    # Nobody answered it in time, or before it was void: it is asked for, and is news to whoever may answer.
    afresh = approval.state == State.EXPIRED or (not approval.digest and not approval.decisions.all())
    if afresh:
        state = State.REQUESTED
    why = " ".join(digests.difference(approval.subject, subject)) or "It can be given now."
    asked = policies.asked(policies.policy_of(project_id, approval.gate), lanes[0].now)
    with transaction.atomic():
        if approvals.store(approval, state=state, digest=now, subject=subject, **asked):
            if afresh or state == State.STALE:
                verb = "approval.request" if afresh else "approval.stale"
                record(verb, approval, project_id=project_id, why=why, after={"digest": now})
            Change.bump()


def _void_go(lanes: list[Lane]) -> None:
    """Without a valid sign-off and a test that is over there is nothing to let go. Whatever was said counts no more,
    and nobody is reminded: it is asked for anew with the next sign-off, though that may be the same again."""
    approval = lanes[0].approvals.get(Gate.GO)
    if approval is None or not approval.digest:
        return
    project_id = lanes[0].migration.project_id
    why = "The acceptance test is not over." if lanes[0].approved(Gate.SIGN_OFF) else "The sign-off is not valid."
    void = {"digest": "", "requested_by": None, "expires_at": None, "remind_at": None}
    with transaction.atomic():
        if approvals.store(approval, state=State.STALE, **void):
            record("approval.void", approval, project_id=project_id, before={"state": approval.state}, why=why)
            Change.bump()
