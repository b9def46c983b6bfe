"""One application for its owner, in plain words: what was copied, how to reach it, what to test, the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import Http404, HttpRequest

from projects import offers as offering
from projects.access import RUN, may_sign, role_in
from projects.lanes import application_lanes
from projects.models import Application, Approval, ChecklistItem, Membership, Migration, Step, Wave
from projects.steps.base import Lane
from servers.models import SyncPoint

from .gates import Gate, gates_of
from .lanes import Cell, cells, newest_runs
from .migration import ROWS, Check, ProbeRow, checklist, probe_rows

CLOSED = (ChecklistItem.State.DONE, ChecklistItem.State.NOT_APPLICABLE)
PLAIN = {
    SyncPoint.Consistency.LIVE: "Copied while it was in use: parts may not fit together.",
    SyncPoint.Consistency.FROZEN: "The database held still while it was copied.",
    SyncPoint.Consistency.SNAPSHOT: "Copied from one single moment.",
    SyncPoint.Consistency.STOPPED: "Copied while the services were stopped.",
}


@dataclass
class Copy:
    """One server of the application, as its owner sees it."""

    lane: Lane
    now: Cell
    sync: SyncPoint | None
    consistency: str
    tested_at: int | None  # number of the sync that was there when the test began
    since: list[SyncPoint]  # syncs after that one
    checks: list[Check]
    probes: list[ProbeRow]

    @property
    def migration(self) -> Migration:
        return self.lane.migration

    @property
    def config_changed(self) -> list[str]:
        """Configuration files that came with the syncs after the test began."""
        return sorted({path for sync in self.since for path in sync.facts.get("config_changed", [])})


def acceptance(request: HttpRequest, wave: Wave, application: Application) -> dict[str, Any]:
    lanes = [lane for lane in application_lanes(wave.pk, application) if lane.steps]
    if not lanes:
        raise Http404
    role = role_in(wave.project, request.user)
    offers = offering.application_offers(wave, application, request.user, lanes, role)
    gates = gates_of(lanes, offers)
    owns = may_sign(application, request.user)
    gate = gates[0]
    copies = _copies(request, lanes, role)
    answers = [offer for offer in offers if offer.code in ("sign", "reject", "more-time")]
    checks = [check for copy in copies for check in copy.checks if check.item.required and check.item.role == "owner"]
    return {
        "wave": wave,
        "application": application,
        "role": role,
        "owns": owns,
        "gate": gate,
        "go": gates[1],
        "title": title(gate, any(lane.uat_hold for lane in lanes), owns),
        "hold": next((lane.uat_hold for lane in lanes if lane.uat_hold), None),
        "copies": copies,
        "answered": sum(check.item.state != ChecklistItem.State.OPEN for check in checks),
        "asked": len(checks),
        "left": sum(check.item.state not in CLOSED for check in checks),
        "answers": answers,
        "yes": next((offer for offer in answers if offer.code == "sign"), None),
        "uat_acts": [offer for offer in offers if offer.code in ("uat-open", "uat-end")],
        "may_run": role in RUN,
        "leads": [
            membership.user
            for membership in Membership.objects.filter(project=wave.project, role=Membership.Role.LEAD).select_related(
                "user"
            )
        ],
    }


def title(gate: Gate, is_open: bool, owns: bool) -> str:
    """What is wanted of the owner, in one line; for others, where it stands."""
    approval = gate.approval
    if approval is None:
        return "The copy is being prepared for your test" if is_open else "There is nothing to test yet"
    if not owns:
        return f"{gate.name}: {gate.word[:1].lower()}{gate.word[1:]}"
    return {
        Approval.State.REQUESTED: "Please test the copy and answer",
        Approval.State.APPROVED: "You said yes",
        Approval.State.REJECTED: "You said no",
        Approval.State.MORE_TIME: "You asked for more time",
        Approval.State.STALE: "Please look at the copy again",
    }[Approval.State(approval.state)]


def _copies(request: HttpRequest, lanes: list[Lane], role: str | None) -> list[Copy]:
    runs = newest_runs(lanes)
    probes = probe_rows(lane.migration.source_id for lane in lanes)
    syncs: dict[int, list[SyncPoint]] = {}
    targets = [lane.migration.target_id for lane in lanes if lane.migration.target_id]
    for sync in SyncPoint.objects.filter(target__in=targets).order_by("-number")[: ROWS * len(lanes)]:
        syncs.setdefault(sync.target_id, []).append(sync)
    made = []
    for lane in lanes:
        mine = syncs.get(lane.migration.target_id or 0, [])
        test = lane.last_attempt(Step.Kind.UAT)
        since = [sync for sync in mine if test and sync.created_at > test.started_at]
        before = [sync for sync in mine if test and sync.created_at <= test.started_at]
        seven = cells(lane, runs)
        rows = dict(checklist(request, lane, role))
        made.append(
            Copy(
                lane,
                next(cell for cell in seven if cell.is_now),
                lane.last_sync,
                PLAIN[SyncPoint.Consistency(lane.last_sync.consistency)] if lane.last_sync else "",
                before[0].number if before else None,
                since,
                rows.get(Step.Kind.UAT, []),
                probes[lane.migration.source_id],
            )
        )
    return made
