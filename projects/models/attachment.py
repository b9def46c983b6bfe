"""Files that people attach as evidence: to an item of a checklist or to a defect."""

from __future__ import annotations

from typing import Self

from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User
from django.core.files.storage import FileSystemStorage, Storage
from django.db import models
from django.db.models import Q

from .defect import Defect
from .migration import Migration


def storage() -> Storage:
    """Outside of everything that the web server hands out, readable by the product alone."""
    return FileSystemStorage(settings.ATTACHMENTS_DIR, file_permissions_mode=0o600, directory_permissions_mode=0o700)


class AttachmentQuerySet(models.QuerySet["Attachment"]):
    def visible_to(self, user: User | AnonymousUser) -> Self:
        """As what it is attached to: an item as its migration, a defect as itself."""
        migrations = Migration.objects.visible_to(user).order_by().values("pk")
        defects = Defect.objects.visible_to(user).order_by().values("pk")
        return self.filter(Q(item__step__migration__in=migrations) | Q(defect__in=defects))

    def standing(self) -> Self:
        return self.filter(withdrawn_at=None)


class Attachment(models.Model):
    """One file. Withdrawn: its content is gone, its row tells that it was there."""

    project = models.ForeignKey("projects.Project", on_delete=models.CASCADE, related_name="attachments")
    item = models.ForeignKey(
        "projects.ChecklistItem", null=True, blank=True, on_delete=models.CASCADE, related_name="attachments"
    )
    defect = models.ForeignKey(
        "projects.Defect", null=True, blank=True, on_delete=models.CASCADE, related_name="attachments"
    )
    name = models.CharField(max_length=120)  # as a person sees it; the file itself has a name of our own
    file = models.FileField(storage=storage, max_length=80)
    size = models.PositiveBigIntegerField()  # bytes
    sha256 = models.CharField(max_length=64)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    at = models.DateTimeField(auto_now_add=True)
    withdrawn_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    withdrawn_at = models.DateTimeField(null=True, blank=True)

    objects = AttachmentQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.CheckConstraint(
                condition=Q(item__isnull=False, defect=None) | Q(item=None, defect__isnull=False),
                name="attachment_of_one_thing",
            ),
        ]

    def __str__(self) -> str:
        return self.name
