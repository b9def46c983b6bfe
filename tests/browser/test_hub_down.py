"""A real hub whose controller stops, whose web server hangs and is killed: the page says so and comes back."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.conf import settings
from django.db.models import F
from django.test import Client, override_settings
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Browser, Page

from projects.models import Membership, Migration
from servers.models import Lease, Run
from tests import factories
from tests.hub_processes import HubProcesses, group_of, hub_processes, stop_group, until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif("sqlite" not in settings.DATABASES["default"]["ENGINE"], reason="opens the hub's SQLite file"),
]
TWO_POLLS = 60_000  # ms; six seconds and what a busy machine adds


@pytest.fixture
def hub(tmp_path, django_db_blocker) -> Iterator[HubProcesses]:
    with django_db_blocker.unblock(), hub_processes(tmp_path) as made:
        made.start_up()
        yield made


@pytest.fixture
def page(hub: HubProcesses, browser: Browser) -> Iterator[Page]:
    """The board of a wave in which one server copies; nothing acts on it, so its number stays as it is."""
    migration = factories.make_migration(states={"initial_migration": "running"}, target=True)
    action = factories.make_action(factories.make_attempt(migration.steps.get(position=1)), state="running")
    later = timezone.now() + timedelta(days=1)
    factories.make_run(action=action, bytes_done=10_000, bytes_total=100_000, check_at=later, observed_at=later)
    client = Client()
    with override_settings(SECRET_KEY=hub.environment()["SECRET_KEY"]):
        lead = Membership.objects.get(project=migration.project, role="lead").user
        client.force_login(lead, "django.contrib.auth.backends.ModelBackend")
    cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
    base = f"http://127.0.0.1:{hub.port}"
    context = browser.new_context(base_url=base)
    context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": cookie, "url": base}])
    context.set_default_timeout(TWO_POLLS)
    made = context.new_page()
    until(lambda: Lease.objects.exclude(beat_at=None).exists(), 300, "the controller lives")
    made.goto(reverse("wave-board", args=[migration.wave_id]))
    made.evaluate("window.same = true")
    yield made
    context.close()


def pause(group: int, how: signal.Signals) -> None:
    for pid in group_of(group):
        os.kill(pid, how)


def test_what_is_seen_while_the_hub_is_down(hub: HubProcesses, page: Page) -> None:
    _the_controller_stops(hub, page)
    _the_web_server_hangs(hub, page)
    _the_web_server_is_killed(hub, page)
    assert page.evaluate("window.same") is True  # nobody has reloaded it


def _the_controller_stops(hub: HubProcesses, page: Page) -> None:
    numbers, stale = page.locator(".cell.is-now .sub").first, page.locator(".cell.is-now .sub.is-stale")
    numbers.wait_for()
    _all_is_well(page)
    controller = hub.pid("controller")
    stop_group(controller, hub.database)
    page.locator("#control[data-down]", has_text="Nothing moves now").wait_for(timeout=TWO_POLLS)
    stale.first.wait_for(timeout=TWO_POLLS)
    page.locator("#live", has_text="Nothing moves").wait_for()
    page.locator("#announce", has_text="Nothing moves now").wait_for(state="attached")
    assert "manage.py up" in page.locator("#control").inner_text()
    pause(controller, signal.SIGCONT)
    page.locator("#live", has_text="Live").wait_for(timeout=TWO_POLLS)
    _all_is_well(page)


def _all_is_well(page: Page) -> None:
    """With this hub's short lease a controller that is late by a second stands still, until the next poll."""
    page.locator("#control[data-down]").first.wait_for(state="detached", timeout=TWO_POLLS)
    page.locator(".cell.is-now .sub.is-stale").first.wait_for(state="detached", timeout=TWO_POLLS)


def _the_web_server_hangs(hub: HubProcesses, page: Page) -> None:
    web = hub.pid("web")
    pause(web, signal.SIGSTOP)
    page.locator("#lost").wait_for(timeout=2 * TWO_POLLS)
    page.locator("#live", has_text="Connection lost: page is").wait_for()
    assert page.locator("#lost-age").inner_text().split()[0].isdigit()
    stop = page.get_by_role("link", name=Run.objects.get().server.name).first
    assert stop.is_visible()  # what was there can still be read
    pause(web, signal.SIGCONT)
    page.locator("#live", has_text="Live").wait_for(timeout=2 * TWO_POLLS)
    assert page.locator("#lost").is_hidden()


def _the_web_server_is_killed(hub: HubProcesses, page: Page) -> None:
    """It may be back before the page asks again. What changed meanwhile is seen, without a reload."""
    hub.kill_group("web")
    Run.objects.update(bytes_done=57_000)
    Migration.objects.update(version=F("version") + 1)
    until(hub.answers, 300, "the web server is started again")
    page.get_by_text("57 %").first.wait_for(timeout=4 * TWO_POLLS)
    page.locator("#live", has_text="Live").wait_for(timeout=4 * TWO_POLLS)
