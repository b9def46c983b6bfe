"""Credentials, platforms and name servers: what a project may use. A grant is made by whoever entered it."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Q

from projects.models import Migration, Project
from projects.steps.initial_migration import spec_of
from servers.models import Credential, NameServer, Platform

from .planning_base import SECRETS, write


@transaction.atomic
def save_credential(
    *, project: Project, credential: Credential | None = None, values: dict[str, Any], user: User
) -> Credential:
    """A new credential is granted to the project. In a changed one, an empty secret keeps the old."""
    found = credential or Credential()
    new = found.pk is None
    if not new:
        values = {name: value for name, value in values.items() if value or name not in SECRETS}
    verb = "credential.create" if new else "credential.change"
    write(found, values, user=user, verb=verb, project=project)
    if new:
        project.credentials.add(found)
    return found


@transaction.atomic
def save_platform(
    *, project: Project, platform: Platform | None = None, values: dict[str, Any], user: User
) -> Platform:
    """A new platform is granted to the project. After a change of how it is reached, its old findings say nothing."""
    found = platform or Platform()
    new = found.pk is None
    reached = ("url", "credential", "ca_bundle", "insecure")
    if not new and any(name in values and getattr(found, name) != values[name] for name in reached):
        values = {**values, "findings": [], "checked_at": None, "build_version": ""}
    write(found, values, user=user, verb="platform.create" if new else "platform.change", project=project)
    if new:
        project.platforms.add(found)
    return found


@transaction.atomic
def save_name_server(
    *, project: Project, name_server: NameServer | None = None, values: dict[str, Any], user: User
) -> NameServer:
    found = name_server or NameServer()
    new = found.pk is None
    write(found, values, user=user, verb="name_server.create" if new else "name_server.change", project=project)
    if new:
        project.name_servers.add(found)
    return found


def used_by(credential: Credential) -> list[str]:
    """What logs in with this credential, in words."""
    uses = [f"Server {server.name}" for server in credential.server_set.order_by("name")]
    uses += [f"Platform {platform}" for platform in Platform.objects.filter(credential=credential)]
    uses += [f"Name server {server}" for server in NameServer.objects.filter(credential=credential)]
    return uses


def planned_on(platform: Platform, project: Project) -> list[dict[str, Any]]:
    """What the project plans to make on the platform and has not made yet, for the platform's check."""
    waiting = (
        Migration.objects.filter(project=project, state=Migration.State.OPEN, profile__platform=platform)
        .filter(Q(target=None) | Q(target__placement__external_id=""))
        .select_related("profile", "source")
    )
    return [{**spec_of(row.profile), "label": row.source.name} for row in waiting if row.profile]
