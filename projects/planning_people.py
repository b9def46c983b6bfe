"""Projects, their people and their applications."""

from __future__ import annotations

from collections.abc import Iterable

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from migrationhub.audit.record import record
from migrationhub.lib.findings import Problem
from projects import stand_ins
from projects.access import receivers
from projects.models import (
    Application,
    Approval,
    Invitation,
    Membership,
    Migration,
    Project,
    ProjectNotices,
    Wave,
)
from servers.models import Change

from .planning_base import write

Role = Membership.Role


@transaction.atomic
def create_project(*, name: str, slug: str, time_zone: str, description: str, user: User) -> Project:
    """A new project; who makes it leads it."""
    values = {"name": name, "slug": slug, "time_zone": time_zone, "description": description}
    project = Project(**values)
    project.save()
    Membership.objects.create(project=project, user=user, role=Role.LEAD)
    record("project.create", project, actor=user, project_id=project.pk, after={**values, "lead": user.username})
    Change.bump()
    return project


@transaction.atomic
def change_project(*, project: Project, name: str, slug: str, time_zone: str, description: str, user: User) -> Project:
    values = {"name": name, "slug": slug, "time_zone": time_zone, "description": description}
    return write(project, values, user=user, verb="project.change", project=project)


@transaction.atomic
def add_member(*, project: Project, person: User, role: str, user: User) -> Membership:
    if Membership.objects.filter(project=project, user=person).exists():
        raise Problem(
            f"{person} is a member of {project} already.", "Change the role in the list.", code="member.exists"
        )
    return write(
        Membership(project=project, user=person), {"role": role}, user=user, verb="member.add", project=project
    )


@transaction.atomic
def change_member(*, member: Membership, role: str, user: User) -> list[str]:
    """What ended with the role before, in words."""
    member = Membership.objects.select_for_update().select_related("user", "project").get(pk=member.pk)
    if role != Role.LEAD:
        _keep_a_lead(member, "another role")
    if role != Role.OWNER:
        _keep_owner(member, "another role")
    if role != Role.LEAD:
        _withdraw_sent(member, user)
    write(member, {"role": role}, user=user, verb="member.change", project=member.project)
    return _end_with_role(member, role, user)


@transaction.atomic
def remove_member(*, member: Membership, user: User) -> list[str]:
    """What ended with the membership, in words."""
    member = Membership.objects.select_for_update().select_related("user", "project").get(pk=member.pk)
    _keep_a_lead(member, "no place in the project")
    _keep_owner(member, "no place in the project")
    _withdraw_sent(member, user)
    _withdraw_got(member, user)
    record(
        "member.remove",
        member,
        actor=user,
        project_id=member.project_id,
        before={"user": member.user.username, "role": member.role},
    )
    member.delete()
    Change.bump()
    return _end_with_role(member, None, user)


def _end_with_role(member: Membership, role: str | None, user: User) -> list[str]:
    """What somebody was named for in a role ends with it, and does not come back with the role. `role`: what they have
    from now on; None where they left."""
    project, person, said = member.project, member.user, []
    now = f"is {Role(role).name.lower()} of {project} now" if role else f"left {project}"
    lost = [gate for gate in Approval.Gate.values if role not in receivers(gate)]
    handed = Approval.objects.filter(wave__project=project, delegated_to=person, gate__in=lost)
    for approval in _hand_back(handed, project, user, f"{person} {now}"):
        if not approval.is_open:
            said.append(f"{approval}: {approval.delegated_by} had handed it to {person}, and has it back.")
    if role != Role.OWNER:
        for place in stand_ins.end_all(person, project, user=user, why=f"{person} {now}"):
            said.append(f"{place.application}: {person} does not stand in for {place.owner} any more.")
    mode = ProjectNotices.objects.filter(project=project, mode=ProjectNotices.Mode.TEST, tester=person)
    if role != Role.LEAD and mode.exists():
        said.append(
            f"Notifications of {project} are on test and went to {person} alone: nobody is told anything now. "
            "A lead sets them on the page Notifications."
        )
    return said


def _hand_back(asked: QuerySet[Approval], project: Project, user: User, why: str) -> list[Approval]:
    """End what was handed over; whoever answers in this moment looks again. The waves' rows are taken first, as by
    whoever decides."""
    handed = asked.exclude(delegated_to=None)
    for wave in sorted(set(handed.values_list("wave", flat=True))):
        Wave.objects.filter(pk=wave).update(version=F("version") + 1)
    found = list(handed.order_by("pk").select_related("application", "delegated_to", "delegated_by"))
    for approval in found:
        told = {"to": str(approval.delegated_to), "by": str(approval.delegated_by)}
        record("approval.handed_back", approval, actor=user, project_id=project.pk, why=why, before=told)
    none = {"delegated_to": None, "delegated_by": None, "delegated_at": None}
    Approval.objects.filter(pk__in=[approval.pk for approval in found]).update(**none, version=F("version") + 1)
    if found:
        Change.bump()
    return found


def _keep_a_lead(member: Membership, fate: str) -> None:
    """The last lead who can log in stays. The leads are locked: two that remove each other cannot both win."""
    leads = Membership.objects.select_for_update(of=("self",)).filter(project=member.project, role=Role.LEAD)
    others = [lead for lead in leads.select_related("user") if lead.pk != member.pk]
    if member.role == Role.LEAD and not any(lead.user.is_active for lead in others):
        only = "the only lead of {} who can log in" if others else "the only lead of {}"
        raise Problem(
            f"{member.user} is {only.format(member.project)} and cannot get {fate}.",
            "Make somebody else lead first.",
            code="member.last_lead",
        )


def _keep_owner(member: Membership, fate: str) -> None:
    """Who owns applications signs for them: without the role nobody could."""
    owned = list(Application.objects.filter(project=member.project, owner_id=member.user_id))
    if member.role == Role.OWNER and owned:
        raise Problem(
            f"{member.user} owns {', '.join(map(str, owned))} and cannot get {fate}.",
            "Give these applications another owner first.",
            code="member.owns",
        )


def _withdraw_sent(member: Membership, user: User) -> None:
    """Who leads no more invites no more: a link of their own would let them in again, in any role."""
    why = f"{member.user}, who sent it, does not lead {member.project} any more"
    _withdraw_invitations(member.project.invitations.filter(by=member.user_id), why, user)


def _withdraw_got(member: Membership, user: User) -> None:
    """A link to somebody's own address would let them in again, in the role that stands in it."""
    if member.user.email:
        sent = member.project.invitations.filter(email__iexact=member.user.email)
        _withdraw_invitations(sent, f"{member.user} left {member.project}", user)


def _withdraw_invitations(sent: QuerySet[Invitation], why: str, user: User) -> None:
    for invitation in sent.select_for_update().filter(accepted_at=None, withdrawn_at=None):
        invitation.withdrawn_at = timezone.now()
        invitation.save(update_fields=["withdrawn_at"])
        record("invitation.withdraw", invitation, actor=user, project_id=invitation.project_id, why=why)


@transaction.atomic
def save_application(
    *,
    project: Project,
    application: Application | None = None,
    name: str,
    slug: str,
    owner: User | None,
    description: str,
    access_note: str,
    waits_for: Iterable[Application],
    user: User,
) -> Application:
    """A new or a changed application. Its cutover events wait for those of `waits_for`, which must not be a circle."""
    found = application or Application(project=project)
    owner_before = found.owner_id
    others = list(waits_for)
    if found.pk:
        _refuse_circle(found, others)
    values = {"name": name, "slug": slug, "owner": owner, "description": description, "access_note": access_note}
    verb = "application.change" if found.pk else "application.create"
    before = set(found.waits_for.values_list("pk", flat=True)) if found.pk else set()
    more = {"waits_for": [other.name for other in others]} if before != {other.pk for other in others} else {}
    write(found, values, user=user, verb=verb, project=project, **more)
    if more:
        found.waits_for.set(others)
    _bump_decisions(found)
    if found.owner_id != owner_before:
        _end_handing_over(found, user)
        _ask_new_owner(found, user)
    return found


def _end_handing_over(application: Application, user: User) -> None:
    """What an owner handed over ends with them. A new version for every sign-off: who hands one over or answers in this
    moment looks again."""
    asked = Approval.objects.filter(application=application, gate=Approval.Gate.SIGN_OFF)
    asked.update(version=F("version") + 1)
    _hand_back(asked, application.project, user, f"{application} has another owner")


def _ask_new_owner(application: Application, user: User) -> None:
    """Whoever owns it now was not told when it was asked, and the reminder may have gone to the owner before."""
    here = Wave.objects.filter(migrations__application=application, migrations__state=Migration.State.OPEN)
    asked = Approval.objects.filter(application=application, gate=Approval.Gate.SIGN_OFF, state__in=Approval.ASKED)
    for approval in asked.filter(wave__in=here).exclude(expires_at__lte=timezone.now()):
        if application.owner is not None:
            told = {"owner": application.owner.username}
            record("approval.new_owner", approval, actor=user, project_id=application.project_id, after=told)


def _refuse_circle(application: Application, others: list[Application]) -> None:
    """Two applications that wait for each other would both wait for ever."""
    following: dict[int, list[Application]] = {}
    for one in application.project.applications.prefetch_related("waits_for"):
        following[one.pk] = list(one.waits_for.all())
    seen: set[int] = set()
    ahead = list(others)
    while ahead:
        other = ahead.pop()
        if other.pk == application.pk:
            raise Problem(
                f"{application} would wait for itself through {', '.join(map(str, others))}.",
                "Take the application out of one of the lists, so that one can go first.",
                code="application.circle",
            )
        if other.pk not in seen:
            seen.add(other.pk)
            ahead += following.get(other.pk, [])


def _bump_decisions(application: Application) -> None:
    """Owner and waits are part of what is decided on: whoever decides in this moment looks again."""
    Migration.objects.filter(application=application).update(version=F("version") + 1)
    Wave.objects.filter(migrations__application=application).update(version=F("version") + 1)
