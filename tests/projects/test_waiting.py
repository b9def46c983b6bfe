"""What waits for whom: by role, as a stand-in, urgent things first, and nothing that somebody else does next."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.utils import timezone

from projects.models import Approval, Decision, Defect, Hold, Migration, StandIn, Step, Wave
from projects.waiting import waits_for_me
from projects.waiting_entry import Waiting
from tests import factories

pytestmark = [pytest.mark.django_db, pytest.mark.whole]


@pytest.fixture
def migration() -> Migration:
    return factories.make_migration(states={Step.Kind.INITIAL: "done", Step.Kind.UAT: "running"})


@pytest.fixture
def people(migration: Migration) -> dict[str, User]:
    project = migration.project
    made = {role: factories.make_member(project, role) for role in ("operator", "manager")}
    made["lead"] = project.memberships.get(role="lead").user
    made["second"] = factories.make_member(project, "lead")
    made["owner"] = migration.application.owner
    made["other"] = factories.make_application(project).owner
    return made


def stand_in(migration: Migration, **over: object) -> User:
    """Somebody who answers for the absent owner today."""
    person = factories.make_member(migration.project, "owner", factories.make_user("eva", first_name="Eva"))
    values = {"starts_at": factories.hours(-1), "ends_at": factories.hours(24), "why": "on holiday", **over}
    StandIn.objects.create(
        application=migration.application,
        owner=migration.application.owner,
        person=person,
        by=migration.project.memberships.filter(role="lead")[0].user,
        **values,
    )
    return person


def open_test(migration: Migration, by: User | None, until: object = None) -> Hold:
    return Hold.objects.create(
        kind=Hold.Kind.UAT,
        project=migration.project,
        wave=migration.wave,
        application=migration.application,
        by=by,
        until=until,
    )


def who(people: dict[str, User], text: str) -> set[str]:
    return {name for name, user in people.items() if any(text in item.text for item in waits_for_me(user))}


def only(user: User, text: str) -> Waiting:
    (found,) = [item for item in waits_for_me(user) if text in item.text]
    return found


def test_a_sign_off_waits_for_the_owner_and_in_their_name_for_whoever_stands_in(migration, people) -> None:
    factories.make_asked(migration.wave, migration.application)
    people |= {"stand_in": stand_in(migration), "late": factories.make_member(migration.project, "owner")}
    assert who(people, "Sign-off of") == {"owner", "stand_in"}
    assert only(people["owner"], "Sign-off of").on_behalf_of is None
    found = only(people["stand_in"], "Sign-off of")
    assert found.on_behalf_of == people["owner"]
    assert found.where == f"{migration.wave}, {migration.project}"


def test_what_the_owner_said_is_not_asked_of_the_stand_in_again(migration, people) -> None:
    approval = factories.make_asked(migration.wave, migration.application)
    Approval.objects.filter(pk=approval.pk).update(needed=2)
    person = stand_in(migration)
    Decision.objects.create(
        approval=approval, user=people["owner"], verdict=Decision.Verdict.APPROVE, digest=approval.digest
    )
    assert waits_for_me(person) == []


def test_a_request_that_was_handed_over_waits_for_the_heir_in_the_owners_name(migration, people) -> None:
    approval = factories.make_asked(migration.wave, migration.application)
    Approval.objects.filter(pk=approval.pk).update(delegated_to=people["other"], delegated_by=people["owner"])
    found = waits_for_me(people["other"])
    assert [(item.on_behalf_of, item.detail[:20]) for item in found] == [(people["owner"], "Handed over to you. ")]


def test_an_expired_request_waits_for_those_who_may_ask_again(migration, people) -> None:
    approval = factories.make_asked(migration.wave, migration.application)
    Approval.objects.filter(pk=approval.pk).update(expires_at=factories.hours(-2))
    assert who(people, "expired without an answer") == {"lead", "second", "operator"}
    assert only(people["lead"], "expired").label == "Ask again"


def test_a_request_that_runs_out_soon_or_within_an_open_window_is_urgent(migration, people) -> None:
    approval = factories.make_asked(migration.wave, migration.application)
    assert not only(people["owner"], "Sign-off of").urgent
    Approval.objects.filter(pk=approval.pk).update(expires_at=factories.hours(30))
    assert not only(people["owner"], "Sign-off of").urgent
    Approval.objects.filter(pk=approval.pk).update(expires_at=factories.hours(20))
    assert only(people["owner"], "Sign-off of").urgent
    Approval.objects.filter(pk=approval.pk).update(expires_at=None)
    Wave.objects.filter(pk=migration.wave_id).update(starts_at=factories.hours(-1), ends_at=factories.hours(1))
    assert only(people["owner"], "Sign-off of").urgent
    Wave.objects.filter(pk=migration.wave_id).update(ends_at=factories.hours(-0.5))
    assert not only(people["owner"], "Sign-off of").urgent


def test_a_failed_step_waits_for_those_who_run_it_since_it_failed(migration, people) -> None:
    step = migration.steps.get(kind=Step.Kind.UAT)
    attempt = factories.make_attempt(step, state="attention", started_at=factories.hours(-5))
    when = factories.hours(-3)
    factories.make_action(attempt, state="failed", finished_at=when)
    Step.objects.filter(pk=step.pk).update(state="attention", reason="No answer.")
    assert who(people, "failed") == {"lead", "second", "operator"}
    found = only(people["operator"], "failed")
    assert (found.urgent, found.since, found.detail) == (True, when, "No answer.")


def test_an_open_test_waits_for_who_opened_it_and_for_the_owner(migration, people) -> None:
    hold = open_test(migration, people["operator"], factories.hours(3))
    assert who(people, "is open") == {"operator", "owner"}
    found = only(people["operator"], "is open")
    assert (found.urgent, found.kind, found.until) == (False, "open", hold.until)


def test_an_overdue_test_waits_for_those_who_run_the_migration_too(migration, people) -> None:
    hold = open_test(migration, people["owner"], factories.hours(-1))
    assert who(people, "is overdue") == {"lead", "second", "operator", "owner"}
    found = only(people["lead"], "is overdue")
    assert found.urgent and found.since == hold.until and "break it off" in found.detail
    assert "End it or extend it." in only(people["owner"], "is overdue").detail
    Hold.objects.update(released_at=timezone.now())
    assert who(people, "The test of") == set()


def test_break_glass_waits_for_a_second_person(migration, people) -> None:
    factories.make_break_glass(migration.steps.get(kind=Step.Kind.STOP), people["lead"])
    assert who(people, "Break-glass") == {"second", "owner"}
    assert only(people["second"], "Break-glass").urgent


def test_a_blocking_defect_waits_for_whom_it_is_assigned_to_and_then_for_who_raised_it(migration, people) -> None:
    defect = factories.make_defect(migration.steps.get(kind=Step.Kind.UAT), assignee=people["operator"])
    assert who(people, "Defect") == {"operator"}
    assert only(people["operator"], "Defect").urgent
    Defect.objects.filter(pk=defect.pk).update(assignee=None)
    assert who(people, "Defect") == {"operator", "lead", "second"}
    Defect.objects.filter(pk=defect.pk).update(state="mended", mended_by=people["operator"], changed_at=timezone.now())
    assert who(people, "Defect") == {"owner"}
    assert only(people["owner"], "Defect").label == "Verify"


def test_items_wait_for_the_role_that_answers_them(migration, people) -> None:
    step = migration.steps.get(kind=Step.Kind.UAT)
    factories.make_attempt(step)
    factories.make_item(step, "Try the front page", role="owner")
    factories.make_item(step, "Watch the logs", role="operator")
    factories.make_item(step, "Nice to have", role="owner", required=False)
    person = stand_in(migration)
    assert only(people["owner"], "checklist").detail == "Try the front page"
    assert only(person, "checklist").on_behalf_of == people["owner"]
    assert only(people["operator"], "checklist").detail == "Watch the logs"
    assert who(people, "checklist") == {"owner", "operator", "lead", "second"}


def test_what_is_answered_on_one_page_is_one_thing(migration, people) -> None:
    for name in ("first", "second"):
        made = factories.make_migration(
            application=migration.application,
            wave=migration.wave,
            source=factories.make_server(name),
            states={Step.Kind.INITIAL: "done", Step.Kind.UAT: "running"},
        )
        step = made.steps.get(kind=Step.Kind.UAT)
        factories.make_attempt(step, started_at=factories.hours(-2))
        factories.make_item(step, "Log in, then out", role="owner")
        factories.make_item(step, f"Only on {name}", role="owner")
        factories.make_item(step, "Watch the logs", role="operator")
    (found,) = waits_for_me(people["owner"])
    assert found.text == f"{migration.application}: checklist of acceptance testing of 2 servers"
    assert found.detail == "Log in, then out · Only on first · Only on second"
    assert [item.text for item in waits_for_me(people["operator"])] == [
        "first: checklist of acceptance testing",
        "second: checklist of acceptance testing",
    ], "those are answered on a page each"


def test_urgent_first_then_what_is_to_be_decided_then_the_oldest(migration, people) -> None:
    open_test(migration, people["owner"])
    factories.make_asked(migration.wave, migration.application)
    step = migration.steps.get(kind=Step.Kind.UAT)
    factories.make_attempt(step)
    factories.make_item(step, "Try it", role="owner")
    younger, older = (factories.make_break_glass(step, people["lead"]) for _ in range(2))
    type(older).objects.filter(pk=older.pk).update(at=timezone.now() - timedelta(days=2))
    found = waits_for_me(people["owner"])
    assert [(item.urgent, item.kind) for item in found] == [
        *[(True, "decide")] * 2,
        *[(False, "decide"), (False, "do"), (False, "open")],
    ]
    assert [item.url.split("/")[-2] for item in found[:2]] == [str(older.pk), str(younger.pk)]


def test_nothing_waits_for_somebody_who_left_or_for_a_manager(migration, people) -> None:
    factories.make_asked(migration.wave, migration.application)
    factories.make_break_glass(migration.steps.get(kind=Step.Kind.STOP), people["lead"])
    assert waits_for_me(people["manager"]) == []
    assert waits_for_me(AnonymousUser()) == []
    assert waits_for_me(people["owner"])
    migration.project.memberships.filter(user=people["owner"]).delete()
    assert waits_for_me(people["owner"]) == []
