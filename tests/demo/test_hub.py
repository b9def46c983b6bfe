"""The hub of the demo: its environment, what a killed one leaves, and what is told when it does not start."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from migrationhub.lab.demo.hub import Hub, environment, left_behind
from migrationhub.lab.process_table import Process
from migrationhub.lab.state import LabProblem


def waiting(directory: Path, *words: str) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-c", "import time; time.sleep(60)", *words]
    return subprocess.Popen(argv, env={"MIGRATIONHUB_VAR": str(directory)})


def test_a_user_s_own_settings_do_not_reach_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("DATABASE_URL", "SECRET_KEY_FILE", "DJANGO_SETTINGS_MODULE"):
        monkeypatch.setenv(name, "mine")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example")
    found = environment(tmp_path)
    assert not {"DATABASE_URL", "SECRET_KEY_FILE", "DJANGO_SETTINGS_MODULE"} & found.keys()
    assert (found["MIGRATIONHUB_VAR"], found["HTTPS_PROXY"]) == (str(tmp_path), "http://proxy.example")


def test_what_a_killed_hub_left_is_found_and_nothing_else(tmp_path: Path) -> None:
    mine, other = tmp_path / "demo", tmp_path / "other"
    started = [waiting(mine, "controller"), waiting(mine, "shell"), waiting(other, "qcluster")]
    try:
        deadline = time.monotonic() + 10
        found: list[Process] = []
        while not found and time.monotonic() < deadline:
            found = left_behind(mine)
        assert [process.pid for process in found] == [started[0].pid]
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_one_that_does_not_start_is_told_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(tmp_path / "var", 1 << 15 | 123)
    hub.directory.mkdir()
    monkeypatch.setenv("WORKERS", "many")
    with pytest.raises(LabProblem, match=r"The hub did not start:[\s\S]*WORKERS"):
        hub.start()
    assert not hub.running
    hub.stop()
