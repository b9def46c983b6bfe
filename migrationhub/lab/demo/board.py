"""The wave board as a person watches it: which step of which server stands where, and lines when that changes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from migrationhub.lab.demo.dom import Node
from migrationhub.lab.demo.driver import Page, Person
from migrationhub.lab.demo.forms import PageProblem
from migrationhub.lib.findings import Problem

STEPS = (
    "Initial migration",
    "Delta migrations",
    "Acceptance test",
    "Stop services",
    "Final delta",
    "Cutover events",
    "Final validation",
)
PATIENCE_UNKNOWN = 60  # seconds that a machine may stay without answer


@dataclass(frozen=True)
class Cell:
    state: str
    word: str


@dataclass
class Lane:
    """One server's line on the board."""

    name: str
    link: str
    cells: dict[str, Cell]
    why: str

    def state(self, step: str) -> str:
        return self.cells[step].state


def lanes_of(page: Page) -> dict[str, Lane]:
    found = {}
    for row in page.main.all("tr", where=lambda node: "lane" in node.classes):
        link = row.all("a")[0]
        cells = row.by_class("cell")
        if len(cells) != len(STEPS):
            raise PageProblem(f"The board shows {len(cells)} steps for {link.text}; expected seven.", code="demo.board")
        why = row.by_class("next-why")
        found[link.text] = Lane(
            link.text,
            link.get("href"),
            {step: _cell(cell) for step, cell in zip(STEPS, cells, strict=True)},
            why[0].text if why else "",
        )
    return found


def _cell(node: Node) -> Cell:
    words = node.by_class("state-word")
    return Cell(node.get("data-state"), words[0].text if words else "")


@dataclass
class Board:
    """Looks at one wave's board and tells what changed. A failed step ends the demo with the board's reason."""

    person: Person
    address: str
    say: Callable[[str], None]
    seen: dict[tuple[str, str], Cell] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)
    unknown_since: dict[str, float] = field(default_factory=dict)
    page: Page = field(init=False)

    def look(self) -> dict[str, Lane]:
        self.page = self.person.get(self.address)
        lanes = lanes_of(self.page)
        for lane in lanes.values():
            self._tell(lane)
        return lanes

    def _tell(self, lane: Lane) -> None:
        for step, cell in lane.cells.items():
            if self.seen.get((lane.name, step)) != cell:
                self.seen[lane.name, step] = cell
                if cell.state not in ("waiting", "ready"):
                    self.say(f"{lane.name:9} {step:17} {cell.word}")
        if lane.why != self.said.get(lane.name):
            self.said[lane.name] = lane.why
        unknown = any(cell.state == "unknown" for cell in lane.cells.values())
        since = self.unknown_since.setdefault(lane.name, time.monotonic()) if unknown else None
        if since is None:
            self.unknown_since.pop(lane.name, None)
        for step, cell in lane.cells.items():
            if cell.state == "failed" or (since is not None and time.monotonic() - since > PATIENCE_UNKNOWN):
                raise Problem(f"{lane.name}, {step}: {cell.word}. {lane.why}", code="demo.failed")

    def watch(self, until: Callable[[dict[str, Lane]], bool], what: str, *, seconds: float) -> dict[str, Lane]:
        """Look again and again until it is so."""
        deadline = time.monotonic() + seconds
        while True:
            lanes = self.look()
            if until(lanes):
                return lanes
            if time.monotonic() > deadline:
                now = "; ".join(f"{lane.name}: {lane.why}" for lane in lanes.values())
                raise Problem(f"Waited {seconds:.0f} s for {what}. The board says: {now}", code="demo.wait")
            time.sleep(1)
