"""What people decide: sign, give the go, hold. A test is opened and ended in `uat`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from migrationhub.audit.record import record
from projects import approvals, defects, gates, workflow
from projects import digest as digests
from projects.access import role_in
from projects.defects import Draft
from projects.errors import Conflict, NotReady
from projects.lanes import application_lanes, lanes_for
from projects.models import (
    Application,
    Approval,
    Decision,
    Hold,
    Migration,
    Project,
    Step,
    Wave,
)
from projects.steps.base import Lane, defects_unmet, open_items
from servers.models import Change


def hold(
    *,
    project: Project,
    kind: str,
    why: str,
    user: User,
    wave: Wave | None = None,
    application: Application | None = None,
    migration: Migration | None = None,
    until: datetime | None = None,
) -> Hold:
    """Make something wait. Nothing new starts; what runs stops before its next act."""
    if not why.strip():
        raise NotReady(["why: say why it has to wait; others read it tonight."])
    with transaction.atomic():
        made = Hold.objects.create(
            kind=kind,
            project=project,
            wave=wave,
            application=application,
            migration=migration,
            why=why.strip(),
            by=user,
            until=until,
        )
        if migration:
            Migration.objects.filter(pk=migration.pk).update(version=F("version") + 1)
        elif wave:
            Wave.objects.filter(pk=wave.pk).update(version=F("version") + 1)
        else:
            Migration.objects.filter(project=project).update(version=F("version") + 1)
        record("hold.add", made, actor=user, project_id=project.pk, why=why)
        Change.bump()
    return made


def release(hold_id: int, *, user: User, why: str = "") -> None:
    held = Hold.objects.get(pk=hold_id)
    with transaction.atomic():
        if not Hold.objects.filter(pk=hold_id, released_at=None).update(
            released_at=timezone.now(), released_by=user, released_why=why
        ):
            raise Conflict("This hold was released already.", "Look at what is there now.")
        record("hold.release", held, actor=user, project_id=held.project_id, why=why)
        Change.bump()


def decide(
    approval_id: int, *, user: User, verdict: str, comment: str, digest: str, found: Sequence[Draft] = ()
) -> Decision:
    """Answer an approval, about exactly what the page showed (`digest`). `found`: defects raised with a rejection,
    in the same transaction. What changes while this is decided is looked at again, and then counts."""
    for last in (False, False, True):
        try:
            return _decide(approval_id, user=user, verdict=verdict, comment=comment, digest=digest, found=found)
        except Conflict as conflict:
            if last or conflict.code != "decision.version":
                raise
    raise AssertionError("unreachable")


def _decide(
    approval_id: int, *, user: User, verdict: str, comment: str, digest: str, found: Sequence[Draft]
) -> Decision:
    approval = Approval.objects.select_related("application__owner", "wave__project", "delegated_by").get(
        pk=approval_id
    )
    if verdict not in Decision.Verdict.values:
        raise NotReady([f"verdict={verdict}: expected approve, reject or more_time."])
    on_behalf_of = approvals.right_of(approval, user)
    approves = verdict == Decision.Verdict.APPROVE
    if not approves and not comment.strip():
        raise NotReady(["comment: say what is wrong or what you need; the team reads it next."])
    if found and verdict != Decision.Verdict.REJECT:
        raise NotReady(["defects: they are raised with a rejection; raise them on their own page otherwise."])
    if approvals.expired(approval, timezone.now()):
        raise NotReady(
            ["The time to answer is over: it counts as not approved."], "Ask whoever runs it to request it again."
        )
    if not approval.digest:
        raise NotReady([approvals.UNASKED])
    if approval.digest != digest:
        raise Conflict(
            "What you looked at has changed since the page was drawn.",
            "Look at the difference, and answer again.",
            code="approval.digest",
        )
    lanes = application_lanes(approval.wave_id, approval.application)
    if not lanes:
        raise Conflict(f"No server of {approval.application} is in {approval.wave} any more.", "Look at its page.")
    if not approves:
        _refuse_too_late(lanes)
    # A no is about what was looked at, whatever came since; a yes would be about what nobody has seen.
    if approves and approval.gate == Approval.Gate.SIGN_OFF and digests.now(lanes) != digest:
        gates.follow(lanes[0].migration)
        raise Conflict(
            "What is there now is not what you looked at: it changed a moment ago.",
            "Look at the difference, and answer again.",
            code="approval.digest",
        )
    if approves:
        missing = approve_unmet(approval, lanes, user, role_in(approval.wave.project, user))
        if missing:
            raise NotReady(missing)
    with transaction.atomic():
        if found:
            defects.take_number(approval.wave.project_id)  # before the versions, as everybody takes them
        decision = _write(approval, lanes, user, on_behalf_of, verdict, comment.strip())
        for draft in found:
            defects.add(draft, user=user, decision=decision)
    return decision


def _write(
    approval: Approval, lanes: list[Lane], user: User, on_behalf_of: User | None, verdict: str, comment: str
) -> Decision:
    """The answer, on the versions of everything that was looked at; what the words come to now becomes the state."""
    claim(approval, lanes)
    said = {who: decision.verdict for who, decision in approvals.words(approval).items()}
    said[on_behalf_of.pk if on_behalf_of else user.pk] = verdict
    state = approvals.outcome(approval, said)
    if not Approval.objects.filter(pk=approval.pk, version=approval.version, digest=approval.digest).update(
        state=state, version=F("version") + 1
    ):
        raise Conflict("Somebody else answered, or what it is about changed, a moment ago.", "Look again.")
    decision = Decision.objects.create(
        approval=approval,
        user=user,
        on_behalf_of=on_behalf_of,
        verdict=verdict,
        comment=comment,
        digest=approval.digest,
        subject=approval.subject,
    )
    record(
        f"approval.{verdict}",
        approval,
        actor=user,
        project_id=approval.wave.project_id,
        why=comment,
        before={"state": approval.state},
        after={
            "state": state,
            "digest": approval.digest,
            **({"for": on_behalf_of.get_username()} if on_behalf_of else {}),
        },
    )
    Change.bump()
    return decision


def claim(approval: Approval, lanes: list[Lane]) -> None:
    """Fail if anything that was looked at has changed since: a hold, a tick, a defect raised in this very second."""
    wave, same = lanes[0].migration.wave, 1
    for migration in sorted((lane.migration for lane in lanes), key=lambda migration: migration.pk):
        same = same and Migration.objects.filter(pk=migration.pk, version=migration.version).update(
            version=F("version")
        )
    if same and wave is not None:
        same = Wave.objects.filter(pk=wave.pk, version=wave.version).update(version=F("version") + 1)
    if not same:
        raise Conflict(
            "Something that this is about changed a moment ago.",
            "Look at what is there now, and answer again.",
            code="decision.version",
        )


def _refuse_too_late(lanes: list[Lane]) -> None:
    """A no must never be recorded as if it stopped something that goes on."""
    if all(digests.settled(lane) for lane in lanes):
        names = ", ".join(lane.migration.source.name for lane in lanes)
        raise NotReady(
            [f"The cutover of {names} has begun: a no stops nothing any more."],
            "Call whoever runs it: “Abort and restart services” goes back, as long as the source is on.",
        )


def approve_unmet(
    approval: Approval, lanes: list[Lane], user: User | None = None, role: str | None = None
) -> list[str]:
    """What keeps this approval from being given now; `user`: by this person, in this role."""
    if approval.is_open:
        return [f"It is {approval.get_state_display().lower()} already."]
    if approvals.expired(approval, timezone.now()):
        return ["The time to answer is over: it counts as not approved until it is requested again."]
    if lanes and all(lane.over(Step.Kind.STOP) for lane in lanes):
        return [f"{lane.migration.source.name}: its services are stopped already." for lane in lanes]
    said = approvals.yes_unmet(approval, user, role) if user else ""
    return [said] if said else approvable_unmet(approval, lanes)


def approvable_unmet(approval: Approval, lanes: list[Lane]) -> list[str]:
    """What of the servers keeps the gate shut, whoever answers."""
    missing = [item.text for item in defects_unmet(lanes[0])] if lanes else []
    for lane in lanes:
        name = lane.migration.source.name
        if approval.gate == Approval.Gate.SIGN_OFF:
            missing += [f"{name}: “{item.title}” is open on the checklist." for item in open_items(lane, Step.Kind.UAT)]
            continue
        if not lane.approved(Approval.Gate.SIGN_OFF):
            missing.append(f"{name}: the owner has not signed what is there now.")
        if not lane.over(Step.Kind.UAT):
            missing.append(f"{name}: acceptance testing is not done.")
    return missing or ([] if approval.digest else [approvals.UNASKED])


def start_wave(wave_id: int, *, user: User) -> list[tuple[Migration, str]]:
    """Start every initial migration of the wave that may start; for the others, why not."""
    migrations = Migration.objects.filter(wave=wave_id, state=Migration.State.OPEN)
    told = []
    for lane in lanes_for(migrations):
        step = lane.steps[Step.Kind.INITIAL]
        number = max((attempt.number for attempt in lane.attempts.get(step.pk, [])), default=0)
        try:
            workflow.start_step(step.pk, user=user, seen_state=step.state, seen_attempt=number)
            told.append((lane.migration, ""))
        except (Conflict, NotReady) as problem:
            told.append((lane.migration, problem.text))
    return told
