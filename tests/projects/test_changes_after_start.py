"""What is planned may not change under a server that is being moved, and what was planned wrongly can be mended."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User

from migrationhub.lib.findings import Problem
from projects import planning, planning_servers, planning_waves, workflow
from projects.errors import Conflict, NotReady
from projects.models import Migration, Step
from servers.models import Server
from servers.targets import new_target
from tests import factories as make

pytestmark = pytest.mark.django_db
K, S = Step.Kind, Step.State


@pytest.fixture
def user() -> User:
    return make.make_user("lena")


@pytest.fixture
def migration() -> Migration:
    return make.make_migration(source=make.make_server("shop-db"))


def put(migration: Migration, kind: str, state: str) -> None:
    migration.steps.filter(kind=kind).update(state=state)


RECIPES: list[dict[str, Any]] = [
    {"exclusions": ["/srv/data"]},
    {"paths": ["/srv"]},
    {"proof": "manifest"},
    {"consistency": "stop"},
    {"addressing": "take_over"},
    {"identity": ["host_keys"]},
    {"production_network_id": "9"},
]


@pytest.mark.parametrize("values", RECIPES, ids=lambda values: next(iter(values)))
def test_a_recipe_does_not_change_under_a_cutover(migration: Migration, user: User, values: dict[str, Any]) -> None:
    """The final delta is made from the profile as it is when it begins: that must be what the owner signed."""
    put(migration, K.STOP, S.RUNNING)
    profile = migration.profile
    assert profile is not None
    with pytest.raises(Problem, match="The cutover of shop-db has begun with this profile"):
        planning_waves.save_profile(project=migration.project, profile=profile, values=values, user=user)
    profile.refresh_from_db()
    assert all(getattr(profile, name) != value for name, value in values.items())


def test_a_recipe_may_change_before_the_stop_and_its_bandwidth_always(migration: Migration, user: User) -> None:
    profile, project = migration.profile, migration.project
    planning_waves.save_profile(project=project, profile=profile, values={"exclusions": ["/tmp/x"]}, user=user)
    put(migration, K.STOP, S.DONE)
    planning_waves.save_profile(project=project, profile=profile, values={"bandwidth": 500}, user=user)
    assert profile is not None and (profile.exclusions, profile.bandwidth) == (["/tmp/x"], 500)


def test_a_source_is_not_pointed_at_another_machine_in_mid_cutover(migration: Migration, user: User) -> None:
    put(migration, K.STOP, S.DONE)
    source = migration.source
    with pytest.raises(Problem, match="The cutover of shop-db has begun: address cannot change"):
        planning_servers.change_server(
            project=migration.project, server=source, values={"address": "198.51.100.99"}, user=user
        )
    assert Server.objects.get(pk=source.pk).address != "198.51.100.99"
    # A password that was changed on the machine tonight must not end the cutover.
    planning_servers.change_server(
        project=migration.project, server=source, values={"credential": make.make_credential()}, user=user
    )


def test_a_source_is_not_changed_while_a_sync_runs(migration: Migration, user: User) -> None:
    """The run of a sync is the target's; it reads from the source all the same."""
    attempt = make.make_attempt(migration.steps.get(kind=K.DELTA))
    action = make.make_action(attempt, state="running")
    make.make_run(action=action, server=make.make_target(migration))
    with pytest.raises(Conflict, match="is under way"):
        planning_servers.change_server(
            project=migration.project, server=migration.source, values={"address": "198.51.100.99"}, user=user
        )


def test_a_wrong_address_can_be_corrected_once_the_try_is_given_up(migration: Migration, user: User) -> None:
    """With the source off there is no way back: the way forward must not be closed by a typing error."""
    put(migration, K.STOP, S.DONE)
    put(migration, K.CUTOVER, S.ATTENTION)
    values = {"new_address": "10.0.0.9/24"}
    with pytest.raises(Problem) as refused:
        planning.plan_server(migration=migration, values=values, user=user)
    assert "Abort" not in refused.value.act and "Give the try up" in refused.value.act
    put(migration, K.CUTOVER, S.CANCELLED)
    planning.plan_server(migration=migration, values=values, user=user)
    assert Migration.objects.get(pk=migration.pk).new_address == "10.0.0.9/24"


def test_a_schedule_is_refused_where_no_delta_comes_any_more(migration: Migration, user: User) -> None:
    put(migration, K.STOP, S.DONE)
    with pytest.raises(NotReady, match="no delta comes any more"):
        workflow.set_delta_schedule(migration.pk, user=user, minutes=5)
    workflow.set_delta_schedule(migration.pk, user=user, minutes=0)
    put(migration, K.STOP, S.WAITING)
    Migration.objects.update(state="complete")
    with pytest.raises(NotReady, match="is complete"):
        workflow.set_delta_schedule(migration.pk, user=user, minutes=5)


def test_a_new_schedule_wakes_a_step_that_was_cancelled(migration: Migration, user: User) -> None:
    """Else the page says that a delta is due every five minutes, and none ever comes."""
    put(migration, K.DELTA, S.CANCELLED)
    workflow.set_delta_schedule(migration.pk, user=user, minutes=5)
    assert migration.steps.get(kind=K.DELTA).state == S.READY


def test_a_name_that_is_taken_on_the_platform_is_told(migration: Migration, user: User) -> None:
    first = make.make_migration(
        project=migration.project, profile=migration.profile, source=make.make_server("shop-db")
    )
    Migration.objects.filter(pk=first.pk).update(state="complete")
    new_target(first.source, first.profile.platform)
    step = migration.steps.get(kind=K.INITIAL)
    with pytest.raises(NotReady, match="has a target named shop-db already"):
        workflow.start_step(step.pk, user=user, seen_state=step.state, seen_attempt=0)
    assert not step.attempts.exists()
