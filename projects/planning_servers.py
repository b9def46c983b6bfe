"""Sources: a server enters a project by its migration, made in the same transaction."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F

from migrationhub.audit.record import record
from migrationhub.lib.findings import Problem
from projects.errors import Conflict
from projects.models import Action, Migration, Project, Step, StepAttempt
from servers.models import Change, HostKey, Run, Server
from servers.models.run import OPEN

from .planning_base import begun, write

REACHED = ("address", "port", "credential", "manager", "directory")
ANOTHER = ("address", "manager", "directory")  # with another of these it may be another machine


@dataclass(frozen=True)
class NewServer:
    name: str
    address: str
    port: int = 22


def taken(project: Project, name: str, address: str, port: int, *, but: Server | None = None) -> str:
    """Why no further server of this name or address can enter, in words; empty if it can."""
    others = Migration.objects.filter(state=Migration.State.OPEN).select_related("source")
    if but is not None:
        others = others.exclude(source=but)
    for other in others.filter(project=project, source__name__iexact=name):
        return f"{name} is in this project already, at {other.source.address} port {other.source.port}."
    for other in others.filter(source__address__iexact=address, source__port=port):
        if other.project_id == project.pk:
            return f"{address} port {port} is in this project already: it is {other.source.name}."
        return f"{address} port {port} is being migrated in another project."
    return ""


@transaction.atomic
def add_server(*, project: Project, values: dict[str, Any], user: User) -> Migration:
    """A source with its open migration. `values`: name, address, port, credential, manager, directory."""
    why = taken(project, values["name"], values["address"], values["port"])
    if why:
        raise Problem(why, "Correct name or address, or open the server that is there.", code="server.taken")
    server = write(Server(role=Server.Role.SOURCE), values, user=user, verb="server.create", project=project)
    migration = Migration.objects.create(project=project, source=server)
    record("migration.create", migration, actor=user, project_id=project.pk, after={"source": server.name})
    return migration


@transaction.atomic
def add_servers(
    *, project: Project, servers: Iterable[NewServer], common: dict[str, Any], user: User
) -> list[Migration]:
    """All of them or none: a list that was half taken would be entered twice."""
    return [
        add_server(
            project=project,
            values={"name": each.name, "address": each.address, "port": each.port, **common},
            user=user,
        )
        for each in servers
    ]


@transaction.atomic
def change_server(*, project: Project, server: Server, values: dict[str, Any], user: User) -> Server:
    """Reached in another way it is asked again: that the old log-in worked says nothing about the new one.

    Where it may be another machine, nothing that was seen of the old one is kept.
    """
    changed = [name for name in REACHED if name in values and getattr(server, name) != values[name]]
    # First: an action that is about to begin on this server then sees that it was changed.
    Migration.objects.filter(source=server).update(version=F("version") + 1)
    if changed:
        _refuse_other_machine(server, changed)
        values = {**values, "findings": [], "facts_at": None}
        if set(ANOTHER) & set(changed):
            values["facts"] = {}
    write(server, values, user=user, verb="server.change", project=project)
    return server


def _refuse_other_machine(server: Server, changed: list[str]) -> None:
    """Work in hand goes on where it began, and what was stopped on one machine is not copied from another."""
    mine = Action.objects.filter(attempt__step__migration__source=server, state=Action.State.RUNNING)
    if mine.exists() or Run.objects.filter(server=server, state__in=OPEN).exists():
        raise Conflict(f"Work on {server} is under way.", "Wait until it ends, or cancel it; then change the server.")
    another = [name for name in changed if name in ANOTHER]
    going = Migration.objects.filter(source=server, state=Migration.State.OPEN)
    if another and any(begun(migration, Step.Kind.STOP) for migration in going):
        raise Problem(
            f"The cutover of {server} has begun: {', '.join(another)} cannot change any more.",
            "Go back with “Abort and restart services” first.",
            code="server.in_cutover",
        )


@transaction.atomic
def withdraw_server(*, migration: Migration, user: User) -> None:
    """Take a server that nothing was done to out of the project, for good."""
    if StepAttempt.objects.filter(step__migration=migration).exists() or migration.target_id:
        raise Problem(
            f"Steps of {migration} were begun: it stays in the project.",
            "Take it out of its wave instead.",
            code="server.begun",
        )
    changed = Migration.objects.filter(
        pk=migration.pk, state=Migration.State.OPEN, version=migration.version, target=None
    ).update(state=Migration.State.CANCELLED, wave=None, version=F("version") + 1)
    if not changed:
        raise Conflict(f"{migration} has changed in the meantime.", "Look at it again.")
    record("migration.withdraw", migration, actor=user, project_id=migration.project_id)
    Change.bump()


def offered_keys(project: Project) -> list[HostKey]:
    """Host keys of the project's open sources that wait for a person."""
    return list(
        HostKey.objects.filter(
            server__migrations__project=project,
            server__migrations__state=Migration.State.OPEN,
            state=HostKey.State.OFFERED,
        )
        .select_related("server")
        .order_by("server__name", "key_type")
    )
