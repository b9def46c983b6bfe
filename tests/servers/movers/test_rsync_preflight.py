"""Findings of the preflight that need no machine: releases, programs, clocks, space."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from migrationhub.lib.findings import Level
from servers.movers.rsync import preflight_data, preflight_machine, preflight_programs
from servers.remote.base import Endpoint, Result
from tests.servers.movers.test_rsync_lists import move


def codes(findings: object) -> dict[str, str]:
    return {finding.code: finding.level.value for finding in findings}  # type: ignore[attr-defined]


def test_releases_are_compared_as_their_distributions_count() -> None:
    assert preflight_machine.release('ID=debian\nVERSION_ID="12"') == ("debian", "12")
    assert preflight_machine.release('ID="rhel"\nVERSION_ID="9.4"') == ("rhel", "9")
    assert preflight_machine.release("ID=ubuntu\nVERSION_ID=22.04") == ("ubuntu", "22.04")


def test_systems_that_do_not_fit_block() -> None:
    source = {"release": b"ID=debian\nVERSION_ID=12", "usr": b"split"}
    target = {"release": b"ID=debian\nVERSION_ID=11", "usr": b"merged", "kernels": b"6.1 no"}
    found = codes(preflight_machine.system(move(), source, target))
    assert found == {"release.differs": "blocking", "usr.layout": "blocking", "kernel.target": "blocking"}
    target = {"release": source["release"], "usr": b"split", "kernels": b"5.10 no\n6.1 yes"}
    assert set(codes(preflight_machine.system(move(), source, target)).values()) == {"ready"}
    assert codes(preflight_machine.system(move(), source, {**target, "kernels": b""}))["kernel.target"] == "blocking"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"none", "rsync.missing"),
        (b"rsync  version 3.0.9  protocol", "rsync.old"),
        (b"rsync  version 3.2.7", "rsync.version"),
    ],
)
def test_rsync_must_be_there_and_new_enough(line: bytes, code: str) -> None:
    assert code in codes(preflight_machine.tools(move(), {"rsync": line}, {"rsync": line}))


def test_clocks_far_off_are_warned_of() -> None:
    assert codes(preflight_machine.clocks(move(), 0.2, 0.1)) == {"clock.offset": "ready"}
    assert [f.level.value for f in preflight_machine.clocks(move(), 60, -0.1)] == ["warning", "ready"]


DF = b"""Filesystem     Type 1024-blocks    Used Available Capacity Mounted on
/dev/vda       ext4   100000000 %d  %d      50%% /
/dev/vdb       xfs     20000000 9000000  11000000      50%% /data
tmpfs          tmpfs    1000000       0   1000000       0%% /run
"""


def test_space_is_counted_on_the_file_system_that_will_hold_it() -> None:
    small, big = {"disks": DF % (30000000, 5000000)}, {"disks": DF % (2000000, 90000000)}
    assert {f.subject: f.level.value for f in preflight_data.space(move(), small, big)} == {
        "/": "ready",
        "/data": "ready",
    }
    one = {"disks": b"\n".join(big["disks"].splitlines()[:2])}
    (finding,) = preflight_data.space(move(), small, one)
    assert finding.subject == "/" and finding.level.value == "ready"
    (finding,) = preflight_data.space(move(), {"disks": DF % (85000000, 1)}, one)
    assert finding.code == "space.short"
    assert [f.code for f in preflight_data.space(move(), {}, big)] == ["space.unknown"]


@pytest.mark.parametrize(
    ("program", "manager", "words", "act"),
    [
        ("comm", "supervisord", "needs coreutils 8.25 or newer; comm -z said there: comm: invalid option", "coreutils"),
        ("head", "supervisord", "needs coreutils 8.25 or newer; head -zn said there", "Install GNU coreutils"),
        ("systemd-run", "systemd", "systemd-run --collect, of systemd 236 or newer", "Update systemd"),
        ("", "supervisord", "", ""),
    ],
)
def test_options_that_are_not_there_block(tmp_path: Path, program: str, manager: str, words: str, act: str) -> None:
    """Of old coreutils each comparison comes out empty: nothing to send, nothing to remove, all is equal."""
    if program:
        (tmp_path / program).write_text(f"#!/bin/sh\necho \"{program}: invalid option -- 'z'\" >&2\nexit 1\n")
        (tmp_path / program).chmod(0o755)

    class Here:
        def run(self, command: list[str], **_: object) -> Result:
            path = f"{tmp_path}:{os.environ['PATH']}"
            done = subprocess.run(command, env={"PATH": path}, capture_output=True, check=True)
            return Result(0, done.stdout, done.stderr)

    host = Endpoint("old", "192.0.2.1", manager=manager)
    here: Any = Here()
    job = replace(move(source=host, target=host), connect=lambda _: here)
    found = list(preflight_programs.programs(job))
    assert [finding.level for finding in found] == [Level.BLOCKING if program else Level.READY] * 2
    assert words in found[0].text and act in found[0].act
