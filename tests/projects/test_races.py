"""Two at the same moment: what a decision looked at must not change under it (tried on PostgreSQL)."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connection

from projects import decisions, workflow
from projects import digest as digests
from projects.errors import Conflict
from projects.lanes import lane_of
from projects.models import Approval, Decision, Hold, Step
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)


def planned() -> Any:
    migration = factories.make_migration(steps=False)
    workflow.plan_steps(migration)
    return migration


def test_a_hold_that_comes_in_between_keeps_the_step_from_starting() -> None:
    """The lane was read without the hold; the version it carries does not fit any more."""
    migration = planned()
    lane = lane_of(migration)
    lead = migration.project.memberships.get(role="lead").user
    decisions.hold(project=migration.project, kind=Hold.Kind.PERSON, why="defect", user=lead, migration=migration)
    with pytest.raises(Conflict):
        workflow.launch(lane, Step.Kind.INITIAL, user=lead)
    assert not migration.steps.get(kind=Step.Kind.INITIAL).attempts.exists()


def together(*calls: Any) -> list[Any]:
    """Run the calls in threads that start at the same moment; what each returned or raised."""
    barrier, results = threading.Barrier(len(calls)), [None] * len(calls)

    def go(number: int, call: Any) -> None:
        try:
            barrier.wait(10)
            results[number] = call()
        except Exception as error:  # the test looks at it
            results[number] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=go, args=(number, call)) for number, call in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return results


def test_two_presses_are_one_attempt() -> None:
    migration = planned()
    step = migration.steps.get(kind=Step.Kind.INITIAL)
    lead = migration.project.memberships.get(role="lead").user

    def press() -> Any:
        return workflow.start_step(step.pk, user=lead, seen_state="waiting", seen_attempt=0)

    results = together(press, press)
    assert step.attempts.count() == 1
    assert sum(isinstance(result, Exception) for result in results) == 1


def test_two_answers_at_once_one_wins() -> None:
    migration = planned()
    owner = migration.application.owner
    shown = digests.now([lane_of(migration)])
    approval = factories.make_approval(migration.wave, migration.application, Approval.Gate.SIGN_OFF, digest=shown)

    def answer(verdict: str) -> Any:
        return lambda: decisions.decide(
            approval.pk, user=owner, verdict=verdict, comment="because", digest=approval.digest
        )

    results = together(answer("reject"), answer("more_time"))
    approval.refresh_from_db()
    decided = Decision.objects.filter(approval=approval)
    assert decided.count() + sum(isinstance(result, Exception) for result in results) == 2
    assert approval.state == {"reject": "rejected", "more_time": "more_time"}[decided.first().verdict]
