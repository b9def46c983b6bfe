"""The keeper: one at a time, told by the kernel, its program ends with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from migrationhub.lab import keeper
from migrationhub.lab.daemon import Daemon
from tests import patience

wait_until = partial(patience.wait_until, seconds=60.0)


@pytest.fixture
def launch(tmp_path):
    def run(script, **more):
        spec = {"lock": f"{tmp_path}/lock", "log": f"{tmp_path}/log", "argv": ["sh", "-c", script], **more}
        (tmp_path / "keeper.json").write_text(json.dumps(spec))
        return subprocess.run([sys.executable, "-I", keeper.__file__, f"{tmp_path}/keeper.json"]).returncode

    yield run
    if pid := keeper.holder(tmp_path / "lock"):
        os.kill(pid, signal.SIGKILL)


def test_second_keeper_leaves_the_first_alone(tmp_path, launch):
    assert launch("exec sleep 60") == 0
    first = keeper.holder(tmp_path / "lock")
    assert first
    assert launch("exec sleep 60") == keeper.ALREADY
    assert keeper.holder(tmp_path / "lock") == first


def test_program_dies_with_a_killed_keeper(tmp_path, launch):
    launch(f"echo $$ > {tmp_path}/pid; exec sleep 60")
    wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    pid = int((tmp_path / "pid").read_text())
    os.kill(keeper.holder(tmp_path / "lock"), signal.SIGKILL)
    wait_until(lambda: keeper.holder(tmp_path / "lock") is None)
    wait_until(lambda: not Path(f"/proc/{pid}").exists())


def test_reboot_starts_again_and_power_off_does_not(tmp_path, launch):
    script = f"echo x >> {tmp_path}/runs; [ $(wc -l < {tmp_path}/runs) -ge 3 ] || exit 133"
    around = {"before": [["sh", "-c", f"echo b >> {tmp_path}/before"]], "after": [["touch", f"{tmp_path}/after"]]}
    assert launch(script, again=[133], ended=f"{tmp_path}/off", **around) == 0
    wait_until((tmp_path / "off").exists)
    wait_until(lambda: keeper.holder(tmp_path / "lock") is None)
    assert (tmp_path / "runs").read_text() == "x\n" * 3
    assert (tmp_path / "before").read_text() == "b\n" * 3
    assert (tmp_path / "after").exists()


def test_a_failure_is_no_power_off(tmp_path, launch):
    launch("exit 1", again=[133], ended=f"{tmp_path}/off")
    wait_until(lambda: "ended with 1" in (tmp_path / "log").read_text())
    assert not (tmp_path / "off").exists()


def test_a_failed_preparation_starts_nothing(tmp_path, launch):
    launch(f"touch {tmp_path}/ran", before=[["sh", "-c", "echo no network >&2; exit 1"]])
    wait_until(lambda: "no network" in (tmp_path / "log").read_text())
    wait_until(lambda: keeper.holder(tmp_path / "lock") is None)
    assert not (tmp_path / "ran").exists()


def test_daemon_ends_on_request_and_is_killed_if_it_will_not(tmp_path):
    meek, stubborn = Daemon(tmp_path, "meek"), Daemon(tmp_path, "stubborn")
    meek.start(["sleep", "60"])
    stubborn.start(["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"])
    wait_until(lambda: "ready" in stubborn.last_words())
    assert meek.pid() and stubborn.pid()
    meek.stop()
    stubborn.stop(timeout=0.3)
    assert meek.pid() is None and stubborn.pid() is None


def test_secrets_of_a_daemon_are_for_its_user_alone(tmp_path):
    daemon = Daemon(tmp_path, "quiet")
    daemon.start(["sleep", "60"], {"TOKEN": "hush"})
    try:
        assert daemon.settings.stat().st_mode & 0o077 == 0
        assert daemon.log.stat().st_mode & 0o077 == 0
    finally:
        daemon.stop()
