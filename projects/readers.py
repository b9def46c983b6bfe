"""Who sees an application in a wave, asked from the other side: whom to choose from, whom to tell, who is left out.

`Application.objects.visible_to` is the rule; the questions here are its own, for many people at once.
"""

from __future__ import annotations

from django.contrib.auth.models import User
from django.db.models import Exists, F, OuterRef, Q, QuerySet

from projects.models import Application, Approval, Membership, StandIn

Role = Membership.Role


def may_see(application: Application, wave: int | None, user: User) -> bool:
    return user.is_active and Application.objects.visible_to(user, wave).filter(pk=application.pk).exists()


def who_see(application: Application, wave: int) -> QuerySet[User]:
    """Everybody for whom `may_see` says yes."""
    members = Membership.objects.filter(project=application.project_id)
    places = StandIn.objects.valid().filter(application=application)
    handed = _handed().filter(application=application, wave=wave)
    answers = Q(pk=application.owner_id or 0) | Q(pk__in=places.values("person"))
    answers |= Q(pk__in=handed.values("delegated_to"))
    wide = Q(pk__in=members.exclude(role=Role.OWNER).values("user"))
    return User.objects.filter(wide | answers, pk__in=members.values("user"), is_active=True)


def sees(who: str) -> Q:
    """For rows with project, application and wave: the person in their field `who` sees them."""
    member = Membership.objects.filter(project=OuterRef("project"), user=OuterRef(who), user__is_active=True)
    places = StandIn.objects.valid().filter(application=OuterRef("application"), person=OuterRef(who))
    handed = _handed().filter(application=OuterRef("application"), wave=OuterRef("wave"), delegated_to=OuterRef(who))
    answers = Q(application__owner=F(who)) | Q(Exists(places)) | Q(Exists(handed))
    return Q(Exists(member.exclude(role=Role.OWNER))) | (Q(Exists(member)) & answers)


def _handed() -> QuerySet[Approval]:
    """Sign-offs that their owner handed over, as `handed_to` has them for one person."""
    own = Approval.objects.filter(gate=Approval.Gate.SIGN_OFF, delegated_by=F("application__owner"))
    return own.exclude(delegated_to=None)
