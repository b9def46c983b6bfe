"""The demo as a whole, as its command runs it; and its set-up alone, through the pages of a real hub."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from migrationhub.lab.datacentre import Datacentre
from migrationhub.lab.demo.board import STEPS, lanes_of
from migrationhub.lab.demo.hub import Hub, environment
from migrationhub.lab.demo.people import Account, People, accounts
from migrationhub.lab.demo.scenario import SLUG, scenario
from migrationhub.lab.demo.setup import Setup
from migrationhub.lab.state import REPOSITORY, Lab

MANAGE = [sys.executable, str(REPOSITORY / "manage.py")]


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory for data with a short path: Unix sockets are below it."""
    path = Path(tempfile.mkdtemp(prefix="mhd-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def demo(home: Path, *more: str, timeout: float) -> subprocess.CompletedProcess[str]:
    variables = {**environment(home), "MIGRATIONHUB_LAB": f"demo-{os.getpid()}"}
    return subprocess.run(
        [*MANAGE, "demo", "--exit", *more],
        env=variables,
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )


def check_whole(home: Path, kind: str, timeout: float) -> None:
    done = demo(home, "--kind", kind, "--port", str(free_port()), timeout=timeout)
    assert done.returncode == 0, done.stdout[-6000:]
    told: dict[str, Any] = json.loads((home / "demo-report.json").read_text())
    assert (told["ok"], told["host_kind"]) == (True, kind)
    assert {server["name"] for server in told["servers"]} == {"shop-db", "shop-web", "files"}
    for server in told["servers"]:
        assert [step["state"] for step in server["steps"]] == ["done"] * 7
        kinds = [sync["kind"] for sync in server["syncs"]]
        assert (kinds[0], kinds[-1], "delta" in kinds) == ("initial", "final", True)
        assert server["downtime_seconds"] > 0
        assert server["verified"]["both_off"]["ok"] is True
    assert not (home / "demo").exists()
    assert not (home / "lab").exists()


@pytest.mark.full
@pytest.mark.lab
def test_the_whole_demo_on_process_hosts(home: Path) -> None:
    check_whole(home, "process", 1200)


@pytest.mark.full
@pytest.mark.nspawn
def test_the_whole_demo_on_nspawn_hosts(home: Path) -> None:
    check_whole(home, "nspawn", 2400)


@pytest.mark.lab
def test_a_port_that_is_taken_is_told_before_anything_is_made(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = demo(home, "--kind", "process", "--port", str(server.getsockname()[1]), timeout=120)
    assert done.returncode == 1
    assert "cannot be used: Address already in use. End what listens there" in done.stdout
    assert "making shop-db" not in done.stdout
    told = json.loads((home / "demo-report.json").read_text())
    assert (told["ok"], told["servers"]) == (False, [])


def test_a_second_demo_on_the_same_directory_is_refused(home: Path) -> None:
    with (home / "demo.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = demo(home, timeout=300)
    assert done.returncode == 1
    assert "Another demo runs with" in done.stdout
    assert not (home / "demo").exists()


def make_accounts(hub: Hub, everybody: list[Account]) -> None:
    """All in one process of the hub's own settings; passwords go by standard input."""
    script = (
        "import json, sys; from migrationhub.management.commands.account import account; "
        "[account(**one) for one in json.load(sys.stdin)]"
    )
    wanted = [
        {"name": one.name, "password": one.password, "staff": one.staff, "full_name": one.full_name}
        for one in everybody
    ]
    argv = [*MANAGE, "shell", "-v", "0", "-c", script]
    subprocess.run(argv, env=environment(hub.directory), input=json.dumps(wanted).encode(), check=True, timeout=300)


@pytest.mark.lab
def test_a_project_is_set_up_through_the_pages_alone(home: Path) -> None:
    """Only accounts are seeded; afterwards every server of wave 1 may start, and the owner sees their own only."""
    lab = Lab(f"setup-{os.getpid()}", home)
    centre, hub = Datacentre(lab), Hub(home / "hub", free_port())
    hub.directory.mkdir()
    everybody = accounts()
    people, said = People(hub.url, everybody), []
    try:
        plan = scenario(centre.up("process"))
        hub.start()
        make_accounts(hub, everybody)
        people.log_in()
        Setup(people.lead, plan, centre.backend(), said.append).everything(everybody)
        planning = people.lead.get(f"/projects/{SLUG}/planning/").text
        board = people.operator.get(people.operator.get("/").link(r"^/waves/\d+/$"))
        seen = people["owner"].get(people["owner"].get("/").link(r"^/waves/\d+/$"))
        outsider = people["manager"].get(f"/projects/{SLUG}/").text
    finally:
        hub.stop()
        centre.down()
    assert "Not planned" not in planning
    assert [button.label for form in board.forms(board.part("wave-acts")) for button in form.buttons] == [
        "Start initial migration of 3 servers"
    ]
    assert set(lanes_of(board)) == {"shop-db", "shop-web", "files"}
    assert all(lane.state(STEPS[0]) in ("ready", "waiting") for lane in lanes_of(board).values())
    assert set(lanes_of(seen)) == {"shop-db", "shop-web"}
    assert "0 of 4" in outsider
    assert any("log-in works" in line for line in said)
