"""Faults of a copy between real Debian machines: a network that swallows, a missing program, a unit that vanished."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from migrationhub.lab.state import LabProblem
from servers.models import SyncPoint
from servers.movers.rsync.job import RemoteJob
from servers.movers.rsync.layout import layout
from servers.operations.base import Job
from servers.operations.moving import move_job
from servers.remote import access
from servers.remote.ssh import connect
from tests.faults.conftest import Hosts, enter
from tests.faults.matrix import Fault, Line, Once, is_named_and_retried, table
from tests.fixtures_nspawn import NspawnHost, NspawnLab

pytestmark = [pytest.mark.nspawn, pytest.mark.django_db]

PRIVATE, PUBLIC = access.new_key_pair("faults")


@dataclass
class Pair(Hosts):
    """A Debian source and a target that is reached by our own access."""

    source: NspawnHost  # type: ignore[assignment]
    target: NspawnHost  # type: ignore[assignment]
    router: str = ""

    def filter(self, rule: str) -> None:
        """A rule of the router between both, before all others."""
        subprocess.run(["ip", "netns", "exec", self.router, "nft", *rule.split()], check=True, timeout=20)


@pytest.fixture(scope="module")
def machines(nspawn_module_host: Callable[..., NspawnHost]) -> tuple[NspawnHost, NspawnHost]:
    target = nspawn_module_host("copies-new", network="migration", user_data=access.user_data(PUBLIC))
    source = nspawn_module_host("copies-old", "files", files="30")
    deadline, said = time.monotonic() + 60, ""
    while "host-key" not in said:
        assert time.monotonic() < deadline, said
        said = target.execute(access.read_back_script()).out
        time.sleep(0.3)
    keys = access.parse_read_back(said)
    ours = access.endpoint(target.name, target.endpoint.address, private_key=PRIVATE, host_keys=keys)
    return source, replace(target, endpoint=ours)


@pytest.fixture
def pair(line: Line, machines: tuple[NspawnHost, NspawnHost], nspawn_lab: NspawnLab) -> Pair:
    source, target = machines
    source.execute("mkdir -p /srv/data; for n in 1 2 3; do head -c 1M /dev/urandom >/srv/data/$n; done")
    rows = {"source": enter(source.endpoint), "target": enter(target.endpoint)}
    return Pair(source, target, rows, line, paths=("/srv/data",), router=nspawn_lab.network.router)


def on_target(script: str) -> Callable[[Pair], None]:
    def act(pair: Pair) -> None:
        deadline = time.monotonic() + 60
        while True:  # after a sync that failed it starts anew
            try:
                done = pair.target.execute(script)
                break
            except LabProblem:
                assert time.monotonic() < deadline, "the target did not come back"
                time.sleep(0.5)
        assert done.rc == 0, done.err

    return act


def swallow(pair: Pair) -> None:
    """Packets between source and target vanish, those of the hub do not."""
    ends = pair.source.endpoint.address, pair.target.endpoint.address
    for one, other in (ends, ends[::-1]):
        pair.filter(f"insert rule inet lab forward ip saddr {one} ip daddr {other} drop")


def swallow_answers(pair: Pair) -> None:
    """One way only: what the source sends arrives, and it never hears of it."""
    source, target = pair.source.endpoint.address, pair.target.endpoint.address
    pair.filter(f"insert rule inet lab forward ip saddr {target} ip daddr {source} drop")


def let_through(pair: Pair) -> None:
    shown = ["ip", "netns", "exec", pair.router, "nft", "-a", "list", "chain", "inet", "lab", "forward"]
    rules = subprocess.run(shown, check=True, capture_output=True, text=True, timeout=20).stdout
    for rule in rules.splitlines():
        if rule.split("#")[0].strip().endswith("drop") and "ip saddr" in rule:
            pair.filter(f"delete rule inet lab forward handle {rule.rpartition('handle ')[2]}")


HELD = (
    " The copy on {target} is incomplete, so its services stay stopped: run a sync to its end before anybody uses it."
)

FAULTS = [
    Fault(
        "no rsync on the target",
        "sync",
        on_target("mv /usr/bin/rsync /usr/bin/rsync.away"),
        on_target("mv /usr/bin/rsync.away /usr/bin/rsync"),
        "rsync is not installed on the target. ⟨⟩",
        "Install rsync there, then try again." + HELD,
        marks=(pytest.mark.full,),
    ),
    *(
        Fault(
            name,
            "sync",
            cause,
            let_through,
            "The connection to the target broke in the middle of the copy.⟨⟩",
            "Check the network and whether the target runs, then try again; the copy goes on where it stopped." + HELD,
            during="copying",
            choices={"bandwidth": 64},  # KiB/s: it lasts until the fault, which ends it
            sound={"bandwidth": 0},
            marks=(pytest.mark.full,),
        )
        for name, cause in (
            ("a network that swallows in mid-copy", swallow),
            ("a network that swallows the answers", swallow_answers),
        )
    ),
]


@table(FAULTS)
def test_it_is_named_and_retried(fault: Fault, pair: Pair, line: Line) -> None:
    is_named_and_retried(fault, pair, line)


@pytest.mark.full
def test_a_copy_that_ended_is_not_started_again_under_its_name(pair: Pair) -> None:
    """Its unit has vanished, systemd calls it a success and would run it once more: only its directory is believed."""
    run = pair.done("sync")
    connection = connect(pair.source.endpoint)
    job = move_job(Job(run, connect))
    place = layout(job, job.source)
    shown = connection.run(["systemctl", "show", "-p", "Result,LoadState", place.unit]).text
    assert "Result=success" in shown and "LoadState=not-found" in shown, shown
    phases = connection.run(["cat", f"{place.job}/phases"], check=True).text
    RemoteJob(connection, place).launch()
    time.sleep(1)
    assert connection.run(["cat", f"{place.job}/phases"], check=True).text == phases
    connection.close()


@pytest.mark.full
def test_a_snapshot_holds_what_was_there_when_it_was_taken(pair: Pair, line: Line) -> None:
    """What is written while the copy runs is not in it: of a btrfs root, taken from inside."""
    pair.source.execute("echo before >/srv/data/zz")
    changes = Once(
        lambda: None if pair.source.execute("echo after >/srv/data/zz").rc == 0 else pytest.fail("not changed"),
        lambda run: run.phase == "copying" and run.bytes_done > 0,
    )
    freeze = {"method": "snapshot-btrfs", "options": {"subvolume": "/"}}
    choices = {**pair.choices("sync"), "freeze": freeze, "bandwidth": 512}
    done = line.take(pair.key, "sync", choices, changes)
    assert changes.struck and done.run.state == "succeeded", done.run.reason
    assert SyncPoint.objects.get(run=done.run).consistency == SyncPoint.Consistency.SNAPSHOT
    # Read from outside: the target restarts after the sync.
    assert (pair.target.root / "srv/data/zz").read_text() == "before\n"
