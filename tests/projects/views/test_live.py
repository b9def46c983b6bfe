"""Live regions: unchanged costs little and changes nothing, a change is drawn, polling ends by itself."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
import time_machine
from django.db import connection
from django.db.models import F
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from projects.models import Approval, Hold, Migration, Step
from servers.models import Lease, Run
from tests import factories

from .conftest import House

HTMX = {"HX-Request": "true"}


def tag_in(text: str) -> str:
    found = re.search(r'hx-get="[^"]*\?region=live&amp;v=([^"]*)"', text)
    assert found, "the page does not poll"
    return found[1]


def poll(client: Client, address: str, tag: str):
    return client.get(f"{address}?region=live&v={tag}", headers=HTMX)


@pytest.fixture
def running(house: House) -> Run:
    step = house.migration.steps.get(kind=Step.Kind.INITIAL)
    Step.objects.filter(pk=step.pk).update(state=Step.State.RUNNING, started_at=timezone.now())
    action = factories.make_action(factories.make_attempt(step), state="running")
    return factories.make_run(action=action, bytes_done=10, bytes_total=100)


PAGES = {
    "wave-board": lambda h: reverse("wave-board", args=[h.wave.pk]),
    "migration": lambda h: reverse("migration", args=[h.migration.pk]),
    "acceptance": lambda h: reverse("acceptance", args=[h.wave.pk, h.application.pk]),
    "progress": lambda h: reverse("progress", args=[h.project.slug]),
    "overview": lambda h: reverse("overview"),
}


@pytest.mark.parametrize("name", PAGES)
def test_unchanged_is_204_after_few_queries(house: House, running: Run, name: str) -> None:
    client, address = house.client("lead"), PAGES[name](house)
    with time_machine.travel(timezone.now(), tick=False):
        tag = tag_in(client.get(address).content.decode())
        with CaptureQueriesContext(connection) as queries:
            response = poll(client, address, tag)
    assert response.status_code == 204
    assert not response.content
    assert len(queries) <= 7  # session, user, access (up to four), the tag


@pytest.mark.whole
@pytest.mark.parametrize("name", PAGES)
def test_an_observation_is_drawn_and_carries_a_new_tag(house: House, running: Run, name: str) -> None:
    client, address = house.client("lead"), PAGES[name](house)
    tag = tag_in(client.get(address).content.decode())
    Run.objects.filter(pk=running.pk).update(bytes_done=50, version=F("version") + 1)
    response = poll(client, address, tag)
    assert response.status_code == 200
    text = response.content.decode()
    assert "<html" not in text
    assert tag_in(text) != tag
    assert 'hx-swap-oob="true"' in text


def _hold(house: House) -> None:
    Hold.objects.create(kind="person", project=house.project, migration=house.migration, why="wait")


def _approval(house: House) -> None:
    factories.make_approval(house.wave, house.application, Approval.Gate.SIGN_OFF)


def _step(house: House) -> None:
    Step.objects.filter(migration=house.migration, position=1).update(reason="other", version=F("version") + 1)


def _migration(house: House) -> None:
    Migration.objects.filter(pk=house.migration.pk).update(version=F("version") + 1)


def _old(house: House) -> None:
    Run.objects.update(observed_at=timezone.now() - timedelta(seconds=20))


def _lost(house: House) -> None:
    Run.objects.update(contact_lost_since=timezone.now())


@pytest.mark.whole
@pytest.mark.parametrize("change", [_hold, _approval, _step, _migration, _old, _lost])
def test_whatever_is_drawn_is_in_the_tag(house: House, running: Run, change) -> None:
    client, address = house.client("lead"), PAGES["migration"](house)
    tag = tag_in(client.get(address).content.decode())
    change(house)
    assert poll(client, address, tag).status_code == 200


def test_another_migration_does_not_disturb(house: House, running: Run) -> None:
    client, address = house.client("lead"), PAGES["migration"](house)
    with time_machine.travel(timezone.now(), tick=False):
        tag = tag_in(client.get(address).content.decode())
        Migration.objects.filter(pk=house.foreign.pk).update(version=F("version") + 1)
        assert poll(client, address, tag).status_code == 204


def test_polling_ends_when_nothing_can_change(house: House) -> None:
    client, address = house.client("lead"), PAGES["migration"](house)
    tag = tag_in(client.get(address).content.decode())
    now = timezone.now()
    Migration.objects.filter(pk=house.migration.pk).update(
        state=Migration.State.COMPLETE, completed_at=now, declared_at=now, version=F("version") + 1
    )
    text = poll(client, address, tag).content.decode()
    assert 'id="pulse"' in text
    assert "hx-trigger" not in text
    assert "hx-trigger" not in client.get(address).content.decode()


@pytest.mark.whole
def test_every_live_region_has_one_stable_id(house: House, running: Run) -> None:
    client = house.client("lead")
    for name, make in PAGES.items():
        text = client.get(make(house)).content.decode()
        page = re.findall(r'id="([^"]+)"[^>]*data-live', text)
        region = poll(client, make(house), "old").content.decode()
        live = re.findall(r'id="([^"]+)"[^>]*data-live hx-swap-oob', region)
        assert page, name
        assert page == live, name
        every = re.findall(r'\bid="([^"]+)"', text)
        assert len(every) == len(set(every)), (name, [each for each in every if every.count(each) > 1])


def test_page_and_region_are_kept_apart_by_caches(house: House) -> None:
    response = house.client("lead").get(PAGES["migration"](house))
    assert "HX-Request" in response["Vary"]
    assert response["Cache-Control"] == "no-store"


def test_pages_have_no_inline_script_or_style(house: House, running: Run) -> None:
    for make in PAGES.values():
        text = house.client("lead").get(make(house)).content.decode()
        assert not re.search(r"<script(?![^>]*\bsrc=)", text)
        assert not re.search(r'\sstyle="', text)
        assert "<style" not in text
        assert not re.search(r"\son\w+=", text)
        for source in re.findall(r'(?:src|href)="(https?:[^"]*)"', text):
            raise AssertionError(f"something is fetched from outside: {source}")


def test_a_controller_that_is_gone_is_said_and_what_it_saw_last_is_marked(house: House, running: Run) -> None:
    client, address = house.client("lead"), PAGES["migration"](house)
    text = client.get(address).content.decode()
    assert "Nothing moves now" not in text
    assert "is-stale" not in text
    tag = tag_in(text)
    Lease.objects.update(beat_at=timezone.now() - timedelta(seconds=30))  # killed: its lease runs on
    text = poll(client, address, tag).content.decode()
    assert "Nothing moves now: the controller gives no sign of life" in text
    assert "manage.py up" in text
    assert "is-stale" in text
    down = tag_in(text)
    assert poll(client, address, down).status_code == 204
    factories.make_controller()
    text = poll(client, address, down).content.decode()
    assert "Nothing moves now" not in text
    assert "is-stale" not in text


@pytest.mark.whole
@pytest.mark.parametrize("name", PAGES)
def test_every_live_page_says_that_nothing_moves(house: House, running: Run, name: str) -> None:
    Lease.objects.update(until=timezone.now() - timedelta(seconds=1))  # stopped: it gave its lease back
    assert "Nothing moves now" in house.client("lead").get(PAGES[name](house)).content.decode()
    Lease.objects.all().delete()
    assert "has not run yet" in house.client("lead").get(PAGES[name](house)).content.decode()


def test_a_page_that_can_not_change_says_nothing_of_the_controller(house: House) -> None:
    now = timezone.now()
    Migration.objects.filter(pk=house.migration.pk).update(state="complete", completed_at=now, declared_at=now)
    Lease.objects.all().delete()
    assert "Nothing moves now" not in house.client("lead").get(PAGES["migration"](house)).content.decode()
