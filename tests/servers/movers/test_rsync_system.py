"""Whole systems between real Debian machines: receive mode, the target's own, snapshots, a frozen database."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from migrationhub.lab.verify import compare_trees
from migrationhub.lab.verify_orders import POSTGRES_BIN, _look
from migrationhub.lib.findings import Level
from servers.movers.base import Freeze, MoveJob
from servers.movers.rsync.mover import RsyncMover
from servers.progress import Consistency, Progress, State
from servers.remote import access
from servers.remote.base import Endpoint, RemoteProblem
from servers.remote.ssh import Pool
from tests.fixtures_nspawn import NspawnHost
from tests.servers.movers.drive import drive, succeed

pytestmark = pytest.mark.nspawn

PRIVATE, PUBLIC = access.new_key_pair("test")
# The target's own: a copy of the source's would lock us out, take its name or keep it from booting.
OWN = (
    "/etc/machine-id /etc/hostname /etc/ssh/ssh_host_ed25519_key /etc/network/interfaces /etc/migrationhub/sshd_config"
)


@dataclass
class System:
    """A source, a target with our own access, and the syncs between them."""

    source: NspawnHost
    target: NspawnHost
    endpoint: Endpoint  # of our access to the target
    pool: Pool
    number: int = 0
    last: Progress | None = None

    def job(self, kind: str, **changes: Any) -> MoveJob:
        self.number += 1
        job = MoveJob(
            work_key=f"{self.source.name}:{kind}:{self.number}",
            kind=kind,
            source=self.source.endpoint,
            target=self.endpoint,
            connect=self.pool.connect,
            migration_key=f"move-{self.source.name}",
            last_sync=self.last.sync.as_dict() if self.last and self.last.sync else {},
        )
        return replace(job, **changes)

    def sync(self, kind: str, **changes: Any) -> Progress:
        self.last = succeed(self.job(kind, **changes))
        if kind != "final":
            self.wait_for_restart()
        return self.last

    def wait_for_restart(self) -> None:
        """Leaving receive mode restarts the target; our access comes back with it."""
        deadline = time.monotonic() + 180
        while True:
            try:
                if self.pool.connect(self.endpoint).run("[ -e /run/migrationhub/received ]", timeout=5).rc == 1:
                    return
            except RemoteProblem:
                pass
            assert time.monotonic() < deadline, self.target.backend.console(self.target.name, 30)
            time.sleep(0.3)


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    kept = Pool()
    yield kept
    kept.close()


@pytest.fixture(scope="module")
def make_system(nspawn_module_host: Callable[..., NspawnHost], pool: Pool) -> Callable[..., System]:
    def make(image: str, **options: str) -> System:
        target = nspawn_module_host(f"{image}-new", network="migration", user_data=access.user_data(PUBLIC))
        source = nspawn_module_host(image, image, **options)
        deadline, said = time.monotonic() + 180, ""
        while "host-key" not in said:
            assert time.monotonic() < deadline, said
            said = target.execute(access.read_back_script()).out
            time.sleep(0.3)
        keys = access.parse_read_back(said)
        endpoint = access.endpoint(target.name, target.endpoint.address, private_key=PRIVATE, host_keys=keys)
        system = System(source, target, endpoint, pool)
        system.wait_for_restart()
        return system

    return make


@pytest.fixture(scope="module")
def files(make_system: Callable[..., System]) -> System:
    return make_system("files", files="300")


SNAPSHOT = Freeze("snapshot-btrfs", {"subvolume": "/"})


def test_the_whole_system_moves_and_the_target_stays_itself(files: System) -> None:
    files.source.execute("touch /etc/only-on-source; btrfs subvolume create /srv/inner; echo deep >/srv/inner/file")
    files.target.execute("touch /etc/only-on-target; mkdir -p /srv/files/tester; echo t >/srv/files/tester/t")
    before = files.target.execute(f"sha256sum {OWN}; ls /boot /lib/modules; findmnt -no SOURCE /")
    findings = RsyncMover().preflight(files.job("initial", freeze=SNAPSHOT))
    assert not [f for f in findings if f.level == Level.BLOCKING], findings
    assert {"kernel.target", "usr.layout", "release.same", "freeze.snapshot", "path.open"} <= {f.code for f in findings}

    sync = files.sync("initial", freeze=SNAPSHOT).sync
    assert sync.consistency == Consistency.SNAPSHOT
    assert "/srv/inner" in sync.notes[0] or "srv/inner" in sync.notes[0]
    after = files.target.execute(f"sha256sum {OWN}; ls /boot /lib/modules; findmnt -no SOURCE /")
    assert after.out == before.out and after.rc == 0
    # It runs what the source runs, after a restart that our access survived.
    assert files.target.execute("systemctl is-active churn.service").out.strip() == "active"
    there = files.target.execute("cat /srv/inner/file; ls /etc/only-on-source /etc/only-on-target /srv/files/tester")
    assert "deep" in there.out and "only-on-target" not in there.out and "tester" not in there.out
    # Journals of both machines are there: the target's own, and the source's history.
    journals = files.target.execute("ls /var/log/journal").out.split()
    own = files.target.execute("cat /etc/machine-id").out.strip()
    assert own in journals and len(journals) == 2
    # No snapshot, key or unit stays on the source.
    left = files.source.execute("btrfs subvolume list /; ls -A / | grep migrationhub; ls /run/migrationhub/*/key")
    assert "migrationhub-snapshot" not in left.out and "key" not in left.out


def test_what_the_clone_did_is_taken_away(files: System) -> None:
    files.target.execute("echo tester >/srv/files/tester; rm -rf /usr/share/doc/rsync; systemctl disable churn.service")
    sync = files.sync("delta", freeze=SNAPSHOT).sync
    assert not sync.full and sync.discarded_count > 0
    assert {"srv/files/tester", "etc/systemd/system/multi-user.target.wants/churn.service"} <= set(sync.discarded)
    assert files.target.execute("ls /srv/files/tester").rc != 0
    assert files.target.execute("systemctl is-active churn.service").out.strip() == "active"


def test_a_target_in_use_is_refused_by_name(files: System) -> None:
    """Without this a copy beside a running server ends well and is wrong."""
    job = files.job("delta", freeze=SNAPSHOT)
    memo, _ = drive(job, until=lambda progress: progress.next_act == "start")
    files.target.execute("systemd-run --unit=intruder sleep 1000")
    _, progress = drive(job, memo)
    assert progress.state == State.FAILED and progress.code == "receive.active"
    assert "intruder.service" in progress.reason
    assert not progress.result["target_in_receive_mode"], "nothing was touched: the clone goes on"
    files.wait_for_restart()


def test_what_starts_during_the_copy_spoils_it(files: System) -> None:
    job = files.job("delta", freeze=SNAPSHOT)
    memo, _ = drive(job, until=lambda progress: progress.next_act == "finish")
    files.target.execute("systemd-run --unit=intruder sleep 1000")
    _, progress = drive(job, memo)
    assert progress.state == State.FAILED and progress.code == "receive.came_up"
    assert "intruder.service" in progress.reason
    assert progress.result["target_in_receive_mode"], "half a system might not come back"


def test_the_final_sync_leaves_two_equal_systems(files: System) -> None:
    files.source.execute("systemctl stop churn.service; echo last >/srv/files/last")
    progress = files.sync("final", freeze=SNAPSHOT)
    assert progress.sync.consistency == Consistency.STOPPED and progress.result["target_in_receive_mode"]
    verdict = compare_trees(files.source.root, files.target.root, ["srv", "usr", "home", "opt"], ["/usr/lib/modules"])
    assert verdict.ok, verdict


def test_a_final_sync_that_is_done_again_brings_what_was_written_since(files: System) -> None:
    """Into a target that is in receive mode still; the lasting block of the source, written in between, is not data."""
    block = "/etc/systemd/system.control/churn.service"
    files.source.execute(f"echo later >/srv/files/last; mkdir -p {block.rpartition('/')[0]}; ln -s /dev/null {block}")
    assert files.sync("final", freeze=SNAPSHOT).result["target_in_receive_mode"]
    assert files.target.execute("cat /srv/files/last").out == "later\n"
    assert files.target.execute(f"[ -L {block} ]").rc == 1
    files.source.execute(f"rm {block}")


def test_a_system_killed_in_the_copy_is_not_restarted(files: System) -> None:
    """Half a system stays in receive mode, where our access works, and the next try completes it."""
    files.source.execute("head -c 30M /dev/urandom >/srv/files/big")
    job = files.job("delta", bandwidth=4096, freeze=SNAPSHOT)
    memo, _ = drive(job, until=lambda progress: progress.phase == "copying" and progress.bytes_done > 0)
    files.source.execute("systemctl kill --signal=KILL 'migrationhub-*'")
    _, progress = drive(job, memo)
    assert progress.state == State.FAILED and progress.code == "mover.killed"
    assert progress.result["target_in_receive_mode"]
    left = files.source.execute("ls /run/migrationhub/*/key; btrfs subvolume list /")
    assert "key" not in left.out and "migrationhub-snapshot" not in left.out
    progress = succeed(replace(job, bandwidth=0))
    files.wait_for_restart()
    assert progress.sync.bytes_sent < 32 << 20


FREEZE = Freeze("postgresql", {"data": "/var/lib/postgresql/15/main", "user": "postgres"})


@pytest.mark.full  # make test does it in tests/test_system_scope.py, with its seven steps
def test_a_database_in_use_is_copied_frozen_and_runs_on_the_clone(make_system: Callable[..., System]) -> None:
    system = make_system("shop-db")
    findings = RsyncMover().preflight(system.job("initial"))
    assert "database.live" in {f.code for f in findings}
    findings = RsyncMover().preflight(system.job("initial", freeze=FREEZE))
    assert not [f for f in findings if f.level != Level.READY], findings

    sync = system.sync("initial", freeze=FREEZE).sync
    assert sync.consistency == Consistency.FROZEN, sync.notes
    deadline, query = (
        time.monotonic() + 60,
        "psql -h /var/run/postgresql -U shop -Atc 'SELECT count(*) FROM orders' shop",
    )

    def answers() -> int:
        while (found := system.target.execute(query)).rc != 0:
            assert time.monotonic() < deadline, system.target.execute("tail -n 30 /var/log/postgresql/*").out
            time.sleep(0.5)
        return int(found.out)

    assert answers() > 0

    # The clone's server runs and writes; in receive mode it is stopped, and a second frozen copy replaces its files.
    _, progress = drive(system.job("delta", freeze=FREEZE))
    assert progress.state == State.SUCCEEDED, progress.reason
    assert progress.sync.consistency == Consistency.FROZEN
    machine_id = system.source.execute("cat /etc/machine-id").out.strip()
    system.wait_for_restart()
    system.target.stop()  # at once: a first recovery that this cuts off goes on at the next start
    copy = _look(system.target.root / "var/lib/postgresql/15/main", POSTGRES_BIN, "shop", machine_id)
    assert copy.amcheck == "clean" and not copy.missing
