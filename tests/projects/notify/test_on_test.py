"""A project on test tells one person alone: who set it so, as long as they lead the project."""

from __future__ import annotations

from collections.abc import Callable
from html import unescape

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from migrationhub.audit.record import record
from projects import planning_notices
from projects.models import Membership, Message, Part, Step
from projects.notify import dealing
from tests import factories as make

from .conftest import Team
from .receivers import Mailbox

pytestmark = pytest.mark.django_db
Deliver = Callable[..., list[Message]]


@pytest.fixture
def ben(team: Team) -> Membership:
    """A second lead, who gets everything."""
    person = make.make_user("ben", email="ben@example.com", first_name="Ben")
    make.make_member(team.project, Membership.Role.LEAD, person)
    planning_notices.set_mode(project=team.project, mode="test", user=person)
    return Membership.objects.get(user=person)


def attention(team: Team) -> None:
    record("step.attention", team.migration.steps.get(kind=Step.Kind.INITIAL), project_id=team.project.pk)


def page(team: Team, name: str, *args: object) -> str:
    client = Client()
    client.force_login(team.lead, "django.contrib.auth.backends.ModelBackend")
    return unescape(client.get(reverse(name, args=args)).content.decode())


def pressed(team: Team, member: Membership, role: str) -> str:
    """The page after a lead gave the member another role, or removed them (empty)."""
    client = Client()
    client.force_login(team.lead, "django.contrib.auth.backends.ModelBackend")
    address = reverse("member-role" if role else "member-remove", args=[team.project.slug, member.pk])
    return unescape(client.post(address, {"role": role} if role else {}, follow=True).content.decode())


@pytest.mark.parametrize("role", ["owner", "operator", ""])
def test_who_leads_no_more_is_told_nothing_more(team: Team, box: Mailbox, ben: Membership, role: str) -> None:
    attention(team)
    dealing.deal(timezone.now())
    assert Part.objects.get().user == ben.user
    said = pressed(team, ben, role)
    attention(team)
    dealing.deal(timezone.now())
    assert Part.objects.count() == 1
    assert "are on test and went to ben alone: nobody is told anything now. A lead sets them on the page" in said


def test_what_was_begun_for_them_is_not_sent(team: Team, box: Mailbox, ben: Membership, deliver: Deliver) -> None:
    attention(team)
    dealing.deal(timezone.now())
    Membership.objects.filter(pk=ben.pk).update(role="owner")
    (message,) = deliver()
    assert (message.state, message.reason) == (
        "dropped",
        "ben did not lead the project any more when it was to be sent.",
    )
    assert box.mails == []


def test_the_page_says_that_nobody_is_told_and_a_lead_sets_it_again(team: Team, box: Mailbox, ben: Membership) -> None:
    slug = team.project.slug
    assert "Everything goes to Ben alone" in page(team, "notifications", slug)
    ben.delete()
    shown = page(team, "notifications", slug)
    assert "Nobody is told anything" in shown and "Ben, to whom everything went, does not lead it any more" in shown
    assert "Everything goes to" not in shown
    assert "tells nobody anything at present" in page(team, "notices-mine")
    planning_notices.set_mode(project=team.project, mode="test", user=team.lead)
    assert "Everything goes to Lea alone" in page(team, "notifications", slug)
    attention(team)
    dealing.deal(timezone.now())
    assert Part.objects.get().user == team.lead


def test_a_lead_who_did_not_set_it_may_go_without_a_word(team: Team, box: Mailbox, ben: Membership) -> None:
    other = make.make_member(team.project, Membership.Role.LEAD)
    assert "on test" not in pressed(team, Membership.objects.get(user=other), "operator")
