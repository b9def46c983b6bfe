"""A database that is written to is copied in backup mode: the copy starts, and nothing in it is broken."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace

import pytest

from migrationhub.lab.state import LabProblem
from migrationhub.lab.verify_orders import POSTGRES_BIN, _look
from migrationhub.lib.findings import Level
from servers.movers.base import Freeze
from servers.movers.rsync.mover import RsyncMover
from servers.progress import Consistency, State
from tests.fixtures_lab import ProcessHost
from tests.patience import wait_until
from tests.servers.movers.conftest import Pair
from tests.servers.movers.drive import drive

pytestmark = [pytest.mark.lab, pytest.mark.postgres]

FREEZE = Freeze("postgresql", {"data": "/srv/postgresql"})
DATA = "srv/postgresql"


@pytest.fixture(scope="module")
def pair(make_pair: Callable[..., Pair]) -> Pair:
    pair = make_pair("pg", "shop-db", (DATA,), interval="0.01")
    wait_until(lambda: number_of_orders(pair.source) > 0)
    return pair


def psql(host: ProcessHost, query: str, database: str = "shop") -> str:
    result = host.execute(f'psql -X -A -t -q -U postgres -h "$HOST_DIR/run/postgresql" -d {database} -c "{query}"')
    return result.out.strip()


def number_of_orders(host: ProcessHost) -> int:
    said = psql(host, "SELECT count(*) FROM orders")
    return int(said) if said.isdigit() else 0


def machine_id(host: ProcessHost) -> str:
    return (host.root / "etc/machine-id").read_text().strip()


def test_copies_in_backup_mode_start_and_are_whole(pair: Pair) -> None:
    # Slow enough that checkpoints fall into it: a fast copy hides what an open database does.
    before = number_of_orders(pair.source)
    progress = pair.sync("initial", freeze=FREEZE, bandwidth=8192)
    assert progress.sync.consistency == Consistency.FROZEN, progress.sync.notes
    assert (pair.target.root / DATA / "backup_label").exists()
    copy = _look(pair.target.root / DATA, POSTGRES_BIN, "shop", machine_id(pair.source))
    assert copy.amcheck == "clean"
    assert copy.last >= before and not copy.missing and not copy.foreign

    # The clone has lived: its own log, its own files. All of it goes, and the next copy is whole again.
    start_copy(pair.target)
    last = number_of_orders(pair.source)
    progress = pair.sync("delta", freeze=FREEZE)
    assert progress.sync.consistency == Consistency.FROZEN, progress.sync.notes
    assert f"{DATA}/backup_label.old" in progress.sync.discarded
    copy = _look(pair.target.root / DATA, POSTGRES_BIN, "shop", machine_id(pair.source))
    assert copy.amcheck == "clean" and copy.last >= last and not copy.missing and not copy.foreign
    # Nothing of the freeze is left on the source.
    assert psql(pair.source, "SELECT count(*) FROM pg_replication_slots") == "0"
    assert not (pair.source.root / DATA / "backup_label").exists()


def start_copy(host: ProcessHost) -> None:
    """Run the copy as a clone would and write into it."""
    log = "$HOST_DIR/var/log/copy.log"
    options = "-c listen_addresses= -c unix_socket_directories=$HOST_DIR/run"
    control = f'{POSTGRES_BIN}/pg_ctl -D "$HOST_DIR/{DATA}" -w -l {log}'
    result = host.execute(
        f'{control} -o "{options}" start && '
        f'psql -X -q -U postgres -h $HOST_DIR/run -d shop -c "CREATE TABLE tester AS SELECT 1; CHECKPOINT"; '
        f"{control} -m fast stop"
    )
    assert result.rc == 0, result.out + result.err


CUT_OFF = f"""
data=$HOST_DIR/{DATA} log=$HOST_DIR/var/log/cut.log
{POSTGRES_BIN}/postgres -D "$data" -c listen_addresses= -c unix_socket_directories="$HOST_DIR/run" >$log 2>&1 &
until grep -q "redo starts" $log; do kill -0 $! || exit 1; done
kill -s {{}} $!
wait $!
until ! grep -lqs "^postgres:.*startup" /proc/[0-9]*/cmdline; do sleep 0.1; done
rm -f "$data/postmaster.pid"
{POSTGRES_BIN}/pg_controldata "$data" | grep -E "cluster state|End-of-backup"
"""


@pytest.mark.parametrize("how", ["KILL", pytest.param("INT", marks=pytest.mark.full)])
def test_a_clone_whose_first_recovery_is_cut_off_starts_all_the_same(pair: Pair, how: str) -> None:
    """PostgreSQL takes a copy with a label alone for a crashed server the second time, and refuses to start."""
    job = pair.job("delta", freeze=FREEZE, bandwidth=16384)
    last = number_of_orders(pair.source)
    memo, _ = drive(job, until=lambda progress: progress.phase == "copying")
    # Enough of a log for a recovery that can be cut off. It may outlast the copy: what was there before it must be in.
    psql(pair.source, "UPDATE pgbench_accounts SET abalance = abalance + 1")
    _, progress = drive(job, memo)
    pair.last = progress
    assert progress.sync is not None and progress.sync.consistency == Consistency.FROZEN, progress

    left = pair.target.execute(CUT_OFF.format(how)).out
    assert "in recovery" in left or "in archive recovery" in left, left
    assert re.search(r"End-of-backup record required: *yes", left), left
    without = pair.target.root / "tmp/without-signal"
    subprocess.run(["cp", "-a", pair.target.root / DATA, without], check=True)
    (without / "recovery.signal").unlink()
    with pytest.raises(LabProblem, match="WAL ends before end of online backup"):
        _look(without, POSTGRES_BIN, "shop", machine_id(pair.source))
    shutil.rmtree(without)
    copy = _look(pair.target.root / DATA, POSTGRES_BIN, "shop", machine_id(pair.source))
    assert copy.amcheck == "clean" and copy.last >= last and not copy.missing and not copy.foreign


def test_final_sync_of_the_stopped_database_is_equal(pair: Pair) -> None:
    blocked = [f.code for f in RsyncMover().preflight(pair.job("final")) if f.level == Level.BLOCKING]
    assert blocked == ["database.running"]
    pair.source.supervisorctl("stop", "orders", "postgresql")
    progress = pair.sync("final", freeze=FREEZE)
    assert progress.sync.consistency == Consistency.STOPPED
    # The label of the frozen copies would make the server start from an old checkpoint.
    assert not (pair.target.root / DATA / "backup_label").exists()
    assert not (pair.target.root / DATA / "recovery.signal").exists()
    settings = (pair.target.root / DATA / "postgresql.auto.conf").read_bytes()
    assert settings == (pair.source.root / DATA / "postgresql.auto.conf").read_bytes()
    source = _look(pair.source.root / DATA, POSTGRES_BIN, "shop", machine_id(pair.source))
    target = _look(pair.target.root / DATA, POSTGRES_BIN, "shop", machine_id(pair.source))
    assert target == source and target.amcheck == "clean"
    pair.source.supervisorctl("start", "postgresql", "orders")
    wait_until(lambda: number_of_orders(pair.source) > 0)


def test_a_lost_session_makes_the_copy_live_and_says_so(pair: Pair) -> None:
    job = pair.job("delta", freeze=FREEZE, bandwidth=200, last_sync={})
    memo, progress = drive(job, until=lambda progress: progress.phase == "copying" and progress.bytes_done > 0)
    assert progress.state == State.RUNNING
    killed = psql(pair.source, "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots")
    assert killed == "t"
    _, progress = drive(job, memo)
    assert progress.state == State.SUCCEEDED, progress.reason
    assert progress.sync.consistency == Consistency.LIVE
    assert "session was lost" in progress.sync.notes[0]


def test_a_killed_copy_thaws_the_database(pair: Pair) -> None:
    job = pair.job("delta", freeze=FREEZE, bandwidth=200, last_sync={})
    memo, progress = drive(job, until=lambda progress: progress.phase == "copying")
    assert psql(pair.source, "SELECT count(*) FROM pg_replication_slots") == "1"
    _, progress = drive(replace(job, cancel=True), memo)
    assert progress.state == State.CANCELLED
    wait_until(lambda: psql(pair.source, "SELECT count(*) FROM pg_replication_slots") == "0")


def test_a_database_that_refuses_is_named_before_and_during(pair: Pair) -> None:
    wrong = Freeze("postgresql", {"data": "/srv/postgresql", "port": 5433})
    job = pair.job("delta", freeze=wrong)
    codes = {f.code: f for f in RsyncMover().preflight(job)}
    assert codes["freeze.login"].level == Level.BLOCKING and "5433" in codes["freeze.login"].text
    _, progress = drive(job)
    assert progress.state == State.FAILED and progress.code == "freeze.failed"
    assert re.search(r"port 5433", progress.reason)
    other = Freeze("postgresql", {"data": "/srv/elsewhere"})
    found = {f.code for f in RsyncMover().preflight(pair.job("delta", freeze=other)) if f.level == Level.BLOCKING}
    assert found == {"freeze.data"}


def test_an_open_database_without_freeze_is_warned_of(pair: Pair) -> None:
    found = {f.code: f for f in RsyncMover().preflight(pair.job("delta"))}
    assert found["database.live"].level == Level.WARNING and "/srv/postgresql" in found["database.live"].text
    found = {f.code: f for f in RsyncMover().preflight(pair.job("delta", freeze=FREEZE))}
    assert not [f for f in found.values() if f.level != Level.READY], found
    assert {"database.consistent", "freeze.postgresql", "path.open", "space.enough"} <= found.keys()
