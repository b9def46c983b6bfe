"""Defects: raise, take into work, mend, verify, reject. Every write moves the versions that decisions look at."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Case, F, Max, Q, When
from django.utils import timezone

from migrationhub.audit.record import record
from projects.access import PLAN, RUN, may_sign, role_in
from projects.errors import Conflict, Forbidden, NotReady
from projects.models import Application, Decision, Defect, Migration, Project, Step, Wave
from projects.readers import may_see, sees
from servers.models import Change

State = Defect.State
Severity = Defect.Severity
FOUND_AT = (Step.Kind.UAT, Step.Kind.VALIDATION)

# From which state to which; everything else is a conflict.
TRANSITIONS: dict[str, frozenset[str]] = {
    State.OPEN: frozenset({State.IN_WORK, State.MENDED, State.REJECTED}),
    State.IN_WORK: frozenset({State.OPEN, State.MENDED, State.REJECTED}),
    State.MENDED: frozenset({State.OPEN, State.VERIFIED, State.REJECTED}),
    State.VERIFIED: frozenset({State.OPEN}),
    State.REJECTED: frozenset({State.OPEN}),
}
LOST = "is_lost"  # what `unsettled_in` marks rows with
# What is said with these is read by whoever is affected.
WITH_REASON = (State.MENDED, State.REJECTED)


@dataclass(frozen=True)
class Draft:
    """A defect as it is raised. `assignee`: who sees to it, a member of the project."""

    step_id: int
    title: str
    description: str = ""
    severity: str = Severity.BLOCKING
    assignee: User | None = None


def raise_defect(draft: Draft, *, user: User) -> Defect:
    """By the owner, an operator or a lead, at acceptance testing or validation. Raises Forbidden, NotReady."""
    with transaction.atomic():
        return add(draft, user=user)


def add(draft: Draft, *, user: User, decision: Decision | None = None) -> Defect:
    """As `raise_defect`, inside the caller's transaction; `decision`: the rejection that it is raised with."""
    if decision is not None:
        _check_place(draft, decision)
    step = Step.objects.select_related(
        "migration__project", "migration__application__owner", "migration__wave", "migration__source"
    ).get(pk=draft.step_id)
    migration = step.migration
    missing = _unmet(draft, step)
    if missing or migration.application is None or migration.wave is None:
        raise NotReady(missing or [f"{migration} is in no wave."])
    if not (may_sign(migration.application, user) or role_in(migration.project, user) in RUN or decision):
        raise Forbidden("Defects are raised by the owner and by whoever runs the migration.", "Tell one of them.")
    number = take_number(migration.project_id)
    _touch(migration.wave, migration.application)  # before it: raised when a decision at work has been made
    if not Migration.objects.filter(pk=migration.pk, wave=migration.wave, application=migration.application).exists():
        raise Conflict(f"{migration} was planned elsewhere a moment ago.", "Look at its page, and raise it there.")
    title = " ".join(draft.title.split())  # one line, whatever was sent
    _check_new(step, title, user)
    made = Defect.objects.create(
        project=migration.project,
        wave=migration.wave,
        application=migration.application,
        step=step,
        number=number,
        title=title,
        description=draft.description.strip(),
        severity=draft.severity,
        assignee=draft.assignee,
        raised_by=user,
        decision=decision,
    )
    record(
        "defect.raise",
        made,
        actor=user,
        project_id=made.project_id,
        why=made.description,
        after={"severity": made.severity, "step": step.kind, "server": migration.source.name},
    )
    return made


def _check_place(draft: Draft, decision: Decision) -> None:
    """What is rejected has servers of its own. Of any other step nothing is said, not even whether there is one."""
    asked = decision.approval
    own = Step.objects.filter(migration__wave=asked.wave_id, migration__application=asked.application_id)
    if not own.filter(pk=draft.step_id).exists():
        raise NotReady([f"Defect “{draft.title[:40]}”: choose a server of {asked.application} in {asked.wave}."])


def _check_new(step: Step, title: str, user: User) -> None:
    """Sent twice it is one defect; the number was taken, so that of two at once the second sees the first."""
    same = Defect.objects.filter(step=step, title=title, raised_by=user, state__in=Defect.UNSETTLED).first()
    if same is not None:
        raise Conflict(f"You raised it already: {same}.", "Look at it, or say in the title what is different.")


def take_number(project_id: int) -> int:
    """The project's next number, inside a transaction: whoever comes second waits here until it is over."""
    Project.objects.filter(pk=project_id).update(slug=F("slug"))
    last = Defect.objects.filter(project=project_id).aggregate(last=Max("number"))["last"] or 0
    return int(last) + 1


def _unmet(draft: Draft, step: Step) -> list[str]:
    missing = []
    if not draft.title.strip():
        missing.append("title: say in one line what does not work.")
    elif len(draft.title.strip()) > 200:
        missing.append(
            f"title: {len(draft.title.strip())} characters; expected at most 200. The rest is a description."
        )
    if draft.severity not in Severity.values:
        missing.append(f"severity={draft.severity}: expected blocking, major or minor.")
    if step.kind not in FOUND_AT:
        missing.append(f"{step}: defects are raised at acceptance testing or final validation.")
    if step.migration.state != Migration.State.OPEN:
        missing.append(f"The migration of {step.migration} is {step.migration.get_state_display().lower()}.")
    if step.migration.application is not None:
        missing += _assignee_unmet(draft.assignee, step.migration.application, step.migration.wave_id)
    return missing


def _assignee_unmet(assignee: User | None, application: Application, wave: int | None) -> list[str]:
    """Whoever sees to a defect reads it first: what it says goes to nobody who may not."""
    if assignee is None or may_see(application, wave, assignee):
        return []
    if role_in(application.project, assignee) is None:
        return [f"assignee={assignee}: not a member of {application.project}."]
    return [
        f"assignee={assignee}: may not see {application}. Choose a lead, an operator, a manager, its owner or whoever "
        "answers for the owner."
    ]


def move(defect_id: int, *, user: User, to: str, reason: str = "", seen: str = "") -> Defect:
    """Take it one state on. `seen`: the state that the page showed. Raises Forbidden, NotReady, Conflict."""
    defect = _get(defect_id)
    if to not in State.values:
        raise NotReady([f"state={to}: expected one of {', '.join(State.values)}."])
    if seen and seen != defect.state:
        raise _moved(defect)
    if to not in TRANSITIONS[defect.state]:
        raise _moved(defect)
    _check_may_move(defect, to, user)
    back = to == State.OPEN and defect.is_settled
    if (to in WITH_REASON or back) and not reason.strip():
        raise NotReady([f"reason: say why it is {'opened again' if back else State(to).label.split(',')[0].lower()}."])
    changes: dict[str, object] = {
        "state": to,
        "reason": reason.strip(),
        "changed_by": user,
        "changed_at": timezone.now(),
    }
    if to == State.MENDED:
        changes["mended_by"] = user
    _write(defect, changes, f"defect.{to}", user, reason)
    return defect


def _check_may_move(defect: Defect, to: str, user: User) -> None:
    role = role_in(defect.project, user)
    concerned = defect.raised_by_id == user.pk or may_sign(defect.application, user)
    if role is None:
        raise Forbidden("You are no member of this project any more.", "Ask a lead.")
    if to == State.VERIFIED:
        if defect.mended_by_id == user.pk:
            raise Forbidden("Whoever mended it does not verify it.", "Ask whoever raised it, the owner or a lead.")
        if not (concerned or role in PLAN):
            raise Forbidden("It is verified by whoever raised it, the owner or a lead.", "Ask one of them.")
    elif to == State.REJECTED:
        if not (role in PLAN or concerned):
            raise Forbidden("It is rejected by a lead, or taken back by whoever raised it.", "Ask one of them.")
    elif not (role in RUN or concerned or defect.assignee_id == user.pk):
        raise Forbidden("It is worked on by whoever runs the migration, or by whom it is assigned to.", "Ask a lead.")


def may_move(defect: Defect, user: User) -> list[str]:
    """The states that this person may take it to now."""
    found = []
    for to in State.values:
        if to in TRANSITIONS[defect.state]:
            try:
                _check_may_move(defect, to, user)
            except Forbidden:
                continue
            found.append(to)
    return found


def waits_for(defect: Defect, user: User, role: str | None, lost: Collection[int] = ()) -> bool:
    """Whether this person is the one who does the next thing about it. `lost`: as `unsettled_in` found them."""
    if defect.state == State.MENDED:
        if defect.mended_by_id == user.pk:
            return False
        if defect.pk in lost or defect.raised_by_id == defect.mended_by_id:
            return role in PLAN or may_sign(defect.application, user)
        return defect.raised_by_id == user.pk
    if defect.assignee_id and defect.pk not in lost:
        return defect.assignee_id == user.pk
    return role in RUN and not defect.is_settled


def unsettled_in(projects: Iterable[int]) -> tuple[list[Defect], set[int]]:
    """The unsettled defects of projects, and the keys of those that are lost: the next thing is somebody's who may not
    see them any more, as they left or answer for another application now. One query."""
    verified = Q(state=State.MENDED) & ~sees("raised_by")
    mended = ~Q(state=State.MENDED) & Q(assignee__isnull=False) & ~sees("assignee")
    rows = Defect.objects.filter(project__in=list(projects), state__in=Defect.UNSETTLED)
    rows = rows.select_related("project", "wave", "application__owner")
    found = list(rows.annotate(**{LOST: Case(When(verified | mended, then=True), default=False)}))
    return found, {each.pk for each in found if getattr(each, LOST)}


def change(
    defect_id: int, *, user: User, severity: str, assignee: User | None, reason: str = "", seen: int = 0
) -> Defect:
    """Another severity or another person who sees to it. To call a blocking one less takes a reason, which stays."""
    defect = _get(defect_id)
    if seen and seen != defect.version:
        raise _moved(defect)
    role = role_in(defect.project, user)
    concerned = defect.raised_by_id == user.pk or may_sign(defect.application, user)
    if not (role in RUN or concerned):
        raise Forbidden("It is changed by whoever runs the migration, whoever raised it, or the owner.", "Ask a lead.")
    missing = []
    if severity not in Severity.values:
        missing.append(f"severity={severity}: expected blocking, major or minor.")
    missing += _assignee_unmet(assignee, defect.application, defect.wave_id)
    eased = defect.severity == Severity.BLOCKING and severity != Severity.BLOCKING
    if eased and not (role in PLAN or concerned):
        raise Forbidden(
            "A blocking defect is called less by a lead, the owner or whoever raised it.", "Ask one of them."
        )
    if eased and not reason.strip():
        missing.append("reason: say why it does not block any more.")
    if defect.is_settled:
        missing.append(f"{defect} is {defect.get_state_display().lower()}; open it again first.")
    if missing:
        raise NotReady(missing)
    changes: dict[str, object] = {"severity": severity, "assignee": assignee}
    if reason.strip():
        changes["reason"] = reason.strip()
    _write(defect, changes, "defect.change", user, reason)
    return defect


def follow(migration: Migration, *, user: User) -> None:
    """What was found on a server goes where it is planned: it holds there, and no more what stays behind. Inside the
    caller's transaction, which moves the waves' versions."""
    wave, application = migration.wave, migration.application
    if wave is None or application is None:
        return  # it holds where it was found, until the server is planned
    found = Defect.objects.filter(step__migration=migration).exclude(wave=wave, application=application)
    for defect in found.select_related("wave", "application"):
        before = {"wave": str(defect.wave), "application": str(defect.application)}
        after = {"wave": str(wave), "application": str(application)}
        record("defect.follow", defect, actor=user, project_id=defect.project_id, before=before, after=after)
    if found.update(wave=wave, application=application, version=F("version") + 1):
        Migration.objects.filter(wave=wave, application=application).update(version=F("version") + 1)


def _get(defect_id: int) -> Defect:
    return Defect.objects.select_related("project", "application__owner", "wave", "step__migration").get(pk=defect_id)


def _moved(defect: Defect) -> Conflict:
    return Conflict(
        f"{defect} is {defect.get_state_display().lower()} now: the page you pressed on was older.",
        "Look at what is there now.",
        code="defect.conflict",
    )


def _write(defect: Defect, changes: dict[str, object], verb: str, user: User, reason: str) -> None:
    before = {name: str(getattr(defect, name)) for name in ("state", "severity", "assignee")}
    with transaction.atomic():
        if not Defect.objects.filter(pk=defect.pk, version=defect.version).update(**changes, version=F("version") + 1):
            defect.refresh_from_db()
            raise _moved(defect)
        for name, value in changes.items():
            setattr(defect, name, value)
        after = {name: str(getattr(defect, name)) for name in before}
        record(verb, defect, actor=user, project_id=defect.project_id, why=reason.strip(), before=before, after=after)
        _touch(defect.wave, defect.application)


def _touch(wave: Wave, application: Application) -> None:
    """A decision that was read before this fails on these versions. The wave last, as everybody takes them."""
    Migration.objects.filter(wave=wave, application=application).update(version=F("version") + 1)
    Wave.objects.filter(pk=wave.pk).update(version=F("version") + 1)
    Change.bump()
