"""The buttons: what this person may do next, and, where not, why. Pages draw what these return, nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from django.contrib.auth.models import AnonymousUser, User
from django.urls import reverse

from projects import abort, approvals, attempts, decisions, uat, uat_runs, workflow
from projects.access import PLAN, RUN, may_sign, role_in
from projects.lanes import application_lanes, lane_of, lanes_for
from projects.models import (
    Application,
    Approval,
    Migration,
    Step,
    StepAttempt,
    Wave,
)
from projects.steps import MODULES
from projects.steps.base import Lane

Person = User | AnonymousUser


@dataclass(frozen=True)
class Offer:
    """One button. `fields` are the hidden inputs of its POST form: what the button was drawn for."""

    code: str
    label: str
    url: str
    enabled: bool = True
    why: str = ""  # why it is grey; of one that may be pressed, what to know before
    fields: dict[str, str] = field(default_factory=dict)
    style: str = "plain"  # primary | plain | danger


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
            why = " ".join(attempts.cancel_unmet(attempt, list(attempt.actions.all())))
            url = reverse("step-cancel", args=[step.pk])
            offers.append(Offer("cancel", stops, url, not why, why, seen, "danger"))
        return offers
    if step.state not in workflow.STARTABLE:
        return []
    module = MODULES[kind]
    a_person_starts_it = step.state == Step.State.CANCELLED or (
        step.state == Step.State.UNDONE and not module.again_by_itself
    )
    if module.automatic and not a_person_starts_it:
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
    if not abort.take_back_unmet(lane):
        url = reverse("migration-take-back", args=[lane.migration.pk])
        offers.append(Offer("take-back", abort.TAKE_BACK, url, style="danger"))
    order = {"retry": 0, "complete": 1, "start": 2, "abort": 3, "take-back": 3, "cancel": 4}
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
        hold = next((lane.uat_hold for lane in lanes if lane.uat_hold), None)
        if hold is not None:
            if uat.may_end(hold, application, user):
                lost = uat_runs.thrown_away(lanes, [hold], {})
                offers.append(Offer("uat-end", "End the test", reverse("uat-end", args=args), why=lost))
                if hold.snapshot:
                    why = " ".join(uat_runs.back_unmet(hold, lanes))
                    label = "Put the copies back and end" if len(lanes) > 1 else "Put the copy back and end"
                    back = Offer("uat-back", label, reverse("uat-end", args=args), not why, why, {"back": "1"})
                    offers.append(back)
            elif role in PLAN:
                offers.append(Offer("uat-break", "Break off the test", reverse("uat-break", args=args), style="danger"))
            offers.append(Offer("uat-extend", "Extend the test", reverse("uat-extend", args=args)))
        elif not any(lane.over(Step.Kind.STOP) or lane.open_attempt(Step.Kind.STOP) for lane in lanes):
            offers.append(_open_offer(lanes, role, args))
    for gate in (Approval.Gate.SIGN_OFF, Approval.Gate.GO):
        approval = lanes[0].approvals.get(gate)
        if approval is None or approval.is_open or isinstance(user, AnonymousUser):
            continue
        if approvals.may_answer(approval, user, role):
            offers += _decision_offers(approval, lanes, user, role)
    return offers


def _open_offer(lanes: list[Lane], role: str | None, args: list[int]) -> Offer:
    missing, live = uat.uat_unmet(lanes), uat.live_words(lanes)
    url = reverse("uat-open", args=args)
    if live and not missing and role in PLAN:
        return Offer(
            "uat-open", "Open the test on a live copy", url, True, " ".join(live), {"accept_live": "1"}, "danger"
        )
    return Offer("uat-open", "Open the test", url, not (missing or live), " ".join(missing + live))


def _decision_offers(approval: Approval, lanes: list[Lane], user: User, role: str | None) -> list[Offer]:
    url = reverse("approval-decide", args=[approval.pk])
    missing = decisions.approve_unmet(approval, lanes, user, role)
    sign_off = approval.gate == Approval.Gate.SIGN_OFF
    made = {"digest": approval.digest}
    code = "sign" if sign_off else "go"
    yes = "Approve" if sign_off else "Give the go"
    offers = [Offer(code, yes, url, not missing, " ".join(missing), {**made, "verdict": "approve"}, "primary")]
    if sign_off and not approvals.expired(approval, lanes[0].now):
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
