"""The way to the first migration: what is there, what is missing, what to do next."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from django.db.models import Count, Q
from django.urls import reverse

from migrationhub.lib import together
from projects.models import Application, Membership, Migration, Profile, Project, Wave
from servers.models import Credential, HostKey, Platform


@dataclass(frozen=True)
class Stage:
    """`state` is a sign's name; `missing` says what to do next, empty where the stage is done."""

    title: str
    state: str
    there: str
    missing: str
    url: str
    new: str  # the address where one more is made
    action: str
    is_next: bool = False  # the first that is not done


def names(rows: Iterable[object], most: int = 6) -> str:
    """The first few by name, the others counted."""
    all_of = list(map(str, rows))
    more = f" and {len(all_of) - most} more" if len(all_of) > most else ""
    return ", ".join(all_of[:most]) + more if all_of else "None yet"


def counted(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


@dataclass(frozen=True)
class Found:
    """What a project has, in the order in which it is shown."""

    members: list[Membership]
    credentials: list[Credential]
    platforms: list[Platform]
    servers: dict[str, int]  # how many: all, open, complete, keyed, seen, planned
    applications: list[Application]
    profiles: list[Profile]
    waves: list[Wave]


@dataclass(frozen=True)
class Look:
    """How a stage stands: what is there, what is missing, and whether anything of it was done."""

    there: str
    missing: str
    begun: bool


def path_of(project: Project) -> list[Stage]:
    """Every stage in the order in which they need each other: two queries."""
    found, stages = found_of(project), []
    for title, page, new, action, look in STAGES:
        at = look(found)
        state = "done" if not at.missing else ("ready" if at.begun else "waiting")
        here, more = (reverse(name, args=[project.slug]) for name in (page, new))
        stages.append(Stage(title, state, at.there, at.missing, here, more, action))
    return marked(*stages)


def found_of(project: Project) -> Found:
    rows = together.fetch(
        credentials=project.credentials.only("id", "kind"),
        platforms=project.platforms.all(),
        members=project.memberships.all(),
        applications=project.applications.all(),
        profiles=project.profiles.only("id", "name"),
        waves=project.waves.all(),
    )
    is_open = Q(state=Migration.State.OPEN)
    servers = project.migrations.exclude(state=Migration.State.CANCELLED).aggregate(
        all=Count("pk", distinct=True),
        open=Count("pk", distinct=True, filter=is_open),
        complete=Count("pk", distinct=True, filter=Q(state=Migration.State.COMPLETE)),
        keyed=Count("pk", distinct=True, filter=is_open & Q(source__host_keys__state=HostKey.State.ACCEPTED)),
        seen=Count("pk", distinct=True, filter=is_open & Q(source__facts_at__isnull=False)),
        planned=Count("pk", distinct=True, filter=Q(wave__isnull=False)),
    )
    return Found(
        members=list(rows["members"]),
        credentials=list(rows["credentials"]),
        platforms=sorted(rows["platforms"], key=str),
        servers=servers,
        applications=sorted(rows["applications"], key=str),
        profiles=sorted(rows["profiles"], key=str),
        waves=sorted(rows["waves"], key=lambda wave: wave.number),
    )


def marked(*stages: Stage) -> list[Stage]:
    """The first that is not done is what comes next."""
    first = next((stage for stage in stages if stage.missing), None)
    return [replace(stage, is_next=stage is first) for stage in stages]


def _people(found: Found) -> Look:
    owners = any(member.role == Membership.Role.OWNER for member in found.members)
    missing = "" if owners else "Add an application owner: only an owner signs the acceptance test."
    return Look(counted(len(found.members), "member"), missing, begun=True)


def _credentials(found: Found) -> Look:
    kinds = {credential.kind for credential in found.credentials}
    lacking = []
    if Credential.Kind.API not in kinds:
        lacking.append("an API account for the platform")
    if not kinds & {Credential.Kind.PASSWORD, Credential.Kind.KEY}:
        lacking.append("a password or SSH key for the servers")
    missing = f"Enter {' and '.join(lacking)}." if lacking else ""
    return Look(counted(len(kinds), "kind") if kinds else "None yet", missing, begun=bool(kinds))


def _platforms(found: Found) -> Look:
    checked = [platform for platform in found.platforms if platform.checked_at]
    blocked = [one.name for one in checked if any(finding["level"] == "blocking" for finding in one.findings)]
    if not found.platforms:
        missing = "Enter the platform that the servers move to."
    elif not checked:
        missing = "Check the platform: its findings say whether the account can do the job."
    else:
        missing = f"{', '.join(blocked)}: something blocks. Look at the findings." if blocked else ""
    return Look(names(found.platforms), missing, begun=bool(found.platforms))


def _servers(found: Found) -> Look:
    servers = found.servers
    return Look(_servers_there(servers), _servers_missing(servers), begun=bool(servers["all"]))


def _servers_there(servers: dict[str, int]) -> str:
    parts = [counted(servers["all"], "server")]
    if servers["open"]:
        parts.append(
            f"{servers['seen']} of {servers['open']} seen" if servers["complete"] else f"{servers['seen']} seen"
        )
    if servers["complete"]:
        parts.append(f"{servers['complete']} complete")
    return ", ".join(parts)


def _servers_missing(servers: dict[str, int]) -> str:
    if not servers["all"]:
        return "Enter the servers that move."
    if servers["keyed"] < servers["open"]:
        number = servers["open"] - servers["keyed"]
        return f"{counted(number, 'server')} without an accepted host key: check and accept."
    return "" if servers["seen"] == servers["open"] else "Check every server once, so that its facts are known."


def _applications(found: Found) -> Look:
    without = [str(each) for each in found.applications if each.owner_id is None]
    if not found.applications:
        missing = "Enter the applications that the servers belong to."
    else:
        missing = f"{', '.join(without)}: nobody owns it, so nobody can sign." if without else ""
    return Look(names(found.applications), missing, begun=bool(found.applications))


def _profiles(found: Found) -> Look:
    missing = "" if found.profiles else "Make a profile: how data moves, and where the instance is made."
    return Look(names(found.profiles), missing, begun=False)


def _waves(found: Found) -> Look:
    missing = "" if found.waves else "Make a wave: what moves together, and when services may be stopped."
    return Look(names(found.waves), missing, begun=False)


def _plan(found: Found) -> Look:
    every, planned = found.servers["all"], found.servers["planned"]
    if every and planned == every:
        missing = ""
    else:
        missing = "Plan each server into a wave." if every else "Comes when there are servers."
    return Look(f"{planned} of {counted(every, 'server')} in a wave", missing, begun=bool(planned))


# Title, page, page of a new one, action, how it stands.
STAGES: tuple[tuple[str, str, str, str, Callable[[Found], Look]], ...] = (
    ("People", "members", "members", "Add people", _people),
    ("Credentials", "credentials", "credential-new", "Enter a credential", _credentials),
    ("Platform", "platforms", "platform-new", "Enter a platform", _platforms),
    ("Servers", "servers", "server-new", "Enter a server", _servers),
    ("Applications", "applications", "application-new", "Enter an application", _applications),
    ("Profiles", "profiles", "profile-new", "Make a profile", _profiles),
    ("Waves", "waves", "wave-new", "Make a wave", _waves),
    ("Plan", "planning", "planning", "Plan servers", _plan),
)
