"""The board tells the truth about every server, whatever the size of the wave."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from projects.models import Approval, Hold, Migration, Step
from tests import factories

from .conftest import House

Kind = Step.Kind


def row(house: House, who: str = "lead", migration: Migration | None = None) -> str:
    text = house.client(who).get(reverse("wave-board", args=[house.wave.pk])).content.decode()
    pk = (migration or house.migration).pk
    return text.split(f'id="lane-{pk}"', 1)[1].split("</tr>", 1)[0]


def now_of(lane: str) -> tuple[str, str]:
    """State and title of the one cell that counts now."""
    found = re.findall(r'class="cell is-now[^"]*" role="cell" data-state="(\w+)".*?cell-title">([^<]*)<', lane)
    assert len(found) == 1
    return found[0]


def set_step(house: House, kind: str, state: str, **over: object) -> Step:
    Step.objects.filter(migration=house.migration, kind=kind).update(state=state, **over)
    return house.migration.steps.get(kind=kind)


def test_seven_cells_and_one_now(house: House) -> None:
    lane = row(house)
    assert lane.count('role="cell" data-state=') == 7
    assert now_of(lane) == ("waiting", "Initial migration: waiting")


def test_what_failed_counts_before_what_runs_and_names_the_cause(house: House) -> None:
    step = set_step(house, Kind.STOP, "attention", reason="cron did not stop in 90 s.")
    attempt = factories.make_attempt(step, state="attention")
    factories.make_action(attempt, "stop_services", state="failed")
    lane = row(house)
    assert now_of(lane) == ("failed", "Stop services: failed")
    assert "cron did not stop in 90 s." in lane


def test_out_of_contact_is_unknown_not_running(house: House) -> None:
    step = set_step(house, Kind.INITIAL, "running")
    action = factories.make_action(factories.make_attempt(step), state="running")
    lost = timezone.now() - timedelta(minutes=6)
    factories.make_run(
        action=action,
        bytes_done=22,
        bytes_total=31,
        rate=5.0,
        observed_at=lost,
        contact_lost_since=lost,
        reason="No answer.",
    )
    lane = row(house)
    assert now_of(lane)[0] == "unknown"
    assert "is-stale" in lane
    assert "5 B/s" not in lane  # a rate that nobody measures any more is not shown
    assert "6 min" in lane


@pytest.mark.parametrize(
    ("since_sync", "who", "state"), [(5, "target", "running"), (5, "source", "unknown"), (300, "target", "unknown")]
)
def test_a_clone_that_we_restarted_is_restarting_not_unknown(
    house: House, since_sync: int, who: str, state: str
) -> None:
    step = set_step(house, Kind.INITIAL, "running", started_at=timezone.now())
    sync = factories.make_sync(house.migration)
    lost = timezone.now() - timedelta(seconds=10)
    type(sync).objects.filter(pk=sync.pk).update(created_at=lost - timedelta(seconds=since_sync))
    machine = getattr(house.migration, who)
    factories.make_run(
        action=factories.make_action(factories.make_attempt(step), "probe", state="running"),
        contact_lost_since=lost,
        reason=f"{machine.name} does not answer at {machine.address}.",
    )
    lane = row(house)
    assert now_of(lane)[0] == state
    assert ("Restarting" in lane) == (state == "running")


def test_a_running_copy_never_says_hundred_per_cent(house: House) -> None:
    step = set_step(house, Kind.INITIAL, "running")
    action = factories.make_action(factories.make_attempt(step), state="running")
    factories.make_run(action=action, bytes_done=31, bytes_total=31)
    assert 'value="99"' in row(house)


def test_without_a_total_there_is_no_share(house: House) -> None:
    step = set_step(house, Kind.INITIAL, "running")
    action = factories.make_action(factories.make_attempt(step), state="running")
    factories.make_run(action=action, bytes_done=1500)
    lane = row(house)
    assert "<progress" not in lane
    assert "1.5 kB" in lane


def test_ready_with_a_hold_is_held_and_the_hold_says_why(house: House) -> None:
    for kind in (Kind.INITIAL, Kind.UAT):
        set_step(house, kind, "done")
    set_step(house, Kind.DELTA, "ready")
    Hold.objects.create(kind=Hold.Kind.PERSON, project=house.project, migration=house.migration, why="freeze till Tue")
    lane = row(house)
    assert 'data-state="held"' in lane
    assert "freeze till Tue" in house.client("lead").get(reverse("wave-board", args=[house.wave.pk])).content.decode()


@pytest.mark.parametrize("state", ["cancelled", "skipped", "not_applicable", "undone"])
def test_nothing_is_green_that_is_not_done(house: House, state: str) -> None:
    set_step(house, Kind.INITIAL, state)
    cell = row(house).split('role="cell" data-state="', 1)[1]
    assert cell.startswith(f'{state}"')
    assert "#i-done" not in cell.split("</td>", 1)[0]


def test_settled_servers_are_told_apart(house: House) -> None:
    now = timezone.now()
    Migration.objects.filter(pk=house.migration.pk).update(state="complete", completed_at=now, declared_at=now)
    Migration.objects.filter(pk=house.foreign.pk).update(state="cancelled")
    text = house.client("lead").get(reverse("wave-board", args=[house.wave.pk])).content.decode()
    tally = text.split('class="tally"', 1)[1].split("</ul>", 1)[0]
    assert re.findall(r'data-state="(\w+)"', tally) == ["done", "cancelled"]


def test_the_lead_gives_the_go_here_and_nobody_else(house: House) -> None:
    factories.make_approval(house.wave, house.application, Approval.Gate.GO)
    address = reverse("wave-board", args=[house.wave.pk])
    assert "Give the go" in house.client("lead").get(address).content.decode()
    for who in ("operator", "owner", "manager"):
        assert "Give the go" not in house.client(who).get(address).content.decode()


def test_queries_do_not_grow_with_the_wave(house: House) -> None:
    client, address = house.client("lead"), reverse("wave-board", args=[house.wave.pk])
    client.get(address)
    with CaptureQueriesContext(connection) as few:
        client.get(address)
    for _ in range(8):
        migration = factories.make_migration(
            project=house.project,
            application=house.application,
            wave=house.wave,
            profile=house.migration.profile,
            target=True,
        )
        step = migration.steps.get(kind=Kind.INITIAL)
        Step.objects.filter(pk=step.pk).update(state="running")
        action = factories.make_action(factories.make_attempt(step), state="running")
        factories.make_run(action=action)
    with CaptureQueriesContext(connection) as many:
        assert client.get(address).status_code == 200
    assert len(many) <= len(few) + 2
    assert len(many) <= 30
