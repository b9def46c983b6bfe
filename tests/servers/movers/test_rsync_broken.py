"""A program that compares the lists of files fails: nothing is removed and nothing is called equal because of it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from servers.movers.base import MoveJob
from servers.movers.rsync.mover import RsyncMover
from servers.progress import Memo, Progress, State
from tests.fixtures_lab import ProcessHost
from tests.servers.movers.conftest import Pair
from tests.servers.movers.drive import drive
from tests.servers.movers.test_rsync_failures import SLOW, copying, grow
from tests.servers.movers.test_rsync_lists import shell, write

# Stands before the real program; `out` is the name of the file that its output goes to.
STAND_IN = """#!/bin/sh
out=$(readlink /proc/$$/fd/1) && out=${out##*/}
%s
exec %s "$@"
"""


def instead(job: MoveJob, side: str, program: str, when: str) -> None:
    """On one side of a prepared sync a program is another: `when` is a script that it begins with."""
    mover = RsyncMover()
    host = mover._source(job) if side == "source" else mover._target(job)
    directory = Path(host.layout.job)
    stand_in = directory / "instead" / program
    stand_in.parent.mkdir(exist_ok=True)
    stand_in.write_text(STAND_IN % (when, shutil.which(program)))
    for path in stand_in.parent, stand_in:
        path.chmod(0o755)
    config = directory / "config"
    config.write_text(f"{config.read_text()}PATH={stand_in.parent}:$PATH\n")


def prepared(job: MoveJob) -> Memo:
    return drive(job, until=lambda progress: progress.next_act == "start")[0]


@pytest.fixture(scope="module")
def pair(make_pair: Callable[..., Pair]) -> Pair:
    pair = make_pair("broken")
    grow(pair)
    assert pair.source.execute("echo early >srv/data/quiet").rc == 0
    pair.sync("initial")
    return pair


def names(host: ProcessHost) -> set[str]:
    return {path.name for path in (host.root / "srv/data").iterdir()}


def failed(progress: Progress, host: ProcessHost, words: str) -> None:
    assert (progress.state, progress.code) == (State.FAILED, "lists.broken"), progress.reason
    assert words in progress.reason and f"On {host.name}" in progress.reason
    assert "then try again" in progress.reason


@pytest.mark.lab
@pytest.mark.parametrize(
    ("program", "when"),
    [
        ("sort", 'case $out in s.paths) kill -9 "$$" ;; esac'),  # all that the source has
        pytest.param("find", 'case "$*" in *./srv/data*) kill -9 "$$" ;; esac', marks=pytest.mark.full),
        pytest.param("comm", "echo invalid option >&2; exit 1", marks=pytest.mark.full),
    ],
)
def test_a_failure_on_the_source_is_no_order_to_remove(pair: Pair, program: str, when: str) -> None:
    """What the target has and the source's list has not is removed: that list had better be whole."""
    job, before = pair.job("delta"), names(pair.target)
    assert pair.source.execute("mv srv/data/1 srv/data/moved").rc == 0
    memo = prepared(job)
    instead(job, "source", program, when)
    progress = drive(job, memo)[1]
    assert names(pair.target) == before
    failed(progress, pair.source, f"{program} ended with status")
    pair.sync("delta")
    assert names(pair.target) == names(pair.source)
    assert pair.source.execute("mv srv/data/moved srv/data/1").rc == 0


@pytest.mark.lab
def test_a_failure_on_the_target_removes_nothing_by_half(pair: Pair) -> None:
    pair.sync("delta")
    assert pair.source.execute("rm srv/data/2").rc == 0
    job = pair.job("delta")
    memo = prepared(job)
    instead(job, "target", "sort", 'case $out in wanted) kill -9 "$$" ;; esac')
    progress = drive(job, memo)[1]
    assert "2" in names(pair.target), "and so this sync must not end well"
    failed(progress, pair.target, "sort ended with status 137")
    pair.sync("delta")
    assert names(pair.target) == names(pair.source)


@pytest.mark.lab
def test_a_target_whose_list_was_cut_short_is_not_believed(pair: Pair) -> None:
    job = pair.job("delta")
    memo = prepared(job)
    instead(job, "target", "find", 'case "$*" in *./srv/data*) kill -9 "$$" ;; esac')
    failed(drive(job, memo)[1], pair.target, "find ended with status 137")


@pytest.mark.lab
def test_a_look_that_failed_finds_nothing_and_proves_nothing(pair: Pair) -> None:
    """The last look at both sides is for what came late; its comparison has no room to be written to."""
    pair.sync("delta")
    grow(pair)
    job = pair.job("final", proof="manifest", bandwidth=SLOW)
    memo = prepared(job)
    phases = Path(RsyncMover()._source(job).layout.job) / "phases"
    fails = f"case $out in changed.now) ! grep -q proving {phases} || exit 2 ;; esac"
    instead(job, "source", "sort", fails)
    memo, _ = drive(job, memo, until=copying)
    assert pair.source.execute("echo late >srv/data/quiet").rc == 0
    progress = drive(job, memo)[1]
    failed(progress, pair.source, "sort ended with status 2")
    assert pair.sync("final").sync
    assert (pair.target.root / "srv/data/quiet").read_text() == "late\n"


# -- the shell alone ------------------------------------------------------------------------------------------------


def status(tmp_path: Path, script: str) -> tuple[int, str]:
    """Exit status of a script with our functions, and what it says."""
    try:
        return 0, shell(tmp_path, f"set +e; ID=id; {script}").decode()
    except AssertionError:
        error = tmp_path / "error"
        return 80 if "ended with status" in error.read_text() else 1, error.read_text()


def test_what_finds_nothing_has_not_failed(tmp_path: Path) -> None:
    write(tmp_path / "list", "a", "b")
    harmless = "grep -z x list; find ./none; comm -z list list; seq 100000 | sort -n | command head -n 1"
    assert status(tmp_path, f"{harmless}; sound list")[0] == 0


@pytest.mark.parametrize(
    "failing",
    [
        "comm -z list none", "join -z list none", "sort none", "head -zn 1 none", "sed p none", "grep x none",
        "sort none | sed -z p >other", "paths none | sort -z >other", "sort list >/dev/full", "gzip -dc list",
        "sound none", "(sort -z list | sed -z bad) | grep -z x",
    ],
)  # fmt: skip
def test_a_failure_anywhere_in_a_pipeline_is_seen(tmp_path: Path, failing: str) -> None:
    write(tmp_path / "list", "a", "b")
    code, said = status(tmp_path, f"{failing}; true; sound list")
    assert code == 80 and said.startswith("On here: ") and "ended with status" in said


@pytest.mark.parametrize("where", ["", "unwritable/"])
def test_a_list_that_cannot_be_taken_is_no_empty_list(tmp_path: Path, where: str) -> None:
    """Nothing was walked because the walk could not begin."""
    tree = "none" if not where else "."
    script = f"TREE={tmp_path}/{tree} WORK={tmp_path}/{where}; walk() {{ :; }}; moment; manifest walk list"
    assert status(tmp_path, script)[0] != 0
    assert not (tmp_path / "list").exists()


def test_the_mark_needs_no_room(tmp_path: Path) -> None:
    """In a memory file system without a free byte there is still a name to be had; else the whole program ends."""
    for place, ends in (("full", False), ("none/below", True)):
        (tmp_path / "full").mkdir(exist_ok=True)
        script = f"JOB={tmp_path}/{place}; sort none | cat; echo went on; sound"
        head = f"JOB={tmp_path} STATE={tmp_path} WORK={tmp_path} HOST=here\n. ./common.sh\n"
        shell(tmp_path, ":")
        result = subprocess.run(["sh", "-uc", head + script], cwd=tmp_path, capture_output=True, check=False)
        assert result.returncode == (-15 if ends else 80) and (b"went on" in result.stdout) is not ends
