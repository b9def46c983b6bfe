"""Who must have a second factor here, as `REQUIRE_SECOND_FACTOR` says it: nobody, whoever leads, or everybody."""

from __future__ import annotations

from allauth.mfa.models import Authenticator
from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User

from projects.access import leads_anything

OFF, LEADS, ALL = CHOICES = ("off", "leads", "all")


def is_required(user: User | AnonymousUser) -> bool:
    """`leads`: whoever leads a project, and staff, who make projects and read the trail of everything."""
    rule = settings.REQUIRE_SECOND_FACTOR
    if rule == OFF or isinstance(user, AnonymousUser):
        return False
    return rule == ALL or user.is_staff or leads_anything(user)


def is_missing(user: User | AnonymousUser) -> bool:
    """Whether the user must set one up before anything else. No query where none is required of anybody."""
    return is_required(user) and not Authenticator.objects.filter(user=user, type=Authenticator.Type.TOTP).exists()
