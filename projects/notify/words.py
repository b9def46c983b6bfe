"""What a change says, where its link leads, and who hears of it: found from its audit event, once it is committed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from django.db.models import Model
from django.urls import reverse

from migrationhub.audit.models import AuditEvent
from projects.models import (
    Application,
    Approval,
    BreakGlass,
    Defect,
    Hold,
    Membership,
    Migration,
    NoticeKind,
    Step,
    Wave,
)

from .people import RUN, Audience, asked

Kind = NoticeKind
Role = Membership.Role
EVERYBODY = (Role.LEAD, Role.OPERATOR, Role.MANAGER)
CUTOVER = (Step.Kind.STOP, Step.Kind.FINAL, Step.Kind.CUTOVER, Step.Kind.VALIDATION)

Place = tuple[Wave | None, Application | None]


@dataclass
class Told:
    """`key`: of what happens once only, however often its event comes; else each event is told."""

    kind: Kind
    title: str
    path: str
    audience: Audience
    text: str = ""
    place: Place = (None, None)
    key: str = ""


def of(event: AuditEvent) -> list[Told]:
    """What an event tells people; nothing where the row is gone or nobody needs to hear of it."""
    found = READERS.get(event.object_type)
    if found is None:
        return []
    row = found.model._default_manager.select_related(*found.with_).filter(pk=event.object_id).first()
    return found.read(event, row) if row is not None else []


def _who(event: AuditEvent) -> str:
    return (event.actor.get_full_name() or event.actor.get_username()) if event.actor else "migrationhub"


def _acceptance(wave: Wave | int, application: Application | int) -> str:
    keys = [each if isinstance(each, int) else each.pk for each in (wave, application)]
    return reverse("acceptance", args=keys)


# -- approvals ------------------------------------------------------------------------------------------------

ASKS = {
    "approval.request": "Your answer is asked for",
    "approval.stale": "Your answer is asked for again, as something changed",
    "approval.remind": "Reminder: your answer is still asked for",
    "approval.new_owner": "Your answer is asked for, as you own the application now",
}
ANSWERS = {
    "approval.approve": "approved",
    "approval.reject": "rejected",
    "approval.more_time": "more time asked for",
    "approval.expire": "expired without an answer: not approved",
    "approval.void": "counts no more",
}


def _approval(event: AuditEvent, approval: Approval) -> list[Told]:
    place = (approval.wave, approval.application)
    path = reverse("approval", args=[approval.pk])
    if event.verb in ASKS:
        title = f"{ASKS[event.verb]}: {approval}"
        audience = Audience(signers=True) if event.verb == "approval.new_owner" else asked(approval)
        audience.but.append(event.actor)
        return [Told(Kind.ASKED, title, path, audience, event.why, place)]
    if event.verb == "approval.delegate":
        title = f"{_who(event)} handed an answer over to you: {approval}"
        return [Told(Kind.NEXT, title, path, Audience(also=[approval.delegated_to]), event.why, place)]
    if event.verb == "approval.void" and event.before["state"] not in Approval.OPENS:
        return []  # nobody has given it: it is asked for when it can be
    said, by = ANSWERS[event.verb], f" by {_who(event)}" if event.actor else ""
    came_to = event.after.get("state", Approval.State.APPROVED)
    if event.verb == "approval.approve" and came_to != Approval.State.APPROVED:
        said, by = "yes", f"{by}, not approved yet ({Approval.State(came_to).label.lower()})"
    hear = Audience(RUN, signers=True, also=[approval.requested_by], but=[event.actor])
    return [Told(Kind.ANSWERED, f"{approval}: {said}{by}", path, hear, event.why, place)]


# -- steps and waves ------------------------------------------------------------------------------------------


def _step(event: AuditEvent, step: Step) -> list[Told]:
    migration = step.migration
    place = (migration.wave, migration.application)
    path = reverse("migration", args=[migration.pk])
    if event.verb == "step.attention":
        title = f"{step} needs attention"
        return [Told(Kind.ATTENTION, title, path, Audience(RUN), event.why, place)]
    if event.verb == "step.start":
        return _wave_started(event, step)
    told = []
    if step.kind == Step.Kind.INITIAL:
        told += _next_to_test(migration)
    if step.kind in CUTOVER:
        hear = Audience(EVERYBODY, signers=True)
        told.append(Told(Kind.CUTOVER, f"{step} is done", path, hear, place=place))
    if step.kind == Step.Kind.VALIDATION:
        told += _wave_finished(migration)
    return told


def _wave_started(event: AuditEvent, step: Step) -> list[Told]:
    wave = step.migration.wave
    if wave is None or step.kind != Step.Kind.INITIAL:
        return []
    title = f"{wave} started"
    text = f"The initial migration of {step.migration} began first."
    hear = Audience(EVERYBODY, but=[event.actor])
    path = reverse("wave-board", args=[wave.pk])
    return [Told(Kind.WAVE, title, path, hear, text, (wave, None), key=f"wave.start:{wave.pk}")]


def _wave_finished(migration: Migration) -> list[Told]:
    wave = migration.wave
    if wave is None or Migration.objects.filter(wave=wave, state=Migration.State.OPEN).exists():
        return []
    servers = Migration.objects.filter(wave=wave, state=Migration.State.COMPLETE).count()
    text = f"{servers} server{'s' if servers != 1 else ''} moved."
    path = reverse("wave-board", args=[wave.pk])
    key = f"wave.finish:{wave.pk}:{servers}"  # a server that is added later finishes it again
    return [Told(Kind.WAVE, f"{wave} is finished", path, Audience(EVERYBODY), text, (wave, None), key=key)]


def _next_to_test(migration: Migration) -> list[Told]:
    """The owner comes next once every server of the application in this wave was copied."""
    wave, application = migration.wave, migration.application
    if wave is None or application is None:
        return []
    steps = Step.objects.filter(
        migration__wave=wave, migration__application=application, migration__state=Migration.State.OPEN
    )
    over = (Step.State.DONE, Step.State.SKIPPED, Step.State.NOT_APPLICABLE)
    if steps.filter(kind=Step.Kind.INITIAL).exclude(state__in=over).exists():
        return []
    servers = Migration.objects.filter(wave=wave, application=application).exclude(state=Migration.State.CANCELLED)
    title = f"{application} can be tested: you are next"
    text = "Its servers were copied. Open the acceptance test when you are ready."
    path = _acceptance(wave, application)
    key = f"next.test:{wave.pk}:{application.pk}:{servers.count()}"  # again for a server that is added later
    return [Told(Kind.NEXT, title, path, Audience(signers=True), text, (wave, application), key=key)]


BACK = {
    "cutover.abort": "the cutover is aborted",
    "cutover.undone": "the cutover is taken back: services run as before",
    "cutover.take_back": "the cutover is being taken back",
    "cutover.moved_back": "the target is on the migration network again",
}


def _migration(event: AuditEvent, migration: Migration) -> list[Told]:
    hear = Audience(EVERYBODY, signers=True, but=[event.actor])
    path = reverse("migration", args=[migration.pk])
    place = (migration.wave, migration.application)
    return [Told(Kind.CUTOVER, f"{migration}: {BACK[event.verb]}", path, hear, event.why, place)]


# -- tests, defects, break-glass ------------------------------------------------------------------------------


def _hold(event: AuditEvent, hold: Hold) -> list[Told]:
    wave, application = hold.wave, hold.application
    if hold.kind != Hold.Kind.UAT or wave is None or application is None:
        return []
    if event.verb == "hold.release" and not hold.released_why:
        return []  # the tester ended it: the sign-off is asked for by itself
    title, text = f"The acceptance test of {application} was opened by {_who(event)}", ""
    if event.verb == "uat.overdue":
        title = f"The acceptance test of {application} is overdue"
        text = "It stays open, and syncs wait, until somebody ends or extends it."
    elif event.verb == "uat.failed":
        title = f"{event.after['server']}: “{event.after['what']}” failed in the acceptance test of {application}"
        text = event.why
    elif event.verb == "hold.release":
        title, text = f"The acceptance test of {application} was broken off by {_who(event)}", hold.released_why
    hear = Audience(RUN, signers=True, also=[hold.by], but=[event.actor])
    return [Told(Kind.TEST, title, _acceptance(wave, application), hear, text, (wave, application))]


def _defect(event: AuditEvent, defect: Defect) -> list[Told]:
    place = (defect.wave, defect.application)
    path = reverse("defect", args=[defect.pk])
    also = [defect.assignee, defect.raised_by]
    severity = defect.get_severity_display().split(":")[0].lower()
    word = f"raised, {severity}" if event.verb == "defect.raise" else f"{_state(event)}, {severity}"
    hear = Audience(RUN, signers=True, also=list(also), but=[event.actor])
    return [Told(Kind.DEFECT, f"{defect}: {word}, says {_who(event)}", path, hear, event.why, place)]


def _state(event: AuditEvent) -> str:
    """The state that it came to then; it may have moved on since."""
    state = str(event.after.get("state", ""))
    return Defect.State(state).label.lower() if state in Defect.State.values else "changed"


def _break_glass(event: AuditEvent, made: BreakGlass) -> list[Told]:
    place = (made.wave, made.application)
    path = reverse("break-glass", args=[made.pk])
    if event.verb == "break_glass.pass":
        title = f"{made}: passed by {_who(event)} alone; a second person is asked to look at it"
    else:
        title = f"{made}: {made.get_state_display().lower()}, says {_who(event)}"
    hear = Audience(EVERYBODY, signers=True, also=[made.by], but=[event.actor])
    return [Told(Kind.BREAK_GLASS, title, path, hear, event.why, place)]


@dataclass
class Reader:
    model: type[Model]
    read: Callable[..., list[Told]]
    with_: tuple[str, ...] = field(default=("wave", "application__owner"))


READERS = {
    "projects.approval": Reader(
        Approval, _approval, ("wave", "application__owner", "requested_by", "delegated_to", "delegated_by")
    ),
    "projects.step": Reader(Step, _step, ("migration__wave", "migration__application__owner", "migration__source")),
    "projects.migration": Reader(Migration, _migration, ("wave", "application__owner", "source")),
    "projects.hold": Reader(Hold, _hold, ("wave", "application__owner", "by")),
    "projects.defect": Reader(Defect, _defect, ("wave", "application__owner", "assignee", "raised_by")),
    "projects.breakglass": Reader(BreakGlass, _break_glass, ("wave", "application__owner", "by")),
}
