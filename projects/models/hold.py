"""Anything that makes something wait. One concept, one list on the page."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q


class Hold(models.Model):
    class Kind(models.TextChoices):
        WINDOW = "window", "Window"
        FREEZE = "freeze", "Change freeze"
        UAT = "uat", "Acceptance test under way"
        PERSON = "person", "Held by a person"
        ENGINE = "engine", "Engine"
        LIMIT = "limit", "Limit"

    kind = models.CharField(max_length=10, choices=Kind)
    project = models.ForeignKey("projects.Project", on_delete=models.CASCADE, related_name="holds")
    # The scope is the narrowest that is set; all empty: the whole project.
    wave = models.ForeignKey("projects.Wave", null=True, blank=True, on_delete=models.CASCADE, related_name="holds")
    application = models.ForeignKey(
        "projects.Application", null=True, blank=True, on_delete=models.CASCADE, related_name="holds"
    )
    migration = models.ForeignKey(
        "projects.Migration", null=True, blank=True, on_delete=models.CASCADE, related_name="holds"
    )
    why = models.TextField(blank=True)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    since = models.DateTimeField(auto_now_add=True)
    until = models.DateTimeField(null=True, blank=True)  # what was promised; it does not end by itself
    released_at = models.DateTimeField(null=True, blank=True)
    released_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )

    released_why = models.TextField(blank=True)  # of a test that a lead broke off

    # Of a test: a snapshot of the clones was asked for at its opening; when its evidence began to be taken; when it
    # was asked to end by putting the clones back. Its runs are found by their work keys (`projects.uat_runs`).
    snapshot = models.BooleanField(default=False)
    begun_at = models.DateTimeField(null=True, blank=True)
    back_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["application", "wave"],
                condition=Q(kind="uat", released_at=None, migration=None),
                name="uat_hold_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.why}" if self.why else self.get_kind_display()
