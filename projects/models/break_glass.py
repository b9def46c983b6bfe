"""The emergency door: a lead passed a gate alone. It is never taken away again, and a second person looks at it."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from .step import Step


class BreakGlass(models.Model):
    """A lead passed what held a gate or a step. What it let pass is named; it lets nothing else pass."""

    class Gate(models.TextChoices):
        SIGN_OFF = "sign_off", "Sign-off of acceptance testing"
        GO = "go", "Go for stopping services"
        STEP = "step", "Checklist and defects of a step"

    class State(models.TextChoices):
        UNCONFIRMED = "unconfirmed", "Waits for a second person"
        IN_ORDER = "in_order", "Confirmed as in order"
        NOT_IN_ORDER = "not_in_order", "Not in order"

    project = models.ForeignKey("projects.Project", on_delete=models.CASCADE, related_name="break_glass")
    wave = models.ForeignKey("projects.Wave", on_delete=models.CASCADE, related_name="break_glass")
    application = models.ForeignKey("projects.Application", on_delete=models.CASCADE, related_name="break_glass")
    gate = models.CharField(max_length=10, choices=Gate)
    approval = models.ForeignKey(
        "projects.Approval", null=True, blank=True, on_delete=models.PROTECT, related_name="break_glass"
    )  # of sign-off and go
    step = models.ForeignKey(
        "projects.Step", null=True, blank=True, on_delete=models.PROTECT, related_name="break_glass"
    )  # of a step
    digest = models.CharField(max_length=64, blank=True)  # of what the approval was about
    items = models.JSONField(default=list)  # keys (pk) of the checklist items that were open
    defects = models.JSONField(default=list)  # keys (pk) of the blocking defects that were open
    passed = models.JSONField(default=list)  # all that was passed, in words, as it stood then
    reason = models.TextField()
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    at = models.DateTimeField(auto_now_add=True)
    state = models.CharField(max_length=12, choices=State, default=State.UNCONFIRMED)
    confirmed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    confirmed_at = models.DateTimeField(null=True, blank=True)
    comment = models.TextField(blank=True)  # of the second person

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.CheckConstraint(condition=~Q(reason=""), name="break_glass_has_a_reason"),
            models.CheckConstraint(
                condition=Q(confirmed_by=None) | ~Q(confirmed_by=F("by")), name="break_glass_second_person"
            ),
            models.CheckConstraint(
                condition=Q(state="unconfirmed", confirmed_by=None)
                | (~Q(state="unconfirmed") & Q(confirmed_by__isnull=False)),
                name="break_glass_confirmed_by_somebody",
            ),
        ]

    def __str__(self) -> str:
        return f"Break-glass {self.pk}: {self.get_gate_display()}, {self.application}"

    @property
    def lets_pass(self) -> bool:
        """What a second person found not in order lets nothing pass any more; what has begun is not taken back."""
        return self.state != self.State.NOT_IN_ORDER

    def lets_pass_at(self, kind: str) -> bool:
        """Whether it was given for this place: the stop, with its two gates, or the end of the migration."""
        at_the_end = self.step is not None and self.step.kind == Step.Kind.VALIDATION
        return self.lets_pass and at_the_end == (kind == Step.Kind.VALIDATION)
