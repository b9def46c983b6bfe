"""The bench on a small tree: what it writes, what it refuses, and that nothing of it is left."""

from __future__ import annotations

import json
import os
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from migrationhub.lab.bench import report, run
from migrationhub.lab.bench.disk import Disk
from migrationhub.lab.bench.hosts import OUR_TARGET, THEIR_TARGET, TREE, Hosts
from migrationhub.lab.bench.report import Case
from migrationhub.lab.bench.sides import Measured
from migrationhub.lab.process import ProcessBackend
from migrationhub.lab.state import Lab, LabProblem, known_labs
from migrationhub.lab.verify import TreeVerdict, compare_trees


@pytest.fixture
def lab() -> Lab:
    return Lab(f"tp{os.getpid()}-bench")  # a name that the next session takes away should this one be killed


def nothing_left(lab: Lab) -> bool:
    backend = ProcessBackend(lab)
    return not backend.hosts.exists() and not lab.dir.exists() and lab.name not in [one.name for one in known_labs()]


@pytest.mark.lab
def test_a_small_bench(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[TreeVerdict] = []

    def compare(*arguments: object) -> TreeVerdict:
        compared.append(compare_trees(*arguments))  # type: ignore[arg-type]
        return compared[-1]

    monkeypatch.setattr(run, "compare_trees", compare)
    monkeypatch.setattr(run, "SETTLE_SECONDS", 0)
    out, told = tmp_path / "new" / "bench.json", StringIO()
    options = {"files": 300, "rounds": 1, "out": out, "lab": lab.name}
    call_command("bench", **options, stdout=told, stderr=StringIO())

    unchanged, changed, initial, proven = figures = json.loads(out.read_text())
    for figure in figures:
        assert figure["ours"] > 0 and figure["theirs"] > 0
        assert figure["ratio"] == pytest.approx(figure["ours"] / figure["theirs"], rel=0.05)
        assert figure["name"] in told.getvalue()
        for side in ("ours", "theirs"):
            assert figure["did"][side]["seconds"] == [figure[side]]
    # Both did the same work, and the work that the names tell.
    assert unchanged["name"] == "300 files, nothing changed"
    assert unchanged["did"]["theirs"]["files sent"] == 0
    # Ours compares again what was written just before its last list, but sends no content of it.
    assert unchanged["did"]["ours"]["bytes sent"] < initial["did"]["ours"]["bytes sent"] / 10
    ours, theirs = (changed["did"][side]["files sent"] for side in ("ours", "theirs"))
    assert ours >= theirs >= 90 and "100 changed" in changed["name"] and "10 deleted" in changed["name"]
    ours, theirs = (initial["did"][side]["files sent"] for side in ("ours", "theirs"))
    assert ours == theirs >= 300
    assert proven["name"].endswith("equal content proven") and proven["did"]["theirs"]["files sent"] == 0
    assert set(proven["did"]["theirs"]["parts"]) == {"rsync", "dry run with --checksum"}
    assert "phase proving" in proven["did"]["ours"]["parts"]
    # Where our time goes is told in full.
    assert sum(changed["did"]["ours"]["parts"].values()) == pytest.approx(changed["ours"], rel=0.05)
    assert len(compared) == 2 and all(verdict.ok and verdict.hashed >= 290 for verdict in compared)
    assert nothing_left(lab)


@pytest.mark.lab
@pytest.mark.skipif(os.geteuid() != 0, reason="a file system can only be mounted by root")
def test_a_disk_of_its_own_goes_with_all_that_is_on_it(lab: Lab, tmp_path: Path) -> None:
    disk = Disk(lab, tmp_path / "hosts")
    disk.unmount()  # nothing is there yet
    assert disk.mount(64 << 20) and disk.place.is_mount() and list(disk.place.iterdir()) == []
    with (disk.place / "open").open("w"):  # as by a process of a bench that was killed
        Disk(lab, disk.place).unmount()
    assert not disk.place.is_mount() and not disk.image.exists() and list(disk.place.iterdir()) == []
    lab.remove()


@pytest.mark.lab
def test_unequal_trees_have_no_figures_and_nothing_is_left(lab: Lab) -> None:
    with pytest.raises(KeyboardInterrupt), Hosts.up(lab, 100, lambda text: None) as hosts:
        with pytest.raises(LabProblem, match=r"target-theirs: .* ended with status 3: no such luck"):
            hosts.run(THEIR_TARGET, "echo no such luck >&2; exit 3")
        hosts.run(OUR_TARGET, f"mkdir {TREE} && touch {TREE}/more")
        with pytest.raises(LabProblem, match=r"target-ours does not equal the source after the bench: .* 1 extra"):
            run.prove_equal(hosts)
        raise KeyboardInterrupt
    assert nothing_left(lab)


def test_a_failed_bench_writes_nothing(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise LabProblem("Our copy failed: the disk is full.")

    monkeypatch.setattr("migrationhub.management.commands.bench.bench", fail)
    with pytest.raises(CommandError, match="the disk is full"):
        call_command("bench", out=tmp_path / "bench.json", lab=lab.name)
    assert list(tmp_path.iterdir()) == []


def test_a_second_bench_waits_for_nobody(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("migrationhub.lab.bench.hosts.LOCK_SECONDS", 0.2)
    with lab.lock(), pytest.raises(LabProblem, match="Another command holds the lab"):
        run.bench(lab, 100, 1, lambda text: None)


@pytest.mark.parametrize(("files", "rounds"), [(99, 1), (100, 0)])
def test_numbers_that_show_nothing_are_refused(lab: Lab, files: int, rounds: int) -> None:
    with pytest.raises(LabProblem, match="shows nothing"):
        run.bench(lab, files, rounds, lambda text: None)
    assert not lab.dir.exists()


def test_trees_that_have_no_room_are_refused(lab: Lab) -> None:
    with pytest.raises(LabProblem, match=r"take [\d,]+ MiB, and /\S* has [\d,]+ MiB free"):
        run.bench(lab, 10**10, 5, lambda text: None)
    assert nothing_left(lab)


def test_the_figures_are_medians(tmp_path: Path) -> None:
    case = Case("a case")
    for ours, theirs in ((9.0, 2.0), (3.0, 1.0), (4.0, 50.0)):
        case.ours.append(Measured(ours, int(ours), 1, {"act start": ours / 2}, {"looks": int(ours)}))
        case.theirs.append(Measured(theirs, 7, 1))
    (figure,) = report.write(tmp_path / "bench.json", [case])
    assert (figure["name"], figure["ours"], figure["theirs"], figure["ratio"]) == ("a case", 4.0, 2.0, 2.0)
    ours = figure["did"]["ours"]
    assert (ours["seconds"], ours["bytes sent"], ours["looks"]) == ([9.0, 3.0, 4.0], 4, 4)
    assert ours["parts"] == {"act start": 2.0}
    assert json.loads((tmp_path / "bench.json").read_text()) == [figure]
    lines = report.table([figure])
    assert lines[1].split() == ["a", "case", "4.00", "s", "2.00", "s", "2.00"]
