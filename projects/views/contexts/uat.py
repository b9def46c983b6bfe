"""A test as it is drawn: what was proven at its opening, its snapshots, the way back to them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from projects import uat_runs
from projects.models import Hold
from projects.steps.base import Lane
from servers.models import Run

from .migration import run_sign
from .records import Records

SUCCEEDED = Run.State.SUCCEEDED


@dataclass(frozen=True)
class Line:
    """One thing that was taken at the opening, or done at the end, of one clone."""

    name: str  # of the server
    state: str  # the sign
    title: str
    detail: str = ""
    at: datetime | None = None
    run: Run | None = None
    again: str = ""  # the operation that may be pressed again


def lines(test: Hold | None, lanes: list[Lane], records: Records) -> list[Line]:
    """Proof and snapshots of a test, open or the last one; nothing where there was none."""
    if test is None:
        return []
    found = []
    for lane in lanes:
        of = {operation: records.tests_runs.get(key(test, lane, operation)) for operation in uat_runs.OPERATIONS}
        found.append(_isolation(test, lane, of[uat_runs.ISOLATION]))
        if test.snapshot:
            found.append(_snapshot(test, lane, of[uat_runs.SNAPSHOT]))
        if back := of[uat_runs.REVERT]:
            found.append(_revert(lane, back))
    return found


def key(test: Hold, lane: Lane, operation: str) -> str:
    return uat_runs.work_key(test.pk, lane.migration.pk, operation)


def _isolation(test: Hold, lane: Lane, run: Run | None) -> Line:
    name = lane.migration.source.name
    if lane.on_process_host:
        return Line(name, "not_applicable", "Isolation is not proven: it does not apply", uat_runs.ONE_NETWORK)
    if run is None and test.released_at is not None:
        act = "Open the test again: the sign-off needs the proof."
        return Line(name, "held", "No proof of isolation was taken before the test ended", act)
    if run is None:
        after = "the snapshot is there" if test.begun_at else "the update that runs has ended"
        return Line(name, "waiting", f"The proof of isolation is taken when {after}")
    if run.is_open:
        return Line(name, run_sign(run), "The proof of isolation is being taken", run.reason, run=run)
    if run.state == SUCCEEDED:
        title = "The copy is isolated: production cannot be reached from it"
        return Line(name, "done", title, run.reason, run.finished_at, run)
    words = f"{run.reason} The sign-off waits for it; whatever is done on the copy may reach production."
    again = "" if test.released_at else uat_runs.ISOLATION
    return Line(name, "failed", "The isolation of the copy is not proven", words, run.finished_at, run, again)


def _snapshot(test: Hold, lane: Lane, run: Run | None) -> Line:
    name = lane.migration.source.name
    if run is None:
        return Line(name, "waiting", "A snapshot is taken before you test", "Please wait for it.")
    if run.is_open:
        return Line(name, run_sign(run), "The snapshot is being taken", "Please wait for it before you test.", run=run)
    if run.state == SUCCEEDED:
        words = (
            "The copy can be put back to it when you end the test. It stays on the platform until it is deleted there."
        )
        title = "A snapshot was taken before the test"
        if uat_runs.holds_changes(run):
            title = "A snapshot was taken during the test"
            words = f"It holds what was changed on the copy until then. {words}"
        return Line(name, "done", title, words, run.finished_at, run)
    words = (
        f"{run.reason} You can test without it; then the copy cannot be put back, the next update cleans it instead."
    )
    again = "" if test.released_at else uat_runs.SNAPSHOT
    return Line(name, "failed", "No snapshot was taken", words, run.finished_at, run, again)


def _revert(lane: Lane, run: Run) -> Line:
    name = lane.migration.source.name
    if run.is_open:
        words = "The test ends when it is done; until then nothing runs over the copy."
        return Line(name, run_sign(run), f"The copy is being put back: {run.phase or 'queued'}", words, run=run)
    if run.state == SUCCEEDED:
        words = "The next update compares every file and takes longer than usual."
        return Line(name, "done", "The copy was put back to its snapshot", words, run.finished_at, run)
    words = f"{run.reason} Try it again, or end the test without it: the next update compares every file then."
    return Line(name, "failed", "The copy was not put back", words, run.finished_at, run)
