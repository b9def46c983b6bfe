"""An act along a list stays short: a worker is killed after a time, and what it found must not be lost with it."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from migrationhub.lib.findings import Level
from servers.models import Credential, Probe, Run
from servers.operations import check, operation, probe
from servers.operations.base import ACT_SECONDS, Job
from servers.progress import Progress, State
from servers.remote import probes
from tests import factories
from tests.lab.vme.conftest import make_standin, standin
from tests.lab.vme.standin import StandIn

pytestmark = pytest.mark.django_db

__all__ = ["make_standin", "standin"]


class Time:
    """`time` for the operations: it passes only where a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    for module in (probe, check):
        monkeypatch.setattr(module, "time", made)
    return made


def act(run: Run) -> Progress:
    run.memo, progress = operation(run.operation).advance(Job(run, lambda endpoint: pytest.fail("no SSH"), run.memo))
    return progress


def test_probes_that_hang_are_asked_in_several_acts(clock: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    server = factories.make_server()
    for _ in range(3):
        factories.make_probe(server, places=["source"])
    asked: list[int] = []

    def hang(one: Probe, job: Job) -> probes.ProbeOutcome:
        asked.append(one.pk)
        clock.now += 120
        return probes.ProbeOutcome(False, "", "", "No result within 120 s.", timezone.now(), 120.0)

    monkeypatch.setattr(probe, "ask", hang)
    parameters = {"owner": server.pk, "machine": server.pk, "place": "source", "until_seconds": 0, "must_pass": True}
    run = factories.make_run("probe", parameters=parameters)
    for number in (1, 2):
        progress = act(run)
        assert not progress.ended and progress.next_act and progress.reason == f"{number} of 3 asked so far."
        assert clock.now == 120 * number, "no act is longer than its time and one probe"
    progress = act(run)
    assert progress.state == State.FAILED and "0 of 3 probes passed" in progress.reason
    assert asked == sorted(set(asked)) and len(run.memo["outcomes"]) == 3


@pytest.fixture
def platform_run(standin: StandIn) -> Run:
    access = standin.access()
    credential = factories.make_credential(kind=Credential.Kind.API, username=access.username, secret=access.password)
    platform = factories.make_platform(url=access.url, ca_bundle=access.ca_bundle, credential=credential)
    return factories.make_run("platform_check", server=None, parameters={"platform": platform.pk})


def planned(standin: StandIn, label: str, **more: Any) -> dict[str, Any]:
    spec = standin.spec(label)
    fields = {name: getattr(spec, name) for name in spec.__dataclass_fields__ if name not in ("user_data", "label")}
    production = standin.network("production")
    return {**fields, "disks": list(spec.disks), "production": production, "label": label, **more}


def test_what_servers_have_in_common_is_asked_once(
    standin: StandIn, platform_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    answer = standin.appliance.answer
    monkeypatch.setattr(standin.appliance, "answer", lambda request: asked.append(request.path) or answer(request))
    memo, _ = standin.platform().advance_create("k", standin.spec("shop-3"), {})
    standin.appliance.store.state["instances"][memo["external_id"]]["labels"] = ["somebody else's"]
    asked.clear()
    servers = [planned(standin, f"shop-{number}") for number in range(5)]
    platform_run.parameters["wanted"] = [*servers, planned(standin, "other", plan_id="999")]
    progress = act(platform_run)
    blocking = [one["code"] for one in progress.result["findings"] if one["level"] == Level.BLOCKING]
    assert progress.state == State.SUCCEEDED and blocking == ["name.taken", "plan.missing"]
    names = [one["text"] for one in progress.result["findings"] if one["code"] == "name"]
    assert len(names) == 5, "each name is looked at"
    assert asked.count("/api/servers") == 6 and asked.count("/api/virtual-images") == 2


def test_a_slow_platform_is_checked_in_several_acts(
    standin: StandIn, platform_run: Run, clock: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = standin.appliance.answer

    def slow(request: Any) -> Any:
        clock.now += ACT_SECONDS / 2
        return answer(request)

    monkeypatch.setattr(standin.appliance, "answer", slow)
    platform_run.parameters["wanted"] = [planned(standin, f"shop-{number}") for number in range(3)]
    progress, acts = act(platform_run), 1
    while not progress.ended:
        assert progress.next_act and "planned servers are looked at" in progress.reason
        progress, acts = act(platform_run), acts + 1
    assert acts == 3 and len([one for one in progress.result["findings"] if one["code"] == "name"]) == 3
    assert platform_run.memo == {"reached": check.reached(factories.Platform.objects.get())}


def test_a_platform_that_goes_away_is_not_asked_for_each_server(standin: StandIn, platform_run: Run) -> None:
    platform_run.parameters["wanted"] = [planned(standin, f"shop-{number}") for number in range(50)]
    standin.server.stop()
    progress = act(platform_run)
    assert [one["code"] for one in progress.result["findings"]] == ["platform.unreachable"]
