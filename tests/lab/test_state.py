"""Names, numbers, ranges and locks of labs."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from migrationhub.lab.state import Lab, LabProblem, known_labs


@pytest.fixture
def labs(tmp_path: Path):  # type: ignore[no-untyped-def]
    made: list[Lab] = []

    def make(name: str, directory: str = "var") -> Lab:
        lab = Lab(name, tmp_path / directory)
        made.append(lab)
        return lab

    yield make
    for lab in made:
        lab.remove()


def test_the_number_is_allotted_once_and_given_back(labs) -> None:  # type: ignore[no-untyped-def]
    first, again, other = labs("state-a"), labs("state-a"), labs("state-b")
    number = first.index
    assert again.index == number
    assert other.index != number
    assert {"state-a", "state-b"} <= {lab.name for lab in known_labs()}
    first.remove()
    assert not first.dir.exists()
    assert "state-a" not in {lab.name for lab in known_labs()}
    assert other.index == labs("state-b").index


def test_labs_of_one_name_in_two_checkouts_are_two(labs) -> None:  # type: ignore[no-untyped-def]
    here, there = labs("state-c", "here"), labs("state-c", "there")
    assert here.index != there.index
    assert here.unique_name != there.unique_name


def test_many_at_once_get_numbers_of_their_own(labs) -> None:  # type: ignore[no-untyped-def]
    made = [labs(f"state-race-{number}") for number in range(8)]
    found: list[int] = []
    threads = [threading.Thread(target=lambda lab=lab: found.append(lab.index)) for lab in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 8


def test_a_lab_deleted_by_hand_gives_its_number_to_the_next(labs) -> None:  # type: ignore[no-untyped-def]
    gone = labs("state-d")
    number = gone.index
    shutil.rmtree(gone.dir)
    taken = [labs(f"state-e-{place}") for place in range(3)]
    assert number in {lab.index for lab in taken}


def test_addresses_come_from_the_number(labs) -> None:  # type: ignore[no-untyped-def]
    lab = labs("state-f")
    second = 100 + lab.index
    assert lab.address("production", 20) == f"10.{second}.1.20"
    assert lab.address("migration", 7, "process", prefix=True) == f"127.{second}.2.7/24"
    assert str(lab.subnet("hub")) == f"10.{second}.0.0/24"
    assert lab.resolver("migration") == (f"10.{second}.2.2", 53)
    assert len(lab.tag) <= 4
    with pytest.raises(LabProblem, match="255 is no host number"):
        lab.address("production", 255)


@pytest.mark.parametrize("name", ["Default", "a_b", "-a", "a" * 32, "../x"])
def test_a_wrong_name_is_refused(name: str) -> None:
    with pytest.raises(LabProblem, match="is no name for a lab"):
        Lab(name)


def test_only_one_holds_the_lock_and_it_leaves_no_file(labs) -> None:  # type: ignore[no-untyped-def]
    lab = labs("state-g")
    inside: list[str] = []
    with lab.lock():
        with pytest.raises(LabProblem, match="Another command holds the lab “state-g”"), labs("state-g").lock(0.2):
            inside.append("both")
        waiting = threading.Thread(target=lambda: _hold(labs("state-g"), inside))
        waiting.start()
        inside.append("first")
    waiting.join()
    assert inside == ["first", "second"]
    with lab.lock(0.2):  # and again
        pass


def _hold(lab: Lab, inside: list[str]) -> None:
    with lab.lock(5):
        inside.append("second")
