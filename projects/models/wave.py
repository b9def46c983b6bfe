"""Waves: what moves together, and when it may."""

from __future__ import annotations

from typing import Self

from django.contrib.auth.models import AnonymousUser, User
from django.db import models
from django.db.models import F, Q

from .migration import Migration
from .project import Membership


class WaveQuerySet(models.QuerySet["Wave"]):
    def visible_to(self, user: User | AnonymousUser) -> Self:
        """An owner, and who answers in their place, sees the waves in which servers move that they see."""
        if not user.pk:
            return self.none()
        moved = Migration.objects.visible_to(user).filter(wave__isnull=False)
        wide = Membership.objects.wide(user)
        return self.filter(Q(project__in=wide) | Q(pk__in=moved.order_by().values("wave")))


class Wave(models.Model):
    """A window limits the outage, not the copying: no cutover begins outside it; one that has begun is finished."""

    project = models.ForeignKey("projects.Project", on_delete=models.CASCADE, related_name="waves")
    name = models.CharField(max_length=100)
    number = models.PositiveIntegerField()
    starts_at = models.DateTimeField(null=True, blank=True)  # of the window
    ends_at = models.DateTimeField(null=True, blank=True)
    time_zone = models.CharField(max_length=60, default="UTC")  # IANA name the window was given in
    version = models.BigIntegerField(default=1)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = WaveQuerySet.as_manager()

    class Meta:
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(fields=["project", "number"], name="wave_number_once"),
            models.CheckConstraint(
                condition=Q(starts_at=None) | Q(ends_at=None) | Q(ends_at__gt=F("starts_at")),
                name="wave_window_ends_after_start",
            ),
        ]

    def __str__(self) -> str:
        return f"Wave {self.number}: {self.name}"


class ChangeFreeze(models.Model):
    """A range of dates in which no cutover starts."""

    project = models.ForeignKey("projects.Project", on_delete=models.CASCADE, related_name="change_freezes")
    name = models.CharField(max_length=100)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    time_zone = models.CharField(max_length=60, default="UTC")

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(ends_at__gt=F("starts_at")), name="freeze_ends_after_start"),
        ]

    def __str__(self) -> str:
        return self.name
