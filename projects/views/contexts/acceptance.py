"""One application for its owner, in plain words: what was copied, how to reach it, what to test, the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import Http404, HttpRequest

from projects import approvals, uat, uat_runs
from projects import offers as offering
from projects.access import RUN, role_in
from projects.lanes import application_lanes
from projects.models import Application, Approval, ChecklistItem, Migration, Step, Wave
from projects.steps.base import Lane
from projects.steps.moving import cutover_words
from servers.models import SyncPoint

from .checks import Check, checklist
from .gates import Gate, defects_of, gates_of, passes_of
from .lanes import Cell, cells
from .migration import ProbeRow, probe_rows
from .records import Records, records_of
from .uat import lines

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
    def at_cutover(self) -> str:
        return cutover_words(self.migration)

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
    owns = approvals.answers_for(lanes[0], request.user)
    gate = gates[0]
    hold = next((lane.uat_hold for lane in lanes if lane.uat_hold), None)
    records = records_of(lanes)
    copies = _copies(request, lanes, role, records)
    proofs = lines(hold or (records.tests[-1] if records.tests else None), lanes, records)
    answers = [offer for offer in offers if offer.code in ("sign", "reject", "more-time")]
    checks = [check for copy in copies for check in copy.checks if check.item.required and check.item.role == "owner"]
    return {
        "wave": wave,
        "application": application,
        "role": role,
        "owns": owns,
        "gate": gate,
        "go": gates[1],
        "title": title(gate, hold is not None, owns, request.user.pk),
        "hold": hold,
        "proofs": proofs,
        "thrown_away": uat_runs.thrown_away(lanes, records.tests, records.tests_runs),
        "unproven": any(line.state == "failed" for line in proofs),
        "keeps": hold is None and not uat_runs.snapshot_unmet(lanes),
        "overdue": hold is not None and uat.overdue(hold, lanes[0].now),
        "broken": uat.broken_off(records.tests) if hold is None else None,
        "passes": passes_of(lanes),
        "defects": defects_of(lanes),
        "may_raise": owns or role in RUN,
        "copies": copies,
        "answered": sum(check.item.state != ChecklistItem.State.OPEN for check in checks),
        "asked": len(checks),
        "left": sum(check.item.state not in CLOSED for check in checks),
        "answers": answers,
        "yes": next((offer for offer in answers if offer.code == "sign"), None),
        "uat_acts": [offer for offer in offers if offer.code.startswith("uat-")],
        "may_run": role in RUN,
        "leads": records.leads,
    }


SAID = {
    Approval.State.APPROVED: "said yes",
    Approval.State.REJECTED: "said no",
    Approval.State.MORE_TIME: "asked for more time",
}


def title(gate: Gate, is_open: bool, owns: bool, reader: int | None) -> str:
    """What is wanted of the owner, in one line; for others, where it stands. `reader`: key of whoever looks."""
    approval = gate.approval
    if approval is None:
        return "The copy is being prepared for your test" if is_open else "There is nothing to test yet"
    if not owns:
        return f"{gate.name}: {gate.word[:1].lower()}{gate.word[1:]}"
    if gate.last is not None and gate.last.user_id != reader and approval.state in SAID:
        return f"{gate.last_by} {SAID[Approval.State(approval.state)]}"
    return {
        Approval.State.REQUESTED: "Please test the copy and answer",
        Approval.State.APPROVED: "You said yes",
        Approval.State.REJECTED: "You said no",
        Approval.State.MORE_TIME: "You asked for more time",
        Approval.State.STALE: "Please look at the copy again",
        Approval.State.EXPIRED: "The time to answer is over",
        Approval.State.PASSED: "It goes on without your answer",
    }[Approval.State(approval.state)]


def _copies(request: HttpRequest, lanes: list[Lane], role: str | None, records: Records) -> list[Copy]:
    made = []
    for lane in lanes:
        mine = records.syncs.get(lane.migration.target_id or 0, [])
        test = lane.last_attempt(Step.Kind.UAT)
        since = [sync for sync in mine if test and sync.created_at > test.started_at]
        before = [sync for sync in mine if test and sync.created_at <= test.started_at]
        seven = cells(lane, records.runs)
        rows = dict(checklist(request, lane, records, role))
        made.append(
            Copy(
                lane,
                next(cell for cell in seven if cell.is_now),
                lane.last_sync,
                PLAIN[SyncPoint.Consistency(lane.last_sync.consistency)] if lane.last_sync else "",
                before[0].number if before else None,
                since,
                rows.get(Step.Kind.UAT, []),
                probe_rows(records, lane.migration.source_id),
            )
        )
    return made
