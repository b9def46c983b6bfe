"""One server: its steps, what runs, what is missing, who decides, what came of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import Max
from django.http import HttpRequest

from projects import abort
from projects import offers as offering
from projects.access import RUN, may_sign, role_in
from projects.lanes import application_lanes, lane_of
from projects.models import ChecklistItem, Hold, Migration, Step, StepAttempt
from projects.steps.base import Lane
from servers.models import Placement, Probe, ProbeResult, Run, RunEvent, ServiceRecord, SyncPoint

from .gates import gates_of, open_holds
from .lanes import OVER, SHORT, Cell, cells, newest_runs

Kind = Step.Kind
ROWS = 20  # of a long list; the rest is on pages of their own
CHECK_SIGNS = {"open": "open", "done": "done", "failed": "failed", "not_applicable": "not_applicable"}
ACTION_SIGNS = {"planned": "waiting"}
RUN_SIGNS = {"queued": "waiting", "succeeded": "done", "cancelling": "running", "lost": "unknown"}


@dataclass(frozen=True)
class Part:
    """One action of the attempt in view."""

    title: str
    state: str
    note: str
    reversible: str


@dataclass(frozen=True)
class Check:
    item: ChecklistItem
    state: str
    mine: bool  # may be answered by whoever looks


@dataclass(frozen=True)
class ProbeRow:
    probe: Probe
    columns: list[tuple[str, ProbeResult | None, str]]  # place, newest result, sign
    state: str
    word: str


def run_sign(run: Run) -> str:
    """How a run is drawn; a run out of contact is unknown, whatever its row says."""
    if run.is_open and run.contact_lost_since is not None:
        return "unknown"
    return RUN_SIGNS.get(run.state, run.state)


def load(migration: Migration) -> tuple[Lane, list[Lane]]:
    """The server's lane, and those of its application in the same wave (an approval is about all of them)."""
    if migration.wave_id and migration.application is not None:
        lanes = application_lanes(migration.wave_id, migration.application)
        for lane in lanes:
            if lane.migration.pk == migration.pk:
                return lane, lanes
    lane = lane_of(migration)
    return lane, [lane]


def migration_page(request: HttpRequest, migration: Migration) -> dict[str, Any]:
    lane, lanes = load(migration)
    role = role_in(migration.project, request.user)
    if not lane.steps:
        return {"migration": migration, "role": role, "lane": None}
    runs = newest_runs([lane])
    seven = cells(lane, runs)
    now = next(cell for cell in seven if cell.is_now)
    acts = offering.lane_offers(lane, role)
    decisions: list[offering.Offer] = []
    if migration.wave is not None and migration.application is not None:
        decisions = offering.application_offers(migration.wave, migration.application, request.user, lanes, role)
    return {
        "migration": migration,
        "lane": lane,
        "role": role,
        "cells": seven,
        "now": now,
        "attempt": now.attempt or lane.last_attempt(now.step.kind),
        "parts": parts(now.attempt),
        "events": list(RunEvent.objects.filter(run=now.run).order_by("-pk")[:8])[::-1] if now.run else [],
        "acts": [offer for offer in acts if offer.code != "abort"],
        "next": next_cell(seven, now),
        "gates": gates_of(lanes, decisions),
        "uat_acts": [offer for offer in decisions if offer.code in ("uat-open", "uat-end")],
        "checks": [
            (SHORT[Kind(kind)], rows) for kind, rows in checklist(request, lane, role) if _is_begun(seven, kind)
        ],
        "holds": open_holds([lane]),
        "may_release": role in RUN,
        "releasable": (Hold.Kind.PERSON,),
        "may_run": role in RUN and migration.state == Migration.State.OPEN,
        "may_schedule": not lane.over(Step.Kind.STOP) and not lane.open_attempt(Step.Kind.STOP),
        "way_back": abort.abort_unmet(lane),
        "abort": next((offer for offer in acts if offer.code == "abort"), None),
        **data(migration, lane),
    }


def parts(attempt: StepAttempt | None) -> list[Part]:
    if attempt is None:
        return []
    return [
        Part(
            action.title,
            ACTION_SIGNS.get(action.state, action.state),
            action.reason if action.state in ("not_applicable", "failed", "cancelled") else "",
            "" if action.reversible == "yes" else action.get_reversible_display(),
        )
        for action in attempt.actions.all()
    ]


def next_cell(seven: list[Cell], now: Cell) -> Cell | None:
    """The step that is to come: what is in its way is listed before it may start."""
    if now.attempt is None and now.step.state not in OVER:
        return now
    later = [cell for cell in seven if cell.step.position > now.step.position and cell.attempt is None]
    return next((cell for cell in later if cell.step.state not in OVER and cell.step.kind != Step.Kind.DELTA), None)


def _is_begun(seven: list[Cell], kind: str) -> bool:
    """Steps that are far off keep their checklist to themselves."""
    cell = next(cell for cell in seven if cell.step.kind == kind)
    return cell.is_now or cell.step.started_at is not None or cell.step.state in OVER


def checklist(request: HttpRequest, lane: Lane, role: str | None) -> list[tuple[str, list[Check]]]:
    """Items by kind of step. Who may answer is decided again when the answer comes."""
    application = lane.migration.application
    owner = application is not None and may_sign(application, request.user)
    found: list[tuple[str, list[Check]]] = []
    for kind in Step.ORDER:
        step = lane.steps[kind]
        items = lane.checklist.get(step.pk, [])
        closed = step.state in (Step.State.DONE, Step.State.SKIPPED) or lane.migration.state != Migration.State.OPEN
        rows = [
            Check(
                item,
                CHECK_SIGNS[item.state],
                not closed and not item.automatic and (owner if item.role == "owner" else role in RUN),
            )
            for item in items
        ]
        if rows:
            found.append((kind, rows))
    return found


def data(migration: Migration, lane: Lane) -> dict[str, Any]:
    """What came of it: syncs, services, probes, runs, machines."""
    keys = [
        action.work_key for attempts in lane.attempts.values() for each in attempts for action in each.actions.all()
    ]
    runs = list(Run.objects.filter(work_key__in=keys).order_by("-pk")[:ROWS])
    syncs = SyncPoint.objects.filter(source=migration.source_id, target=migration.target_id).order_by("-number")
    record = ServiceRecord.objects.filter(server=migration.source_id).order_by("-pk").first()
    return {
        "runs": [(run, run_sign(run)) for run in runs],
        "syncs": list(syncs[:ROWS]),
        "record": record,
        "services": services_of(record, list(migration.services)),
        "stopped": lane.over(Step.Kind.STOP),
        "probes": probe_rows([migration.source_id])[migration.source_id],
        "placement": Placement.objects.filter(server=migration.target_id).select_related("platform").first()
        if migration.target_id
        else None,
    }


def services_of(record: ServiceRecord | None, order: list[str]) -> list[dict[str, Any]]:
    """The services that are stopped, in their order, as they were recorded."""
    units = {unit["name"]: unit for unit in (record.record.get("units", []) if record else [])}
    return [
        {"name": name, "position": position, "again": len(order) - position + 1, "as": _recorded(units, name)}
        for position, name in enumerate(order, 1)
    ]


def _recorded(units: dict[str, dict[str, Any]], name: str) -> str:
    """State, start mode and ports of a unit; a name without its kind is a service."""
    unit = units.get(name) or units.get(f"{name}.service")
    if unit is None:
        return ""
    words = [unit["state"], unit.get("start_mode", ""), *(f"port {port}" for port in unit.get("ports", []))]
    return ", ".join(word for word in words if word)


def probe_rows(sources: Iterable[int]) -> dict[int, list[ProbeRow]]:
    """By source: each probe with its newest answer on source, clone and target. Two queries."""
    probes = list(Probe.objects.filter(server__in=list(sources)))
    newest = ProbeResult.objects.filter(probe__in=probes).order_by().values("probe", "place").annotate(last=Max("pk"))
    answers = ProbeResult.objects.filter(pk__in=newest.values("last")) if probes else []
    results = {(result.probe_id, result.place): result for result in answers}
    rows: dict[int, list[ProbeRow]] = defaultdict(list)
    for probe in probes:
        columns = []
        for place in Probe.Place.values:
            result = results.get((probe.pk, place))
            columns.append((place, result, result_sign(result) if place in probe.places else "not_applicable"))
        rows[probe.server_id].append(ProbeRow(probe, columns, *verdict(columns)))
    return rows


def result_sign(result: ProbeResult | None) -> str:
    """Not asked yet is waiting; could not be determined is unknown, never green."""
    if result is None:
        return "waiting"
    return {True: "done", False: "failed", None: "unknown"}[result.passed]


def verdict(columns: list[tuple[str, ProbeResult | None, str]]) -> tuple[str, str]:
    signs = [sign for _, _, sign in columns if sign != "not_applicable"]
    for sign, word in (("failed", "Failed"), ("unknown", "Not determined")):
        if sign in signs:
            return sign, word
    if "waiting" in signs or not signs:
        return "waiting", "Not yet" if "done" not in signs else "So far passed"
    return "done", "Passed"
