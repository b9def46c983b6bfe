"""A fault that is mended in the plan: the retry does as planned now, also what the failed attempt had not come to."""

from __future__ import annotations

from migrationhub.lib.findings import Problem
from projects import workflow
from projects.models import Profile, Step
from servers.models import Run
from tests import factories
from tests.engine import Engine
from tests.world import start


def test_the_actions_to_come_follow_the_plan_of_now(engine: Engine) -> None:
    migration = factories.make_migration(steps=False)
    workflow.plan_steps(migration)
    engine.script["platform_fit"] = [Problem("The migration network is bound to another pool.", "Choose another.")]
    start(migration, Step.Kind.INITIAL)
    engine.settle()
    step = migration.steps.get(kind=Step.Kind.INITIAL)
    assert step.state == Step.State.ATTENTION
    assert step.reason == "The migration network is bound to another pool. Choose another."

    Profile.objects.filter(pk=migration.profile_id).update(migration_network_id="77")
    lead = migration.project.memberships.get(role="lead").user
    workflow.retry_step(step.pk, user=lead, seen_attempt=1)
    engine.settle()
    runs = Run.objects.filter(operation__in=("platform_fit", "provision")).order_by("pk")
    asked = {run.operation: run.parameters["spec"]["network_id"] for run in runs}
    assert asked == {"platform_fit": "77", "provision": "77"}, "made otherwise than it was checked"
    assert migration.steps.get(kind=Step.Kind.INITIAL).state == Step.State.DONE
