"""What step 6 needs is asked for before services are stopped, not when the source is off."""

from __future__ import annotations

from typing import Any

import pytest

from projects.lanes import lane_of
from projects.models import Migration, Wave
from projects.steps import MODULES
from projects.steps.stop_services import cutover_unplanned
from tests import factories

pytestmark = pytest.mark.django_db
SEEN = {"addresses": [{"address": "192.0.2.7", "cidr": "192.0.2.7/24"}]}


def missing(migration: Migration) -> list[str]:
    return [unmet.code for unmet in cutover_unplanned(lane_of(migration))]


def planned(*, addressing: str = "new", facts: dict[str, Any] | None = None, **over: Any) -> Migration:
    project = factories.make_project()
    profile = factories.make_profile(project, addressing=addressing)
    source = factories.make_server(address="192.0.2.7", facts=facts or {})
    return factories.make_migration(project=project, profile=profile, source=source, **over)


def test_a_complete_plan_is_in_nobodys_way() -> None:
    assert missing(planned()) == []
    assert missing(planned(addressing="take_over", new_address="", facts=SEEN)) == []


@pytest.mark.parametrize(
    ("over", "code"),
    [
        ({"new_address": ""}, "plan.address"),
        ({"addressing": "take_over", "new_address": ""}, "plan.address"),  # its prefix was never seen
        ({"dns_name": "db.shop.lab"}, "plan.dns"),  # nobody takes the change
    ],
)
def test_what_the_move_would_fail_on_keeps_services_from_being_stopped(over: dict[str, Any], code: str) -> None:
    migration = planned(**over)
    assert missing(migration) == [code]
    assert code in [unmet.code for unmet in MODULES["stop_services"].unmet(lane_of(migration))]


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ({}, "give the wave a new window"),
        ({"stop_services": "done"}, "in the middle of this cutover, which goes on"),
        ({"stop_services": "done", "final_delta": "done", "cutover_events": "done"}, ""),
    ],
)
def test_a_window_that_ends_is_told_as_what_it_is(states: dict[str, str], words: str) -> None:
    """A list of holds names nothing that holds nothing back."""
    project = factories.make_project()
    wave = factories.make_wave(project, starts_at=factories.hours(-2), ends_at=factories.hours(-1))
    lane = lane_of(planned_in(wave, states))
    told = " ".join(hold.why for hold in lane.holds if hold.kind == "window")
    assert words in told and bool(told) == bool(words)


def planned_in(wave: Wave, states: dict[str, str]) -> Migration:
    return factories.make_migration(project=wave.project, wave=wave, states=states)
