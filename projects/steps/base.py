"""What a step module says: what must hold before it may start, which actions it makes, when it is done, its undo.

It knows nothing of SSH or HTTP. Everything here is a pure function over rows that a `Lane` holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from projects.models import Action, Approval, ChecklistItem, Hold, Migration, Step, StepAttempt
from servers.models import SyncPoint

State = Step.State
Kind = Step.Kind
OVER = (State.DONE, State.SKIPPED, State.NOT_APPLICABLE)


@dataclass(frozen=True)
class Unmet:
    """One thing that does not hold yet, in words."""

    text: str
    code: str = ""
    hold: Hold | None = None


@dataclass(frozen=True)
class Plan:
    """One action to be made."""

    operation: str
    title: str
    parameters: dict[str, Any]
    undo: dict[str, Any] = field(default_factory=dict)
    reversible: str = Action.Reversible.YES
    not_applicable: str = ""  # the reason, where this action does not apply here
    after: str = ""  # starts after the action with this operation; else after the one before it
    waits_for: str = ""  # "declared": not before a lead has declared the migration complete


@dataclass(frozen=True)
class Item:
    """One line of a checklist. `operation`: ticks itself from the action with that operation."""

    key: str
    title: str
    instruction: str = ""
    role: str = "operator"
    required: bool = True
    operation: str = ""


@dataclass
class Lane:
    """One server's way through the steps, with everything that a decision about it looks at."""

    migration: Migration
    now: datetime
    steps: dict[str, Step]
    attempts: dict[int, list[StepAttempt]]  # by step, in order, with their actions
    checklist: dict[int, list[ChecklistItem]]  # by step
    holds: list[Hold]  # open ones that apply to this migration, window and change freeze among them
    approvals: dict[str, Approval]  # by gate
    last_sync: SyncPoint | None
    awaited: list[Lane]  # lanes of the applications that this one's cutover waits for

    def state(self, kind: str) -> str:
        return self.steps[kind].state

    def over(self, kind: str) -> bool:
        return self.state(kind) in OVER

    def open_attempt(self, kind: str) -> StepAttempt | None:
        for attempt in reversed(self.attempts.get(self.steps[kind].pk, [])):
            if attempt.state in StepAttempt.OPEN:
                return attempt
        return None

    def last_attempt(self, kind: str, mode: str = StepAttempt.Mode.REAL) -> StepAttempt | None:
        for attempt in reversed(self.attempts.get(self.steps[kind].pk, [])):
            if attempt.mode == mode:
                return attempt
        return None

    def held_by(self, *kinds: str) -> list[Unmet]:
        return [Unmet(hold_words(hold), f"hold.{hold.kind}", hold) for hold in self.holds if hold.kind in kinds]

    def approved(self, gate: str) -> bool:
        approval = self.approvals.get(gate)
        return approval is not None and approval.state == Approval.State.APPROVED

    @property
    def uat_hold(self) -> Hold | None:
        return next((hold for hold in self.holds if hold.kind == Hold.Kind.UAT), None)

    @property
    def on_process_host(self) -> bool:
        return self.migration.source.manager == "supervisord"

    def source_may_be_off(self) -> bool:
        """Whether the shutdown of the source was ever begun: from then on services cannot just be started again."""
        return any(
            action.operation == "shutdown" and action.state not in (Action.State.PLANNED, Action.State.CANCELLED)
            for attempt in self.attempts.get(self.steps[Kind.FINAL].pk, [])
            if attempt.mode == StepAttempt.Mode.REAL and attempt.undone_by_id is None
            for action in attempt.actions.all()
        )


def hold_words(hold: Hold) -> str:
    return f"{hold.get_kind_display()}: {hold.why}" if hold.why else hold.get_kind_display()


class StepModule:
    kind: ClassVar[str]
    automatic: ClassVar[bool] = False  # starts by itself when nothing is unmet
    items: ClassVar[tuple[Item, ...]] = ()

    def unmet(self, lane: Lane) -> list[Unmet]:
        """What must hold before the step may start and does not, holds included."""
        raise NotImplementedError

    def retry_unmet(self, lane: Lane) -> list[Unmet]:
        """What must hold before a failed attempt may go on and does not."""
        return lane.held_by("person")

    def prepare(self, lane: Lane) -> None:
        """Rows that the plan needs, in the transaction that begins the attempt."""

    def plan(self, lane: Lane) -> list[Plan]:
        """The actions of a new attempt, in order."""
        raise NotImplementedError

    def unfinished(self, lane: Lane) -> str:
        """All actions are done: why the step is not, in words; empty when it is."""
        missing = open_items(lane, self.kind)
        return f"Waits for: {', '.join(item.title for item in missing)}." if missing else ""

    def undo(self, lane: Lane, attempt: StepAttempt) -> list[Plan]:
        """What takes back what the attempt did, in reverse order."""
        plans = []
        for action in reversed(list(attempt.actions.all())):
            begun = action.state not in (Action.State.PLANNED, Action.State.NOT_APPLICABLE)
            if action.undo and begun:
                plans.append(
                    Plan(
                        action.undo["operation"],
                        action.undo["title"],
                        {**action.undo["parameters"], "of": action.work_key},
                    )
                )
        return plans


def open_items(lane: Lane, kind: str) -> list[ChecklistItem]:
    items = lane.checklist.get(lane.steps[kind].pk, [])
    closed = (ChecklistItem.State.DONE, ChecklistItem.State.NOT_APPLICABLE)
    return [item for item in items if item.required and item.state not in closed]


def before(lane: Lane, *kinds: str) -> list[Unmet]:
    """The earlier steps that are not done."""
    words = {State.RUNNING: "is still running", State.ATTENTION: "needs attention", State.CANCELLED: "was cancelled"}
    return [
        Unmet(
            f"{lane.steps[kind].get_kind_display()} {words.get(State(lane.state(kind)), 'is not done yet')}.",
            f"before.{kind}",
        )
        for kind in kinds
        if not lane.over(kind)
    ]


def busy(lane: Lane, *kinds: str) -> list[Unmet]:
    """Work on the same two machines that must end first."""
    return [
        Unmet(f"{lane.steps[kind].get_kind_display()} is running; this starts when it ends.", f"busy.{kind}")
        for kind in kinds
        if lane.open_attempt(kind)
    ]
