"""Where people decide: who may, what they were asked, what they said."""

from __future__ import annotations

from functools import cached_property
from typing import Self

from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from .step import Runners


class GateKind(models.TextChoices):
    SIGN_OFF = "sign_off", "Sign-off of acceptance testing"
    GO = "go", "Go for stopping services"


class ApprovalPolicy(models.Model):
    """Who answers a gate of a project, and how many of them must say yes. A row is made by the first change."""

    project = models.ForeignKey("projects.Project", on_delete=models.CASCADE, related_name="approval_policies")
    gate = models.CharField(max_length=10, choices=GateKind)
    roles = models.JSONField(default=list)  # roles in the project; the sign-off always needs the owner's own besides
    needed = models.PositiveSmallIntegerField(default=1)  # different people who must say yes
    runner_may = models.BooleanField(default=False)  # whoever started a step of these servers may answer too
    expires_hours = models.PositiveSmallIntegerField(default=0)  # without an answer; 0: never
    remind_hours = models.PositiveSmallIntegerField(default=0)  # after the request; 0: never

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "gate"], name="approval_policy_once"),
            models.CheckConstraint(condition=Q(needed__gte=1), name="approval_policy_needs_somebody"),
        ]

    def __str__(self) -> str:
        return f"{self.get_gate_display()}: {self.needed} of {', '.join(self.roles)}"


class ApprovalQuerySet(models.QuerySet["Approval"]):
    def handed_to(self, user: User | AnonymousUser) -> Self:
        """Sign-offs that an owner handed over to a member: as long as it is still theirs to give."""
        key = user.pk or 0
        return self.filter(
            gate=GateKind.SIGN_OFF,
            delegated_to_id=key,
            delegated_by=F("application__owner"),
            wave__project__memberships__user_id=key,
        )


class Approval(models.Model):
    """One per wave, application and gate, bound to a digest of what was decided on."""

    Gate = GateKind

    class State(models.TextChoices):
        REQUESTED = "requested", "Waits for an answer"
        APPROVED = "approved", "Approved"
        REJECTED = "rejected", "Rejected"
        MORE_TIME = "more_time", "Needs more time"
        STALE = "stale", "Needs another look"
        EXPIRED = "expired", "Expired without an answer"
        PASSED = "passed", "Passed by break-glass"

    OPENS = (State.APPROVED, State.PASSED)  # what lets the migration go on
    ASKED = (State.REQUESTED, State.STALE, State.MORE_TIME)  # an answer is waited for

    wave = models.ForeignKey("projects.Wave", on_delete=models.CASCADE, related_name="approvals")
    application = models.ForeignKey("projects.Application", on_delete=models.CASCADE, related_name="approvals")
    gate = models.CharField(max_length=10, choices=GateKind)
    state = models.CharField(max_length=10, choices=State, default=State.REQUESTED)
    # Of what is to be decided on; empty: a go without a valid sign-off, which is about nothing.
    digest = models.CharField(max_length=64, blank=True)
    subject = models.JSONField(default=dict)  # what the digest was taken over, to show the difference
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )  # empty: by the system
    # What was said before it was asked for (again) does not count any more.
    requested_at = models.DateTimeField(default=timezone.now)
    # The policy as it was when it was asked for; see `ApprovalPolicy`.
    roles = models.JSONField(default=list, blank=True)  # empty: the gate's default
    needed = models.PositiveSmallIntegerField(default=1)
    runner_may = models.BooleanField(default=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    remind_at = models.DateTimeField(null=True, blank=True)  # when the next reminder is due; set empty when it is sent
    delegated_to = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="delegated_approvals"
    )
    delegated_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    delegated_at = models.DateTimeField(null=True, blank=True)
    version = models.BigIntegerField(default=1)

    objects = ApprovalQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["wave", "application", "gate"], name="approval_once"),
            models.CheckConstraint(
                condition=Q(delegated_to=None) | ~Q(delegated_to=models.F("delegated_by")),
                name="approval_delegated_to_another",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_gate_display()}, {self.application}"

    @property
    def is_open(self) -> bool:
        """Whether it lets the migration go on."""
        return self.state in self.OPENS

    @cached_property
    def roles_now(self) -> dict[int, str]:
        """By person their role in the project; lanes know it already of everybody who has a part in the approval."""
        return dict(self.wave.project.memberships.values_list("user_id", "role"))

    @cached_property
    def runners(self) -> Runners:
        """Who ran servers of its application; those of one page share theirs."""
        return Runners([self.application_id])


class Decision(models.Model):
    """What a person said to an approval, about which digest. Never changed."""

    class Verdict(models.TextChoices):
        APPROVE = "approve", "Approved"
        REJECT = "reject", "Rejected"
        MORE_TIME = "more_time", "Asked for more time"

    approval = models.ForeignKey("projects.Approval", on_delete=models.CASCADE, related_name="decisions")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    # Whose right it was, where somebody answered for another: a delegate, a stand-in. The two count as one person.
    on_behalf_of = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
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
