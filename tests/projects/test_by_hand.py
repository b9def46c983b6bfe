"""An address that migrationhub cannot set: the stop waits for a way out, and step 6 has one with the source off."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User

from migrationhub.audit.models import AuditEvent
from projects import planning_waves, workflow
from projects.lanes import lane_of
from projects.models import Action, Migration, Profile, Step
from projects.steps import MODULES
from servers.models import Run
from servers.operations.base import Job, done, failed
from servers.progress import Progress
from tests import factories
from tests.engine import Engine
from tests.projects.test_workflow import signed_and_go, state

pytestmark = pytest.mark.whole

K, S = Step.Kind, Step.State
REFUSED = failed("The network of shop-db is configured by netplan.", "guest_address.kind")


@pytest.fixture
def migration(db: None) -> Migration:
    made = factories.make_migration(steps=False, services=["orders"])
    workflow.plan_steps(made)
    return made


@pytest.fixture
def lead(migration: Migration) -> User:
    return migration.project.memberships.get(role="lead").user


def by_hand(migration: Migration, user: User) -> None:
    profile = migration.profile
    assert profile is not None
    values = {"guest_address": Profile.GuestAddress.BY_HAND}
    planning_waves.save_profile(project=migration.project, profile=profile, values=values, user=user)


def as_planned(job: Job) -> Progress:
    """As the operation would on a guest that only a person can configure."""
    return done("Not set by migrationhub.") if job.parameters["by_hand"] else REFUSED


def retry(migration: Migration, kind: str, user: User) -> None:
    step = migration.steps.get(kind=kind)
    workflow.retry_step(step.pk, user=user, seen_attempt=step.attempts.get(mode="real").number)


def test_a_step_six_that_was_refused_follows_the_choice_at_its_retry(
    engine: Engine, migration: Migration, lead: User
) -> None:
    engine.script["guest_address"] = [as_planned, as_planned, as_planned]
    signed_and_go(engine, migration, lead)
    engine.settle()
    step = migration.steps.get(kind=K.CUTOVER)
    assert (step.state, step.reason) == (S.ATTENTION, REFUSED.reason)
    retry(migration, K.CUTOVER, lead)
    engine.settle()
    assert state(migration, K.CUTOVER) == S.ATTENTION, "nothing was mended"

    by_hand(migration, lead)
    event = AuditEvent.objects.get(verb="profile.change")
    assert (event.before, event.after) == ({"guest_address": "migrationhub"}, {"guest_address": "by_hand"})
    engine.settle()
    assert state(migration, K.CUTOVER) == S.ATTENTION, "a person decides when it goes on"
    retry(migration, K.CUTOVER, lead)
    engine.settle()
    assert state(migration, K.CUTOVER) == S.DONE
    tries = Run.objects.filter(operation="guest_address").order_by("number")
    assert [run.parameters["by_hand"] for run in tries] == [False, False, True]


def test_services_run_until_there_is_a_way_through_step_six(engine: Engine, migration: Migration, lead: User) -> None:
    engine.script["check_cutover"] = [as_planned, as_planned]
    signed_and_go(engine, migration, lead)
    engine.settle()
    step = migration.steps.get(kind=K.STOP)
    assert (step.state, step.reason) == (S.ATTENTION, REFUSED.reason)
    assert not Run.objects.filter(operation__in=("stop_services", "shutdown")).exists()
    by_hand(migration, lead)
    engine.settle()
    retry(migration, K.STOP, lead)  # what the owner signed is not touched by the choice
    engine.settle()
    assert state(migration, K.CUTOVER) == S.DONE
    titles = Action.objects.filter(operation="guest_address").values_list("title", flat=True)
    assert [title.startswith("Look whether") for title in titles] == [True]


def test_the_stop_checks_address_and_record_as_they_are_planned(migration: Migration, lead: User) -> None:
    by_hand(migration, lead)
    lane = lane_of(Migration.objects.get(pk=migration.pk))
    for kind, operation in ((K.INITIAL, "preflight"), (K.STOP, "check_cutover"), (K.CUTOVER, "guest_address")):
        (plan,) = [plan for plan in MODULES[kind].plan(lane) if plan.operation == operation]
        assert plan.parameters["by_hand"] and plan.parameters["address"] == migration.new_address
    order = [plan.operation for plan in MODULES[K.STOP].plan(lane)]
    assert order.index("check_cutover") < order.index("stop_services")


def test_a_process_host_whose_name_stays_has_nothing_to_check(migration: Migration) -> None:
    migration.source.manager = "supervisord"
    migration.source.save()
    (plan,) = [each for each in MODULES[K.STOP].plan(lane_of(migration)) if each.operation == "check_cutover"]
    assert plan.not_applicable
