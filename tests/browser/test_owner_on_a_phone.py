"""An application's owner on a phone, from the log-in to the yes; then the lead's go and a break-glass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import Page

from projects import workflow
from projects.models import Approval, Attachment, BreakGlass, ChecklistItem, Defect, Hold, Migration, Step
from projects.models.attachment import storage
from servers.models import Placement
from servers.operations.base import done, failed
from tests import factories
from tests.engine import Engine, engine

from .conftest import faults, shoot, too_wide

__all__ = ["engine"]
pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
K, S = Step.Kind, Step.State


@pytest.fixture
def migration(live_server: Any, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Migration:
    """A server that was copied and synced, whose owner is asked to test it."""
    settings.ATTACHMENTS_DIR = tmp_path / "kept"
    monkeypatch.setattr(Attachment._meta.get_field("file"), "storage", storage())
    lead = factories.make_user(first_name="Lena", last_name="Lead", email="lena@a.example")
    project = factories.make_project("Basel exit", lead=lead)
    owner = factories.make_user("olga", log_in=True, first_name="Olga", last_name="Owner")
    application = factories.make_application(project, "Shop", owner=owner)
    application.access_note = "ssh -J jump.example.com shop@10.66.0.12"
    application.save()
    source = factories.make_server("shop-db")
    probe = factories.make_probe(source, "Shop front page")
    wave = factories.make_wave(project, name="First night")
    made = factories.make_migration(application=application, wave=wave, source=source, steps=False, target=True)
    workflow.plan_steps(made)
    Step.objects.filter(migration=made, kind=K.INITIAL).update(state=S.DONE)
    factories.make_item(made.steps.get(kind=K.STOP), "Tell the bank", holds="start")
    Placement.objects.filter(server=made.target).update(external_id="7")
    factories.make_sync(made)
    for place in ("source", "clone"):
        factories.make_probe_result(probe, place)
    return made


def seen(page: Page, name: str) -> None:
    """Wide and narrow, light and dark: nothing that axe finds, nothing that sticks out."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        shoot(page, f"{name}-{scheme}")
        assert faults(page) + too_wide(page) == []


def settle(engine: Engine) -> None:
    """The hub works until nothing is left to do; the pages go on seeing a controller that lives."""
    engine.epoch = factories.make_controller(holder="test").epoch
    engine.settle()
    factories.make_controller(holder="test")


def answer(page: Page, item: ChecklistItem, state: str, note: str = "") -> None:
    page.locator(f"#{state}-{item.pk}").check(force=True)
    form = page.locator("form.test", has=page.locator(f"#keep-{item.pk}"))
    if note:
        form.locator("summary").click()
        form.get_by_label("Note").fill(note)
    page.locator(f"#keep-{item.pk}").click()
    page.get_by_text(f"“{item.title}” was answered").wait_for()


def test_an_owner_does_all_of_it_on_a_phone_and_the_lead_goes_on(
    migration: Migration, visit: Any, engine: Engine
) -> None:
    assert migration.application is not None and migration.wave is not None
    owner, wave = migration.application.owner, migration.wave
    address = reverse("acceptance", args=[wave.pk, migration.application.pk])
    items = {item.key: item for item in ChecklistItem.objects.filter(step__migration=migration, role="owner")}

    # Log in; the page that was asked for comes after it.
    page = visit(owner, reverse("overview"), bypass_csp=True, **PHONE)
    page.context.clear_cookies()
    page.goto(address)
    page.get_by_label("User name").fill("olga")
    page.get_by_label("Password").fill(factories.PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", name="There is nothing to test yet").wait_for()
    seen(page, "phone-1-before")

    # Open the test, with a snapshot; the first proof of isolation fails.
    engine.script["snapshot"] = [done("Kept.", snapshot_id="31")]
    engine.script["isolation"] = [
        failed("shop-db reaches production: 10.0.0.4 port 22 accepts connections.", "isolation.open"),
        done("From inside shop-db, 10.0.0.4 port 22 gives no answer; the hub reaches it."),
    ]
    page.get_by_label("Take a snapshot first").check()
    page.get_by_role("button", name="Open the test").click()
    page.get_by_text("is open: no delta runs under the tester").wait_for()
    settle(engine)
    page.reload()
    page.get_by_text("The isolation of the copy is not proven").wait_for()
    seen(page, "phone-2-not-isolated")
    page.get_by_role("button", name="Take it again").click()
    page.get_by_text("What failed is being taken again.").wait_for()
    settle(engine)
    page.reload()
    page.get_by_text("production cannot be reached from it").wait_for()
    assert page.get_by_text("How many files that is, is not known").is_visible()
    seen(page, "phone-3-open")

    # Test: works, does not apply, a file, a defect, more time.
    for key in ("log-in", "usual-work", "data"):
        answer(page, items[key], "done")
    answer(page, items["reports"], "not-applicable", "We print nothing.")
    attach = page.locator(".test-files", has=page.locator(f"#file-{items['data'].pk}"))
    attach.get_by_text("Attach a file").click()
    attach.locator("input[type=file]").set_input_files(
        {"name": "orders.txt", "mimeType": "text/plain", "buffer": b"149,915 orders"}
    )
    attach.get_by_role("button", name="Attach").click()
    page.get_by_role("link", name="orders.txt").wait_for()
    page.get_by_role("link", name="Tell us").click()
    page.get_by_label("What does not work").fill("Orders of January are missing")
    page.locator("form.form button[type=submit]").click()
    page.get_by_text("is raised. Who runs the migration sees it now.").wait_for()
    page.get_by_role("link", name="Orders of January are missing").click()
    page.get_by_role("heading", name="Orders of January are missing").wait_for()
    seen(page, "phone-4-defect")
    page.goto(address)
    page.get_by_label("In a few words").fill("Until Orders of January are there")
    page.get_by_role("button", name="Need more time").click()
    page.get_by_text("Recorded: you need more time.").wait_for()
    seen(page, "phone-5-more-time")
    assert items["reports"].step.checklist.get(key="reports").state == "not_applicable"

    # Mended by the lead, verified by the owner.
    defect = Defect.objects.get()
    lead = migration.project.memberships.get(role="lead").user
    desk = visit(lead, reverse("defect", args=[defect.pk]), bypass_csp=True)
    desk.get_by_label("In a few words").fill("The archive was not in the profile.")
    desk.locator("button[name=to][value=mended]").click()
    desk.locator("button[name=to][value=mended]").wait_for(state="detached")
    page.goto(reverse("defect", args=[defect.pk]))
    page.get_by_role("button", name="Verified: it works").click()
    page.goto(address)
    page.get_by_role("button", name="Approve").click()
    page.get_by_text("Your yes was recorded.").wait_for()
    page.get_by_role("button", name="Put the copy back and end").click()
    page.get_by_text("the copies go back to their snapshots").wait_for()
    engine.script["revert"] = [done("Back.")]
    settle(engine)
    page.reload()
    page.get_by_text("The copy was put back to its snapshot").wait_for()
    page.get_by_role("heading", name="You said yes").wait_for()
    seen(page, "phone-6-approved")
    assert Hold.objects.get().released_by == owner

    # The lead's side: the go, and what holds the stop is passed alone; a second person looks at it.
    desk.goto(address)
    desk.get_by_role("heading", name="You said yes").wait_for(state="detached")
    seen(desk, "wide-1-acceptance")
    go = Approval.objects.get(gate="go")
    desk.goto(reverse("approval", args=[go.pk]))
    desk.get_by_role("button", name="Give the go").click()
    desk.get_by_text("Your yes was recorded.").wait_for()
    settle(engine)
    desk.goto(reverse("migration", args=[migration.pk]))
    seen(desk, "wide-2-held")
    desk.get_by_text("Break-glass: ").first.click()
    desk.get_by_label("Why it cannot wait").first.fill("The bank does not answer, the window closes.")
    desk.get_by_label("I pass this alone").first.check()
    desk.get_by_role("button", name="Break the glass").first.click()
    desk.get_by_text("A second person").first.wait_for()
    second = factories.make_member(migration.project, "lead")
    other = visit(second, reverse("overview"), bypass_csp=True)
    other.get_by_role("link", name="Break-glass").first.click()
    other.get_by_role("button", name="It was in order").click()
    other.get_by_text("is confirmed as in order").wait_for()
    assert BreakGlass.objects.get().confirmed_by == second
