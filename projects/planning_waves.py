"""Waves, change freezes and profiles."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F

from migrationhub.audit.record import record
from migrationhub.lib.findings import Problem
from projects.calendar import Window, overlap
from projects.models import ChangeFreeze, Migration, Profile, Project, Step, Wave
from servers.models import Change

from .planning_base import begun, write

# What a target was made by: another choice would not change what is there.
PLACE = {
    "platform": "platform",
    "scope": "scope",
    "group_id": "group",
    "zone_id": "cloud",
    "pool_id": "resource pool",
    "instance_type": "instance type",
    "layout_id": "layout",
    "plan_id": "service plan",
    "image_id": "image",
    "datastore_id": "datastore",
    "migration_network_id": "migration network",
    "nic_type_id": "NIC type",
    "disk_gib": "disk size",
}
# What the final delta and the move are made from: fixed for a server whose services are being stopped or are.
# Who sets the guest's address is not: with the source off, setting it by hand may be the only way on.
RECIPE = {
    "mover": "mover",
    "paths": "directories",
    "exclusions": "exclusions",
    "consistency": "consistency",
    "consistency_options": "options of the consistency",
    "proof": "proof",
    "addressing": "addressing",
    "identity": "identity",
    "production_network_id": "production network",
}


@transaction.atomic
def save_wave(*, project: Project, wave: Wave | None = None, values: dict[str, Any], user: User) -> Wave:
    """A new or a changed wave; a changed window counts for every decision that is taken from now on."""
    found = wave or Wave(project=project)
    new = found.pk is None
    write(found, values, user=user, verb="wave.create" if new else "wave.change", project=project)
    if not new:
        Wave.objects.filter(pk=found.pk).update(version=F("version") + 1)
        Migration.objects.filter(wave=found).update(version=F("version") + 1)
    return found


@transaction.atomic
def save_freeze(
    *, project: Project, freeze: ChangeFreeze | None = None, values: dict[str, Any], user: User
) -> ChangeFreeze:
    found = freeze or ChangeFreeze(project=project)
    verb = "freeze.change" if found.pk else "freeze.create"
    write(found, values, user=user, verb=verb, project=project)
    _look_again(project)
    return found


@transaction.atomic
def remove_freeze(*, freeze: ChangeFreeze, user: User) -> None:
    record(
        "freeze.remove",
        freeze,
        actor=user,
        project_id=freeze.project_id,
        before={"starts_at": freeze.starts_at.isoformat(), "ends_at": freeze.ends_at.isoformat()},
    )
    project = freeze.project
    freeze.delete()
    _look_again(project)


def _look_again(project: Project) -> None:
    Migration.objects.filter(project=project, state=Migration.State.OPEN).update(version=F("version") + 1)
    Change.bump()


def clashes(wave: Wave) -> list[ChangeFreeze]:
    """Change freezes that touch the wave's window: nothing of its cutover starts inside them."""
    if not wave.starts_at or not wave.ends_at:
        return []
    window = Window(wave.starts_at, wave.ends_at, wave.time_zone)
    return [
        freeze
        for freeze in wave.project.change_freezes.all()
        if overlap(window, Window(freeze.starts_at, freeze.ends_at, freeze.time_zone))
    ]


@transaction.atomic
def save_profile(*, project: Project, profile: Profile | None = None, values: dict[str, Any], user: User) -> Profile:
    """A new or a changed profile. What targets were made by stays as long as one of them is open."""
    found = profile or Profile(project=project)
    new = found.pk is None
    if not new:
        # First: a step that is about to begin with this profile then sees that it was changed.
        Migration.objects.filter(profile=found).update(version=F("version") + 1)
        Wave.objects.filter(migrations__profile=found).update(version=F("version") + 1)
        _refuse_moving_targets(found, values)
        _refuse_in_mid_cutover(found, values)
    write(found, values, user=user, verb="profile.create" if new else "profile.change", project=project)
    return found


def _refuse_moving_targets(profile: Profile, values: dict[str, Any]) -> None:
    changed = [name for name in PLACE if name in values and values[name] != getattr(profile, name)]
    made = Migration.objects.filter(profile=profile, state=Migration.State.OPEN, target__isnull=False)
    names = [str(migration) for migration in made.select_related("source")]
    if changed and names:
        fields = ", ".join(PLACE[name] for name in changed)
        raise Problem(
            f"The targets of {', '.join(names)} were made with this profile: {fields} cannot change under them.",
            "Make a second profile with the new choices for the servers that come next.",
            code="profile.in_use",
        )


def _refuse_in_mid_cutover(profile: Profile, values: dict[str, Any]) -> None:
    """The owner signed this recipe and services were stopped for it: it does not change before the move is made."""
    changed = [name for name in RECIPE if name in values and values[name] != getattr(profile, name)]
    going = Migration.objects.filter(profile=profile, state=Migration.State.OPEN).select_related("source")
    names = [str(migration) for migration in going if changed and begun(migration, Step.Kind.STOP)]
    if names:
        fields = ", ".join(RECIPE[name] for name in changed)
        raise Problem(
            f"The cutover of {', '.join(names)} has begun with this profile: {fields} cannot change under it.",
            "Make a second profile for the servers that come next, or abort the cutover first.",
            code="profile.in_cutover",
        )
