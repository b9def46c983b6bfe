"""The buttons: what this person may do next, and, where not, why. Pages draw what these return, nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from django.contrib.auth.models import AnonymousUser, User
from django.urls import reverse

from projects import abort, decisions, workflow
from projects.access import PLAN, RUN, may_sign, role_in
from projects.lanes import application_lanes, lane_of, lanes_for
from projects.models import Action, Application, Approval, Membership, Migration, Step, StepAttempt, Wave
from projects.steps import MODULES
from projects.steps.base import Lane, open_items

Person = User | AnonymousUser


@dataclass(frozen=True)
class Offer:
    """One button. `fields` are the hidden inputs of its POST form: what the button was drawn for."""

    code: str
    label: str
    url: str
    enabled: bool = True
    why: str = ""  # why it is grey
    fields: dict[str, str] = field(default_factory=dict)
    style: str = "plain"  # primary | plain | danger


@dataclass(frozen=True)
class Waiting:
    """One thing that waits for this person."""

    text: str
    detail: str
    url: str
    label: str
    since: datetime | None = None


def _seen(lane: Lane, kind: str) -> dict[str, str]:
    step = lane.steps[kind]
    number = max((attempt.number for attempt in lane.attempts.get(step.pk, [])), default=0)
    return {"seen_state": step.state, "seen_attempt": str(number)}


START_WORDS = {
    Step.Kind.INITIAL: "Start initial migration",
    Step.Kind.DELTA: "Sync now",
    Step.Kind.UAT: "Take evidence again",
    Step.Kind.STOP: "Stop services",
    Step.Kind.FINAL: "Start final delta",
    Step.Kind.CUTOVER: "Start cutover events",
    Step.Kind.VALIDATION: "Start validation",
}


def lane_step_offers(lane: Lane, kind: str, role: str | None) -> list[Offer]:
    if role not in RUN or lane.migration.state != Migration.State.OPEN:
        return []
    step, attempt = lane.steps[kind], lane.open_attempt(kind)
    seen = _seen(lane, kind)
    if attempt is not None:
        offers = []
        if attempt.state == StepAttempt.State.ATTENTION:
            missing = MODULES[kind].retry_unmet(lane) if attempt.mode == StepAttempt.Mode.REAL else []
            offers.append(
                Offer(
                    "retry",
                    "Retry",
                    reverse("step-retry", args=[step.pk]),
                    not missing,
                    " ".join(item.text for item in missing),
                    seen,
                    "primary",
                )
            )
        if attempt.state != StepAttempt.State.CANCELLING and attempt.mode == StepAttempt.Mode.REAL:
            stops = "Stop before the next act" if attempt.state == StepAttempt.State.RUNNING else "Give this try up"
            offers.append(Offer("cancel", stops, reverse("step-cancel", args=[step.pk]), fields=seen, style="danger"))
        return offers
    if step.state not in workflow.STARTABLE:
        return []
    if MODULES[kind].automatic and step.state not in (Step.State.CANCELLED,):
        return []  # starts by itself as soon as nothing is in the way
    missing = MODULES[kind].unmet(lane)
    style = "primary" if kind == Step.Kind.INITIAL else "plain"
    why = " ".join(item.text for item in missing)
    url = reverse("step-start", args=[step.pk])
    return [Offer("start", START_WORDS[Step.Kind(kind)], url, not missing, why, seen, style)]


def lane_offers(lane: Lane, role: str | None) -> list[Offer]:
    """What may be done next on one server, most important first."""
    if role not in RUN or lane.migration.state != Migration.State.OPEN:
        return []
    offers = [offer for kind in Step.ORDER for offer in lane_step_offers(lane, kind, role)]
    if role in PLAN and lane.open_attempt(Step.Kind.VALIDATION):
        missing = workflow.completion_unmet(lane)
        if not lane.migration.declared_at:
            url = reverse("migration-complete", args=[lane.migration.pk])
            offers.append(Offer("complete", "Declare complete", url, not missing, " ".join(missing), style="primary"))
    back = abort.abort_unmet(lane)
    if not back:
        url = reverse("migration-abort", args=[lane.migration.pk])
        offers.append(Offer("abort", "Abort and restart services", url, style="danger"))
    order = {"retry": 0, "complete": 1, "start": 2, "abort": 3, "cancel": 4}
    return sorted(offers, key=lambda offer: (not offer.enabled, order.get(offer.code, 9)))


def migration_offers(migration: Migration, user: Person) -> list[Offer]:
    return lane_offers(lane_of(migration), role_in(migration.project, user))


def step_offers(step: Step, user: Person) -> list[Offer]:
    return lane_step_offers(lane_of(step.migration), step.kind, role_in(step.migration.project, user))


def application_offers(
    wave: Wave, application: Application, user: Person, lanes: list[Lane] | None = None, role: str | None = None
) -> list[Offer]:
    """Open and end the acceptance test, sign, give the go."""
    role = role or role_in(wave.project, user)
    lanes = application_lanes(wave.pk, application) if lanes is None else lanes
    if not lanes:
        return []
    offers = []
    args = [wave.pk, application.pk]
    if role in RUN or may_sign(application, user):
        if any(lane.uat_hold for lane in lanes):
            offers.append(Offer("uat-end", "End the test", reverse("uat-end", args=args)))
        elif not any(lane.over(Step.Kind.STOP) or lane.open_attempt(Step.Kind.STOP) for lane in lanes):
            offers.append(_open_offer(lanes, role, args))
    for gate in (Approval.Gate.SIGN_OFF, Approval.Gate.GO):
        approval = lanes[0].approvals.get(gate)
        signs = may_sign(application, user) and role == Membership.Role.OWNER
        may = signs if gate == Approval.Gate.SIGN_OFF else role in PLAN
        if approval is not None and may and approval.state != Approval.State.APPROVED:
            offers += _decision_offers(approval, lanes)
    return offers


def _open_offer(lanes: list[Lane], role: str | None, args: list[int]) -> Offer:
    missing, live = decisions.uat_unmet(lanes), decisions.live_words(lanes)
    url = reverse("uat-open", args=args)
    if live and not missing and role in PLAN:
        return Offer(
            "uat-open", "Open the test on a live copy", url, True, " ".join(live), {"accept_live": "1"}, "danger"
        )
    return Offer("uat-open", "Open the test", url, not (missing or live), " ".join(missing + live))


def _decision_offers(approval: Approval, lanes: list[Lane]) -> list[Offer]:
    url = reverse("approval-decide", args=[approval.pk])
    missing = decisions.approve_unmet(approval, lanes)
    sign_off = approval.gate == Approval.Gate.SIGN_OFF
    made = {"digest": approval.digest}
    code = "sign" if sign_off else "go"
    yes = "Approve" if sign_off else "Give the go"
    offers = [Offer(code, yes, url, not missing, " ".join(missing), {**made, "verdict": "approve"}, "primary")]
    if sign_off:
        offers.append(Offer("reject", "Reject", url, fields={**made, "verdict": "reject"}, style="danger"))
        offers.append(Offer("more-time", "Need more time", url, fields={**made, "verdict": "more_time"}))
    return offers


def wave_offers(wave: Wave, user: Person, lanes: Iterable[Lane] | None = None) -> list[Offer]:
    if role_in(wave.project, user) not in RUN:
        return []
    if lanes is None:
        lanes = lanes_for(Migration.objects.filter(wave=wave, state=Migration.State.OPEN))
    startable = [lane for lane in lanes if lane.state(Step.Kind.INITIAL) in (Step.State.WAITING, Step.State.READY)]
    if not startable:
        return []
    missing = {lane.migration.source.name: MODULES[Step.Kind.INITIAL].unmet(lane) for lane in startable}
    ready = [name for name, unmet in missing.items() if not unmet]
    why = "" if ready else " ".join(f"{name}: {unmet[0].text}" for name, unmet in missing.items() if unmet)
    label = (
        f"Start initial migration of {len(ready)} server{'s' if len(ready) != 1 else ''}" if ready else "Start the wave"
    )
    return [Offer("wave-start", label, reverse("wave-start", args=[wave.pk]), bool(ready), why, style="primary")]


def waits_for_me(user: Person) -> list[Waiting]:
    """What waits for this person over all projects: failed steps, approvals, checklists, servers to be declared."""
    if not user.pk:
        return []
    roles = dict(Membership.objects.filter(user_id=user.pk).values_list("project_id", "role"))
    migrations = Migration.objects.visible_to(user).filter(state=Migration.State.OPEN, steps__isnull=False).distinct()
    lanes = lanes_for(migrations)
    groups: dict[tuple[int, int], list[Lane]] = {}
    for lane in lanes:
        if lane.migration.wave_id and lane.migration.application_id:
            groups.setdefault((lane.migration.wave_id, lane.migration.application_id), []).append(lane)
    waiting = [item for lane in lanes for item in _lane_waits(lane, roles.get(lane.migration.project_id), user)]
    for group in groups.values():
        waiting += _gate_waits(group, roles.get(group[0].migration.project_id), user)
    return waiting


def _lane_waits(lane: Lane, role: str | None, user: Person) -> list[Waiting]:
    migration, found = lane.migration, []
    page = reverse("migration", args=[migration.pk])
    for kind in Step.ORDER:
        step = lane.steps[kind]
        if step.state == Step.State.ATTENTION and role in RUN:
            found.append(
                Waiting(f"{migration.source.name}: {step.get_kind_display()} failed", step.reason, page, "Look")
            )
        running = lane.open_attempt(kind) is not None and step.state == Step.State.RUNNING
        items = [item for item in open_items(lane, kind) if not item.automatic] if running else []
        mine = [
            item
            for item in items
            if (item.role == "owner") == (migration.application is not None and may_sign(migration.application, user))
        ]
        if mine and (role in RUN or mine[0].role == "owner"):
            where = page
            if mine[0].role == "owner" and migration.wave_id and migration.application_id:
                where = reverse("acceptance", args=[migration.wave_id, migration.application_id])
            detail = ", ".join(item.title for item in mine)
            found.append(
                Waiting(
                    f"{migration.source.name}: checklist of {step.get_kind_display().lower()}", detail, where, "Open"
                )
            )
    if role in PLAN and lane.open_attempt(Step.Kind.VALIDATION) and not workflow.completion_unmet(lane):
        title = f"{migration.source.name} can be declared complete"
        found.append(Waiting(title, _probe_words(lane), page, "Declare"))
    return found


def _probe_words(lane: Lane) -> str:
    """What final validation has seen: nothing asked is not the same as passed."""
    attempt = lane.open_attempt(Step.Kind.VALIDATION)
    asked = [action for action in (attempt.actions.all() if attempt else ()) if action.operation == "probe"]
    if asked and all(action.state == Action.State.DONE for action in asked):
        return "All probes passed."
    return "No probe asked it in production: nothing but people has seen that it works."


def _gate_waits(lanes: list[Lane], role: str | None, user: Person) -> list[Waiting]:
    migration = lanes[0].migration
    application, wave = migration.application, migration.wave
    if application is None or wave is None:
        return []
    found = []
    sign_off, go = (lanes[0].approvals.get(gate) for gate in (Approval.Gate.SIGN_OFF, Approval.Gate.GO))
    if sign_off and sign_off.state != Approval.State.APPROVED and may_sign(application, user):
        url = reverse("acceptance", args=[wave.pk, application.pk])
        words = sign_off.get_state_display()
        found.append(Waiting(f"Sign-off of {application}", words, url, "Look and answer", sign_off.requested_at))
    if go and go.state != Approval.State.APPROVED and role in PLAN:
        detail = "Every server is tested and signed; services are stopped after your go."
        url = reverse("wave-board", args=[wave.pk])
        found.append(Waiting(f"Go for {application}", detail, url, "Decide", go.requested_at))
    return found
