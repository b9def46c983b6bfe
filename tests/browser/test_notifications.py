"""Notifications in a real browser: a person's choice, a project's mode, a webhook and its secret, the log."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone

from migrationhub.audit.record import record
from projects.models import Message, Migration, NoticeSettings, ProjectNotices, Step, Webhook
from projects.notify import dealing
from tests import factories

from .conftest import faults, shoot, too_wide

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
WIDE = {"viewport": {"width": 1440, "height": 900}, "bypass_csp": True}
PHONE = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark", "bypass_csp": True}


@pytest.fixture
def migration(live_server: Any, settings: Any) -> Migration:
    """One whose step failed; of the mails about it one was refused and one may have arrived."""
    settings.MAIL_SENT = True
    lead = factories.make_user("lea", first_name="Lea", last_name="Adler", email="lea@example.com")
    project = factories.make_project("Basel exit", lead=lead, time_zone="Europe/Zurich")
    factories.make_member(project, "operator", factories.make_user("omar", email="omar@example.com"))
    made = factories.make_migration(project=project, wave=factories.make_wave(project, name="first"))
    for _ in range(2):
        record("step.attention", made.steps.get(kind=Step.Kind.INITIAL), project_id=project.pk, why="Disk full.")
    dealing.deal(timezone.now())
    Message.objects.filter(user=lead).update(state="sent", sent_at=timezone.now())
    Message.objects.exclude(user=lead).update(state="failed", reason="The address was refused: 550 no such user")
    common = {"project": project, "wave": made.wave, "due_at": timezone.now()}
    why = "It was posted, and no answer came within 10 s."
    Message.objects.create(**common, to="#move (hooks.example)", uuid=uuid.uuid4(), state="unknown", reason=why)
    return made


def seen(page: Any, name: str) -> None:
    shoot(page, f"notifications-{name}-{page.viewport_size['width']}")
    assert faults(page) + too_wide(page) == []


@pytest.mark.parametrize("look", [WIDE, PHONE], ids=["wide", "phone"])
def test_from_what_i_hear_to_what_was_sent(migration: Migration, visit: Any, look: dict[str, Any]) -> None:
    project, lead = migration.project, migration.project.memberships.get(role="lead").user
    page = visit(lead, reverse("account"), **look)
    page.get_by_label("Your account").get_by_role("link", name="Notifications").click()
    page.get_by_text("everything that concerns you").wait_for()
    seen(page, "mine")
    page.get_by_role("link", name="Change what you hear of Basel exit").click()
    page.get_by_label("A defect was raised, or changed").uncheck()
    page.get_by_label("Quiet from").select_option("22")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("give both, or leave both empty").wait_for()
    assert not page.get_by_label("A defect was raised, or changed").is_checked(), "what was chosen is still there"
    page.get_by_label("Quiet until").select_option("7")
    seen(page, "choice")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("8 of 9 kinds of change").wait_for()
    assert NoticeSettings.objects.get().quiet_until == 7

    page.goto(reverse("notifications", args=[project.slug]))
    page.get_by_label("How loud", exact=True).select_option("test")
    page.get_by_role("button", name="Set", exact=True).click()
    page.get_by_text("Everything goes to Lea Adler alone").wait_for()
    assert ProjectNotices.objects.get().tester == lead

    page.get_by_role("link", name="New webhook").click()
    page.get_by_label("Name", exact=True).fill("#move")
    page.get_by_label("What is posted", exact=True).select_option("generic")
    page.get_by_label("Address", exact=True).fill("http://hooks.example/x")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("without TLS anybody on the way reads along").wait_for()
    page.get_by_label("Address", exact=True).fill("https://hooks.example/x")
    seen(page, "webhook")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("heading", name="The webhook is saved").wait_for()
    seen(page, "secret")
    assert page.locator("#secret").inner_text() == Webhook.objects.get().secret
    page.get_by_role("link", name="I have it").click()
    page.get_by_text("to hooks.example").wait_for()
    seen(page, "project")

    page.get_by_role("link", name="What was sent").click()
    page.get_by_text("550 no such user").wait_for()
    seen(page, "log")
    page.get_by_role("button", name="Send again to omar@example.com").click()
    page.get_by_text("It is sent once more").wait_for()
    assert Message.objects.get(to="omar@example.com").state == Message.State.WAITING
