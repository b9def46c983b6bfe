"""A source that does not answer any more: neither stuck for ever nor taken for gone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from servers.operations.base import Job
from servers.operations.shutdown import DEAF, LIMIT, Shutdown
from servers.progress import State
from servers.remote.base import Unreachable
from tests import factories

pytestmark = pytest.mark.django_db


def deaf(endpoint: Any) -> Any:
    raise Unreachable("shop-db does not answer.", "Look at it.", code="ssh.unreachable", lasting=False)


def job(lost_for: float | None, memo: dict[str, Any] | None = None) -> Job:
    source = factories.make_server("shop-db")
    since = timezone.now() - timedelta(seconds=lost_for) if lost_for is not None else None
    run = factories.make_run("shutdown", parameters={"server": source.pk}, contact_lost_since=since)
    return Job(run, deaf, memo or {})


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What the look at its ports finds."""
    found: list[bool] = []

    def look(endpoint: Any, ports: list[int], *, seconds: float) -> Any:
        gone = found.pop(0)
        return type("Proof", (), {"absent": gone, "text": "is gone" if gone else "Port 5432 accepts."})()

    monkeypatch.setattr("servers.operations.shutdown.power.absent", look)
    return found


@pytest.mark.parametrize("lost_for", [None, DEAF / 2])
def test_a_moment_without_an_answer_is_waited_for(lost_for: float | None) -> None:
    with pytest.raises(Unreachable):
        Shutdown().advance(job(lost_for))


def test_a_source_that_is_off_already_is_proven_gone(absent: list[bool]) -> None:
    assert Shutdown.patience > DEAF, "else the run fails before it is looked at"
    first = job(DEAF + 1)
    memo, progress = Shutdown().advance(first)
    assert progress.state == State.RUNNING and "was not asked" in progress.log[0]
    absent.append(True)
    assert Shutdown().advance(Job(first.run, deaf, memo))[1].state == State.SUCCEEDED


def test_a_source_without_sshd_that_still_runs_needs_a_person(absent: list[bool]) -> None:
    asked = timezone.now().timestamp() - LIMIT - 1
    absent.append(False)
    _, progress = Shutdown().advance(job(None, {"asked": asked, "boot": "", "ports": [22, 5432]}))
    assert progress.state == State.FAILED
    assert "Port 5432 accepts." in progress.reason and "console" in progress.reason
