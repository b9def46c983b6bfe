"""Who hears of a change: by role in the project, and by what somebody answers for. Never whoever did it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from django.contrib.auth.models import User
from django.utils import timezone

from projects import approvals, policies
from projects.access import is_handed_over
from projects.models import (
    Application,
    Approval,
    Membership,
    NoticeKind,
    NoticeSettings,
    Project,
    ProjectNotices,
    StandIn,
    Wave,
)
from projects.readers import may_see

Role = Membership.Role
RUN = (Role.LEAD, Role.OPERATOR)
# What somebody hears who has not chosen: a manager of the large things alone.
LARGE = (NoticeKind.WAVE, NoticeKind.CUTOVER, NoticeKind.BREAK_GLASS)
MANAGER_DEFAULT = (*LARGE, NoticeKind.ASKED)


def default_kinds(role: str) -> list[str]:
    return [kind.value for kind in (MANAGER_DEFAULT if role == Role.MANAGER else NoticeKind)]


@dataclass
class Audience:
    """Everybody in one of `roles`, whoever answers for the application, and those of `also` who may see it; without
    `but`."""

    roles: Collection[str] = ()
    signers: bool = False
    also: list[User | None] = field(default_factory=list)
    but: list[User | None] = field(default_factory=list)


def asked(approval: Approval) -> Audience:
    """Who may answer and has not said yes: whoever asked may not, and what somebody said for another is said."""
    roles = set(policies.roles_of(approval)) - {Role.OWNER.value}
    yes = approvals.signatures(approval)
    said = {approvals.principal(each) for each in yes}
    signers = approval.gate == Approval.Gate.SIGN_OFF and approval.application.owner_id not in said
    handed = is_handed_over(approval) and approval.delegated_by_id not in said
    but = [approval.requested_by, *(each.user for each in yes), *(each.on_behalf_of for each in yes)]
    return Audience(roles, signers=signers, also=[approval.delegated_to] if handed else [], but=but)


@dataclass
class Receiver:
    """A person who is told, and what they chose."""

    user: User
    role: str
    kinds: list[str]
    quiet: tuple[int, int] | None = None

    def due(self, now: datetime, project: Project) -> datetime:
        """Now, or the end of their quiet hours."""
        return quiet_end(now, self.quiet, project.time_zone) or now


class People:
    """The members of one project with what they chose, read once for many changes."""

    def __init__(self, project: Project) -> None:
        self.project = project
        chosen = {row.user_id: row for row in NoticeSettings.objects.filter(project=project)}
        members = Membership.objects.filter(project=project, user__is_active=True).select_related("user")
        self.by_pk = {member.user_id: receiver(member, chosen.get(member.user_id)) for member in members}
        places = StandIn.objects.valid().filter(application__project=project)
        self.places = list(places.values_list("application_id", "person_id"))

    def hear(
        self, audience: Audience, application: Application | None, kind: str, wave: Wave | None = None
    ) -> list[Receiver]:
        """Who is told, of those who want to be; each once."""
        keys = {pk for pk, each in self.by_pk.items() if each.role in audience.roles}
        if audience.signers and application is not None:
            keys |= {application.owner_id or 0}
            keys |= {person for place, person in self.places if place == application.pk}
        keys |= {user.pk for user in audience.also if user is not None and self._may_see(user, application, wave)}
        keys -= {user.pk for user in audience.but if user is not None}
        return [self.by_pk[pk] for pk in sorted(keys) if pk in self.by_pk and kind in self.by_pk[pk].kinds]

    def _may_see(self, user: User, application: Application | None, wave: Wave | None) -> bool:
        member = self.by_pk.get(user.pk)
        return may_open(user, member.role if member else None, application, wave.pk if wave else None)


def may_open(user: User, role: str | None, application: Application | None, wave: int | None) -> bool:
    """Nobody is told what they could not open: the project may have changed since they had to do with it. `role`:
    theirs in the project."""
    if role != Role.OWNER:
        return role is not None
    return application is not None and may_see(application, wave, user)


def leads(project_id: int, user_id: int | None) -> bool:
    """Whether an active account leads the project: only a lead hears of everything, as who sets it to test."""
    found = Membership.objects.filter(project=project_id, user=user_id or 0, role=Role.LEAD, user__is_active=True)
    return found.exists()


def tester_of(mode: ProjectNotices | None) -> User | None:
    """Whom a project on test tells; None where it is not, and where nobody is told as who set it leads no more."""
    if mode is None or mode.mode != ProjectNotices.Mode.TEST:
        return None
    return mode.tester if leads(mode.project_id, mode.tester_id) else None


def receiver(member: Membership, chosen: NoticeSettings | None) -> Receiver:
    if chosen is None:
        return Receiver(member.user, member.role, default_kinds(member.role))
    quiet = None
    if chosen.quiet_from is not None and chosen.quiet_until is not None:
        quiet = (chosen.quiet_from, chosen.quiet_until)
    return Receiver(member.user, member.role, list(chosen.kinds), quiet)


def quiet_end(now: datetime, quiet: tuple[int, int] | None, zone: str) -> datetime | None:
    """When the quiet hours that it is in now end; None outside of them. `quiet`: full hours, maybe over midnight."""
    if quiet is None:
        return None
    begin, end = quiet
    local = timezone.localtime(now, ZoneInfo(zone))
    inside = begin <= local.hour < end if begin < end else local.hour >= begin or local.hour < end
    if not inside:
        return None
    until = local.replace(hour=end, minute=0, second=0, microsecond=0)
    return until if until > local else until + timedelta(days=1)
