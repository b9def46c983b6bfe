"""A go without a valid sign-off is about nothing: nobody is asked or reminded, and it is asked for anew afterwards."""

from __future__ import annotations

from typing import Any

import pytest
import time_machine
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from migrationhub.audit.models import AuditEvent
from projects import approvals, break_glass, gates, waiting, workflow
from projects.errors import NotReady
from projects.models import Approval, ApprovalPolicy, Membership, Migration, Notice, Part, Step
from projects.notify import clock, dealing
from tests import factories
from tests.projects.test_approvals import POLICY, lead, migration, owner, say, state

__all__ = ["lead", "migration", "owner"]
pytestmark = [pytest.mark.whole, pytest.mark.django_db]
State, Role = Approval.State, Membership.Role


@pytest.fixture
def sign_off(migration: Migration, owner: Any) -> Approval:
    """Signed after a test that is over; the go is asked for."""
    uat = migration.steps.get(kind=Step.Kind.UAT)
    factories.make_attempt(uat, state="done", finished_at=timezone.now())
    gates.follow(migration)
    made = Approval.objects.get(gate="sign_off")
    say(made, owner)
    Step.objects.filter(pk=uat.pk).update(state=Step.State.DONE)
    return made


def policy(migration: Migration, **over: Any) -> None:
    ApprovalPolicy.objects.create(project=migration.project, gate="go", **POLICY | over)


def asked(migration: Migration) -> Approval:
    gates.follow(migration)
    return Approval.objects.get(gate="go")


def taken_back(migration: Migration, sign_off: Approval, verdict: str = "more_time") -> None:
    say(sign_off, migration.application.owner, verdict)
    gates.follow(migration)


def signed_again(migration: Migration, sign_off: Approval) -> None:
    say(sign_off, migration.application.owner)
    gates.follow(migration)


def verbs(go: Approval) -> list[str]:
    found = AuditEvent.objects.filter(object_type="projects.approval", object_id=str(go.pk))
    return list(found.order_by("pk").values_list("verb", flat=True))


def gos(user: Any) -> list[str]:
    return [item.text for item in waiting.waits_for_me(user) if item.text.startswith("Go for")]


@pytest.mark.parametrize("verdict", ["approve", "reject"])
def test_a_word_from_before_counts_no_more_though_it_had_not_opened_the_go(migration, lead, sign_off, verdict) -> None:
    policy(migration, needed=2)
    second = factories.make_member(migration.project, Role.LEAD)
    go = asked(migration)
    say(go, lead, verdict)
    taken_back(migration, sign_off, "reject")
    signed_again(migration, sign_off)
    go.refresh_from_db()
    assert not approvals.words(go)
    say(go, second)
    assert state(go) == State.REQUESTED
    say(go, lead)
    assert state(go) == State.APPROVED


def test_it_neither_reminds_nor_expires_while_it_cannot_be_given(migration, lead, sign_off) -> None:
    policy(migration, expires_hours=4, remind_hours=2)
    go = asked(migration)
    taken_back(migration, sign_off)
    with time_machine.travel(factories.hours(5)):
        clock.look(timezone.now())
        gates.follow(migration)
        assert state(go) == State.STALE and not {"approval.remind", "approval.expire"} & set(verbs(go))
        signed_again(migration, sign_off)
        assert state(go) == State.REQUESTED and go.expires_at > timezone.now()
        assert gos(lead)
        assert say(go, lead) and state(go) == State.APPROVED


def test_it_waits_for_nobody_and_asks_nobody_before_the_sign_off_is_valid(migration, lead, sign_off) -> None:
    go = asked(migration)
    say(go, lead)
    taken_back(migration, sign_off)
    assert gos(lead) == []
    dealing.deal(timezone.now())
    told = Notice.objects.filter(event__object_id=str(go.pk), event__object_type="projects.approval")
    assert f"{go}: counts no more" in set(told.values_list("title", flat=True))
    assert not told.filter(title__contains="asked for again").exists()
    client = Client()
    client.force_login(lead, "django.contrib.auth.backends.ModelBackend")
    page = client.get(reverse("approval", args=[go.pk])).content.decode()
    assert "Waits for the sign-off and the test" in page and 'name="verdict"' not in page
    assert "not now: it is asked for once" in page and "Not yours to answer" not in page
    listed = client.get(reverse("approvals", args=[migration.project.slug])).content.decode()
    assert "Waits for me (0)" in listed
    signed_again(migration, sign_off)
    dealing.deal(timezone.now())
    assert gos(lead)
    assert Part.objects.filter(user=lead, notice__title__contains="asked for again").count() == 1


def test_nothing_is_done_with_it_while_it_is_void(migration, lead, sign_off) -> None:
    go = asked(migration)
    taken_back(migration, sign_off)
    operator = factories.make_member(migration.project, Role.OPERATOR)
    for verdict in ("approve", "reject"):
        with pytest.raises(NotReady, match="nothing to let go yet"):
            say(go, lead, verdict)
    with pytest.raises(NotReady, match="nothing to let go yet"):
        approvals.ask_again(go.pk, user=operator)
    say(sign_off, migration.application.owner)
    with pytest.raises(NotReady, match="nothing to let go yet"):
        break_glass.pass_gate(go.pk, user=lead, reason="it cannot wait any more", digest="")
    assert verbs(go) == ["approval.request", "approval.void"]


def test_a_server_that_is_not_tested_makes_it_void_too(migration, lead, sign_off) -> None:
    go = asked(migration)
    Step.objects.filter(migration=migration, kind=Step.Kind.UAT).update(state=Step.State.RUNNING)
    gates.follow(migration)
    event = AuditEvent.objects.get(verb="approval.void")
    assert (event.why, event.before) == ("The acceptance test is not over.", {"state": "requested"})
    go.refresh_from_db()
    assert not go.digest


# -- asked anew by the system ---------------------------------------------------------------------------------


def test_what_the_system_asks_anew_may_be_answered_by_who_had_asked_before(migration, lead, sign_off) -> None:
    go = asked(migration)
    say(go, lead, "more_time")
    approvals.ask_again(go.pk, user=lead)
    Migration.objects.filter(pk=migration.pk).update(new_address="10.9.9.9/24")
    migration.refresh_from_db()
    gates.follow(migration)
    signed_again(migration, sign_off)
    go.refresh_from_db()
    assert go.requested_by is None
    say(go, lead)
    assert state(go) == State.APPROVED


def test_an_expired_request_that_is_asked_for_by_a_change_is_recorded_and_told(migration, owner) -> None:
    values = POLICY | {"roles": ["owner"], "runner_may": False, "expires_hours": 1}
    ApprovalPolicy.objects.create(project=migration.project, gate="sign_off", **values)
    factories.make_attempt(migration.steps.get(kind=Step.Kind.UAT), state="done", finished_at=timezone.now())
    gates.follow(migration)
    made = Approval.objects.get(gate="sign_off")
    Approval.objects.filter(pk=made.pk).update(expires_at=factories.hours(-1))
    gates.follow(migration)
    assert state(made) == State.EXPIRED
    Migration.objects.filter(pk=migration.pk).update(new_address="10.9.9.9/24")
    migration.refresh_from_db()
    gates.follow(migration)
    assert state(made) == State.REQUESTED
    assert verbs(made) == ["approval.request", "approval.expire", "approval.request"]
    assert "changed" in AuditEvent.objects.filter(verb="approval.request").latest("pk").why


def test_an_abort_asks_for_no_go_that_is_void(migration, lead, sign_off) -> None:
    go = asked(migration)
    taken_back(migration, sign_off)
    for kind in (Step.Kind.UAT, Step.Kind.STOP):
        Step.objects.filter(migration=migration, kind=kind).update(state=Step.State.DONE)
    factories.make_attempt(migration.steps.get(kind=Step.Kind.STOP), state="done", finished_at=timezone.now())
    workflow.abort_cutover(migration.pk, user=lead, why="the neighbour was stopped, too")
    assert state(go) == State.STALE and go.remind_at is None
