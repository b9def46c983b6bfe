"""The way to the first migration: what is there, what is missing, what to do next."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Count, Q
from django.urls import reverse

from projects.models import Application, Membership, Migration, Project
from servers.models import Credential, HostKey


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


def counted(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def path_of(project: Project) -> list[Stage]:
    """Every stage in the order in which they need each other: a fixed number of queries."""
    kinds = set(project.credentials.values_list("kind", flat=True))
    platforms = list(project.platforms.all())
    servers = project.migrations.filter(state=Migration.State.OPEN).aggregate(
        all=Count("pk", distinct=True),
        keyed=Count("pk", distinct=True, filter=Q(source__host_keys__state=HostKey.State.ACCEPTED)),
        seen=Count("pk", distinct=True, filter=Q(source__facts_at__isnull=False)),
        planned=Count("pk", distinct=True, filter=Q(wave__isnull=False)),
    )
    owners = project.memberships.filter(role=Membership.Role.OWNER).count()
    applications = list(project.applications.all())
    waves = list(project.waves.all())

    def stage(title: str, page: str, new: str, action: str, there: str, missing: str, begun: bool) -> Stage:
        state = "done" if not missing else ("ready" if begun else "waiting")
        return Stage(
            title,
            state,
            there,
            missing,
            reverse(page, args=[project.slug]),
            reverse(new, args=[project.slug]),
            action,
        )

    checked = [platform for platform in platforms if platform.checked_at]
    blocked = [p.name for p in checked if any(f["level"] == "blocking" for f in p.findings)]
    return [
        stage(
            "People",
            "members",
            "members",
            "Add people",
            counted(project.memberships.count(), "member"),
            "" if owners else "Add an application owner: only an owner signs the acceptance test.",
            True,
        ),
        stage(
            "Credentials",
            "credentials",
            "credential-new",
            "Enter a credential",
            counted(len(kinds), "kind") if kinds else "None yet",
            _credentials_missing(kinds),
            bool(kinds),
        ),
        stage(
            "Platform",
            "platforms",
            "platform-new",
            "Enter a platform",
            ", ".join(platform.name for platform in platforms) or "None yet",
            _platforms_missing(len(platforms), len(checked), blocked),
            bool(platforms),
        ),
        stage(
            "Servers",
            "servers",
            "server-new",
            "Enter a server",
            counted(servers["all"], "server") + (f", {servers['seen']} seen" if servers["all"] else ""),
            _servers_missing(servers),
            bool(servers["all"]),
        ),
        stage(
            "Applications",
            "applications",
            "application-new",
            "Enter an application",
            ", ".join(map(str, applications)) or "None yet",
            _applications_missing(applications),
            bool(applications),
        ),
        stage(
            "Profiles",
            "profiles",
            "profile-new",
            "Make a profile",
            ", ".join(project.profiles.values_list("name", flat=True)) or "None yet",
            "" if project.profiles.exists() else "Make a profile: how data moves, and where the instance is made.",
            False,
        ),
        stage(
            "Waves",
            "waves",
            "wave-new",
            "Make a wave",
            ", ".join(map(str, waves)) or "None yet",
            "" if waves else "Make a wave: what moves together, and when services may be stopped.",
            False,
        ),
        stage(
            "Plan",
            "planning",
            "planning",
            "Plan servers",
            f"{servers['planned']} of {counted(servers['all'], 'server')} in a wave",
            _plan_missing(servers),
            bool(servers["planned"]),
        ),
    ]


def _credentials_missing(kinds: set[str]) -> str:
    missing = []
    if Credential.Kind.API not in kinds:
        missing.append("an API account for the platform")
    if not kinds & {Credential.Kind.PASSWORD, Credential.Kind.KEY}:
        missing.append("a password or SSH key for the servers")
    return f"Enter {' and '.join(missing)}." if missing else ""


def _platforms_missing(number: int, checked: int, blocked: list[str]) -> str:
    if not number:
        return "Enter the platform that the servers move to."
    if not checked:
        return "Check the platform: its findings say whether the account can do the job."
    return f"{', '.join(blocked)}: something blocks. Look at the findings." if blocked else ""


def _servers_missing(servers: dict[str, int]) -> str:
    if not servers["all"]:
        return "Enter the servers that move."
    if servers["keyed"] < servers["all"]:
        number = servers["all"] - servers["keyed"]
        return f"{counted(number, 'server')} without an accepted host key: check and accept."
    return "" if servers["seen"] == servers["all"] else "Check every server once, so that its facts are known."


def _applications_missing(applications: list[Application]) -> str:
    if not applications:
        return "Enter the applications that the servers belong to."
    without = [str(each) for each in applications if each.owner_id is None]
    return f"{', '.join(without)}: nobody owns it, so nobody can sign." if without else ""


def _plan_missing(servers: dict[str, int]) -> str:
    if servers["all"] and servers["planned"] == servers["all"]:
        return ""
    return "Plan each server into a wave." if servers["all"] else "Comes when there are servers."
