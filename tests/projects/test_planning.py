"""The verbs of planning: what may change when, and what is left behind."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from migrationhub.audit.models import AuditEvent
from migrationhub.lib.findings import Problem
from projects import planning, planning_access, planning_people, planning_servers, planning_waves
from projects.errors import Conflict
from projects.models import Hold, Membership, Migration, Step, Wave
from servers.models import Change, Credential, Server
from tests import factories as make

pytestmark = pytest.mark.django_db


@pytest.fixture
def user() -> User:
    return make.make_user("lena")


@pytest.fixture
def migration() -> Migration:
    return make.make_migration(source=make.make_server("shop-db"))


def test_a_plan_bumps_versions_the_counter_and_the_audit_trail(migration: Migration, user: User) -> None:
    old = migration.wave
    new = make.make_wave(migration.project, name="second")
    assert old is not None
    counter = Change.current()
    planning.plan_server(migration=migration, values={"wave": new, "dns_ttl": 60}, user=user)
    assert Migration.objects.get(pk=migration.pk).version == migration.version + 1
    assert [Wave.objects.get(pk=wave.pk).version for wave in (old, new)] == [old.version + 1, new.version + 1]
    assert Change.current() > counter
    event = AuditEvent.objects.get(verb="migration.plan")
    assert event.project_id == migration.project_id
    assert event.before == {"wave": f"{old} (#{old.pk})", "dns_ttl": 300}
    assert event.after == {"wave": f"{new} (#{new.pk})", "dns_ttl": 60}


def test_a_plan_is_written_on_the_version_it_was_decided_on(
    migration: Migration, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else decides between our read and our write."""
    refuse = planning._refuse_late

    def meanwhile(*args: Any) -> None:
        refuse(*args)
        Migration.objects.filter(pk=migration.pk).update(version=migration.version + 1)

    monkeypatch.setattr(planning, "_refuse_late", meanwhile)
    with pytest.raises(Conflict, match="has changed in the meantime"):
        planning.plan_server(migration=migration, values={"dns_ttl": 60}, user=user)
    assert Migration.objects.get(pk=migration.pk).dns_ttl == 300
    assert not AuditEvent.objects.exists()


@pytest.mark.parametrize("state", [s for s in Step.State if s not in planning.NOT_BEGUN])
def test_what_the_stop_relies_on_is_fixed_once_it_has_begun(migration: Migration, user: User, state: str) -> None:
    migration.steps.filter(kind=Step.Kind.STOP).update(state=state)
    for name, value in (("services", ["x"]), ("wave", make.make_wave(migration.project))):
        with pytest.raises(Problem, match=f"Stop services of shop-db has begun: {name} cannot change"):
            planning.plan_server(migration=migration, values={name: value}, user=user)
    planning.plan_server(migration=migration, values={"new_address": "10.0.0.9/24"}, user=user)
    with pytest.raises(Problem, match="it stays in"):
        planning.remove_from_wave(migration=migration, user=user)


@pytest.mark.parametrize("state", planning.NOT_BEGUN)
def test_before_the_stop_everything_may_change(migration: Migration, user: User, state: str) -> None:
    migration.steps.filter(kind=Step.Kind.STOP).update(state=state)
    planning.plan_server(migration=migration, values={"services": ["x"]}, user=user)
    planning.remove_from_wave(migration=migration, user=user)
    assert Migration.objects.get(pk=migration.pk).wave is None


def test_address_and_name_are_fixed_once_the_cutover_events_have_begun(migration: Migration, user: User) -> None:
    migration.steps.filter(kind=Step.Kind.CUTOVER).update(state=Step.State.RUNNING)
    with pytest.raises(Problem, match="Cutover events of shop-db has begun: DNS name cannot change"):
        planning.plan_server(migration=migration, values={"dns_name": "a.b"}, user=user)
    planning.plan_server(migration=migration, values={"dns_name": migration.dns_name}, user=user)


def test_a_target_stays_where_it_was_made(migration: Migration, user: User) -> None:
    make.make_target(migration)
    profile = migration.profile
    assert profile is not None
    same = make.make_profile(migration.project, platform=profile.platform, bandwidth=5)
    planning.plan_server(migration=migration, values={"profile": same}, user=user)
    other = make.make_profile(migration.project, platform=profile.platform, plan_id="9")
    with pytest.raises(Problem, match="differs in service plan"):
        planning.plan_server(migration=migration, values={"profile": other}, user=user)


def test_a_running_step_keeps_a_server_in_its_wave(migration: Migration, user: User) -> None:
    make.make_attempt(migration.steps.get(kind=Step.Kind.INITIAL))
    with pytest.raises(Problem, match="Initial migration of shop-db is running"):
        planning.remove_from_wave(migration=migration, user=user)


def test_an_open_test_keeps_its_clones_in_their_wave(migration: Migration, user: User) -> None:
    assert migration.wave is not None
    make.make_target(migration)
    hold = Hold.objects.create(
        kind="uat", project=migration.project, wave=migration.wave, application=migration.application
    )
    with pytest.raises(Problem, match=r"acceptance test of .* is open: shop-db stays in"):
        planning.remove_from_wave(migration=migration, user=user)
    for values in ({"wave": make.make_wave(migration.project)}, {"application": None}):
        with pytest.raises(Problem, match="is open"):
            planning.plan_server(migration=migration, values=values, user=user)
    planning.plan_server(migration=migration, values={"dns_ttl": 61}, user=user)
    Hold.objects.filter(pk=hold.pk).update(released_at=timezone.now())
    planning.remove_from_wave(migration=migration, user=user)


def test_a_closed_migration_is_not_planned(migration: Migration, user: User) -> None:
    Migration.objects.update(state=Migration.State.COMPLETE)
    with pytest.raises(Problem, match="is complete"):
        planning.plan_server(migration=migration, values={"dns_ttl": 60}, user=user)


def test_planning_twice_makes_seven_steps_once(user: User) -> None:
    migration = make.make_migration(steps=False)
    for ttl in (60, 61):
        planning.plan_server(migration=migration, values={"dns_ttl": ttl}, user=user)
    assert [step.position for step in migration.steps.all()] == [1, 2, 3, 4, 5, 6, 7]


def test_a_plan_that_changes_nothing_leaves_no_trace(migration: Migration, user: User) -> None:
    planning.plan_server(migration=migration, values={"dns_ttl": 300}, user=user)
    assert not AuditEvent.objects.exists()


def test_many_servers_come_all_or_none(user: User) -> None:
    project = make.make_project()
    new = planning_servers.NewServer
    common = {"credential": None, "manager": "systemd", "directory": "/"}
    with pytest.raises(Problem, match="is in this project already"):
        planning_servers.add_servers(
            project=project, servers=[new("a", "10.0.0.1"), new("a", "10.0.0.2")], common=common, user=user
        )
    assert not Server.objects.exists()
    assert not AuditEvent.objects.exists()


def test_two_leads_cannot_remove_each_other(user: User) -> None:
    project = make.make_project()
    make.make_member(project, "lead")
    one, two = Membership.objects.filter(project=project)
    planning_people.remove_member(member=one, user=user)
    with pytest.raises(Problem, match="is the only lead"):
        planning_people.remove_member(member=two, user=user)


def test_the_last_lead_who_can_log_in_stays(user: User) -> None:
    project = make.make_project()
    ghost = make.make_member(project, "lead", make.make_user(is_active=False))
    lead = Membership.objects.exclude(user=ghost).get(project=project)
    with pytest.raises(Problem, match=r"is the only lead of .* who can log in"):
        planning_people.change_member(member=lead, role="operator", user=user)
    planning_people.remove_member(member=Membership.objects.get(user=ghost), user=user)
    with pytest.raises(Problem, match="is the only lead"):
        planning_people.remove_member(member=lead, user=user)


def test_secrets_never_reach_the_audit_trail(user: User) -> None:
    project = make.make_project()
    values = {"name": "k", "kind": "key", "username": "root", "secret": "S3CRET-A", "passphrase": "S3CRET-B"}
    credential = planning_access.save_credential(project=project, values=values, user=user)
    planning_access.save_credential(
        project=project, credential=credential, values={"secret": "S3CRET-C", "passphrase": ""}, user=user
    )
    found = Credential.objects.get()
    assert (found.secret, found.passphrase) == ("S3CRET-C", "S3CRET-B")
    told = str(list(AuditEvent.objects.values()))
    assert AuditEvent.objects.count() == 2
    assert "S3CRET" not in told


def test_a_freeze_makes_decisions_look_again(migration: Migration, user: User) -> None:
    values = {"name": "f", "starts_at": make.hours(1), "ends_at": make.hours(2), "time_zone": "UTC"}
    freeze = planning_waves.save_freeze(project=migration.project, values=values, user=user)
    planning_waves.remove_freeze(freeze=freeze, user=user)
    assert Migration.objects.get(pk=migration.pk).version == migration.version + 2


def test_clashes_are_freezes_that_share_time_with_the_window(user: User) -> None:
    wave = make.make_wave(starts_at=make.hours(10), ends_at=make.hours(12))
    for name, start, end in (("before", 1, 10), ("inside", 11, 20), ("after", 12, 13)):
        wave.project.change_freezes.create(name=name, starts_at=make.hours(start), ends_at=make.hours(end))
    Wave.objects.filter(pk=wave.pk).update(
        starts_at=wave.project.change_freezes.get(name="before").ends_at,
        ends_at=wave.project.change_freezes.get(name="after").starts_at,
    )
    wave.refresh_from_db()
    assert [freeze.name for freeze in planning_waves.clashes(wave)] == ["inside"]
