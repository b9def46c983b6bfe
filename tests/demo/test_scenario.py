"""What the demo's people know fits what the lab tells, on both kinds of host."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import time_machine

from migrationhub.lab.demo.scenario import SLUG, ZONE_OF_PEOPLE, scenario
from migrationhub.lab.demo.setup import local_time
from migrationhub.lab.sources import SOURCES
from servers.remote.probes_fields import validate


def described(kind: str) -> dict[str, Any]:
    network = {"subnet": "10.100.1.0/24", "gateway": "10.100.1.1", "resolver": "10.100.1.2", "resolver_port": 53}
    return {
        "kind": kind,
        "sources": [
            {"name": one.name, "record": f"{one.record}.shop.lab", "new_address": f"10.100.1.{one.new_number or 22}"}
            for one in SOURCES
        ],
        "networks": {"production": network},
    }


@pytest.mark.parametrize("kind", ["nspawn", "process"])
def test_every_source_of_the_lab_has_a_plan_and_an_application_with_an_owner(kind: str) -> None:
    plan = scenario(described(kind))
    assert {server.name for server in plan.servers} == {one.name for one in SOURCES}
    assert {server.application for server in plan.servers} == {one.name for one in plan.applications}
    assert {one.owner for one in plan.applications} == {"owner", "owner-files"}
    assert [server.name for server in plan.of_wave(2)] == ["wiki"]
    assert SLUG == "shop-to-vme"


@pytest.mark.parametrize("kind", ["nspawn", "process"])
def test_every_probe_can_be_asked(kind: str) -> None:
    for server in scenario(described(kind)).servers:
        assert server.probes
        for probe in server.probes:
            parameters = {name.removeprefix("p_"): value for name, value in probe.values.items()}
            assert validate(probe.kind, parameters) == {}, (server.name, probe.name)


def test_new_addresses_have_the_prefix_of_the_production_network() -> None:
    plan = scenario(described("nspawn"))
    assert plan.new_address(plan.servers[0]) == "10.100.1.60/24"


@pytest.mark.parametrize(
    "now",
    [
        datetime(2026, 10, 25, 1, 30, tzinfo=ZoneInfo("UTC")),  # 02:30 by the wall clock, the second time
        datetime(2026, 3, 29, 1, 30, tzinfo=ZoneInfo("UTC")),
        datetime(2026, 6, 1, 12, 0, tzinfo=ZoneInfo("UTC")),
    ],
)
@pytest.mark.parametrize("hours", [-1, 0, 10])
def test_times_of_the_window_say_one_thing(now: datetime, hours: int) -> None:
    with time_machine.travel(now, tick=False):
        shown = datetime.fromisoformat(local_time(timedelta(hours=hours)))
    zone = ZoneInfo(ZONE_OF_PEOPLE)
    first, second = (shown.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    assert first.utcoffset() == second.utcoffset()
    assert abs((first - now).total_seconds() - 3600 * hours) <= 2 * 3600
