"""What runs at the opening and the end of a test: proof of isolation, snapshot, the way back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from projects import decisions, uat, uat_runs, waiting, workflow
from projects.errors import Conflict, Forbidden, NotReady
from projects.lanes import lane_of
from projects.models import Approval, ChecklistItem, Hold, Migration, Notice, Step
from projects.notify import words
from projects.steps import MODULES
from servers.models import Placement, Run
from servers.operations.base import done, failed
from tests import factories
from tests.engine import Engine, engine

__all__ = ["engine"]
pytestmark = [pytest.mark.django_db, pytest.mark.whole]


@pytest.fixture
def migration() -> Migration:
    made = factories.make_migration(steps=False, target=True)
    workflow.plan_steps(made)
    Step.objects.filter(migration=made, kind=Step.Kind.INITIAL).update(state=Step.State.DONE)
    factories.make_sync(made)
    Placement.objects.filter(server=made.target).update(external_id="7")
    return made


def owner_of(migration: Migration) -> Any:
    assert migration.application is not None
    return migration.application.owner


def at(migration: Migration) -> tuple[int, int]:
    return migration.wave_id or 0, migration.application_id or 0


def item(migration: Migration) -> ChecklistItem:
    return ChecklistItem.objects.get(step__migration=migration, operation="isolation")


def page(migration: Migration, client: Client) -> str:
    client.force_login(owner_of(migration))
    return client.get(reverse("acceptance", args=at(migration))).text


def told() -> list[str]:
    """What those who run it and the tester are told of tries that failed."""
    events = [each.event for each in Notice.objects.filter(event__verb="uat.failed").order_by("pk")]
    return [
        one.title.partition(" failed in the acceptance test of")[0] for each in events if each for one in words.of(each)
    ]


def proofs() -> list[Run]:
    return list(Run.objects.filter(operation="isolation").order_by("pk"))


def test_no_test_is_opened_on_half_a_copy(engine: Engine, migration: Migration, client: Client) -> None:
    owner, delta = owner_of(migration), migration.steps.get(kind=Step.Kind.DELTA)
    attempt = factories.make_attempt(delta, state="cancelled", finished_at=timezone.now())
    stopped = factories.make_action(attempt, state="cancelled")
    run = factories.make_run(action=stopped, state=Run.State.CANCELLED, result={"target_in_receive_mode": False})
    assert uat.uat_unmet([lane_of(migration)]) == [], "it was stopped before anything was written"
    Run.objects.filter(pk=run.pk).update(result={"target_in_receive_mode": True})
    with pytest.raises(NotReady, match="its copy is incomplete, as a sync was stopped halfway"):
        uat.open_uat(*at(migration), user=owner)
    assert "its copy is incomplete" in page(migration, client)
    attempt = factories.make_attempt(delta, state="done", finished_at=timezone.now())
    factories.make_action(attempt, state="done")
    uat.open_uat(*at(migration), user=owner)


def test_no_test_is_opened_on_a_clone_that_a_final_sync_left_stopped(engine: Engine, migration: Migration) -> None:
    final, now = migration.steps.get(kind=Step.Kind.FINAL), timezone.now()
    attempt = factories.make_attempt(final, state="cancelled", finished_at=now)
    synced = factories.make_action(attempt, state="done", parameters={"kind": "final"})
    factories.make_run(action=synced, state=Run.State.SUCCEEDED, result={"target_in_receive_mode": True})
    assert uat.uat_unmet([lane_of(migration)]) == [], "it is held on purpose as long as the cutover goes on"
    undo = factories.make_attempt(migration.steps.get(kind=Step.Kind.STOP), mode="rollback", state="done")
    type(attempt).objects.filter(pk=attempt.pk).update(state="undone", undone_by=undo)
    with pytest.raises(NotReady, match="stopped since the final sync, which was taken back; the next delta starts"):
        uat.open_uat(*at(migration), user=owner_of(migration))
    attempt = factories.make_attempt(migration.steps.get(kind=Step.Kind.DELTA), state="done", finished_at=now)
    factories.make_action(attempt, state="done", parameters={"kind": "delta"})
    uat.open_uat(*at(migration), user=owner_of(migration))


def test_every_opening_takes_its_own_proof(engine: Engine, migration: Migration, client: Client) -> None:
    owner = owner_of(migration)
    engine.script["isolation"] = [done("Nobody gets out."), done("Still nobody.")]
    uat.open_uat(*at(migration), user=owner)
    engine.settle()
    assert (item(migration).state, item(migration).note) == ("done", "Nobody gets out.")
    assert "The copy is isolated" in page(migration, client) and "Nobody gets out." in page(migration, client)
    uat.end(*at(migration), user=owner)
    uat.open_uat(*at(migration), user=owner)
    engine.settle()
    first, second = proofs()
    assert first.work_key != second.work_key
    assert item(migration).run == second and item(migration).at == second.finished_at
    assert "Still nobody." in page(migration, client)


def test_a_proof_that_fails_is_said_holds_the_sign_off_and_is_taken_again(
    engine: Engine, migration: Migration, client: Client
) -> None:
    owner = owner_of(migration)
    engine.script["isolation"] = [failed("From inside it, 10.0.0.4 port 22 accepts connections.", "isolation.open")]
    uat.open_uat(*at(migration), user=owner)
    engine.settle()
    text = page(migration, client)
    assert "The isolation of the copy is not proven" in text and "10.0.0.4 port 22" in text
    approval = Approval.objects.get(gate="sign_off")
    ChecklistItem.objects.filter(step__migration=migration, role="owner").update(state="done")
    missing = decisions.approve_unmet(approval, [lane_of(migration)])
    assert any("opens no connection to production" in each for each in missing)
    lead = migration.project.memberships.get(role="lead").user
    assert any("not proven isolated" in each.text and each.urgent for each in waiting.waits_for_me(lead))
    assert told() == [f"{migration.source.name}: “Prove that the clone is isolated”"]
    engine.settle()
    assert len(told()) == 1, "once for each try"
    stranger = factories.make_member(migration.project, "manager")
    with pytest.raises(Forbidden):
        uat.again(*at(migration), user=stranger, operation="isolation")
    with pytest.raises(NotReady, match="what=sync"):
        uat.again(*at(migration), user=owner, operation="sync")
    uat.again(*at(migration), user=owner, operation="isolation")
    engine.settle()
    assert item(migration).state == "done" and [run.number for run in proofs()] == [1, 2]
    with pytest.raises(Conflict, match="Nothing of it failed"):
        uat.again(*at(migration), user=owner, operation="isolation")


def test_a_server_that_comes_in_later_is_proven_too(engine: Engine, migration: Migration) -> None:
    uat.open_uat(*at(migration), user=owner_of(migration))
    engine.settle()
    late = factories.make_migration(
        application=migration.application, wave=migration.wave, profile=migration.profile, steps=False, target=True
    )
    workflow.plan_steps(late)
    engine.settle()
    assert item(late).state == "open", "there is nothing to prove before it is copied"
    Step.objects.filter(migration=late, kind=Step.Kind.INITIAL).update(state=Step.State.DONE)
    engine.settle()
    assert (item(migration).state, item(late).state, len(proofs())) == ("done", "done", 2)


def test_process_hosts_have_no_proof_and_say_why(engine: Engine, migration: Migration, client: Client) -> None:
    migration.source.manager = "supervisord"
    migration.source.save()
    uat.open_uat(*at(migration), user=owner_of(migration))
    engine.settle()
    assert proofs() == []
    assert (item(migration).state, item(migration).note) == ("not_applicable", uat_runs.ONE_NETWORK)
    assert uat_runs.ONE_NETWORK in page(migration, client)


def test_a_snapshot_comes_before_the_proof_and_the_way_back_ends_the_test(
    engine: Engine, migration: Migration, client: Client
) -> None:
    owner = owner_of(migration)
    engine.script["snapshot"] = [done("Kept.", snapshot_id="31")]
    hold = uat.open_uat(*at(migration), user=owner, snapshot=True)
    with pytest.raises(NotReady, match="its snapshot is not there yet"):
        uat.end(*at(migration), user=owner, back=True)
    engine.settle()
    assert [run.operation for run in Run.objects.filter(work_key__startswith="uat").order_by("pk")] == [
        "snapshot",
        "isolation",
    ]
    assert "Put the copy back and end" in page(migration, client)
    engine.script["revert"] = [failed("VME could not revert it.", "revert.failed"), done("Back.")]
    uat.end(*at(migration), user=owner, back=True)
    with pytest.raises(NotReady, match="still running; end the test when it has ended"):
        uat.end(*at(migration), user=owner)
    engine.settle()
    hold.refresh_from_db()
    assert hold.released_at is None, "what is not back yet is not let go"
    assert "VME could not revert it. Try it again, or end the test without it" in page(migration, client)
    lead = migration.project.memberships.get(role="lead").user
    assert [each.detail for each in waiting.waits_for_me(lead) if each.urgent] == ["VME could not revert it."]
    assert told() == [f"{migration.source.name}: “Put the clone back to the snapshot”"]
    assert "hold.uat" in [each.code for each in MODULES[Step.Kind.DELTA].unmet(lane_of(migration))]
    uat.end(*at(migration), user=owner, back=True)
    engine.settle()
    hold.refresh_from_db()
    assert hold.released_at is not None and hold.released_by == owner
    assert Run.objects.filter(operation="revert").latest("pk").parameters["snapshot_id"] == "31"
    assert not [each for each in waiting.waits_for_me(lead) if each.urgent] and len(told()) == 1
    text = page(migration, client)
    assert "The copy was put back to its snapshot" in text and "throws away" not in text


Act = Callable[[], object]


def in_between(monkeypatch: pytest.MonkeyPatch, name: str, act: Act) -> None:
    """Somebody else is quicker: `act` is committed after this check of `uat_runs` was passed."""
    check, left = getattr(uat_runs, name), [act]

    def passed(*args: Any) -> list[str]:
        found: list[str] = check(*args)
        if left:
            left.pop()()
        return found

    monkeypatch.setattr(uat_runs, name, passed)


def kept(engine: Engine, migration: Migration) -> Hold:
    """An open test whose snapshot is there."""
    engine.script["snapshot"] = [done("Kept.", snapshot_id="31")]
    hold = uat.open_uat(*at(migration), user=owner_of(migration), snapshot=True)
    engine.settle()
    return hold


def reverts() -> int:
    return Run.objects.filter(operation="revert").count()


def test_no_clone_goes_back_once_somebody_else_ended_the_test(
    engine: Engine, migration: Migration, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(engine, migration)
    lead = migration.project.memberships.get(role="lead").user
    in_between(monkeypatch, "back_unmet", lambda: uat.break_off(*at(migration), user=lead, why="The window."))
    with pytest.raises(Conflict, match="by somebody else a moment ago"):
        uat.end(*at(migration), user=owner_of(migration), back=True)
    assert reverts() == 0, "a sync may run over it already"


def test_the_way_back_asked_for_twice_at_once_is_gone_once(
    engine: Engine, migration: Migration, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(engine, migration)
    owner = owner_of(migration)
    in_between(monkeypatch, "back_unmet", lambda: uat.end(*at(migration), user=owner, back=True))
    with pytest.raises(Conflict, match="by somebody else a moment ago"):
        uat.end(*at(migration), user=owner, back=True)
    assert reverts() == 1


def test_a_test_stays_open_once_somebody_else_asked_for_the_way_back(
    engine: Engine, migration: Migration, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold, owner, release = kept(engine, migration), owner_of(migration), decisions.release

    def late(*args: Any, **kwargs: Any) -> None:
        uat.end(*at(migration), user=owner, back=True)
        release(*args, **kwargs)

    monkeypatch.setattr(decisions, "release", late)
    with pytest.raises(NotReady, match="is still running"):
        uat.end(*at(migration), user=owner)
    hold.refresh_from_db()
    assert hold.released_at is None


def test_a_snapshot_that_failed_keeps_nobody_from_testing(engine: Engine, migration: Migration, client: Client) -> None:
    engine.script["snapshot"] = [failed("The datastore is full.", "snapshot.failed")]
    uat.open_uat(*at(migration), user=owner_of(migration), snapshot=True)
    engine.settle()
    text = page(migration, client)
    assert "The datastore is full. You can test without it" in text
    assert item(migration).state == "done", "the proof is taken all the same"
    with pytest.raises(NotReady, match="its snapshot was not taken"):
        uat.end(*at(migration), user=owner_of(migration), back=True)
    uat.end(*at(migration), user=owner_of(migration))
    assert Hold.objects.get().released_at is not None


def test_nothing_is_taken_again_of_a_test_that_ended_meanwhile(
    engine: Engine, migration: Migration, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, may_end = owner_of(migration), uat.may_end
    engine.script["isolation"] = [failed("It gets out.", "isolation.open")]
    uat.open_uat(*at(migration), user=owner)
    engine.settle()

    def late(*args: Any) -> bool:
        monkeypatch.setattr(uat, "may_end", may_end)
        uat.end(*at(migration), user=owner)
        return may_end(*args)

    monkeypatch.setattr(uat, "may_end", late)
    with pytest.raises(Conflict, match="ended by somebody else"):
        uat.again(*at(migration), user=owner, operation="isolation")
    assert len(proofs()) == 1


def test_a_snapshot_that_is_taken_again_is_not_said_to_be_from_before_the_test(
    engine: Engine, migration: Migration, client: Client
) -> None:
    owner = owner_of(migration)
    engine.script["snapshot"] = [failed("The datastore is full.", "snapshot.failed"), done("Kept.", snapshot_id="32")]
    uat.open_uat(*at(migration), user=owner, snapshot=True)
    engine.settle()
    uat.again(*at(migration), user=owner, operation="snapshot")
    engine.settle()
    text = page(migration, client)
    assert "A snapshot was taken during the test" in text and "It holds what was changed on the copy until then" in text
    engine.script["revert"] = [done("Back.")]
    uat.end(*at(migration), user=owner, back=True)
    engine.settle()
    assert "throws away whatever was changed on the copy" in page(migration, client)


def test_a_test_whose_end_was_asked_for_is_not_waited_for_to_be_ended(engine: Engine, migration: Migration) -> None:
    kept(engine, migration)
    owner = owner_of(migration)
    uat.end(*at(migration), user=owner, back=True)
    (said,) = [each.detail for each in waiting.waits_for_me(owner) if each.kind == "open"]
    assert "It ends once the copies are back at their snapshots" in said and "End it when" not in said


def test_a_snapshot_is_not_offered_where_the_platform_cannot(migration: Migration, client: Client) -> None:
    assert 'name="snapshot"' in page(migration, client)
    assert migration.target is not None
    platform = migration.target.placement.platform
    platform.findings = [{"code": "permission.snapshots", "text": "The account may not take snapshots and revert."}]
    platform.save()
    assert 'name="snapshot"' not in page(migration, client)
    with pytest.raises(NotReady, match="may not take snapshots"):
        uat.open_uat(*at(migration), user=owner_of(migration), snapshot=True)


def test_what_the_next_sync_throws_away_is_said_before_it(engine: Engine, migration: Migration, client: Client) -> None:
    owner = owner_of(migration)
    words = "throws away whatever was changed on the copy"
    assert words not in page(migration, client)
    uat.open_uat(*at(migration), user=owner)
    engine.settle()
    text = page(migration, client)
    assert words in text and "is not known before both sides are compared" in text
    uat.end(*at(migration), user=owner)
    assert words in page(migration, client)
    lead = migration.project.memberships.get(role="lead").user
    client.force_login(lead)
    assert words in client.get(reverse("migration", args=[migration.pk])).text
    factories.make_sync(migration, discarded_count=23)
    text = page(migration, client)
    assert words not in text and "took away 23 changes" in text
