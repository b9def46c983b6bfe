"""Who did what, on what, from where, why, before and after: append-only, in the same transaction as the act."""

from __future__ import annotations

from typing import Any, NoReturn

from django.conf import settings
from django.db import models

KEPT = "An audit event is never changed and never deleted."


class AuditQuerySet(models.QuerySet["AuditEvent"]):
    """Read, and add one by one. The database refuses the rest too (`triggers`)."""

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(KEPT)

    update = aupdate = delete = adelete = _raw_delete = _refuse
    bulk_create = abulk_create = bulk_update = abulk_update = _refuse
    update_or_create = aupdate_or_create = _refuse


class AuditEvent(models.Model):
    at = models.DateTimeField(auto_now_add=True, db_index=True)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    actor_name = models.CharField(max_length=150, default="system")
    verb = models.CharField(max_length=60, db_index=True)  # "step.start", "approval.approve"
    object_type = models.CharField(max_length=60)
    object_id = models.CharField(max_length=40)
    object_label = models.CharField(max_length=200)
    project_id = models.BigIntegerField(null=True, blank=True, db_index=True)
    address = models.CharField(max_length=45, blank=True)  # of the browser; empty: done by the controller
    why = models.TextField(blank=True)
    before = models.JSONField(default=dict)
    after = models.JSONField(default=dict)

    objects = AuditQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        base_manager_name = "objects"
        indexes = [models.Index(fields=["project_id", "-id"], name="audit_of_project")]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.actor_name} {self.verb} {self.object_label}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if self.pk is not None:
            raise TypeError(KEPT)
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(KEPT)
