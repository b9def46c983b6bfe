"""Logs and the like that base writes all the time, where a directory that somebody named holds them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from servers.movers.rsync import config
from servers.movers.rsync.layout import layout
from tests.servers.movers.conftest import Pair
from tests.servers.movers.test_rsync_lists import move


@pytest.mark.lab
def test_logs_in_a_named_directory_arrive_and_are_said_to_be_unproven(make_pair: Callable[..., Pair]) -> None:
    pair = make_pair("logs", paths=("var/log", "srv/data"))
    places = ["var/log/syslog", "var/log/audit/audit.log", "var/log/journal/m/system.journal"]
    for path in [*places, "var/log/app.log", "srv/data/file", "var/lib/chrony/drift"]:
        pair.source.execute(f"mkdir -p $(dirname {path}); echo {path} >{path}")
    pair.target.execute("mkdir -p var/log/journal/own; echo own >var/log/journal/own/system.journal")
    for sync in (pair.sync("initial").sync, pair.sync("final", proof="checksum").sync):
        assert sync is not None
        (note,) = [one for one in sync.notes if "outside the proof" in one]
        assert note.endswith("proof: /var/log/journal, /var/log/syslog, /var/log/audit/audit.log."), note
    for path in [*places, "var/log/app.log"]:
        assert (pair.target.root / path).read_text() == f"{path}\n"
    assert (pair.target.root / "var/log/journal/own/system.journal").exists(), "the target's own"
    assert not (pair.target.root / "var/lib/chrony").exists(), "nobody named it"


@pytest.mark.lab
def test_a_log_that_is_named_itself_is_data_like_any_other(make_pair: Callable[..., Pair]) -> None:
    pair = make_pair("log", paths=("var/log/journal", "var/lib/chrony/keys"))
    for path in ("var/log/journal/one", "var/lib/chrony/keys/two"):
        pair.source.execute(f"mkdir -p $(dirname {path}); echo {path} >{path}")
    pair.target.execute("mkdir -p var/log/journal; echo old >var/log/journal/old")
    for kind in ("initial", "final"):
        sync = pair.sync(kind).sync
        assert sync is not None and not [one for one in sync.notes if "outside the proof" in one], sync
    there = {path.name for path in pair.target.root.glob("var/l*/*/**/*") if path.is_file()}
    assert {"one", "two"} <= there and "old" not in there, there


@pytest.mark.parametrize(
    ("changes", "base"),
    [
        ({"paths": ("/var/log/audit", "/srv")}, b"var/log/audit/audit.log\0"),
        ({"paths": ("/var/logs", "/srv")}, b""),
        # Named by itself as well as with what is around it; and what the profile leaves out is not sent either.
        ({"paths": ("/var/lib/ntp", "/var/lib/ntp/x")}, b""),
        ({"paths": ("/var/log/audit",), "exclusions": ("/var/log/audit/*",)}, b""),
    ],
)
def test_what_is_sent_outside_the_proof(changes: dict[str, object], base: bytes) -> None:
    job = move(scope="paths", **changes)
    assert config.source_files(job, layout(job, job.source), [], "t")["base-written"] == base
