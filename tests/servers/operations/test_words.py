"""What an operation says of what it found: each cause with its next act, and what may pass is waited for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from migrationhub.lib.findings import Finding, Level
from servers.models import Placement
from servers.operations import check
from servers.operations.base import Job
from servers.operations.check import PlatformCheck, PlatformFit
from servers.operations.sync import words_about
from servers.platforms.base import PlatformProblem
from servers.progress import Consistency, State, SyncFacts
from tests import factories


def facts(**changes: Any) -> SyncFacts:
    values = {"bytes_sent": 1, "files_sent": 1, "seconds": 1.0, "consistency": Consistency.FROZEN, **changes}
    return SyncFacts(kind="delta", method="rsync", as_of=datetime(2026, 1, 1, tzinfo=UTC), **values)


def test_a_sync_with_nothing_to_say_says_nothing() -> None:
    assert words_about(facts(), "postgresql") == ""


def test_what_a_sync_took_away_is_counted_and_named() -> None:
    one = words_about(facts(discarded=("srv/a",), discarded_count=1), "none")
    assert one.startswith(
        "1 path that was changed on the clone since the last sync is as on the source again (/srv/a)."
    )
    four = words_about(facts(discarded=("a", "b", "c", "d"), discarded_count=4), "none")
    assert "4 paths that were changed" in four and "(/a, /b, /c, …)" in four and four.endswith("on the source.")


def test_a_freeze_that_did_not_hold_asks_for_another_delta() -> None:
    lost = facts(consistency=Consistency.LIVE, notes=("The session was lost.",))
    assert words_about(lost, "postgresql") == "The session was lost. Run another delta before anybody tests the clone."
    assert words_about(facts(consistency=Consistency.LIVE), "none") == ""


class Client:
    def __init__(self, *findings: Finding) -> None:
        self.findings = [*findings]

    def check(self, spec: Any, production: str = "") -> list[Finding]:
        return self.findings


UNWELL = Finding(Level.BLOCKING, "platform.error", "VME answered HTTP 500.", "It is asked again.")
TAKEN = Finding(Level.BLOCKING, "name.taken", "The name is taken.", "Choose another.")


@pytest.fixture
def fit_job(db: None) -> Job:
    target = factories.make_server("clone", role="target")
    Placement.objects.create(server=target, platform=factories.make_platform(), label="clone")
    ids = dict.fromkeys(
        ("group_id", "zone_id", "pool_id", "instance_type", "layout_id", "plan_id", "image_id", "network_id"), "1"
    )
    spec = {**ids, "datastore_id": "1", "disks": [10], "production": "2"}
    run = factories.make_run("platform_fit", parameters={"target": target.pk, "spec": spec})
    return Job(run, lambda endpoint: pytest.fail("no machine is asked"))


def test_an_appliance_that_is_briefly_unwell_is_waited_for(fit_job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "client_of", lambda target: Client(TAKEN, UNWELL))
    with pytest.raises(PlatformProblem, match="HTTP 500") as caught:
        PlatformFit().advance(fit_job)
    assert not caught.value.lasting and PlatformFit.patience >= 60, "500s for a minute are no end"


def test_what_does_not_fit_ends_with_every_cause_and_act(fit_job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "client_of", lambda target: Client(TAKEN))
    _, progress = PlatformFit().advance(fit_job)
    assert (progress.state, progress.reason) == (State.FAILED, "The name is taken. Choose another.")


@pytest.mark.django_db
def test_a_check_that_finds_something_says_what(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "client_for", lambda kind, access: Client(UNWELL, TAKEN))
    run = factories.make_run("platform_check", parameters={"platform": factories.make_platform().pk})
    _, progress = PlatformCheck().advance(Job(run, lambda endpoint: pytest.fail("no machine is asked")))
    assert progress.reason == "This account cannot do the job yet: VME answered HTTP 500. It is asked again."
