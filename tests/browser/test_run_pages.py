"""The pages that run migrations, in a real browser: live regions, ages, phones, and all of it without scripts."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db.models import F
from django.urls import reverse
from django.utils import timezone

from projects.models import Approval, Hold, Membership, Migration
from servers.models import Run
from tests import factories

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def running(live_server) -> Run:
    """A server whose initial migration copies."""
    migration = factories.make_migration(states={"initial_migration": "running"}, target=True)
    action = factories.make_action(factories.make_attempt(migration.steps.get(position=1)), state="running")
    return factories.make_run(action=action, bytes_done=10_000, bytes_total=100_000, rate=500.0, phase="copying")


def the(running: Run) -> Migration:
    return Migration.objects.get(source=running.server)


def lead_of(migration: Migration):
    return Membership.objects.get(project=migration.project, role="lead").user


def test_progress_is_drawn_without_reload_and_polling_ends_by_itself(running: Run, visit) -> None:
    migration = the(running)
    page = visit(lead_of(migration), reverse("migration", args=[migration.pk]))
    page.evaluate("window.same = true")
    page.locator("#now .sync-pct", has_text="10 %").wait_for()
    Run.objects.filter(pk=running.pk).update(bytes_done=55_000, observed_at=timezone.now(), version=F("version") + 1)
    page.locator("#now .sync-pct", has_text="55 %").wait_for()
    now = timezone.now()
    Migration.objects.filter(pk=migration.pk).update(
        state="complete", completed_at=now, declared_at=now, version=F("version") + 1
    )
    page.locator("#now h2", has_text="Complete").wait_for()
    assert page.locator("[hx-trigger]").count() == 0
    assert page.locator("#live").is_hidden()
    assert page.evaluate("window.same") is True


def test_ages_tick_and_turn_grey(running: Run, visit) -> None:
    Run.objects.filter(pk=running.pk).update(observed_at=timezone.now() - timedelta(seconds=2))
    migration = the(running)
    page = visit(lead_of(migration), reverse("wave-board", args=[migration.wave_id]))
    age = page.locator(f"#lane-{migration.pk} time[data-stale]").first
    assert "age-stale" not in (age.get_attribute("class") or "")
    page.locator(f"#lane-{migration.pk} time.age-stale").first.wait_for()
    assert int(age.inner_text().split()[0]) >= 15


def test_a_lost_connection_is_said_and_comes_back_by_itself(running: Run, visit) -> None:
    migration = the(running)
    page = visit(lead_of(migration), reverse("migration", args=[migration.pk]))
    page.locator("#live", has_text="Live").wait_for()
    page.context.set_offline(True)
    page.locator("#live", has_text="Connection lost: page is").wait_for()
    page.context.set_offline(False)
    page.locator("#live", has_text="Live").wait_for()
    assert all("ERR_INTERNET_DISCONNECTED" in text or "htmx:" in text for text in visit.complaints)
    visit.complaints.clear()


def test_what_a_person_types_is_not_taken_away(running: Run, visit) -> None:
    migration = the(running)
    Hold.objects.create(
        kind=Hold.Kind.UAT, project=migration.project, wave=migration.wave, application=migration.application
    )
    approval = factories.make_asked(migration.wave, migration.application)
    owner = migration.application.owner
    page = visit(owner, reverse("acceptance", args=[migration.wave_id, migration.application_id]))
    page.fill("#comment", "The totals are wrong.")
    Run.objects.filter(pk=running.pk).update(bytes_done=60_000, version=F("version") + 1)
    page.locator("#live", has_text="Paused while you answer").wait_for()
    assert page.input_value("#comment") == "The totals are wrong."
    page.click("#verdict-reject")
    page.locator(".messages", has_text="Your no was recorded").wait_for()
    approval.refresh_from_db()
    assert approval.state == Approval.State.REJECTED


def test_what_came_back_with_a_refusal_is_not_taken_away_either(running: Run, visit) -> None:
    migration = the(running)
    approval = factories.make_asked(migration.wave, migration.application)
    page = visit(migration.application.owner, reverse("acceptance", args=[migration.wave_id, migration.application_id]))
    page.fill("#comment", "The totals are wrong.")
    page.evaluate("document.querySelector('#answer input[name=digest]').value = 'older'")
    page.click("#verdict-reject")
    page.locator(".messages", has_text="has changed since the page was drawn").wait_for()
    Run.objects.filter(pk=running.pk).update(bytes_done=60_000, version=F("version") + 1)
    page.locator("#live", has_text="Paused while you answer").wait_for()
    assert page.input_value("#comment") == "The totals are wrong."
    page.click("#verdict-reject")
    page.locator(".messages", has_text="Your no was recorded").wait_for()
    approval.refresh_from_db()
    assert approval.state == Approval.State.REJECTED


def test_the_focus_stays_on_a_button_that_is_drawn_again(running: Run, visit) -> None:
    migration = the(running)
    page = visit(lead_of(migration), reverse("migration", args=[migration.pk]))
    button = page.get_by_role("button", name="Stop before the next act")
    button.focus()
    name = page.evaluate("document.activeElement.id")
    Run.objects.filter(pk=running.pk).update(bytes_done=70_000, version=F("version") + 1)
    page.locator("#now .sync-pct", has_text="70 %").wait_for()
    assert page.evaluate("document.activeElement.id") == name != ""


def test_what_a_person_unfolds_stays_so_over_swaps(running: Run, visit) -> None:
    migration = the(running)
    factories.make_item(migration.steps.get(position=1), "Backup is known", state="done")
    page = visit(lead_of(migration), reverse("migration", args=[migration.pk]))
    listed = page.locator("#list-initial_migration")
    assert listed.evaluate("each => each.open") is False  # all of it is done
    listed.locator("#fold-initial_migration").focus()
    page.keyboard.press("Enter")
    page.get_by_text("Backup is known").wait_for()
    for done in (70_000, 80_000):
        Run.objects.filter(pk=running.pk).update(bytes_done=done, version=F("version") + 1)
        page.locator("#now .sync-pct", has_text=f"{done // 1000} %").wait_for()
        assert listed.evaluate("each => each.open") is True
        assert page.evaluate("document.activeElement.id") == "fold-initial_migration"


def test_everything_works_without_scripts(running: Run, visit) -> None:
    migration = the(running)
    lead = lead_of(migration)
    page = visit(lead, reverse("overview"), java_script_enabled=False)
    main = page.locator("main")
    for name in (migration.project.name, str(migration.wave), migration.source.name):
        main.get_by_role("link", name=name, exact=True).click()
    page.fill("#hold-why", "backup first")
    main.get_by_role("button", name="Hold", exact=True).click()
    page.locator(".messages", has_text="nothing new starts").wait_for()
    main.get_by_role("button", name="Release").click()
    page.locator(".messages", has_text="was released").wait_for()
    assert Hold.objects.get().released_by == lead
    main.get_by_role("button", name="Stop before the next act").click()
    page.locator(".messages", has_text="was asked to stop").wait_for()
    assert migration.steps.get(position=1).attempts.get().state == "cancelling"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1440])
def test_nothing_sticks_out(running: Run, visit, width: int, scheme: str) -> None:
    migration = the(running)
    factories.make_sync(migration, discarded_count=3)
    factories.make_probe_result(factories.make_probe(migration.source, "A probe with a long name"), "clone", False)
    page = visit(lead_of(migration), "/", viewport={"width": width, "height": 800}, color_scheme=scheme)
    addresses = [
        reverse("wave-board", args=[migration.wave_id]),
        reverse("migration", args=[migration.pk]),
        reverse("acceptance", args=[migration.wave_id, migration.application_id]),
        reverse("progress", args=[migration.project.slug]),
        reverse("run", args=[running.pk]),
    ]
    for address in addresses:
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), address
