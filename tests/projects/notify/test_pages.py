"""The pages: what somebody hears, how loud a project is, its webhooks, what was sent."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from migrationhub.audit.record import record
from projects.models import Message, NoticeSettings, Part, ProjectNotices, Step, Webhook
from projects.notify import dealing
from tests import factories as make

from .conftest import Team, moment
from .receivers import Mailbox

pytestmark = pytest.mark.django_db


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user, "django.contrib.auth.backends.ModelBackend")
    return client


def page(user: User, name: str, /, *args: Any, **data: Any) -> str:
    return client_of(user).get(reverse(name, args=args), data).content.decode()


def send(user: User, name: str, /, *args: Any, **data: Any) -> str:
    return client_of(user).post(reverse(name, args=args), data, follow=True).content.decode()


def test_somebody_chooses_what_they_hear(team: Team) -> None:
    slug = team.project.slug
    assert "everything that concerns you" in page(team.owner, "notices-mine")
    assert page(team.owner, "notices", slug).count(" checked") == 9
    said = send(team.owner, "notices", slug, kinds=["next", "asked"], quiet_from="22", quiet_until="7")
    assert "2 of 9 kinds" in said and "22:00 to 7:00 (Europe/Zurich)" in said
    chosen = NoticeSettings.objects.get(user=team.owner)
    assert (sorted(chosen.kinds), chosen.quiet_from, chosen.quiet_until) == (["asked", "next"], 22, 7)
    said = send(team.owner, "notices", slug, quiet_from="", quiet_until="")
    assert ">nothing<" in said
    assert NoticeSettings.objects.get(user=team.owner).kinds == []


@pytest.mark.parametrize(
    ("hours", "word"), [(("22", ""), "give both, or leave both empty"), (("7", "7"), "the same hour")]
)
def test_hours_that_are_none(team: Team, hours: tuple[str, str], word: str) -> None:
    said = send(team.owner, "notices", team.project.slug, kinds=["next"], quiet_from=hours[0], quiet_until=hours[1])
    assert word in said
    assert not NoticeSettings.objects.exists()


def test_a_manager_hears_of_the_large_things_until_they_choose(team: Team) -> None:
    assert "4 of 9 kinds" in page(team.manager, "notices-mine")


def test_the_lead_sets_how_loud_it_is(team: Team) -> None:
    slug = team.project.slug
    said = send(team.lead, "notifications", slug, mode="test")
    assert "Everything goes to Lea alone" in said
    assert ProjectNotices.objects.get().tester == team.lead
    assert "one person alone" in page(team.owner, "notices-mine")
    assert "Nobody is told anything" in send(team.lead, "notifications", slug, mode="off")
    assert ProjectNotices.objects.get().tester is None
    assert "Choose live, test or off" in send(team.lead, "notifications", slug, mode="loud")
    assert "<select" not in page(team.manager, "notifications", slug)


def test_a_webhook_from_entering_it_to_its_removal(team: Team) -> None:
    slug, url = team.project.slug, "https://hooks.example/services/geheim"
    data = {"name": "#move", "format": "generic", "kinds": ["wave", "attention"], "is_on": "on"}
    assert "Enter where it is posted to" in send(team.lead, "webhook-new", slug, **data)
    assert "without TLS" in send(team.lead, "webhook-new", slug, **data, url="http://hooks.example/")
    said = send(team.lead, "webhook-new", slug, **data, url=url)
    row = Webhook.objects.get()
    assert f'id="secret">{row.secret}<' in said
    for text in (page(team.manager, "notifications", slug), page(team.lead, "webhook-edit", slug, row.pk)):
        assert "geheim" not in text and row.secret not in text
        assert "hooks.example" in text
    assert "is saved" in send(team.lead, "webhook-edit", slug, row.pk, **{**data, "name": "#moved"})
    assert Webhook.objects.get().url == url
    other = make.make_project(lead=team.lead)
    assert client_of(team.lead).post(reverse("webhook-remove", args=[other.slug, row.pk])).status_code == 404
    assert "#moved: removed" in send(team.lead, "webhook-remove", slug, row.pk)
    assert not Webhook.objects.exists()


def test_two_webhooks_of_one_name(team: Team) -> None:
    data = {"name": "#move", "format": "slack", "kinds": ["wave"], "url": "https://hooks.example/x"}
    send(team.lead, "webhook-new", team.project.slug, **data)
    assert "Somebody saved the same name" in send(team.lead, "webhook-new", team.project.slug, **data)


def test_the_log_says_to_whom_and_why_not(team: Team, box: Mailbox) -> None:
    record("step.attention", team.migration.steps.get(kind=Step.Kind.INITIAL), project_id=team.project.pk)
    dealing.deal(moment())
    failed = Message.objects.get(user=team.operator)
    Message.objects.filter(pk=failed.pk).update(state="failed", reason="The mail server said: 554 spam")
    said = page(team.lead, "notification-log", team.project.slug)
    assert "2 messages" in said and "omar@example.com" in said and "554 spam" in said
    assert "Initial migration of shop-db needs attention" in said
    assert "1 message<" in page(team.lead, "notification-log", team.project.slug, state="failed")
    assert "It is sent once more" in send(team.lead, "message-again", team.project.slug, failed.pk)
    failed.refresh_from_db()
    assert failed.state == Message.State.WAITING
    assert "not one that could be sent again" in send(team.lead, "message-again", team.project.slug, failed.pk)
    other = make.make_project(lead=team.lead)
    assert client_of(team.lead).post(reverse("message-again", args=[other.slug, failed.pk])).status_code == 404


def test_the_log_asks_as_often_for_many_as_for_few(team: Team, box: Mailbox) -> None:
    record("step.attention", team.migration.steps.get(kind=Step.Kind.INITIAL), project_id=team.project.pk)
    dealing.deal(moment())
    notice = Part.objects.all()[0].notice
    client, counts = client_of(team.lead), []
    client.get("/")
    for _ in range(2):
        with CaptureQueriesContext(connection) as queries:
            client.get(reverse("notification-log", args=[team.project.slug]))
        counts.append(len(queries))
        for _ in range(40):
            common = {"project": team.project, "user": make.make_user(), "wave": team.wave}
            made = Message.objects.create(**common, to="x@example.com", due_at=moment(), uuid=uuid.uuid4())
            Part.objects.create(message=made, notice=notice, user=made.user)
    assert counts[0] == counts[1] <= 12
