"""What was found wrong at acceptance testing or validation."""

from __future__ import annotations

from typing import Self

from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User
from django.db import models
from django.db.models import Case, When

from .project import seen_in_wave


class DefectQuerySet(models.QuerySet["Defect"]):
    def visible_to(self, user: User | AnonymousUser) -> Self:
        """As the servers of its application in its wave are."""
        return self.filter(seen_in_wave(user))

    def holding(self) -> Self:
        """Blocking ones that nobody has verified as mended or rejected: they hold every gate of the application."""
        return self.filter(severity=Defect.Severity.BLOCKING, state__in=Defect.UNSETTLED)

    def worst_first(self) -> Self:
        """Unsettled ones before the others, blocking ones first, of these the newest."""
        settled = Case(When(state__in=Defect.UNSETTLED, then=0), default=1)
        order = [When(severity=severity, then=place) for place, severity in enumerate(Defect.Severity.values)]
        return self.order_by(settled, Case(*order), "-number")


class Defect(models.Model):
    class Severity(models.TextChoices):
        BLOCKING = "blocking", "Blocking: it must not go on"
        MAJOR = "major", "Major: to be mended soon"
        MINOR = "minor", "Minor"

    class State(models.TextChoices):
        OPEN = "open", "Open"
        IN_WORK = "in_work", "In work"
        MENDED = "mended", "Mended, to be verified"
        VERIFIED = "verified", "Verified as mended"
        REJECTED = "rejected", "Rejected"

    UNSETTLED = (State.OPEN, State.IN_WORK, State.MENDED)

    project = models.ForeignKey("projects.Project", on_delete=models.CASCADE, related_name="defects")
    wave = models.ForeignKey("projects.Wave", on_delete=models.CASCADE, related_name="defects")
    application = models.ForeignKey("projects.Application", on_delete=models.CASCADE, related_name="defects")
    step = models.ForeignKey("projects.Step", on_delete=models.PROTECT, related_name="defects")  # where it was found
    number = models.PositiveIntegerField()  # within the project
    title = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    severity = models.CharField(max_length=10, choices=Severity, default=Severity.BLOCKING)
    state = models.CharField(max_length=10, choices=State, default=State.OPEN)
    reason = models.TextField(blank=True)  # of the last change of state: why rejected, what was mended
    assignee = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="defects"
    )
    raised_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    raised_at = models.DateTimeField(auto_now_add=True)
    decision = models.ForeignKey(
        "projects.Decision", null=True, blank=True, on_delete=models.PROTECT, related_name="defects"
    )  # the rejection that raised it
    changed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    changed_at = models.DateTimeField(null=True, blank=True)  # when the state last changed
    mended_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )  # does not verify it
    version = models.BigIntegerField(default=1)

    objects = DefectQuerySet.as_manager()

    class Meta:
        ordering = ["-number"]
        constraints = [models.UniqueConstraint(fields=["project", "number"], name="defect_number_once")]

    def __str__(self) -> str:
        return f"Defect {self.number}: {self.title}"

    @property
    def is_settled(self) -> bool:
        return self.state not in self.UNSETTLED

    @property
    def is_holding(self) -> bool:
        return self.severity == self.Severity.BLOCKING and not self.is_settled
