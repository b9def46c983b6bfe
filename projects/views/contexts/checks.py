"""Checklists as they are drawn: items by step, who may answer, which version they were made from."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from django.http import HttpRequest

from projects import approvals, checklists, list_versions
from projects import break_glass as emergency
from projects.access import PLAN
from projects.models import Attachment, ChecklistItem, ChecklistTemplate, Migration, Step
from projects.steps.base import Lane

from .lanes import OVER, SHORT, Cell
from .records import Records

Kind = Step.Kind
CHECK_SIGNS = {"open": "open", "done": "done", "failed": "failed", "not_applicable": "not_applicable"}


@dataclass(frozen=True)
class Check:
    item: ChecklistItem
    state: str
    mine: bool  # may be answered by whoever looks
    files: list[Attachment] = field(default_factory=list)

    @property
    def seen(self) -> str:
        return checklists.seen_of(self.item)


@dataclass(frozen=True)
class Checks:
    """The checklist of one step. `newer`: a version of its template that came after the one it was made from."""

    name: str
    kind: str
    rows: list[Check]
    made_from: int | None
    newer: int | None
    takes: int | None = None  # the step, where a lead may take the newer version into this list

    @property
    def closed(self) -> int:
        return sum(check.item.is_closed for check in self.rows)

    @property
    def is_settled(self) -> bool:
        """Nothing of it is left to do: it is drawn folded."""
        return self.closed == len(self.rows) or not any(check.mine or not check.item.is_closed for check in self.rows)


def shown(
    request: HttpRequest, lane: Lane, records: Records, role: str | None, now: Cell, coming: Cell | None
) -> list[Checks]:
    """Steps that are far off keep their checklist to themselves; the next one shows what is to be done before it."""
    versions = template_versions(lane.migration.project_id)
    found = []
    for kind, rows in checklist(request, lane, records, role):
        step = lane.steps[kind]
        begun = step.started_at is not None or step.state in OVER
        if begun or kind in {now.step.kind, coming.step.kind if coming else "", *_deltas(lane)}:
            made = next((version for pk, version in versions[kind] if pk == step.template_id), None)
            last = max((version for _, version in versions[kind]), default=None)
            newer = last if made and last and last > made else None
            takes = step.pk if newer and role in PLAN and not list_versions.unmet(step) else None
            found.append(Checks(SHORT[Kind(kind)], kind, rows, made, newer, takes))
    return found


def _deltas(lane: Lane) -> tuple[str, ...]:
    """Step 2 overlaps the others: its list counts from the first copy to the stop."""
    return (Kind.DELTA,) if lane.over(Kind.INITIAL) else ()


def template_versions(project_id: int) -> dict[str, list[tuple[int, int]]]:
    """Key and version of every checklist template of the project, by kind of step: one query."""
    found: dict[str, list[tuple[int, int]]] = defaultdict(list)
    rows = ChecklistTemplate.objects.filter(project=project_id).order_by().values_list("kind", "pk", "version")
    for kind, pk, version in rows:
        found[kind].append((pk, version))
    return found


def passable(lane: Lane, now: Cell, coming: Cell | None) -> list[dict[str, Any]]:
    """Steps that people hold, and what a lead would let pass by break-glass."""
    found = []
    for kind in dict.fromkeys([*_deltas(lane), now.step.kind, *([coming.step.kind] if coming else [])]):
        items, defects = emergency.passable(lane, kind)
        if items or defects:
            step = lane.steps[kind]
            words = [item.title for item in lane.checklist.get(step.pk, []) if item.pk in items]
            words += [str(defect) for defect in lane.defects if defect.pk in defects]
            found.append({"step": step, "name": SHORT[Kind(kind)], "words": words})
    return found


def checklist(request: HttpRequest, lane: Lane, records: Records, role: str | None) -> list[tuple[str, list[Check]]]:
    """Items by kind of step. Who may answer is decided again when the answer comes."""
    owns = approvals.answers_for(lane, request.user)
    found: list[tuple[str, list[Check]]] = []
    for kind in Step.ORDER:
        step = lane.steps[kind]
        items = lane.checklist.get(step.pk, [])
        closed = step.state in (Step.State.DONE, Step.State.SKIPPED) or lane.migration.state != Migration.State.OPEN
        rows = [
            Check(
                item,
                CHECK_SIGNS[item.state],
                not closed and checklists.may_answer(item, role, owns=owns),
                records.files.get(item.pk, []),
            )
            for item in items
        ]
        if rows:
            found.append((kind, rows))
    return found
