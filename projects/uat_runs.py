"""What runs at the opening and at the end of a test: proof of isolation, a snapshot of the clones, the way back.

These runs belong to the reservation (`Hold`), not to a step: every opening takes its own proof, also after the
owner has signed. They are found by their work keys.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from migrationhub.audit.record import record
from projects.models import Action, ChecklistItem, Hold, Migration, Step
from projects.notify.outbox import note_once
from projects.steps.base import Lane
from projects.steps.moving import machines
from servers import runs
from servers.away import AWAY
from servers.models import Change, Placement, Run

log = logging.getLogger(__name__)

ISOLATION, SNAPSHOT, REVERT = "isolation", "snapshot", "revert"
OPERATIONS = (ISOLATION, SNAPSHOT, REVERT)
ONE_NETWORK = "Process hosts share one network: there is nothing to isolate."
TITLES = {
    ISOLATION: "Prove that the clone is isolated",
    SNAPSHOT: "Take a snapshot of the clone before the test",
    REVERT: "Put the clone back to the snapshot",
}
PROOF_OPEN = "Taken at each opening of the test."
HELD_WHOLE = "its clone's services are stopped since the final sync, which was taken back; the next delta starts them."
HELD_HALF = "its copy is incomplete, as a sync was stopped halfway; its services stay stopped. Run one to its end."


def work_key(hold_id: int, migration_id: int, operation: str) -> str:
    return f"uat{hold_id}.m{migration_id}.{operation}"


def snapshot_unmet(lanes: list[Lane]) -> list[str]:
    """Why the platform cannot keep the clones as they are now; empty when it can. One query."""
    targets = {lane.migration.target_id: lane.migration.source.name for lane in lanes}
    placed = {
        place.server_id: place
        for place in Placement.objects.filter(server__in=[pk for pk in targets if pk]).select_related("platform")
    }
    missing = []
    for pk, name in targets.items():
        place = placed.get(pk or 0)
        if place is None or not place.external_id:
            missing.append(f"{name}: its clone is not known on the platform.")
        else:
            missing += [
                f"{name}: {finding['text']}"
                for finding in place.platform.findings
                if finding.get("code") == "permission.snapshots"
            ]
    return missing


def held_clones(lanes: list[Lane]) -> list[str]:
    """Clones whose services a sync left stopped and no other has started since: it was stopped halfway, or it was the
    final one of a cutover that was taken back. One query, none where there is no such sync."""
    tried = {key: lane for lane in lanes for key in _syncs_that_may_hold(lane)}
    found = Run.objects.filter(work_key__in=list(tried), result__target_in_receive_mode=True) if tried else ()
    whole: dict[str, bool] = {}  # by name, in the order of the lanes' tries
    for run in found:
        name = tried[run.work_key].migration.source.name
        whole[name] = whole.get(name, True) and run.state == Run.State.SUCCEEDED
    return [f"{name}: {HELD_WHOLE if is_whole else HELD_HALF}" for name, is_whole in whole.items()]


def _syncs_that_may_hold(lane: Lane) -> list[str]:
    """Work keys of syncs since the last one after which the clone was started: failed, stopped, or final and taken
    back. Before it is taken back, a final sync holds the clone on purpose."""
    attempts = sorted((each for rows in lane.attempts.values() for each in rows), key=lambda each: each.started_at)
    keys: list[str] = []
    for attempt, action in ((each, action) for each in attempts for action in each.actions.all()):
        if action.operation != "sync":
            continue
        if action.state == Action.State.DONE:
            keys = [action.work_key] if attempt.undone_by_id and action.parameters.get("kind") == "final" else []
        elif action.state in (Action.State.FAILED, Action.State.CANCELLED):
            keys.append(action.work_key)
    return keys


def newest(hold_id: int, lanes: Iterable[Lane], operations: Iterable[str] = OPERATIONS) -> dict[tuple[int, str], Run]:
    """The newest run of each kind of this reservation, by migration and operation."""
    keys = {
        work_key(hold_id, lane.migration.pk, operation): (lane.migration.pk, operation)
        for lane in lanes
        for operation in operations
    }
    found = Run.objects.filter(work_key__in=list(keys)).order_by("number")
    return {keys[run.work_key]: run for run in found}


def at_work(hold: Hold, lanes: list[Lane]) -> list[str]:
    """Why the test cannot be ended now: its end would let a sync begin on a clone that the platform is changing."""
    found = newest(hold.pk, lanes)
    return [
        f"{lane.migration.source.name}: “{TITLES[operation]}” is still running; end the test when it has ended."
        for lane in lanes
        for operation in OPERATIONS
        if (run := found.get((lane.migration.pk, operation))) and run.is_open
    ]


def back_unmet(hold: Hold, lanes: list[Lane]) -> list[str]:
    """Why the clones cannot be put back to their snapshots now; empty when they can."""
    if not hold.snapshot:
        return ["No snapshot was asked for when the test was opened."]
    found = newest(hold.pk, lanes)
    missing = []
    for lane in lanes:
        name = lane.migration.source.name
        taken, back = found.get((lane.migration.pk, SNAPSHOT)), found.get((lane.migration.pk, REVERT))
        if taken is None or taken.is_open:
            missing.append(f"{name}: its snapshot is not there yet.")
        elif taken.state != Run.State.SUCCEEDED:
            missing.append(f"{name}: its snapshot was not taken.")
        if back is not None and back.is_open:
            missing.append(f"{name}: it is being put back already.")
        test = lane.open_attempt(Step.Kind.UAT)
        if test and any(action.state == "running" for action in test.actions.all()):
            missing.append(f"{name}: evidence is being taken from it; in a moment.")
    return missing


def put_back(hold: Hold, lanes: list[Lane], *, user: User) -> None:
    """Ask for the way back of every clone that is not back yet; in the caller's transaction."""
    found = newest(hold.pk, lanes)
    for lane in lanes:
        key = (lane.migration.pk, REVERT)
        if key in found and found[key].state == Run.State.SUCCEEDED:
            continue
        snapshot = found[lane.migration.pk, SNAPSHOT].result["snapshot_id"]
        _request(hold, lane, REVERT, {**machines(lane.migration), "snapshot_id": snapshot}, user)


def again(hold: Hold, lanes: list[Lane], operation: str, *, user: User) -> int:
    """Proofs or snapshots that failed are taken again; how many."""
    found = newest(hold.pk, lanes, (operation,))
    failed = [
        lane
        for lane in lanes
        if (run := found.get((lane.migration.pk, operation))) and not run.is_open and run.state != Run.State.SUCCEEDED
    ]
    for lane in failed:
        if operation == ISOLATION:
            _reopen([lane])
        _request(hold, lane, operation, _parameters(lane, operation), user)
    return len(failed)


def thrown_away(lanes: list[Lane], tests: Sequence[Hold], found: dict[str, Run]) -> str:
    """What the next syncs take away from the clones, in words; "" where nobody tested since the last ones.

    `tests`: of their application, in order; `found`: the newest runs of tests, by work key.
    """
    lost = [lane for lane in lanes if _tested(lane, tests, found)]
    if not lost:
        return ""
    names = ", ".join(lane.migration.source.name for lane in lost)
    last = {lane.last_sync.number for lane in lost if lane.last_sync}
    since = f"sync {last.pop()}" if len(last) == 1 else "their last syncs"
    one = len(lost) == 1
    return (
        f"The next update{'' if one else 's'} throw{'s' if one else ''} away whatever was changed on the"
        f" cop{'y' if one else 'ies'} of {names} since {since}."
        " How many files that is, is not known before both sides are compared."
    )


def _tested(lane: Lane, tests: Sequence[Hold], found: dict[str, Run]) -> bool:
    """Somebody may have changed something on the clone since its last sync, and it was not put back since."""
    last = lane.last_sync
    if last is None or lane.over(Step.Kind.FINAL):
        return False
    since = [each for each in tests if (each.released_at or lane.now) > last.created_at]
    if not since:
        return False
    back = found.get(work_key(since[-1].pk, lane.migration.pk, REVERT))
    taken = found.get(work_key(since[-1].pk, lane.migration.pk, SNAPSHOT))
    is_back = back is not None and back.state == Run.State.SUCCEEDED and not holds_changes(taken)
    return not (since[-1].released_at and is_back)


def holds_changes(snapshot: Run | None) -> bool:
    """Whether it may hold what a tester changed: one that was taken again was taken during the test."""
    return snapshot is not None and snapshot.number > 1


def advance(lanes: list[Lane]) -> None:
    """One pass of the controller over every test that is open; `lanes`: all open ones."""
    tests: dict[int, list[Lane]] = defaultdict(list)
    holds: dict[int, Hold] = {}
    for lane in lanes:
        if lane.uat_hold is not None and lane.uat_hold.pk is not None:
            holds[lane.uat_hold.pk] = lane.uat_hold
            tests[lane.uat_hold.pk].append(lane)
    for pk, group in tests.items():
        try:
            _tend(holds[pk], group)
        except AWAY:
            raise
        except Exception:
            log.exception("The test of hold %s", pk)


def _tend(hold: Hold, lanes: list[Lane]) -> None:
    if hold.begun_at is None:
        busy = any(lane.open_attempt(kind) for lane in lanes for kind in (Step.Kind.INITIAL, Step.Kind.DELTA))
        if not busy:
            _begin(hold, lanes)
        return
    found = newest(hold.pk, lanes)
    _tell_failed(hold, lanes, found)
    for lane in lanes:
        run, taken = found.get((lane.migration.pk, ISOLATION)), found.get((lane.migration.pk, SNAPSHOT))
        first = taken if hold.snapshot else run
        if first is None and lane.over(Step.Kind.INITIAL):
            _first(hold, lane)  # it came in after the opening
        elif run is None and taken is not None and not taken.is_open and not lane.on_process_host:
            _request(hold, lane, ISOLATION, _parameters(lane, ISOLATION), hold.by)
        if run is not None and not run.is_open:
            _tick(lane, run)
    if hold.back_at is not None:
        ends = [found.get((lane.migration.pk, REVERT)) for lane in lanes]
        if all(run is not None and run.state == Run.State.SUCCEEDED for run in ends):
            _release(hold, lanes)


def _tell_failed(hold: Hold, lanes: list[Lane], found: dict[tuple[int, str], Run]) -> None:
    """Each try that failed is told once: the tester waits for it, and may be on a clone that reaches production."""
    names = {lane.migration.pk: lane.migration.source.name for lane in lanes}
    for (migration, operation), run in found.items():
        if run.finished_at is not None and run.state != Run.State.SUCCEEDED:
            key, after = f"uat.failed:{run.pk}", {"server": names[migration], "what": TITLES[operation], "run": run.pk}
            why, project = run.reason, hold.project_id
            note_once(key, run.finished_at, "uat.failed", hold, project_id=project, why=why, after=after)


def failed_backs(lanes: Iterable[Lane]) -> dict[int, Run]:
    """Ways back that failed in tests that wait for them, by migration. One query, none where no test waits."""
    keys = {
        work_key(lane.uat_hold.pk, lane.migration.pk, REVERT): lane.migration.pk
        for lane in lanes
        if lane.uat_hold is not None and lane.uat_hold.back_at is not None
    }
    found = Run.objects.filter(work_key__in=list(keys)).order_by("number") if keys else ()
    last = {keys[run.work_key]: run for run in found}
    return {pk: run for pk, run in last.items() if not run.is_open and run.state != Run.State.SUCCEEDED}


def _begin(hold: Hold, lanes: list[Lane]) -> None:
    """No sync runs any more: the snapshot first, so that it holds nothing of the test, then the proof."""
    with transaction.atomic():
        if not Hold.objects.filter(pk=hold.pk, begun_at=None, released_at=None).update(begun_at=timezone.now()):
            return
        _reopen(lanes)
        for lane in lanes:
            _first(hold, lane)
        Change.bump()


def _first(hold: Hold, lane: Lane) -> None:
    """What is begun with for one clone. On a process host without a snapshot there is nothing but a word to say."""
    if hold.snapshot:
        _request(hold, lane, SNAPSHOT, _parameters(lane, SNAPSHOT), hold.by)
    elif not lane.on_process_host:
        _request(hold, lane, ISOLATION, _parameters(lane, ISOLATION), hold.by)
    elif any(item.state == ChecklistItem.State.OPEN for item in proof_items(lane)):
        _reopen([lane])


def _parameters(lane: Lane, operation: str) -> dict[str, object]:
    migration = lane.migration
    more = {"dns_name": migration.dns_name, "name_server": migration.name_server_id} if operation == ISOLATION else {}
    return {**machines(migration), **more}


def _request(hold: Hold, lane: Lane, operation: str, parameters: dict[str, object], user: User | None) -> None:
    runs.request(
        work_key(hold.pk, lane.migration.pk, operation),
        operation,
        title=TITLES[operation],
        parameters=parameters,
        server=lane.migration.target,
        user=user,
    )


def proof_items(lane: Lane) -> list[ChecklistItem]:
    """What ticks itself from the proof, on the list of the acceptance test."""
    return [item for item in lane.checklist.get(lane.steps[Step.Kind.UAT].pk, []) if item.operation == ISOLATION]


def _reopen(lanes: list[Lane]) -> None:
    """The proof of another opening says nothing about this one; where it can say nothing at all, that is said."""
    for lane in lanes:
        state, note = ChecklistItem.State.OPEN, PROOF_OPEN
        if lane.on_process_host:
            state, note = ChecklistItem.State.NOT_APPLICABLE, ONE_NETWORK
        _write(lane, state, note, None)


def _tick(lane: Lane, run: Run) -> None:
    passed = run.state == Run.State.SUCCEEDED
    state = ChecklistItem.State.DONE if passed else ChecklistItem.State.FAILED
    if any(item.state != state or item.run_id != run.pk for item in proof_items(lane)):
        _write(lane, state, run.reason[:500], run)


def _write(lane: Lane, state: str, note: str, run: Run | None) -> None:
    """The items that tick themselves from the proof; a decision that looked at them looks again."""
    items = proof_items(lane)
    if not items:
        return
    at = run.finished_at if run else timezone.now()
    with transaction.atomic():
        ChecklistItem.objects.filter(pk__in=[item.pk for item in items]).update(state=state, note=note, run=run, at=at)
        Migration.objects.filter(pk=lane.migration.pk).update(version=F("version") + 1)
        Change.bump()


def _release(hold: Hold, lanes: list[Lane]) -> None:
    """Every clone is back: the test ends as it was asked to."""
    with transaction.atomic():
        if Hold.objects.filter(pk=hold.pk, released_at=None).update(released_at=timezone.now()):
            Migration.objects.filter(pk__in=[lane.migration.pk for lane in lanes]).update(version=F("version") + 1)
            record(
                "hold.release",
                hold,
                actor=hold.released_by,
                project_id=hold.project_id,
                why="The clones are back at their snapshots.",
            )
            Change.bump()
