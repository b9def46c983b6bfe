"""The acceptance test of an application: open it, move its promised end, end it, break it off."""

from __future__ import annotations

from datetime import datetime

from django.contrib.auth.models import AnonymousUser, User
from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone

from migrationhub.audit.record import record
from projects import decisions, uat_runs, workflow
from projects.access import PLAN, RUN, may_sign, role_in
from projects.errors import Conflict, Forbidden, NotReady
from projects.lanes import application_lanes
from projects.models import Application, Hold, Migration, Step, Wave
from projects.steps.base import Lane
from servers.models import Change


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
    return missing + uat_runs.held_clones(lanes)


def live_words(lanes: list[Lane]) -> list[str]:
    """Servers whose last sync was live: a database among them may not start on the clone."""
    return [
        f"{lane.migration.source.name}: its last sync was live, files changed while they were copied; "
        "a database on it may not start."
        for lane in lanes
        if lane.last_sync is not None and not lane.last_sync.is_consistent
    ]


def open_uat(
    wave_id: int,
    application_id: int,
    *,
    user: User,
    until: datetime | None = None,
    accept_live: bool = False,
    snapshot: bool = False,
) -> Hold:
    """Reserve the clones for the tester: deltas wait, visibly. Once no delta runs, evidence and the proof of isolation
    are taken, before them a snapshot of every clone if one is asked for."""
    wave = Wave.objects.select_related("project").get(pk=wave_id)
    application = Application.objects.get(pk=application_id)
    lanes = application_lanes(wave_id, application)
    missing = uat_unmet(lanes)
    live = live_words(lanes)
    if live and not (accept_live and role_in(wave.project, user) in PLAN):
        missing += [*live, "A lead may open the test all the same and take that on."]
    if until is not None and until <= timezone.now():
        missing.append(f"until={until:%Y-%m-%d %H:%M}: that is over; name a time to come or leave it empty.")
    if snapshot:
        missing += uat_runs.snapshot_unmet(lanes)
    if missing:
        raise NotReady(missing)
    why = f"{application} is being tested" + (f"; {user} took on: {' '.join(live)}" if live else "")
    try:
        with transaction.atomic():
            for lane in sorted(lanes, key=lambda lane: lane.migration.pk):
                workflow.claim_versions(lane)  # a cutover that began meanwhile leaves no clone to test
            opened = Hold.objects.create(
                kind=Hold.Kind.UAT,
                project=wave.project,
                wave=wave,
                application=application,
                why=why,
                by=user,
                until=until,
                snapshot=snapshot,
            )
            record("uat.open", opened, actor=user, project_id=wave.project_id, why=why)
            Change.bump()
    except IntegrityError:
        raise Conflict("The acceptance test was opened by somebody else a moment ago.", "Look again.") from None
    return opened


def open_hold(wave_id: int, application_id: int) -> tuple[Hold, Application]:
    """The reservation of a test that is open. Raises Conflict where none is."""
    found = (
        Hold.objects.select_related("project", "application__owner", "by")
        .filter(kind=Hold.Kind.UAT, wave=wave_id, application=application_id, released_at=None)
        .first()
    )
    if found is None or found.application is None:
        raise Conflict("The acceptance test is not open any more.", "Look at what is there now.")
    return found, found.application


def may_end(hold: Hold, application: Application, user: User | AnonymousUser) -> bool:
    """Whoever opened it, and the owner: for others it is somebody else's test, which a lead may break off."""
    return (hold.by_id is not None and hold.by_id == user.pk) or may_sign(application, user)


def overdue(hold: Hold, now: datetime) -> bool:
    """The promised end is over; the test stays open until somebody ends it."""
    return hold.until is not None and hold.until <= now


def end(wave_id: int, application_id: int, *, user: User, back: bool = False) -> None:
    """Release the clones: the next delta takes the tester's changes away. `back`: not before every clone is put back
    to its snapshot; until then the test stays open, and nothing syncs."""
    hold, application = open_hold(wave_id, application_id)
    if not may_end(hold, application, user):
        raise Forbidden(
            f"The test was opened by {hold.by or 'the system'} for {application}.",
            "A lead may break it off, with a reason.",
        )
    lanes = application_lanes(wave_id, application)
    if not back:
        _let_go(hold, lanes, user=user)
        return
    missing = uat_runs.back_unmet(hold, lanes)
    if missing:
        raise NotReady(missing, "Or end the test without it: the next sync takes the changes away.")
    with transaction.atomic():
        # Whoever asks for it ends the test, once every clone is back. Nothing goes back under a sync: only a test that
        # is still open does, and of two who ask at once only one.
        still = Hold.objects.filter(pk=hold.pk, released_at=None, back_at=hold.back_at)
        if not still.update(back_at=timezone.now(), released_by=user):
            raise Conflict("The test was ended, or its end asked for, by somebody else a moment ago.", "Look again.")
        uat_runs.put_back(hold, lanes, user=user)
        _touch(hold)
        record("uat.back", hold, actor=user, project_id=hold.project_id)
        Change.bump()


def _let_go(hold: Hold, lanes: list[Lane], *, user: User, why: str = "") -> None:
    """Release the clones now. Looked at once the row is ours: nobody begins the way back any more after that."""
    with transaction.atomic():
        decisions.release(hold.pk, user=user, why=why)
        missing = uat_runs.at_work(hold, lanes)
        if missing:
            raise NotReady(missing)


def again(wave_id: int, application_id: int, *, user: User, operation: str) -> None:
    """Take what failed at the opening once more: the proof of isolation, or the snapshot."""
    hold, application = open_hold(wave_id, application_id)
    if not (may_end(hold, application, user) or role_in(hold.project, user) in RUN):
        raise Forbidden("That is for the owner or for whoever runs the migration.", "Ask one of them.")
    if operation not in (uat_runs.ISOLATION, uat_runs.SNAPSHOT):
        raise NotReady([f"what={operation[:40]}: expected isolation or snapshot."])
    with transaction.atomic():
        # The row is ours from here on: it is not ended meanwhile, and of two who press at once the second sees the run.
        if not Hold.objects.filter(pk=hold.pk, released_at=None).update(snapshot=hold.snapshot):
            raise Conflict("The test was ended by somebody else a moment ago.", "Look at what is there now.")
        if not uat_runs.again(hold, application_lanes(wave_id, application), operation, user=user):
            raise Conflict("Nothing of it failed.", "Look at what is there now.")
        record("uat.again", hold, actor=user, project_id=hold.project_id, after={"what": operation})


def extend(wave_id: int, application_id: int, *, user: User, until: datetime | None) -> Hold:
    """Promise another end. `until` empty: no end is promised any more."""
    hold, application = open_hold(wave_id, application_id)
    if not (may_end(hold, application, user) or role_in(hold.project, user) in RUN):
        raise Forbidden("A test is extended by the owner or by whoever runs the migration.", "Ask one of them.")
    if until is not None and until <= timezone.now():
        raise NotReady([f"until={until:%Y-%m-%d %H:%M}: that is over; name a time to come or leave it empty."])
    with transaction.atomic():
        if not Hold.objects.filter(pk=hold.pk, released_at=None, until=hold.until).update(until=until):
            raise Conflict("The test was ended or extended by somebody else a moment ago.", "Look again.")
        _touch(hold)  # pages show the promised end
        record(
            "uat.extend",
            hold,
            actor=user,
            project_id=hold.project_id,
            before={"until": hold.until and hold.until.isoformat()},
            after={"until": until and until.isoformat()},
        )
        Change.bump()
    hold.until = until
    return hold


def break_off(wave_id: int, application_id: int, *, user: User, why: str) -> None:
    """A lead ends somebody else's test. The reason stays on the owner's page and in the trail."""
    hold, application = open_hold(wave_id, application_id)
    if role_in(hold.project, user) not in PLAN:
        raise Forbidden("A test of somebody else is broken off by a lead alone.", "Ask a lead, or whoever opened it.")
    if not why.strip():
        raise NotReady(["why: say why the test is broken off; the tester reads it."])
    _let_go(hold, application_lanes(wave_id, application), user=user, why=why.strip())


def broken_off(tests: list[Hold]) -> Hold | None:
    """The last of an application's tests, if a lead broke it off and none was opened since."""
    last = tests[-1] if tests else None
    return last if last is not None and last.released_why else None


def _touch(hold: Hold) -> None:
    servers = Migration.objects.filter(wave=hold.wave_id, application=hold.application_id)
    servers.update(version=F("version") + 1)
