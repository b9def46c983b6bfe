"""How a lane is drawn: the sign, word and notes of each of its seven steps, and what is in the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from projects import attempts
from projects.lanes import running_actions
from projects.models import Action, Migration, Step, StepAttempt
from projects.steps import MODULES
from projects.steps.base import Lane, Unmet
from projects.templatetags.hub import is_stale
from servers.models import Run

from .records import open_keys

State = Step.State
Kind = Step.Kind
STARTS_LATER = (State.WAITING, State.READY, State.SCHEDULED, State.UNDONE)
# The sign of a state where it is not the state's own name.
SIGNS = {State.ATTENTION: "failed"}
WORDS = {State.ATTENTION: "Failed"}
OVER = (State.DONE, State.SKIPPED, State.NOT_APPLICABLE)
SHORT = {
    Kind.INITIAL: "Initial migration",
    Kind.DELTA: "Delta migrations",
    Kind.UAT: "Acceptance test",
    Kind.STOP: "Stop services",
    Kind.FINAL: "Final delta",
    Kind.CUTOVER: "Cutover events",
    Kind.VALIDATION: "Final validation",
}
# A sync ends with a restart of the clone; who asks it soon after that finds nobody, for so long at most.
RESTART_BEGINS, RESTART_TAKES = timedelta(seconds=60), timedelta(seconds=90)
RESTARTS = "The clone was restarted after the sync. It answers in a moment; if not, it is shown as unknown."
# After these steps people decide: the dashed line.
GATES_AFTER = (Kind.UAT, Kind.FINAL, Kind.VALIDATION)


@dataclass
class Cell:
    """One step of one server, as drawn. `unmet`: what is in the way, where it has not begun."""

    step: Step
    state: str
    word: str
    attempt: StepAttempt | None = None
    action: Action | None = None
    run: Run | None = None
    unmet: list[Unmet] = field(default_factory=list)
    is_now: bool = False
    missing: str = ""  # all its acts are done: what people still have to do

    @property
    def name(self) -> str:
        return SHORT[Kind(self.step.kind)]

    @property
    def gate_after(self) -> bool:
        return self.step.kind in GATES_AFTER

    @property
    def percent(self) -> int | None:
        """Share of bytes, where a total was measured; never 100 before the run has ended."""
        run = self.run
        if run is None or not run.bytes_total:
            return None
        return min(99 if run.is_open else 100, 100 * run.bytes_done // run.bytes_total)

    @property
    def is_stale(self) -> bool:
        return self.run is not None and self.run.is_open and is_stale(self.run.observed_at or self.run.started_at)

    @property
    def why(self) -> str:
        """Why it stands where it stands, in words."""
        if self.state == "unknown" and self.run is not None:
            return self.run.reason or "The machine does not answer. What was begun there may still run."
        if self.unmet:
            return " ".join(item.text for item in self.unmet)
        return self.missing or self.step.reason


def newest_runs(lanes: list[Lane]) -> dict[str, Run]:
    """The newest run of each action that runs or failed, by work key: one query."""
    keys = open_keys(lanes)
    if not keys:
        return {}
    return {
        run.work_key: run for run in Run.objects.filter(work_key__in=keys).order_by("number").select_related("server")
    }


def cells(lane: Lane, runs: dict[str, Run]) -> list[Cell]:
    """The seven steps in order; exactly one of them is now."""
    made = [_cell(lane, kind, runs) for kind in Step.ORDER]
    _now(lane, made).is_now = True
    return made


def _cell(lane: Lane, kind: str, runs: dict[str, Run]) -> Cell:
    step, attempt = lane.steps[kind], lane.open_attempt(kind)
    cell = Cell(
        step, SIGNS.get(State(step.state), step.state), WORDS.get(State(step.state), step.get_state_display()), attempt
    )
    if attempt is not None:
        actions = list(attempt.actions.all())
        cell.action = next((a for a in actions if a.state in (Action.State.RUNNING, Action.State.FAILED)), None)
        cell.run = runs.get(cell.action.work_key) if cell.action else None
        _draw_attempt(lane, cell, actions)
    elif step.state in STARTS_LATER and lane.migration.state == Migration.State.OPEN:
        cell.unmet = MODULES[kind].unmet(lane)
        if cell.unmet and all(item.hold for item in cell.unmet) and step.state in (State.READY, State.SCHEDULED):
            cell.state, cell.word = "held", "Held"
    return cell


def _draw_attempt(lane: Lane, cell: Cell, actions: list[Action]) -> None:
    attempt = cell.attempt
    if attempt is None:
        return
    lost = cell.run is not None and cell.run.is_open and cell.run.contact_lost_since is not None
    # What waits for a person's word is no work in hand: the step is at the people.
    planned = any(action.state == Action.State.PLANNED and not attempts.waits(lane, action) for action in actions)
    if lost and cell.run is not None and restarts(lane, cell.run):
        cell.word, cell.missing = "Restarting", RESTARTS
    elif lost:
        cell.state, cell.word = "unknown", "Unknown"
    elif attempt.state == StepAttempt.State.CANCELLING:
        cell.word = "Stopping"
    elif attempt.state == StepAttempt.State.RUNNING and cell.action is None:
        if planned and (held := attempts.next_held(lane, attempt)):
            cell.state, cell.word, cell.missing = "held", "Held", " ".join(item.text for item in held)
        elif not planned and attempt.mode == StepAttempt.Mode.REAL:
            cell.missing = MODULES[cell.step.kind].unfinished(lane)
            cell.word = "Test open" if cell.step.kind == Kind.UAT and lane.uat_hold else "For people"


def restarts(lane: Lane, run: Run) -> bool:
    """Whether what does not answer is the clone that we restarted ourselves: each sync ends with that."""
    target, sync, lost = lane.migration.target, lane.last_sync, run.contact_lost_since
    if target is None or sync is None or lost is None or target.name not in run.reason:
        return False
    silent = lane.now - lost
    return timedelta() <= lost - sync.created_at < RESTART_BEGINS and silent < RESTART_TAKES


def _now(lane: Lane, made: list[Cell]) -> Cell:
    """The step that counts now: what failed, what is taken back, what is open, then the first that is not over."""
    for states in (("failed", "unknown"), ("undoing",)):
        for cell in made:
            if cell.state in states:
                return cell
    begun = [cell for cell in made if cell.attempt is not None]
    # Deltas may go on until the stop, so step 2 never counts as what comes next.
    left = [cell for cell in made if cell.step.state not in OVER and cell.step.kind != Kind.DELTA]
    if begun:
        return begun[-1]
    return left[0] if left else made[-1]


def is_running(lane: Lane) -> bool:
    return bool(running_actions(lane))


def started(lane: Lane) -> datetime | None:
    return min((step.started_at for step in lane.steps.values() if step.started_at), default=None)
