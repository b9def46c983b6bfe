"""A database that nothing freezes, or that cannot be frozen as the profile says: named before and during the copy."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from migrationhub.lab.verify_orders import POSTGRES_BIN, _look
from servers.models import Run, SyncPoint
from tests.faults.conftest import Hosts, enter
from tests.faults.matrix import Fault, Line, Once, is_named_and_retried, nothing, table
from tests.fixtures_lab import ProcessHost

pytestmark = [
    pytest.mark.lab,
    pytest.mark.postgres,
    pytest.mark.django_db,
    pytest.mark.usefixtures("trap_commands"),
]

DATA = "srv/postgresql"


def frozen(**options: Any) -> dict[str, Any]:
    return {"freeze": {"method": "postgresql", "options": {"data": f"/{DATA}", **options}}}


@pytest.fixture(scope="module")
def pair(process_module_host: Callable[..., ProcessHost]) -> Iterator[tuple[ProcessHost, ProcessHost]]:
    source = process_module_host("faults-db", "shop-db", interval="0.05")
    target = process_module_host("faults-db-new", network="migration")
    deadline = time.monotonic() + 30
    while source.execute('psql -h "$HOST_DIR/run/postgresql" -U postgres -c "SELECT 1"').rc != 0:
        assert time.monotonic() < deadline, source.supervisorctl("status")
        time.sleep(0.3)
    yield source, target


@pytest.fixture
def hosts(line: Line, pair: tuple[ProcessHost, ProcessHost]) -> Hosts:
    source, target = pair
    target.execute(f"rm -rf {DATA}")
    rows = {"source": enter(source.endpoint), "target": enter(target.endpoint)}
    return Hosts(source, target, rows, line, paths=(DATA,))


def end_session(hosts: Hosts) -> None:
    """An administrator ends the session that holds backup mode."""
    ended = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active"
    done = hosts.source.execute(f'psql -X -A -t -h "$HOST_DIR/run/postgresql" -U postgres -c "{ended}"')
    assert done.out.strip() == "t", done.out + done.err


FAULTS = [
    Fault(
        "a database without freeze",
        "preflight",
        nothing,
        nothing,
        "PostgreSQL in /srv/postgresql would be copied while it is open: the copy may not start.",
        "Choose freeze, snapshot or stop in the profile; acceptance tests need a consistent copy.",
        ends=Run.State.SUCCEEDED,  # a live copy may be wanted: it is warned of, and called live
        sound=frozen(),
    ),
    Fault(
        "a freeze that cannot log in",
        "preflight",
        nothing,
        nothing,
        "psql on {source} could not ask PostgreSQL for its settings; it said: ⟨⟩port 5433 failed: Connection refused"
        "⟨⟩.",
        "Correct user, port and host of the freeze in the profile; local login must need no password.",
        choices=frozen(port=5433),
        sound=frozen(),
    ),
    Fault(
        "a freeze that is lost in mid-copy",
        "sync",
        end_session,
        nothing,
        "⟨⟩The database session was lost during the copy (⟨⟩): this copy is not consistent.",
        "Run another delta before anybody tests the clone.",
        during="copying",
        ends=Run.State.SUCCEEDED,
        choices={**frozen(), "bandwidth": 2048},
        sound={"bandwidth": 0},
        marks=(pytest.mark.full,),
    ),
]


@table(FAULTS)
def test_it_is_named_and_retried(fault: Fault, hosts: Hosts, line: Line) -> None:
    is_named_and_retried(fault, hosts, line)
    found = [*SyncPoint.objects.order_by("number").values_list("consistency", flat=True)]
    assert found == (["live", "frozen"] if fault.operation == "sync" else [])


def test_a_copy_without_freeze_is_called_live(hosts: Hosts) -> None:
    hosts.done("sync")
    assert not SyncPoint.objects.get().is_consistent


def test_the_log_that_a_slow_copy_needs_is_kept_for_it(hosts: Hosts, line: Line) -> None:
    """Checkpoints fall into the copy and the server drops its old log: backup mode alone would give a dead clone."""

    def checkpoints() -> None:
        turn = (
            'psql -X -q -h "$HOST_DIR/run/postgresql" -U postgres -c "SELECT pg_switch_wal()" -c CHECKPOINT >/dev/null'
        )
        done = hosts.source.execute(f"for n in 1 2 3 4 5 6 7 8; do {turn} || exit 1; sleep 0.2; done")
        assert done.rc == 0, done.err

    strikes = Once(checkpoints, lambda run: run.phase == "copying" and run.bytes_done > 0)
    choices = {**hosts.choices("sync"), **frozen(), "bandwidth": 4096}
    done = line.take(hosts.key, "sync", choices, strikes)
    assert strikes.struck and done.run.state == Run.State.SUCCEEDED, done.run.reason
    hosts.target.supervisorctl("stop", "all")
    machine_id = (hosts.source.root / "etc/machine-id").read_text().strip()
    copy = _look(hosts.target.root / DATA, POSTGRES_BIN, "shop", machine_id)
    assert copy.amcheck == "clean" and not copy.missing
