"""Somebody stands in for an absent application owner: named by a lead, within dates, and it ends by itself."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from migrationhub.audit.record import record
from migrationhub.lib.findings import Problem
from projects.errors import Conflict
from projects.models import Application, Approval, Membership, Project, StandIn
from projects.models.step import Runners
from servers.models import Change


def candidates(project: Project) -> list[User]:
    """Members who may stand in: application owners. Whoever plans, runs or only reads does not sign."""
    found = Membership.objects.filter(project=project, role=Membership.Role.OWNER, user__is_active=True)
    return [member.user for member in found.select_related("user")]


def unmet(application: Application, person: User, starts_at: datetime, ends_at: datetime) -> str:
    """Why this person cannot stand in for the application's owner then, in words; empty if they can."""
    if application.owner is None:
        return f"{application} has no owner: name one instead."
    if application.owner_id == person.pk:
        return f"{person} owns {application}: nobody stands in for themselves."
    if ends_at <= starts_at:
        return "The end is not after the beginning."
    if ends_at <= timezone.now():
        return f"The end, {ends_at:%Y-%m-%d %H:%M %Z}, is over already."
    if person.pk in Runners([application.pk]).of(application.pk):
        return f"{person} ran steps of {application}: whoever ran a migration does not sign for it."
    others = StandIn.objects.by_owners().filter(application=application, owner=application.owner, ended_at=None)
    for other in others.filter(starts_at__lt=ends_at, ends_at__gt=starts_at).select_related("person"):
        return f"{other.person} stands in for {application} at that time already."
    return ""


def appoint(
    *,
    project: Project,
    applications: Iterable[Application],
    person: User,
    starts_at: datetime,
    ends_at: datetime,
    why: str,
    user: User,
) -> list[StandIn]:
    """One row for each application; all or none."""
    with transaction.atomic():
        # Whoever owns or stands in does not change under this; two leads are one after the other.
        locked = list(
            Application.objects.select_for_update(of=("self",))
            .filter(project=project, pk__in=[application.pk for application in applications])
            .select_related("owner")
        )
        if person not in candidates(project):
            raise Problem(
                f"{person} is no application owner of {project}.",
                "Make the person a member with that role first: the sign-off is given in it.",
                code="stand_in.role",
            )
        wrong = [words for words in (unmet(each, person, starts_at, ends_at) for each in locked) if words]
        if wrong:
            raise Problem(" ".join(wrong), "Correct it, or leave that application out.", code="stand_in.unmet")
        made = []
        for application in locked:
            assert application.owner is not None
            place = StandIn.objects.create(
                application=application,
                owner=application.owner,
                person=person,
                starts_at=starts_at,
                ends_at=ends_at,
                why=why,
                by=user,
            )
            dates = {"from": starts_at.isoformat(), "to": ends_at.isoformat()}
            told = {"person": person.username, "owner": application.owner.username, **dates}
            record("stand_in.appoint", place, actor=user, project_id=project.pk, why=why, after=told)
            made.append(place)
        _look_again([application.pk for application in locked])
    return made


def end(place: StandIn, *, user: User) -> None:
    """Take it back before its last day. What was signed while it lasted stays signed."""
    with transaction.atomic():
        changed = StandIn.objects.filter(pk=place.pk, ended_at=None, ends_at__gt=timezone.now()).update(
            ended_at=timezone.now(), ended_by=user
        )
        if not changed:
            raise Conflict(f"{place} has ended already.", "Look at the list.")
        record("stand_in.end", place, actor=user, project_id=place.application.project_id)
        _look_again([place.application_id])


def end_all(person: User, project: Project, *, user: User, why: str) -> list[StandIn]:
    """Inside the caller's transaction: where somebody stands in, or would later, as they lose the role for it."""
    mine = StandIn.objects.filter(person=person, application__project=project, ended_at=None)
    found = list(mine.filter(ends_at__gt=timezone.now()).select_related("application", "owner", "person"))
    for place in found:
        StandIn.objects.filter(pk=place.pk, ended_at=None).update(ended_at=timezone.now(), ended_by=user)
        record("stand_in.end", place, actor=user, project_id=project.pk, why=why)
    if found:
        _look_again([place.application_id for place in found])
    return found


def _look_again(applications: list[int]) -> None:
    """Whoever signs in this very moment is asked once more, and open pages are drawn anew."""
    Approval.objects.filter(application__in=applications).update(version=F("version") + 1)
    Change.bump()
