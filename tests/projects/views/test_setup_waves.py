"""Waves, change freezes and profiles through their pages."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from projects.models import Profile, Project, Wave
from servers import checks
from servers.platforms.base import PlatformProblem
from tests import factories as make

from .setup_helpers import TablePlatform, page, post

pytestmark = pytest.mark.django_db
ZURICH = {"time_zone": "Europe/Zurich"}


@pytest.fixture
def project() -> Project:
    lead = make.make_user("lena")
    return make.make_project("Shop to VME", slug="shop", lead=lead, time_zone="Europe/Zurich")


def test_a_window_is_kept_as_the_wall_clock_said(lead: Client, project: Project) -> None:
    data = {"name": "first", "number": "1", "starts_at": "2026-11-28T22:00", "ends_at": "2026-11-29T04:30", **ZURICH}
    said = post(lead, "wave-new", "shop", **data)
    wave = project.waves.get()
    assert wave.starts_at == datetime(2026, 11, 28, 21, 0, tzinfo=UTC)
    assert "Sat 28 Nov 2026 22:00 CET to Sun 29 Nov 2026 04:30 CET (Europe/Zurich), 6 h 30 min" in said
    again = page(lead, "wave-edit", "shop", wave.pk)
    assert 'value="2026-11-28T22:00"' in again
    assert 'value="Europe/Zurich"' in again


def test_a_night_with_a_clock_change_says_its_length(lead: Client) -> None:
    data = {"name": "spring", "number": "1", "starts_at": "2027-03-27T22:00", "ends_at": "2027-03-28T06:00", **ZURICH}
    said = post(lead, "wave-new", "shop", **data)
    assert "Sun 28 Mar has 23 h, and the window lasts 7 h, although the wall clock suggests 8 h." in said


def test_a_time_that_does_not_exist_is_refused(lead: Client, project: Project) -> None:
    data = {"name": "spring", "number": "1", "starts_at": "2027-03-28T02:30", "ends_at": "2027-03-28T06:00", **ZURICH}
    said = post(lead, "wave-new", "shop", **data)
    assert "Window starts: 2027-03-28 02:30 does not exist in Europe/Zurich" in said
    assert 'value="2027-03-28T02:30"' in said
    assert not project.waves.exists()


def test_a_time_that_comes_twice_is_asked_for(lead: Client, project: Project) -> None:
    data = {"name": "autumn", "number": "1", "starts_at": "2027-10-30T22:00", "ends_at": "2027-10-31T02:30", **ZURICH}
    said = post(lead, "wave-new", "shop", **data)
    assert "Window ends: 2027-10-31 02:30 comes twice in Europe/Zurich" in said
    assert '<select name="ends_which"' in said
    post(lead, "wave-new", "shop", **data, ends_which="second")
    wave = project.waves.get()
    assert wave.ends_at == datetime(2027, 10, 31, 1, 30, tzinfo=UTC)
    assert '<option value="second" selected>' in page(lead, "wave-edit", "shop", wave.pk)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ends_at": "2026-11-28T21:00"}, "End “2026-11-28T21:00” is not after the start “2026-11-28T22:00”."),
        ({"ends_at": ""}, "Window ends is empty, but the other end is given."),
        ({"starts_at": "tonight"}, "Window starts: “tonight” is not a date with a time."),
        ({"time_zone": "CEST"}, "Time zone “CEST” is not known."),
        ({"number": "7"}, "Number “7” is Wave 7: taken. Take another one, such as 1."),
        ({"number": "-1"}, "Number “-1”:"),
    ],
)
def test_a_wrong_window_is_named(lead: Client, project: Project, changes: dict[str, str], words: str) -> None:
    make.make_wave(project, number=7, name="taken")
    data = {"name": "n", "number": "1", "starts_at": "2026-11-28T22:00", "ends_at": "2026-11-29T04:00", **ZURICH}
    assert words in post(lead, "wave-new", "shop", **{**data, **changes})
    assert project.waves.count() == 1


def test_a_wave_may_have_no_window(lead: Client, project: Project) -> None:
    said = post(lead, "wave-new", "shop", name="any time", number="1", **ZURICH)
    assert "It has no window: the go alone decides." in said
    assert project.waves.get().starts_at is None


def test_a_changed_window_moves_the_versions(lead: Client, project: Project) -> None:
    migration = make.make_migration(project=project)
    wave = migration.wave
    assert wave is not None
    data = {"name": "n", "number": wave.number, "starts_at": "2026-11-28T22:00", "ends_at": "2026-11-29T04:00"}
    post(lead, "wave-edit", "shop", wave.pk, **data, **ZURICH)
    assert Wave.objects.get().version == wave.version + 1
    before = migration.version
    migration.refresh_from_db()
    assert migration.version == before + 1


def test_a_change_freeze_is_entered_shown_with_what_it_covers_and_removed(lead: Client, project: Project) -> None:
    make.make_wave(
        project,
        starts_at=datetime(2026, 12, 30, 21, tzinfo=UTC),
        ends_at=datetime(2026, 12, 31, 3, tzinfo=UTC),
        time_zone="UTC",
    )
    data = {"name": "End of year", "starts_at": "2026-12-24T00:00", "ends_at": "2027-01-02T00:00", **ZURICH}
    said = post(lead, "freeze-new", "shop", **data)
    freeze = project.change_freezes.get()
    assert "covers part of it: no cutover starts then." in said
    assert "Starts is empty." in post(lead, "freeze-new", "shop", name="x", **ZURICH)
    post(lead, "freeze-edit", "shop", freeze.pk, **{**data, "ends_at": "2026-12-26T00:00"})
    assert "covers part of it" not in page(lead, "waves", "shop")
    post(lead, "freeze-remove", "shop", freeze.pk)
    assert not project.change_freezes.exists()


# ---- Profiles


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> TablePlatform:
    platform = TablePlatform()
    monkeypatch.setattr(checks, "platform_client", lambda _row: platform)
    return platform


@pytest.fixture
def typed(project: Project) -> dict[str, Any]:
    platform = make.make_platform(project, name="VME Basel")
    return {
        "name": "Database",
        "platform": platform.pk,
        "scope": "system",
        "exclusions": "/var/cache/*\n/swapfile",
        "consistency": "postgresql",
        "postgresql_data": "/var/lib/postgresql/15/main",
        "postgresql_port": "5433",
        "proof": "full",
        "bandwidth": "2048",
        "addressing": "new",
        "guest_address": "migrationhub",
        "disk_gib": "20",
    }


PLACE = {
    "group_id": "2",
    "zone_id": "10",
    "layout_id": "7",
    "pool_id": "pool-1",
    "plan_id": "21",
    "image_id": "30",
    "datastore_id": "40",
    "migration_network_id": "network-1",
    "production_network_id": "network-2",
}


def test_choices_come_step_by_step_and_nothing_typed_is_lost(
    lead: Client, table: TablePlatform, typed: dict[str, Any]
) -> None:
    first = post(lead, "profile-new", "shop", **typed, load="1")
    assert '<option value="2">Shop</option>' in first
    assert "/swapfile" in first
    assert 'value="5433"' in first
    assert "Choices are loaded as far as possible" in first
    assert "zones" not in table.asked, "the cloud depends on the group"
    assert not Profile.objects.exists()
    second = post(lead, "profile-new", "shop", **typed, group_id="2", load="1")
    assert '<option value="10" selected>Basel</option>' in second, "the only cloud is taken"
    assert '<option value="pool-1" selected>Cluster A</option>' in second
    assert '<option value="20">2 CPU, 4 GB</option>' in second
    assert "All choices are loaded" in second


def test_choices_come_by_address_too(lead: Client, table: TablePlatform, typed: dict[str, Any]) -> None:
    said = page(lead, "profile-new", "shop", platform=typed["platform"], group_id="2", load="1", name="From a link")
    assert 'value="From a link"' in said
    assert '<option value="20">2 CPU, 4 GB</option>' in said


def test_a_profile_is_saved_with_the_labels_that_were_shown(
    lead: Client, project: Project, table: TablePlatform, typed: dict[str, Any]
) -> None:
    assert "Profile Database is saved." in post(lead, "profile-new", "shop", **typed, **PLACE)
    profile = project.profiles.get()
    assert profile.consistency_options == {"data": "/var/lib/postgresql/15/main", "port": 5433}
    assert profile.exclusions == ["/var/cache/*", "/swapfile"]
    assert profile.labels["plan_id"] == "4 CPU, 8 GB"
    assert profile.labels["production_cidr"] == "10.9.2.0/24"
    assert profile.instance_type == "mvm-7"
    assert (profile.migration_network_id, profile.production_network_id) == ("network-1", "network-2")


def test_what_is_taken_over_is_ticked_one_by_one_and_kept(
    lead: Client, project: Project, table: TablePlatform, typed: dict[str, Any]
) -> None:
    ticks = {"identity": ["machine_id", "host_keys"]}
    loaded = post(lead, "profile-new", "shop", **typed, **ticks, load="1")
    assert loaded.count('name="identity"') == 3 and loaded.count(" checked") == 2, "a load loses no tick"
    assert "two machines with one identity confuse licences" in loaded
    post(lead, "profile-new", "shop", **typed, **ticks, **PLACE)
    profile = project.profiles.get()
    assert profile.identity == ["host_keys", "machine_id"]
    said = post(lead, "profile-edit", "shop", profile.pk, **typed, identity=["uuid"], **PLACE)
    assert "Take over the source's identity" in said and "uuid" in said
    post(lead, "profile-edit", "shop", profile.pk, **typed, **PLACE)
    profile.refresh_from_db()
    assert profile.identity == []


def test_who_sets_the_address_can_be_chosen_with_the_source_off(
    lead: Client, project: Project, table: TablePlatform, typed: dict[str, Any]
) -> None:
    """What else the move is made from stays as it was signed."""
    post(lead, "profile-new", "shop", **typed, **PLACE)
    profile = project.profiles.get()
    migration = make.make_migration(project=project, profile=profile, states={"stop_services": "done"}, target=True)
    migration.steps.filter(kind="cutover_events").update(state="attention")
    shown = page(lead, "profile-edit", "shop", profile.pk)
    assert '<option value="by_hand">Set by hand</option>' in shown and "Retry follows it" in shown
    by_hand = {**typed, "guest_address": "by_hand"}
    said = post(lead, "profile-edit", "shop", profile.pk, **{**by_hand, "addressing": "take_over"}, **PLACE)
    assert "addressing cannot change under it" in said
    post(lead, "profile-edit", "shop", profile.pk, **by_hand, **PLACE)
    profile.refresh_from_db()
    assert (profile.guest_address, profile.addressing) == ("by_hand", "new")
    assert "Gets a new production address, set by hand" in page(lead, "profiles", "shop")


def test_what_the_platform_does_not_have_is_refused(lead: Client, table: TablePlatform, typed: dict[str, Any]) -> None:
    said = post(lead, "profile-new", "shop", **typed, **{**PLACE, "plan_id": "99"})
    assert "Service plan “99” is not what the platform offers here. Load the choices and choose one." in said
    assert not Profile.objects.exists()


def test_an_open_choice_is_named(lead: Client, table: TablePlatform, typed: dict[str, Any]) -> None:
    said = post(lead, "profile-new", "shop", **typed, **{**PLACE, "plan_id": "", "group_id": ""})
    assert "Service plan is empty. Load the choices and choose one." in said
    assert "Group is empty." in said
    assert not Profile.objects.exists()


def test_the_clone_cannot_live_in_production(lead: Client, table: TablePlatform, typed: dict[str, Any]) -> None:
    said = post(lead, "profile-new", "shop", **typed, **{**PLACE, "migration_network_id": "network-2"})
    assert "Migration network is the production network" in said
    assert not Profile.objects.exists()


def test_a_platform_that_does_not_answer_loses_nothing(
    lead: Client, table: TablePlatform, typed: dict[str, Any]
) -> None:
    table.problem = PlatformProblem("VME Basel does not answer at https://vme.", "Check its address and try again.")
    for more in ({"load": "1"}, {}):
        said = post(lead, "profile-new", "shop", **typed, **PLACE, **more)
        assert "VME Basel does not answer at https://vme. Check its address and try again." in said
        assert "/swapfile" in said
        assert '<option value="21" selected>' in said
    assert not Profile.objects.exists()


def test_a_stored_place_needs_no_platform_that_answers(
    lead: Client, project: Project, table: TablePlatform, typed: dict[str, Any]
) -> None:
    post(lead, "profile-new", "shop", **typed, **PLACE)
    profile = project.profiles.get()
    table.problem = PlatformProblem("It does not answer.")
    shown = page(lead, "profile-edit", "shop", profile.pk)
    assert '<option value="21" selected>4 CPU, 8 GB</option>' in shown
    assert "5433" in shown
    post(lead, "profile-edit", "shop", profile.pk, **{**typed, "bandwidth": "512"}, **PLACE)
    profile.refresh_from_db()
    assert profile.bandwidth == 512
    assert profile.labels["plan_id"] == "4 CPU, 8 GB"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scope": "paths"}, "Directories is empty. Name at least one, or choose the whole system."),
        ({"scope": "paths", "paths": "srv/../etc"}, "Directory “srv/../etc” is not a directory below the root."),
        ({"paths": "/srv"}, "Directories are named, but the whole system is chosen."),
        ({"postgresql_data": ""}, "PostgreSQL: data directory is empty."),
        ({"consistency": "snapshot-xfs"}, "Consistency “snapshot-xfs”:"),
        ({"consistency": "snapshot-lvm", "snapshot_size": "big"}, "LVM: room for changes “big” is no size."),
        ({"disk_gib": "0"}, "Root disk “0”:"),
        ({"nic_type_id": "virtio"}, "NIC type “virtio” is not a number."),
        ({"platform": "999"}, "Platform “999”:"),
    ],
)
def test_a_wrong_recipe_is_named(
    lead: Client, table: TablePlatform, typed: dict[str, Any], changes: dict[str, str], words: str
) -> None:
    assert words in post(lead, "profile-new", "shop", **{**typed, **PLACE, **changes})
    assert not Profile.objects.exists()


@pytest.mark.parametrize("method", [value for value in Profile.Consistency.values if value != "postgresql"])
def test_every_way_to_a_consistent_copy_is_offered(
    lead: Client, project: Project, table: TablePlatform, typed: dict[str, Any], method: str
) -> None:
    assert f'<option value="{method}"' in page(lead, "profile-new", "shop")
    post(lead, "profile-new", "shop", **{**typed, **PLACE, "consistency": method})
    assert project.profiles.get().consistency == method


def test_a_platform_of_another_project_is_not_asked(lead: Client, table: TablePlatform, typed: dict[str, Any]) -> None:
    foreign = make.make_platform(make.make_project())
    post(lead, "profile-new", "shop", **{**typed, "platform": foreign.pk}, load="1")
    assert table.asked == []


def test_the_place_stays_while_targets_are_there(
    lead: Client, project: Project, table: TablePlatform, typed: dict[str, Any]
) -> None:
    post(lead, "profile-new", "shop", **typed, **PLACE)
    profile = project.profiles.get()
    make.make_migration(project=project, profile=profile, target=True, source=make.make_server("shop-db"))
    said = post(lead, "profile-edit", "shop", profile.pk, **typed, **{**PLACE, "plan_id": "20"})
    assert "The targets of shop-db were made with this profile: service plan cannot change under them." in said
    profile.refresh_from_db()
    assert profile.plan_id == "21"
    post(lead, "profile-edit", "shop", profile.pk, **{**typed, "bandwidth": "1"}, **PLACE)
    profile.refresh_from_db()
    assert profile.bandwidth == 1


def test_lists_need_a_fixed_number_of_queries(
    lead: Client, project: Project, django_assert_max_num_queries: Any
) -> None:
    for _ in range(8):
        make.make_migration(project=project)
    for name in ("waves", "profiles", "applications", "platforms", "members", "project-setup"):
        with django_assert_max_num_queries(18):
            assert lead.get(reverse(name, args=["shop"])).status_code == 200
