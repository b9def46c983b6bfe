"""Two at the same moment: what a decision looked at must not change under it (tried on PostgreSQL)."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connection

from projects import break_glass, checklists, decisions, defects, workflow
from projects import digest as digests
from projects.errors import Conflict, NotReady
from projects.lanes import lane_of
from projects.models import Approval, BreakGlass, ChecklistItem, Decision, Defect, Hold, Step
from projects.steps import MODULES
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
            barrier.wait(60)
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


def lost(result: Any) -> bool:
    """Whoever came second, and was told so."""
    return isinstance(result, Conflict | NotReady)


def test_two_presses_are_one_attempt() -> None:
    migration = planned()
    step = migration.steps.get(kind=Step.Kind.INITIAL)
    lead = migration.project.memberships.get(role="lead").user

    def press() -> Any:
        return workflow.start_step(step.pk, user=lead, seen_state="waiting", seen_attempt=0)

    results = together(press, press)
    assert step.attempts.count() == 1
    assert sum(isinstance(result, Exception) for result in results) == 1


def test_a_step_that_becomes_ready_in_the_second_of_the_press_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """The controller only reworded it: whoever pressed sees no refusal for that."""
    migration = planned()
    step = migration.steps.get(kind=Step.Kind.INITIAL)
    lead = migration.project.memberships.get(role="lead").user
    Step.objects.filter(pk=step.pk).update(state=Step.State.READY)
    reads = []

    def read(of: Any) -> Any:
        lane = lane_of(of)
        reads.append(lane)
        if len(reads) == 1:
            lane.steps[Step.Kind.INITIAL].state = Step.State.WAITING
        return lane

    monkeypatch.setattr(workflow, "lane_of", read)
    attempt = workflow.start_step(step.pk, user=lead, seen_state="waiting", seen_attempt=0)
    assert (attempt.number, len(reads)) == (1, 2)


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


def let_go(migration: Any) -> Approval:
    """A go that only waits for the lead's word."""
    sign_off = factories.make_asked(migration.wave, migration.application)
    Approval.objects.filter(pk=sign_off.pk).update(state=Approval.State.APPROVED)
    Step.objects.filter(migration=migration, kind=Step.Kind.UAT).update(state=Step.State.DONE)
    return factories.make_approval(migration.wave, migration.application, Approval.Gate.GO)


def test_a_defect_raised_in_the_very_second_of_the_go_holds_it(monkeypatch) -> None:
    """The lead's decision has read everything, then the owner's defect is committed by another connection, then the
    decision is written: it looks again, and the defect counts."""
    migration = planned()
    lead, owner = migration.project.memberships.get(role="lead").user, migration.application.owner
    go = let_go(migration)
    draft = defects.Draft(migration.steps.get(kind=Step.Kind.UAT).pk, "Orders are missing")
    real, raised = decisions.approve_unmet, []

    def unmet(*args: Any, **kwargs: Any) -> list[str]:
        missing = real(*args, **kwargs)
        if not raised:
            raised.extend(together(lambda: defects.raise_defect(draft, user=owner)))
        return missing

    monkeypatch.setattr(decisions, "approve_unmet", unmet)
    with pytest.raises(NotReady, match="Orders are missing is blocking"):
        decisions.decide(go.pk, user=lead, verdict="approve", comment="", digest=go.digest)
    go.refresh_from_db()
    assert isinstance(raised[0], Defect) and go.state == Approval.State.REQUESTED
    assert not Decision.objects.exists()


def test_a_defect_raised_while_the_stop_begins_keeps_it_from_beginning() -> None:
    migration = planned()
    lead, owner = migration.project.memberships.get(role="lead").user, migration.application.owner
    lane = lane_of(migration)
    draft = defects.Draft(migration.steps.get(kind=Step.Kind.UAT).pk, "Orders are missing")
    together(lambda: defects.raise_defect(draft, user=owner))
    with pytest.raises(Conflict):
        workflow.launch(lane, Step.Kind.STOP, user=lead)


def test_defect_and_go_at_the_same_moment_are_one_after_the_other() -> None:
    """Whichever comes first: a go never stands beside a defect that it has not seen, unless that came after it."""
    migration = planned()
    lead, owner = migration.project.memberships.get(role="lead").user, migration.application.owner
    go = let_go(migration)
    draft = defects.Draft(migration.steps.get(kind=Step.Kind.UAT).pk, "Orders are missing")
    results = together(
        lambda: defects.raise_defect(draft, user=owner),
        lambda: decisions.decide(go.pk, user=lead, verdict="approve", comment="", digest=go.digest),
    )
    go.refresh_from_db()
    assert isinstance(results[0], Defect), results[0]
    if go.state == Approval.State.APPROVED:
        assert Decision.objects.get().at <= results[0].raised_at
    else:
        assert lost(results[1]), results[1]
    stop = [each.text for each in MODULES[Step.Kind.STOP].unmet(lane_of(migration))]
    assert any("Orders are missing" in text for text in stop), "either way nothing is stopped"


def test_two_signatures_at_the_same_moment_both_count() -> None:
    migration = planned()
    go = let_go(migration)
    Approval.objects.filter(pk=go.pk).update(needed=2, runner_may=True, roles=["lead"])
    leads = [migration.project.memberships.get(role="lead").user, factories.make_member(migration.project, "lead")]

    def sign(user: Any) -> Any:
        return lambda: decisions.decide(go.pk, user=user, verdict="approve", comment="", digest=go.digest)

    results = together(*(sign(user) for user in leads))
    go.refresh_from_db()
    given = Decision.objects.filter(approval=go).count()
    assert go.state == (Approval.State.APPROVED if given == 2 else Approval.State.REQUESTED), results
    assert given + sum(map(lost, results)) == 2, results


def test_two_break_the_glass_at_once_one_does() -> None:
    migration = planned()
    ChecklistItem.objects.filter(step__migration=migration).exclude(operation="").update(state="done")
    approval = factories.make_asked(migration.wave, migration.application)
    leads = [migration.project.memberships.get(role="lead").user, factories.make_member(migration.project, "lead")]

    def smash(user: Any) -> Any:
        return lambda: break_glass.pass_gate(
            approval.pk, user=user, reason="the contract ends tonight", digest=approval.digest
        )

    results = together(*(smash(user) for user in leads))
    assert BreakGlass.objects.count() == 1
    assert sum(map(lost, results)) == 1, results


def test_two_confirm_at_once_one_word_stands() -> None:
    migration = planned()
    lead = migration.project.memberships.get(role="lead").user
    factories.make_item(migration.steps.get(kind=Step.Kind.STOP), "Tell the bank")
    step = migration.steps.get(kind=Step.Kind.STOP)
    made = break_glass.pass_step(step.pk, user=lead, reason="the contract ends tonight")
    other = factories.make_member(migration.project, "lead")
    results = together(
        lambda: break_glass.confirm(made.pk, user=other, in_order=True),
        lambda: break_glass.confirm(made.pk, user=migration.application.owner, in_order=False, comment="no"),
    )
    assert sum(map(lost, results)) == 1, results


def test_two_edit_a_template_at_once_one_does() -> None:
    project = factories.make_project()
    lead = project.memberships.get(role="lead").user
    shown = checklists.newest(project)[Step.Kind.STOP]
    keys = list(shown.items.values_list("key", flat=True))

    def remove(key: str) -> Any:
        return lambda: checklists.remove_item(
            template=checklists.newest(project)[Step.Kind.STOP], key=key, seen=checklists.mark(shown), user=lead
        )

    results = together(*(remove(key) for key in keys[:2]))
    assert sum(map(lost, results)) == 1, results
    assert checklists.newest(project)[Step.Kind.STOP].items.count() == len(keys) - 1
