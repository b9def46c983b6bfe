"""What is read off the wave board, and what ends the demo."""

from __future__ import annotations

from typing import cast

import pytest

from migrationhub.lab.demo.board import STEPS, Board, lanes_of
from migrationhub.lab.demo.driver import Page, Person
from migrationhub.lab.demo.forms import PageProblem
from migrationhub.lib.findings import Problem


def page(*states: str, why: str = "", steps: int = 7) -> Page:
    cells = "".join(
        f'<td class="cell" data-state="{states[number] if number < len(states) else "waiting"}">'
        f'<span class="state-word">{states[number].title() if number < len(states) else "Waiting"}</span></td>'
        for number in range(steps)
    )
    name, reason = '<th><a href="/migrations/4/">files</a></th>', f'<td><p class="next-why">{why}</p></td>'
    row = f'<tr class="lane">{name}{cells}{reason}</tr>'
    return Page("http://127.0.0.1/waves/1/", 200, f'<main id="main"><table>{row}</table></main>')


class Shown:
    """A person who sees these pages, one after the other."""

    name = "lead"

    def __init__(self, *pages: Page) -> None:
        self.pages = list(pages)

    def get(self, path: str) -> Page:
        return self.pages.pop(0) if len(self.pages) > 1 else self.pages[0]


def board(*pages: Page) -> tuple[Board, list[str]]:
    said: list[str] = []
    return Board(cast(Person, Shown(*pages)), "/waves/1/", said.append), said


def test_each_change_is_told_once() -> None:
    looking, said = board(page("running"), page("running"), page("done", "scheduled"))
    for _ in range(3):
        lanes = looking.look()
    assert said == [
        "files     Initial migration Running",
        "files     Initial migration Done",
        "files     Delta migrations  Scheduled",
    ]
    assert lanes["files"].link == "/migrations/4/"
    assert lanes["files"].state(STEPS[1]) == "scheduled"


def test_a_failed_step_ends_it_with_the_board_s_reason() -> None:
    looking, _ = board(page("failed", why="rsync is missing. Install it."))
    with pytest.raises(Problem, match=r"files, Initial migration: Failed\. rsync is missing\. Install it\."):
        looking.look()


def test_a_machine_may_be_without_answer_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("migrationhub.lab.demo.board.time.monotonic", lambda: now[0])
    looking, _ = board(page("unknown"), page("running"), page("unknown"), page("unknown"))
    looking.look()
    now[0] += 300
    looking.look()  # it answered in between
    looking.look()
    now[0] += 61
    with pytest.raises(Problem, match="files, Initial migration: Unknown"):
        looking.look()


def test_waiting_too_long_tells_what_the_board_says() -> None:
    looking, _ = board(page("running", why="Copying."))
    with pytest.raises(Problem, match=r"Waited 0 s for the copies\. The board says: files: Copying\."):
        looking.watch(lambda lanes: False, "the copies", seconds=0)


def test_a_board_with_another_number_of_steps_is_refused() -> None:
    with pytest.raises(PageProblem, match="shows 6 steps for files; expected seven"):
        lanes_of(page(steps=6))
