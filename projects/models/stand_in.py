"""Who answers for an absent application owner, and from when to when."""

from __future__ import annotations

from datetime import datetime
from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from .project import Membership


class StandInQuerySet(models.QuerySet["StandIn"]):
    def valid(self, now: datetime | None = None) -> Self:
        """Those that hold now: within their dates, not ended early, for the application's owner of today, and by
        somebody who is an application owner of the project still."""
        now = now or timezone.now()
        return self.by_owners().filter(
            starts_at__lte=now, ends_at__gt=now, ended_at=None, owner=F("application__owner")
        )

    def by_owners(self) -> Self:
        """Whose person has the role in which one signs."""
        return self.filter(
            application__project__memberships__user=F("person"),
            application__project__memberships__role=Membership.Role.OWNER,
        )


class StandIn(models.Model):
    """One person in the place of another, for one application. It ends by itself; a row is never deleted."""

    application = models.ForeignKey("projects.Application", on_delete=models.CASCADE, related_name="stand_ins")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")  # who is absent
    person = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="stands_in")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    why = models.CharField(max_length=500)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True, blank=True)  # taken back before its last day
    ended_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )

    objects = StandInQuerySet.as_manager()

    class Meta:
        ordering = ["-starts_at", "pk"]
        constraints = [
            models.CheckConstraint(condition=Q(ends_at__gt=F("starts_at")), name="stand_in_ends_after_start"),
            models.CheckConstraint(condition=~Q(owner=F("person")), name="stand_in_is_somebody_else"),
        ]

    def __str__(self) -> str:
        return f"{self.person} for {self.owner}: {self.application}"

    @property
    def state(self) -> str:
        """`ended` (taken back, over, the application has another owner, or the person another role), `ahead` or
        `valid`."""
        now = timezone.now()
        if self.ended_at or self.ends_at <= now or self.application.owner_id != self.owner_id:
            return "ended"
        if not StandIn.objects.by_owners().filter(pk=self.pk).exists():
            return "ended"
        return "ahead" if self.starts_at > now else "valid"
