"""What people decide: open and end a test, sign, give the go, tick, hold."""

from __future__ import annotations

from datetime import datetime

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone

from migrationhub.audit.record import record
from projects import digest as digests
from projects import gates, workflow
from projects.access import PLAN, RUN, may_sign, role_in
from projects.errors import Conflict, Forbidden, NotReady
from projects.lanes import application_lanes, lanes_for
from projects.models import (
    Application,
    Approval,
    ChecklistItem,
    Decision,
    Hold,
    Membership,
    Migration,
    Project,
    Step,
    StepAttempt,
    Wave,
)
from projects.steps.base import Lane, open_items
from servers.models import Change

VERDICTS = {
    Decision.Verdict.APPROVE: Approval.State.APPROVED,
    Decision.Verdict.REJECT: Approval.State.REJECTED,
    Decision.Verdict.MORE_TIME: Approval.State.MORE_TIME,
}


def uat_unmet(lanes: list[Lane]) -> list[str]:
    """What keeps an acceptance test from being opened; `live_words` are not among it: a lead may take them on."""
    if not lanes:
        return ["No server of this application is in the wave."]
    missing = []
    for lane in lanes:
        name = lane.migration.source.name
        if not lane.over(Step.Kind.INITIAL):
            missing.append(f"{name}: the initial migration is not done.")
        if lane.over(Step.Kind.STOP) or lane.open_attempt(Step.Kind.STOP):
            missing.append(f"{name}: the cutover has begun.")
    if any(lane.uat_hold for lane in lanes):
        missing.append("The acceptance test is open already.")
    return missing


def live_words(lanes: list[Lane]) -> list[str]:
    """Servers whose last sync was live: a database among them may not start on the clone."""
    return [
        f"{lane.migration.source.name}: its last sync was live, files changed while they were copied; "
        "a database on it may not start."
        for lane in lanes
        if lane.last_sync is not None and not lane.last_sync.is_consistent
    ]


def open_uat(
    wave_id: int, application_id: int, *, user: User, until: datetime | None = None, accept_live: bool = False
) -> Hold:
    """Reserve the clones for the tester: deltas wait, visibly. Evidence is taken once no delta runs."""
    wave = Wave.objects.select_related("project").get(pk=wave_id)
    application = Application.objects.get(pk=application_id)
    lanes = application_lanes(wave_id, application)
    missing = uat_unmet(lanes)
    live = live_words(lanes)
    if live and not (accept_live and role_in(wave.project, user) in PLAN):
        missing += [*live, "A lead may open the test all the same and take that on."]
    if until is not None and until <= timezone.now():
        missing.append(f"until={until:%Y-%m-%d %H:%M}: that is over; name a time to come or leave it empty.")
    if missing:
        raise NotReady(missing)
    why = f"{application} is being tested" + (f"; {user} took on: {' '.join(live)}" if live else "")
    try:
        with transaction.atomic():
            opened = Hold.objects.create(
                kind=Hold.Kind.UAT,
                project=wave.project,
                wave=wave,
                application=application,
                why=why,
                by=user,
                until=until,
            )
            _touch(lanes)
            record("uat.open", opened, actor=user, project_id=wave.project_id, why=why)
            Change.bump()
    except IntegrityError:
        raise Conflict("The acceptance test was opened by somebody else a moment ago.", "Look again.") from None
    return opened


def end_uat(wave_id: int, application_id: int, *, user: User) -> None:
    """Release the clones: the next delta takes the tester's changes away."""
    opened = Hold.objects.filter(kind=Hold.Kind.UAT, wave=wave_id, application=application_id, released_at=None).first()
    if opened is None:
        raise Conflict("The acceptance test is not open any more.", "Look at what is there now.")
    release(opened.pk, user=user)


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


def release(hold_id: int, *, user: User) -> None:
    held = Hold.objects.get(pk=hold_id)
    with transaction.atomic():
        if not Hold.objects.filter(pk=hold_id, released_at=None).update(released_at=timezone.now(), released_by=user):
            raise Conflict("This hold was released already.", "Look at what is there now.")
        record("hold.release", held, actor=user, project_id=held.project_id)
        Change.bump()


def decide(approval_id: int, *, user: User, verdict: str, comment: str, digest: str) -> Decision:
    """Answer an approval, about exactly what the page showed (`digest`)."""
    approval = Approval.objects.select_related("application", "wave__project").get(pk=approval_id)
    if verdict not in VERDICTS:
        raise NotReady([f"verdict={verdict}: expected approve, reject or more_time."])
    _check_may_decide(approval, user)
    if verdict != Decision.Verdict.APPROVE and not comment.strip():
        raise NotReady(["comment: say what is wrong or what you need; the team reads it next."])
    if approval.digest != digest:
        raise Conflict(
            "What you looked at has changed since the page was drawn.",
            "Look at the difference, and answer again.",
            code="approval.digest",
        )
    lanes = application_lanes(approval.wave_id, approval.application)
    if not lanes:
        raise Conflict(f"No server of {approval.application} is in {approval.wave} any more.", "Look at its page.")
    if verdict != Decision.Verdict.APPROVE:
        _refuse_too_late(lanes)
    if approval.gate == Approval.Gate.SIGN_OFF and digests.now(lanes) != digest:
        gates.follow(lanes[0].migration)
        raise Conflict(
            "What is there now is not what you looked at: it changed a moment ago.",
            "Look at the difference, and answer again.",
            code="approval.digest",
        )
    if verdict == Decision.Verdict.APPROVE:
        missing = approve_unmet(approval, lanes)
        if missing:
            raise NotReady(missing)
    with transaction.atomic():
        if not Approval.objects.filter(pk=approval.pk, version=approval.version, digest=digest).update(
            state=VERDICTS[Decision.Verdict(verdict)], version=F("version") + 1
        ):
            raise Conflict("Somebody else answered, or what it is about changed, a moment ago.", "Look again.")
        Wave.objects.filter(pk=approval.wave_id).update(version=F("version") + 1)
        decision = Decision.objects.create(
            approval=approval,
            user=user,
            verdict=verdict,
            comment=comment.strip(),
            digest=digest,
            subject=approval.subject,
        )
        record(
            f"approval.{verdict}",
            approval,
            actor=user,
            project_id=approval.wave.project_id,
            why=comment,
            before={"state": approval.state},
            after={"digest": digest},
        )
        Change.bump()
    return decision


def _check_may_decide(approval: Approval, user: User) -> None:
    if approval.gate == Approval.Gate.SIGN_OFF:
        if not may_sign(approval.application, user):
            raise Forbidden(
                f"The sign-off of {approval.application} is its owner's alone"
                f" ({approval.application.owner or 'nobody is named yet'}).",
                "Ask the owner; nobody signs for them.",
            )
        if runs_it(approval, user):
            raise Forbidden(
                "The sign-off is given in the role of an application owner, by somebody who did not run the migration.",
                f"A lead can make somebody else the owner of {approval.application}.",
            )
    elif role_in(approval.wave.project, user) not in PLAN:
        raise Forbidden("The go is given by a lead of the project.", "Ask a lead.")
    if approval.requested_by_id == user.pk:
        raise Forbidden("Nobody approves their own request.", "Ask somebody else.")


def runs_it(approval: Approval, user: User) -> bool:
    """Not in the role of an application owner (now a lead, say), or somebody who started a step of these servers."""
    if role_in(approval.wave.project, user) != Membership.Role.OWNER:
        return True
    mine = StepAttempt.objects.filter(started_by=user, step__migration__application=approval.application_id)
    return mine.exists()


def _refuse_too_late(lanes: list[Lane]) -> None:
    """A no must never be recorded as if it stopped something that goes on."""
    if all(digests.settled(lane) for lane in lanes):
        names = ", ".join(lane.migration.source.name for lane in lanes)
        raise NotReady(
            [f"The cutover of {names} has begun: a no stops nothing any more."],
            "Call whoever runs it: “Abort and restart services” goes back, as long as the source is on.",
        )


def approve_unmet(approval: Approval, lanes: list[Lane]) -> list[str]:
    """What keeps this approval from being given now."""
    if approval.state == Approval.State.APPROVED:
        return ["It is approved already."]
    if lanes and all(lane.over(Step.Kind.STOP) for lane in lanes):
        return [f"{lane.migration.source.name}: its services are stopped already." for lane in lanes]
    missing = []
    for lane in lanes:
        name = lane.migration.source.name
        if approval.gate == Approval.Gate.SIGN_OFF:
            missing += [f"{name}: “{item.title}” is open on the checklist." for item in open_items(lane, Step.Kind.UAT)]
            continue
        if not lane.approved(Approval.Gate.SIGN_OFF):
            missing.append(f"{name}: the owner has not signed what is there now.")
        if not lane.over(Step.Kind.UAT):
            missing.append(f"{name}: acceptance testing is not done.")
    return missing


def tick(item_id: int, *, user: User, state: str, note: str = "") -> None:
    """Answer one line of a checklist."""
    item = ChecklistItem.objects.select_related("step__migration__project", "step__migration__application").get(
        pk=item_id
    )
    migration = item.step.migration
    if item.automatic:
        raise Forbidden(f"“{item.title}” ticks itself from what was measured.", "Run the measurement again.")
    _check_may_tick(item, migration, user)
    if state not in ChecklistItem.State.values:
        raise NotReady([f"state={state}: expected done, open, failed or not_applicable."])
    if state == ChecklistItem.State.NOT_APPLICABLE and not note.strip():
        raise NotReady(["note: say why it does not apply."])
    if item.step.state in (Step.State.DONE, Step.State.SKIPPED):
        raise Conflict(f"“{item.step}” is done: its checklist is not changed any more.", "Look at what is there now.")
    with transaction.atomic():
        ChecklistItem.objects.filter(pk=item.pk).update(state=state, note=note.strip(), by=user, at=timezone.now())
        Migration.objects.filter(pk=migration.pk).update(version=F("version") + 1)
        record(
            "checklist.tick",
            item,
            actor=user,
            project_id=migration.project_id,
            why=note,
            before={"state": item.state},
            after={"state": state},
        )
        Change.bump()
    gates.follow(migration)


def _check_may_tick(item: ChecklistItem, migration: Migration, user: User) -> None:
    if item.role == "owner":
        if migration.application is None or not may_sign(migration.application, user):
            raise Forbidden(f"“{item.title}” is answered by the application's owner.", "Ask the owner.")
    elif role_in(migration.project, user) not in RUN:
        raise Forbidden(f"“{item.title}” is answered by whoever runs the migration.", "Ask an operator.")


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


def _touch(lanes: list[Lane]) -> None:
    Migration.objects.filter(pk__in=[lane.migration.pk for lane in lanes]).update(version=F("version") + 1)
