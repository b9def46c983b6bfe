"""Who controls (a lease with an epoch that grows at each take-over) and that something changed (a counter)."""

from __future__ import annotations

from django.db import models
from django.db.models import F


class Lease(models.Model):
    """One row. All times are the database's, never a host's clock."""

    name = models.CharField(max_length=40, unique=True, default="controller")
    epoch = models.BigIntegerField(default=0)
    holder = models.CharField(max_length=120, blank=True)
    until = models.DateTimeField(null=True, blank=True)
    beat_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.name} epoch {self.epoch} held by {self.holder or 'nobody'}"


class Change(models.Model):
    """One row: a counter that the controller looks at twice a second."""

    value = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return str(self.value)

    @classmethod
    def bump(cls) -> None:
        """Tell the controller that something changed; part of the caller's transaction."""
        if not cls.objects.filter(pk=1).update(value=F("value") + 1):
            cls.objects.get_or_create(pk=1, defaults={"value": 1})

    @classmethod
    def current(cls) -> int:
        return cls.objects.filter(pk=1).values_list("value", flat=True).first() or 0
