"""Step 5 once something was in the way: what is switched off is what the final sync read, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from projects import workflow
from projects.models import ChecklistItem, Migration, Step
from servers.models import Run
from servers.operations.base import done, failed
from servers.progress import Progress
from tests import factories
from tests.engine import Engine, engine
from tests.projects.test_take_back import lead_of, operations
from tests.projects.test_workflow import signed_and_go, state

__all__ = ["engine"]
pytestmark = pytest.mark.whole

FINAL = Step.Kind.FINAL
STOPPED, RUNS = done("Stopped."), failed("db: orders.service is active/running. End it there, then retry.", "services")
AGAIN = "A retry does the final sync again"


@pytest.fixture
def migration(db: None) -> Migration:
    made = factories.make_migration(steps=False, services=["orders"])
    workflow.plan_steps(made)
    return made


def final(migration: Migration) -> Step:
    return migration.steps.get(kind=FINAL)


def failed_at(engine: Engine, migration: Migration, script: dict[str, list[Any]]) -> int:
    """Step 5 needs attention as `script` says; how much work was done until then."""
    signed_and_go(engine, migration, lead_of(migration))
    for operation, answers in script.items():
        engine.script[operation] = answers
    engine.settle()
    assert state(migration, FINAL) == Step.State.ATTENTION
    return len(engine.done_work)


def item(migration: Migration, operation: str) -> ChecklistItem:
    return ChecklistItem.objects.get(step=final(migration), operation=operation)


@pytest.mark.parametrize(
    "script",
    [
        {"prove_stopped": [STOPPED, RUNS]},
        {"block_services": [RUNS]},
        {"block_services": [failed("db was restarted. Find out why, then retry.", "services.restarted")]},
    ],
    ids=["proof", "block", "restart"],
)
def test_what_ran_after_the_final_sync_is_synced_before_the_source_goes_down(
    engine: Engine, migration: Migration, script: dict[str, list[Progress]]
) -> None:
    since = failed_at(engine, migration, script)
    assert item(migration, "sync").state == "done"
    assert AGAIN in final(migration).reason, "the page says what the button does"

    workflow.retry_step(final(migration).pk, user=lead_of(migration), seen_attempt=1)
    assert AGAIN in final(migration).reason, "and what it does now"
    assert (item(migration, "sync").state, item(migration, "sync").run) == ("open", None)
    engine.settle()
    cut = ["prove_stopped", "sync", "prove_stopped", "block_services", "shutdown"]
    assert [name for name in operations(engine, since) if name in cut] == cut
    syncs = Run.objects.filter(operation="sync", parameters__kind="final").order_by("pk")
    assert [run.number for run in syncs] == [1, 2], "a try of its own: it adopts nothing of the first"
    assert (item(migration, "sync").state, item(migration, "sync").run) == ("done", syncs[1])
    assert (state(migration, FINAL), final(migration).reason) == (Step.State.DONE, "")


def test_a_sync_that_failed_is_begun_with_the_proof_again(engine: Engine, migration: Migration) -> None:
    since = failed_at(engine, migration, {"sync": [failed("Source and target differ in 3 files.", "proof.differs")]})
    assert AGAIN not in final(migration).reason
    workflow.retry_step(final(migration).pk, user=lead_of(migration), seen_attempt=1)
    engine.settle()
    assert operations(engine, since)[:3] == ["prove_stopped", "sync", "prove_stopped"]


def test_a_source_that_may_be_off_is_asked_nothing_more(engine: Engine, migration: Migration) -> None:
    since = failed_at(engine, migration, {"shutdown": [failed("It still answers.", "shutdown.still_there")]})
    assert final(migration).reason == "It still answers."
    workflow.retry_step(final(migration).pk, user=lead_of(migration), seen_attempt=1)
    engine.settle()
    assert operations(engine, since)[0] == "shutdown"
    assert "sync" not in operations(engine, since) and item(migration, "sync").state == "done"


def test_an_abort_after_such_a_retry_still_lifts_the_block(engine: Engine, migration: Migration) -> None:
    failed_at(engine, migration, {"block_services": [RUNS], "prove_stopped": [STOPPED, STOPPED, RUNS]})
    workflow.retry_step(final(migration).pk, user=lead_of(migration), seen_attempt=1)
    engine.settle()
    assert state(migration, FINAL) == Step.State.ATTENTION
    since = len(engine.done_work)
    workflow.abort_cutover(migration.pk, user=lead_of(migration), why="not tonight")
    engine.settle()
    assert operations(engine, since)[:2] == ["unblock_services", "start_services"]
