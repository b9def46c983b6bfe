"""One server: its steps, what runs, what is missing, who decides, what came of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from django.http import HttpRequest

from projects import abort, approvals, giving_up, uat_runs
from projects import offers as offering
from projects.access import PLAN, RUN, role_in
from projects.lanes import application_lanes, lane_of
from projects.models import Action, Hold, Migration, Step, StepAttempt
from projects.steps.base import Lane
from servers.models import Probe, ProbeResult, Run, RunEvent, ServiceRecord
from servers.operations.services import beside_units

from .checks import passable, shown
from .gates import defects_of, gates_of, open_holds, passes_of
from .lanes import OVER, Cell, cells
from .records import Records, records_of

Kind = Step.Kind
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
class ProbeRow:
    probe: Probe
    columns: list[tuple[str, ProbeResult | None, str]]  # place, newest result, sign
    state: str
    word: str


def told(offer: offering.Offer, lane: Lane, records: Records) -> offering.Offer:
    """A sync that may be started now says what it takes away from the clone."""
    if not offer.enabled or offer.label != offering.START_WORDS[Kind.DELTA]:
        return offer
    return replace(offer, why=uat_runs.thrown_away([lane], records.tests, records.tests_runs))


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
    migration = lane.migration  # the same row with everything beside it
    role = role_in(migration.project, request.user)
    if not lane.steps:
        return {"migration": migration, "role": role, "lane": None}
    records = records_of([lane])
    seven = cells(lane, records.runs)
    now = next(cell for cell in seven if cell.is_now)
    coming = next_cell(seven, now)
    acts = offering.lane_offers(lane, role)
    owns = approvals.answers_for(lane, request.user)
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
        "acts": [told(offer, lane, records) for offer in acts if offer.code not in ("abort", "take-back")],
        "give_up": now.run if now.run and role in RUN and not giving_up.unmet(now.run) else None,
        "next": coming,
        "gates": gates_of(lanes, decisions),
        "uat_acts": [offer for offer in decisions if offer.code in ("uat-open", "uat-end")],
        "checks": shown(request, lane, records, role, now, coming),
        "passes": passes_of([lane]),
        "defects": defects_of([lane]),
        "may_raise": bool(migration.wave and migration.application) and (owns or role in RUN),
        "passable": passable(lane, now, coming) if role in PLAN and migration.state == Migration.State.OPEN else [],
        "holds": open_holds([lane]),
        "may_release": role in RUN,
        "releasable": (Hold.Kind.PERSON,),
        "may_run": role in RUN and migration.state == Migration.State.OPEN,
        "may_schedule": not lane.over(Step.Kind.STOP) and not lane.open_attempt(Step.Kind.STOP),
        "way_back": abort.abort_unmet(lane),
        "abort": next((offer for offer in acts if offer.code == "abort"), None),
        "take_back": next((offer for offer in acts if offer.code == "take-back"), None),
        **data(lane, records),
    }


def parts(attempt: StepAttempt | None) -> list[Part]:
    if attempt is None:
        return []
    return [
        Part(
            action.title,
            ACTION_SIGNS.get(action.state, action.state),
            action.reason if action.state in ("not_applicable", "failed", "cancelled") else "",
            reversible_words(action),
        )
        for action in attempt.actions.all()
    ]


def reversible_words(action: Action) -> str:
    """Whether and by what it is taken back; "" for what changes nothing."""
    title = str(action.undo.get("title", ""))
    if title:
        return f"{action.get_reversible_display()}: {title[0].lower()}{title[1:]}."
    return "" if action.reversible == Action.Reversible.YES else action.get_reversible_display()


def next_cell(seven: list[Cell], now: Cell) -> Cell | None:
    """The step that is to come: what is in its way is listed before it may start."""
    if now.attempt is None and now.step.state not in OVER:
        return now
    later = [cell for cell in seven if cell.step.position > now.step.position and cell.attempt is None]
    return next((cell for cell in later if cell.step.state not in OVER and cell.step.kind != Step.Kind.DELTA), None)


def data(lane: Lane, records: Records) -> dict[str, Any]:
    """What came of it: syncs, services, probes, runs, machines."""
    migration = lane.migration
    record = records.services.get(migration.source_id)
    return {
        "runs": [(run, run_sign(run)) for run in records.history],
        "syncs": records.syncs.get(migration.target_id or 0, []),
        "record": record,
        "services": services_of(record, list(migration.services)),
        "beside": beside_units(record.record) if record else "",
        "stopped": lane.over(Step.Kind.STOP),
        "probes": probe_rows(records, migration.source_id),
        "placement": records.placements.get(migration.target_id or 0),
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


def probe_rows(records: Records, source: int) -> list[ProbeRow]:
    """Each probe of a source with its newest answer on source, clone and target."""
    rows = []
    for probe in records.probes.get(source, []):
        columns = []
        for place in Probe.Place.values:
            result = records.results.get((probe.pk, place))
            columns.append((place, result, result_sign(result) if place in probe.places else "not_applicable"))
        rows.append(ProbeRow(probe, columns, *verdict(columns)))
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
