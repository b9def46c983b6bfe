"""Nothing asked is never passed, and a second try does not forget what was there before the first."""

from __future__ import annotations

from typing import Any

import pytest

from servers.models import Credential, NameServer, Run
from servers.operations import dns as operation
from servers.operations import services
from servers.operations.base import Job
from servers.operations.dns import Dns
from servers.operations.probe import AskProbes
from servers.progress import State
from servers.remote.dns import RecordSet
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(("must_pass", "state"), [(True, State.FAILED), (False, State.SUCCEEDED)])
def test_without_a_probe_nothing_has_passed(must_pass: bool, state: State) -> None:
    """The probes were there when the step was planned, and were taken away since."""
    source = factories.make_server()
    factories.make_probe(source, places=["source"])
    parameters = {
        "owner": source.pk,
        "machine": source.pk,
        "place": "target",
        "until_seconds": 0,
        "must_pass": must_pass,
    }
    run = factories.make_run("probe", parameters=parameters)
    _, progress = AskProbes().advance(Job(run, lambda endpoint: pytest.fail("nothing to ask")))
    assert progress.state == state
    assert progress.result["all"] == 0 and "nothing was asked" in progress.reason


@pytest.mark.parametrize(
    ("beside", "words"),
    [
        ({}, "0 units recorded."),
        ({"containers": ["docker web nginx"]}, "source: docker web nginx. The stop fails while one still runs"),
        ({"at_jobs": ["3 Tue root"]}, "0 units recorded. 1 job waits in at: list atd"),
    ],
)
def test_a_record_tells_what_no_list_of_services_stops(
    monkeypatch: pytest.MonkeyPatch, beside: dict[str, Any], words: str
) -> None:
    monkeypatch.setattr(services, "take", lambda job: {"record": {"units": [], **beside}})
    run = factories.make_run("record_services", parameters={"services": []})
    _, progress = services.RecordServices().advance(Job(run, lambda endpoint: pytest.fail("not by SSH")))
    assert words in progress.reason
    assert bool(beside) or progress.reason == words


@pytest.fixture
def parameters() -> dict[str, Any]:
    key = factories.make_credential(kind=Credential.Kind.TSIG, username="key", secret="c2VjcmV0")
    server = NameServer.objects.create(name="ns", address="192.0.2.53", zone="shop.lab", credential=key)
    return {"name_server": server.pk, "name": "db.shop.lab", "address": "10.0.0.9/24", "ttl": 60}


@pytest.mark.parametrize(
    ("now", "wanted"),
    [
        (("10.0.0.9",), ("10.0.0.1",)),  # our own change, made by the first try
        (("10.0.0.7",), ("10.0.0.7",)),  # somebody else's: what is there now is what the change is planned from
    ],
)
def test_a_retry_keeps_the_record_from_before_the_first_try(
    parameters: dict[str, Any], monkeypatch: pytest.MonkeyPatch, now: tuple[str, ...], wanted: tuple[str, ...]
) -> None:
    before = RecordSet("db.shop.lab", "A", ("10.0.0.1",), 300)
    first = factories.make_run(
        "dns", state=Run.State.FAILED, parameters=parameters, memo={"old": before.as_dict()}, work_key="m1.dns"
    )
    second = factories.make_run("dns", parameters=parameters, work_key=first.work_key)
    monkeypatch.setattr(operation.dns, "look_up", lambda *args, **named: RecordSet("db.shop.lab", "A", now, 60))
    memo, _ = Dns().advance(Job(second, lambda endpoint: pytest.fail("not by SSH")))
    assert RecordSet.from_dict(memo["old"]).values == wanted
