"""Where people decide: checklist items and approvals."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q


class ChecklistItem(models.Model):
    """One thing to be seen to within a step. An automatic item ticks itself from a run and links to it."""

    class State(models.TextChoices):
        OPEN = "open", "Open"
        DONE = "done", "Done"
        FAILED = "failed", "Failed"
        NOT_APPLICABLE = "not_applicable", "Not applicable"

    step = models.ForeignKey("projects.Step", on_delete=models.CASCADE, related_name="checklist")
    position = models.PositiveSmallIntegerField()
    key = models.SlugField(max_length=60)
    title = models.CharField(max_length=200)
    instruction = models.TextField(blank=True)
    role = models.CharField(max_length=10, default="operator")  # whose it is: lead, operator, owner
    required = models.BooleanField(default=True)
    automatic = models.BooleanField(default=False)
    state = models.CharField(max_length=15, choices=State, default=State.OPEN)
    note = models.TextField(blank=True)  # a reason, what was seen
    run = models.ForeignKey("servers.Run", null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["position"]
        constraints = [models.UniqueConstraint(fields=["step", "key"], name="checklist_key_once")]

    def __str__(self) -> str:
        return self.title


class Approval(models.Model):
    """One per wave, application and gate, bound to a digest of what was decided on."""

    class Gate(models.TextChoices):
        SIGN_OFF = "sign_off", "Sign-off of acceptance testing"
        GO = "go", "Go for stopping services"

    class State(models.TextChoices):
        REQUESTED = "requested", "Waits for an answer"
        APPROVED = "approved", "Approved"
        REJECTED = "rejected", "Rejected"
        MORE_TIME = "more_time", "Needs more time"
        STALE = "stale", "Needs another look"

    wave = models.ForeignKey("projects.Wave", on_delete=models.CASCADE, related_name="approvals")
    application = models.ForeignKey("projects.Application", on_delete=models.CASCADE, related_name="approvals")
    gate = models.CharField(max_length=10, choices=Gate)
    state = models.CharField(max_length=10, choices=State, default=State.REQUESTED)
    digest = models.CharField(max_length=64, blank=True)  # of what is to be decided on
    subject = models.JSONField(default=dict)  # what the digest was taken over, to show the difference
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )  # empty: by the system
    requested_at = models.DateTimeField(auto_now_add=True)
    version = models.BigIntegerField(default=1)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["wave", "application", "gate"], name="approval_once"),
        ]

    def __str__(self) -> str:
        return f"{self.get_gate_display()}, {self.application}"


class Decision(models.Model):
    """What a person said to an approval, about which digest. Never changed."""

    class Verdict(models.TextChoices):
        APPROVE = "approve", "Approved"
        REJECT = "reject", "Rejected"
        MORE_TIME = "more_time", "Asked for more time"

    approval = models.ForeignKey("projects.Approval", on_delete=models.CASCADE, related_name="decisions")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    verdict = models.CharField(max_length=10, choices=Verdict)
    comment = models.TextField(blank=True)
    digest = models.CharField(max_length=64)
    subject = models.JSONField(default=dict)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.CheckConstraint(condition=~Q(digest=""), name="decision_is_about_something"),
        ]

    def __str__(self) -> str:
        return f"{self.user} {self.verdict}"
