"""The wave board: servers × seven steps, gates, holds, and what is in the way."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest

from projects import offers as offering
from projects.access import RUN, role_in
from projects.lanes import lanes_for
from projects.models import Hold, Migration, Step, Wave
from projects.offers import Offer
from projects.steps.base import Lane

from .gates import Gate, defects_of, gates_of, open_holds, passes_of
from .lanes import SHORT, Cell, cells, newest_runs

PERSON, ITSELF, SETTLED = "person", "itself", "settled"
GROUPS = {PERSON: "Needs a person", ITSELF: "Moving on its own", SETTLED: "Settled"}
# What comes first within a group.
URGENCY = ("failed", "unknown", "held", "ready", "running", "undoing", "scheduled", "waiting")


@dataclass
class Row:
    """One server's line."""

    lane: Lane
    cells: list[Cell]
    offers: list[Offer] = field(default_factory=list)

    @property
    def migration(self) -> Migration:
        return self.lane.migration

    @property
    def now(self) -> Cell:
        return next(cell for cell in self.cells if cell.is_now)

    @property
    def state(self) -> str:
        """One sign for the whole server. Complete only when it was declared."""
        if self.migration.state == Migration.State.COMPLETE:
            return "done"
        if self.migration.state == Migration.State.CANCELLED:
            return "cancelled"
        return "waiting" if self.now.state in ("done", "skipped", "not_applicable") else self.now.state

    @property
    def group(self) -> str:
        if self.migration.state != Migration.State.OPEN:
            return SETTLED
        now = self.now
        if now.state in ("failed", "unknown") or now.word in ("Test open", "For people"):
            return PERSON
        if now.attempt is not None or now.state in ("undoing", "running"):
            return ITSELF
        waits_for_people = any(
            item.code.startswith(("gate", "uat", "plan", "source", "hold.person")) for item in now.unmet
        )
        return PERSON if waits_for_people or any(offer.code == "start" for offer in self.offers) else ITSELF

    @property
    def button(self) -> Offer | None:
        """The one act on the board; the others are on the server's page."""
        codes = ("retry", "complete", "start") if self.group == PERSON else ()
        acts = [offer for offer in self.offers if offer.code in codes]
        grey = [offer for offer in acts if offer.code == "retry"]  # what failed always has its way on, and why not now
        found = next((offer for offer in acts if offer.enabled), grey[0] if grey else None)
        return replace(found, style="plain") if found else None  # one filled button in a view is the wave's own


@dataclass
class Group:
    name: str
    rows: list[Row]


def board(request: HttpRequest, wave: Wave, migrations: QuerySet[Migration]) -> dict[str, Any]:
    """Everything that the board draws, in a number of queries that does not grow with the wave."""
    role = role_in(wave.project, request.user)
    everything = lanes_for(migrations)
    lanes = [lane for lane in everything if lane.steps]
    runs = newest_runs(lanes)
    rows = [Row(lane, cells(lane, runs), offering.lane_offers(lane, role)) for lane in lanes]
    rows.sort(key=lambda row: (URGENCY.index(row.state) if row.state in URGENCY else 99, row.migration.source.name))
    groups = [Group(name, [row for row in rows if row.group == key]) for key, name in GROUPS.items()]
    return {
        "wave": wave,
        "role": role,
        "kinds": [(position, SHORT[kind], kind) for position, kind in enumerate(Step.ORDER, 1)],
        "groups": [group for group in groups if group.rows],
        "tally": tally(rows),
        "size": len(rows),
        "without_steps": [lane.migration for lane in everything if not lane.steps],
        "applications": _applications(request, wave, lanes, role),
        "holds": open_holds(lanes),
        "passes": passes_of(lanes),
        "defects": defects_of(lanes),
        "may_release": role in RUN,
        "releasable": (Hold.Kind.PERSON,),
        "wave_acts": offering.wave_offers(wave, request.user, [lane for lane in lanes if _is_open(lane)]),
    }


def _is_open(lane: Lane) -> bool:
    return lane.migration.state == Migration.State.OPEN


def tally(rows: list[Row]) -> list[tuple[str, int]]:
    """How many servers stand in each state, worst first."""
    counts = Counter(row.state for row in rows)
    order = [*URGENCY, "done", "cancelled"]
    return sorted(counts.items(), key=lambda pair: order.index(pair[0]) if pair[0] in order else 99)


def _applications(request: HttpRequest, wave: Wave, lanes: list[Lane], role: str | None) -> list[dict[str, Any]]:
    groups: dict[int, list[Lane]] = {}
    for lane in lanes:
        if lane.migration.application_id and lane.migration.state != Migration.State.CANCELLED:
            groups.setdefault(lane.migration.application_id, []).append(lane)
    made = []
    for group in groups.values():
        application = group[0].migration.application
        if application is None:
            continue
        acts = offering.application_offers(wave, application, request.user, group, role)
        gates: list[Gate] = gates_of(group, acts)
        own = [offer for offer in acts if offer.code in ("uat-open", "uat-end")]
        made.append({"application": application, "gates": gates, "acts": own, "servers": len(group)})
    return sorted(made, key=lambda each: each["application"].name)
