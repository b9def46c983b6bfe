"""The stand-in's hook before a resize: the lab's own look at a machine that is off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from migrationhub.lab.vme import work
from migrationhub.lab.vme.store import read_journal
from servers.platforms.base import Nic
from tests.lab.vme.standin import StandIn, made, run


def hook(standin: StandIn, script: str) -> Path:
    path = standin.settings.directory / "hooks/before-resize"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def move(standin: StandIn) -> None:
    external_id = made(standin)
    nics = (Nic(standin.network("production"), address="127.101.1.55"),)
    run(lambda memo: standin.platform().advance_connect("k", external_id, nics, memo))


def entries(standin: StandIn) -> list[tuple[str, int, str]]:
    journal = read_journal(standin.settings.directory / "journal.jsonl")
    return [(one["hook"], one["status"], one["said"]) for one in journal if one["kind"] == "hook"]


def test_it_runs_with_instance_and_host_while_the_machine_is_off(
    standin: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook(standin, f'echo "$1 $2" > {tmp_path}/seen')
    power: list[str] = []
    before = work.Work._hook
    monkeypatch.setattr(
        work.Work,
        "_hook",
        lambda self, name, record: (power.append(self.backend.power(record["host"])), before(self, name, record)),
    )
    move(standin)
    assert (tmp_path / "seen").read_text() == "shop-db-vme shop-db-vme\n"
    assert power == ["off"]
    assert entries(standin) == [("before-resize", 0, "")]
    assert standin.backend.calls[-3:] == [("stop", "shop-db-vme"), ("attach", "shop-db-vme"), ("start", "shop-db-vme")]


@pytest.mark.parametrize(
    ("script", "status", "words"), [("echo no such root >&2; exit 3", 3, "no such root"), ("sleep 5", -1, "timed out")]
)
def test_one_that_fails_or_hangs_is_noted_and_the_act_goes_on(
    standin: StandIn, monkeypatch: pytest.MonkeyPatch, script: str, status: int, words: str
) -> None:
    monkeypatch.setattr(work, "HOOK_SECONDS", 0.3)
    hook(standin, script)
    move(standin)
    ((_, found, said),) = entries(standin)
    assert found == status
    assert words in said
    assert len(standin.effective("resize")) == 1
    assert standin.backend.power("shop-db-vme") == "on"


def test_a_file_that_is_no_program_is_left_alone(make_standin: Callable[..., StandIn]) -> None:
    standin = make_standin()
    hook(standin, "exit 1").chmod(0o644)
    move(standin)
    assert entries(standin) == []
    assert len(standin.effective("resize")) == 1
