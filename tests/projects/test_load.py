"""What one pass of the controller costs: a fixed number of queries, however many migrations are open."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from projects import workflow
from projects.models import Approval, Migration, Step
from tests import factories

K, S = Step.Kind, Step.State
pytestmark = [pytest.mark.django_db, pytest.mark.whole]


def at_rest(project: Any, count: int) -> None:
    """Servers between two steps, as most are most of the time: some wait to begin, some for deltas, some are tested."""
    profile, wave = factories.make_profile(project), factories.make_wave(project)
    applications = [factories.make_application(project) for _ in range(5)]
    for number in range(count):
        migration = factories.make_migration(
            project=project,
            profile=profile,
            wave=wave,
            application=applications[number % 5],
            target=number % 4 != 0,
            steps=False,
        )
        workflow.plan_steps(migration)
        if number % 4 == 0:
            continue
        Step.objects.filter(migration=migration, kind=K.INITIAL).update(state=S.DONE)
        factories.make_sync(migration)
        if number % 4 == 2:  # an acceptance test that waits for its owner
            Step.objects.filter(migration=migration, kind=K.UAT).update(state=S.RUNNING)
            attempt = factories.make_attempt(migration.steps.get(kind=K.UAT))
            factories.make_action(attempt, "record_services", state="done")
    for application in applications:
        factories.make_approval(wave, application, Approval.Gate.SIGN_OFF)


def queries_of_a_pass(count: int) -> int:
    at_rest(factories.make_project(), count)
    for _ in range(3):
        workflow.advance(timezone.now())  # words and states settle
    with CaptureQueriesContext(
        connection,
    ) as seen:
        workflow.advance(timezone.now())
    return len(seen)


def test_a_pass_costs_the_same_for_ten_and_for_forty() -> None:
    few = queries_of_a_pass(10)
    many = queries_of_a_pass(30)
    assert Migration.objects.count() == 40
    assert few == many < 25
