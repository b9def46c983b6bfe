"""The report: ok only if every server is through and every applicable check held; its shape; the table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from migrationhub.lab.demo import report
from migrationhub.lab.demo.terminal import amount, table


def server(**changes: Any) -> dict[str, Any]:
    return {
        "name": "shop-db",
        "steps": [{"kind": "final_validation", "state": "done", "started_at": None, "finished_at": None}],
        "syncs": [
            {
                "kind": "initial",
                "method": "rsync",
                "consistency": "frozen",
                "bytes_sent": 99_800_000,
                "files_sent": 1453,
                "seconds": 6.42,
            }
        ],
        "downtime_seconds": 58.2,
        "verified": {"both_off": {"ok": True, "said": "off"}, "isolation": {"ok": None, "said": "one network"}},
        **changes,
    }


def test_every_applicable_check_must_hold() -> None:
    assert report.report("process", [server()])["ok"] is True
    failed = server(verified={"both_off": {"ok": True, "said": ""}, "orders": {"ok": False, "said": "3 missing"}})
    assert report.report("process", [server(), failed])["ok"] is False


@pytest.mark.parametrize(
    "servers",
    [
        [],
        [server(verified={})],
        [server(steps=[{"kind": "stop_services", "state": "running", "started_at": None, "finished_at": None}])],
    ],
    ids=["no server", "nothing verified", "a step is not over"],
)
def test_what_was_not_done_is_not_ok(servers: list[dict[str, Any]]) -> None:
    assert report.report("nspawn", servers)["ok"] is False


def test_a_failure_is_never_ok_and_is_told() -> None:
    told = report.report("nspawn", [server()], "the hub did not start")
    assert (told["ok"], told["failure"]) == (False, "the hub did not start")


def test_the_file_has_exactly_the_shape_that_others_read(tmp_path: Path) -> None:
    path = tmp_path / "var/demo-report.json"
    report.write(path, report.report("nspawn", [server()]))
    told = json.loads(path.read_text())
    assert told.keys() == {"ok", "host_kind", "servers"}
    assert told["servers"][0].keys() == {"name", "steps", "syncs", "downtime_seconds", "verified"}
    assert list(path.parent.iterdir()) == [path]


def test_the_table_has_bytes_per_sync_downtime_and_each_check() -> None:
    text = report.lines(report.report("nspawn", [server()]))
    assert "initial: 99.8 MB" in text
    assert "58.2 s" in text
    assert "1 of 1 checks held" in text
    assert "  isolation: not applicable. one network" in text


def test_columns_are_as_wide_as_their_widest_line() -> None:
    assert table(["a", "b"], [["long\nx", "1"]]) == "a     b\n----  -\nlong  1\nx"


def test_amounts_are_in_powers_of_ten() -> None:
    assert [amount(size) for size in (0, 999, 1000, 22_800_000, 5e12)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "22.8 MB",
        "5.0 TB",
    ]
