"""Credentials, platforms and name servers: what a project may use. A grant is made by whoever entered it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F, Q

from migrationhub.lib import together
from migrationhub.lib.fields import readable
from migrationhub.lib.findings import Problem
from projects.errors import Conflict
from projects.models import Action, Migration, Project, Step, Wave
from projects.steps.initial_migration import spec_of
from servers.models import Credential, NameServer, Platform, Run, Server
from servers.models.run import OPEN

from .planning_base import SECRETS, begun, given_up, write

ZONE = {"address": "address", "port": "port", "zone": "zone"}  # where a name is changed, and in what


@transaction.atomic
def save_credential(
    *, project: Project, credential: Credential | None = None, values: dict[str, Any], user: User
) -> Credential:
    """A new credential is granted to the project. In a changed one, an empty secret keeps the old."""
    found = credential or Credential()
    new = found.pk is None
    if not new:
        values = {name: value for name, value in values.items() if value or name not in SECRETS}
        for name in SECRETS & set(values):
            if not readable(found, name):
                setattr(found, name, "")  # what no key opens is replaced, and only so gets out of the way
        if values.get("username", found.username) != found.username:
            _refuse_other_user(found)
    verb = "credential.create" if new else "credential.change"
    write(found, values, user=user, verb=verb, project=project)
    if new:
        project.credentials.add(found)
    return found


def _refuse_other_user(credential: Credential) -> None:
    """Work in hand goes on as the user as whom it began: what it left there is that user's."""
    places = ("source", "target", "target__placement__platform", "profile__platform", "name_server")
    logs_in = Q.create([(f"{place}__credential", credential.pk) for place in places], Q.OR)
    using = Migration.objects.filter(logs_in, state=Migration.State.OPEN)
    using.update(version=F("version") + 1)  # an action that is about to begin then sees that it was changed
    mine = Action.objects.filter(attempt__step__migration__in=using, state=Action.State.RUNNING)
    running = {str(action.attempt.step.migration) for action in mine.select_related("attempt__step__migration__source")}
    checked = Run.objects.filter(server__credential=credential, state__in=OPEN).select_related("server")
    names = sorted(running | {str(run.server) for run in checked})
    if names:
        raise Conflict(
            f"Work that logs in with {credential} is under way: {', '.join(names)}.",
            "Wait until it ends, or cancel it; then change the user name. A new password is taken at any time.",
        )


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
    if not new and values.get("url", found.url) != found.url:
        _refuse_another_appliance(found)
    write(found, values, user=user, verb="platform.create" if new else "platform.change", project=project)
    if new:
        project.platforms.add(found)
    return found


def _refuse_another_appliance(platform: Platform) -> None:
    """Under the id of a target another appliance has another machine. Where nothing was made yet, nothing is lost."""
    going = Migration.objects.filter(
        Q(profile__platform=platform) | Q(target__placement__platform=platform), state=Migration.State.OPEN
    )
    # First: a step that is about to make a target there then sees that it was changed.
    Migration.objects.filter(pk__in=list(going.values_list("pk", flat=True))).update(version=F("version") + 1)
    placed = going.filter(target__placement__platform=platform)
    making = Action.objects.filter(attempt__step__migration__in=placed, state=Action.State.RUNNING)
    made = placed.exclude(target__placement__external_id="") | placed.filter(
        pk__in=making.values("attempt__step__migration")
    )
    names = sorted(str(migration) for migration in made.select_related("source"))
    if names:
        raise Problem(
            f"The targets of {', '.join(names)} are on {platform}: its URL cannot change under them.",
            "Make a second platform with the other URL for the servers that come next.",
            code="platform.in_use",
        )


@transaction.atomic
def save_name_server(
    *, project: Project, name_server: NameServer | None = None, values: dict[str, Any], user: User
) -> NameServer:
    """A new name server is granted to the project. Where names are changed stays as it is while one is."""
    found = name_server or NameServer()
    new = found.pk is None
    changed = [name for name in ZONE if not new and values.get(name, getattr(found, name)) != getattr(found, name)]
    if changed:
        _refuse_in_mid_cutover(found, changed)
    write(found, values, user=user, verb="name_server.create" if new else "name_server.change", project=project)
    if new:
        project.name_servers.add(found)
    return found


def _refuse_in_mid_cutover(name_server: NameServer, changed: list[str]) -> None:
    """Record and way back belong to the zone in which the change began; a go was given for that one, too."""
    going = Migration.objects.filter(name_server=name_server, state=Migration.State.OPEN)
    Wave.objects.filter(migrations__in=list(going)).update(version=F("version") + 1)
    going.update(version=F("version") + 1)
    kind = Step.Kind.CUTOVER
    names = sorted(str(row) for row in going.select_related("source") if begun(row, kind) and not given_up(row, kind))
    if names:
        raise Problem(
            f"The cutover events of {', '.join(names)} have begun with this name server:"
            f" {', '.join(ZONE[name] for name in changed)} cannot change under them.",
            "Make a second name server for the servers that come next; to change this one, give the try up on the"
            " server's page first.",
            code="name_server.in_cutover",
        )


def used_by(credentials: Iterable[Credential]) -> dict[int, list[str]]:
    """What logs in with each of these, in words, by the credential's key."""
    pks = [credential.pk for credential in credentials]
    found = together.fetch(
        servers=Server.objects.filter(credential__in=pks).only("id", "name", "credential"),
        platforms=Platform.objects.filter(credential__in=pks).only("id", "name", "credential"),
        name_servers=NameServer.objects.filter(credential__in=pks),
    )
    uses: dict[int, list[str]] = {pk: [] for pk in pks}
    for word, rows in zip(("Server", "Platform", "Name server"), found.values(), strict=True):
        for row in sorted(rows, key=str):
            uses[row.credential_id].append(f"{word} {row}")
    return uses


def planned_on(platform: Platform, project: Project) -> list[dict[str, Any]]:
    """What the project plans to make on the platform and has not made yet, for the platform's check."""
    waiting = (
        Migration.objects.filter(project=project, state=Migration.State.OPEN, profile__platform=platform)
        .filter(Q(target=None) | Q(target__placement__external_id=""))
        .select_related("profile", "source")
    )
    return [{**spec_of(row.profile), "label": row.source.name} for row in waiting if row.profile]
