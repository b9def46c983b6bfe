"""What a step module says: what must hold before it may start, which actions it makes, when it is done, its undo.

It knows nothing of SSH or HTTP. Everything here is a pure function over rows that a `Lane` holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from projects.models import (
    Action,
    Approval,
    BreakGlass,
    ChecklistItem,
    Defect,
    Hold,
    Holds,
    ItemRole,
    Migration,
    Step,
    StepAttempt,
)
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
    """One line of a project's first checklist template; see `models.checklist.Line` for the fields."""

    key: str
    title: str
    instruction: str = ""
    role: str = ItemRole.OPERATOR
    required: bool = True
    evidence: bool = False
    holds: str = Holds.END
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
    defects: list[Defect] = field(default_factory=list)  # unsettled ones of the application in this wave
    passes: list[BreakGlass] = field(default_factory=list)  # of the application in this wave, newest first

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
        return approval is not None and approval.is_open

    def holding(self, kind: str = Kind.STOP) -> list[Defect]:
        """Blocking defects of the application in this wave that no break-glass has let pass by name, at the stop or at
        the end (`kind`): what was let past the stop holds the declaration still.

        A defect was passed as it stood then: where it was mended or opened again since, it holds again.
        """
        passed = {pk: each.at for each in reversed(self.passes) if each.lets_pass_at(kind) for pk in each.defects}
        return [
            defect
            for defect in self.defects
            if defect.is_holding
            and not (defect.pk in passed and (defect.changed_at is None or defect.changed_at <= passed[defect.pk]))
        ]

    @property
    def uat_hold(self) -> Hold | None:
        return next((hold for hold in self.holds if hold.kind == Hold.Kind.UAT), None)

    @property
    def on_process_host(self) -> bool:
        return self.migration.source.manager == "supervisord"

    def source_may_be_off(self) -> bool:
        """Whether the shutdown of the source was ever begun: from then on services cannot just be started again."""
        return self.begun_in(Kind.FINAL, "shutdown") is not None

    def begun_in(self, kind: str, operation: str) -> StepAttempt | None:
        """The first attempt at the step, not taken back, in which this was ever begun; a retry does not undo that."""
        for attempt in self.attempts.get(self.steps[kind].pk, []):
            counts = attempt.mode == StepAttempt.Mode.REAL and attempt.undone_by_id is None
            if counts and any(each.operation == operation and each.was_begun for each in attempt.actions.all()):
                return attempt
        return None


def hold_words(hold: Hold) -> str:
    return f"{hold.get_kind_display()}: {hold.why}" if hold.why else hold.get_kind_display()


class StepModule:
    kind: ClassVar[str]
    automatic: ClassVar[bool] = False  # starts by itself when nothing is unmet
    again_by_itself: ClassVar[bool] = True  # also after it was taken back
    items: ClassVar[tuple[Item, ...]] = ()  # of a new project's first template
    operations: ClassVar[dict[str, str]] = {}  # what an item may tick itself from, in words

    def unmet(self, lane: Lane) -> list[Unmet]:
        """What must hold before the step may start and does not, holds and its checklist included."""
        return self.conditions(lane) + start_unmet(lane, self.kind)

    def conditions(self, lane: Lane) -> list[Unmet]:
        """What the step itself needs before it may start, holds included."""
        raise NotImplementedError

    def retry_unmet(self, lane: Lane) -> list[Unmet]:
        """What must hold before a failed attempt may go on and does not."""
        return lane.held_by("person")

    def done_again(self, actions: list[Action]) -> str:
        """Why a retry begins with the first action again and not with the one that failed, in words; "" where what is
        done is kept."""
        return ""

    def act_unmet(self, lane: Lane, operation: str) -> list[Unmet]:
        """What must hold before the next act of an attempt that runs may begin, and does not."""
        return lane.held_by("person")

    def prepare(self, lane: Lane) -> None:
        """Rows that the plan needs, in the transaction that begins the attempt."""

    def plan(self, lane: Lane) -> list[Plan]:
        """The actions of a new attempt, in order."""
        raise NotImplementedError

    def unfinished(self, lane: Lane) -> str:
        """All actions are done: why the step is not, in words; empty when it is."""
        missing = open_items(lane, self.kind, Holds.END)
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


def open_items(lane: Lane, kind: str, holds: str = "") -> list[ChecklistItem]:
    """Required items that are open and that no break-glass has let pass; `holds`: only those that hold this.

    An item was passed as it stood then: where it was answered or opened again since, it holds again.
    """
    passed = {pk: each.at for each in reversed(lane.passes) if each.lets_pass for pk in each.items}
    return [
        item
        for item in lane.checklist.get(lane.steps[kind].pk, [])
        if item.required
        and not item.is_closed
        and holds in ("", item.holds)
        and not (item.pk in passed and (item.at is None or item.at <= passed[item.pk]))
    ]


def start_unmet(lane: Lane, kind: str) -> list[Unmet]:
    """Items of the step's checklist that are to be done before it starts."""
    return [
        Unmet(f"“{item.title}” is open on the checklist ({item.get_role_display().lower()}).", "gate.checklist")
        for item in open_items(lane, kind, Holds.START)
    ]


def defects_unmet(lane: Lane, kind: str = Kind.STOP) -> list[Unmet]:
    """Blocking defects of the application: nothing that people decide on goes past them."""
    return [
        Unmet(f"{defect} is blocking ({defect.get_state_display().lower()}).", "gate.defect")
        for defect in lane.holding(kind)
    ]


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
    failed = "needs attention: retry or stop it; this can start after it"
    return [
        Unmet(
            f"{lane.steps[kind].get_kind_display()}"
            f" {failed if lane.state(kind) == State.ATTENTION else 'is running; this starts when it ends'}.",
            f"busy.{kind}",
        )
        for kind in kinds
        if lane.open_attempt(kind)
    ]
