"""What people are told: changes of state, who wants to hear of them, what was sent to whom and what came of it."""

from __future__ import annotations

from django.conf import settings
from django.core.validators import MaxValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

from migrationhub.lib.fields import EncryptedTextField


class NoticeKind(models.TextChoices):
    ASKED = "asked", "An answer is asked for, or asked for again"
    ANSWERED = "answered", "An answer was given, or the time for it is over"
    NEXT = "next", "You are next"
    ATTENTION = "attention", "A step needs attention"
    CUTOVER = "cutover", "A step of the cutover is done, or the cutover is taken back"
    WAVE = "wave", "A wave started, or is finished"
    TEST = "test", "An acceptance test was opened, is overdue, was broken off, or something in it failed"
    DEFECT = "defect", "A defect was raised, or changed"
    BREAK_GLASS = "break_glass", "Break-glass was used, or looked at"


class ProjectNotices(models.Model):
    """How loud a project is. A row is made by the first change; without one it is live."""

    class Mode(models.TextChoices):
        LIVE = "live", "Live: everybody is told what concerns them"
        TEST = "test", "Test: everything goes to one person alone"
        OFF = "off", "Off: nobody is told anything"

    project = models.OneToOneField("projects.Project", on_delete=models.CASCADE, related_name="notices_mode")
    mode = models.CharField(max_length=5, choices=Mode, default=Mode.LIVE)
    # Who set it to test: the one person whom everything goes to.
    tester = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )

    class Meta:
        constraints = [
            models.CheckConstraint(condition=~Q(mode="test") | Q(tester__isnull=False), name="notices_test_to_somebody")
        ]

    def __str__(self) -> str:
        return f"{self.project}: {self.mode}"


class NoticeSettings(models.Model):
    """What one person wants to hear of one project, by e-mail. A row is made by the first change."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="notice_settings")
    project = models.ForeignKey("projects.Project", on_delete=models.CASCADE, related_name="notice_settings")
    kinds = models.JSONField(default=list, blank=True)  # of `NoticeKind`; empty: nothing
    # Full hours in the project's zone between which nothing is sent; what happens then comes at the end of them.
    quiet_from = models.PositiveSmallIntegerField(null=True, blank=True, validators=[MaxValueValidator(23)])
    quiet_until = models.PositiveSmallIntegerField(null=True, blank=True, validators=[MaxValueValidator(23)])

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "project"], name="notice_settings_once"),
            models.CheckConstraint(
                condition=Q(quiet_from=None, quiet_until=None)
                | (Q(quiet_from__lte=23, quiet_until__lte=23) & ~Q(quiet_from=models.F("quiet_until"))),
                name="notice_quiet_hours",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.project}: {', '.join(self.kinds)}"


class Webhook(models.Model):
    """Where a project's changes are posted to. Address and secret are secrets: whoever knows one can post there."""

    class Format(models.TextChoices):
        SLACK = "slack", "Slack, or what takes Slack's messages"
        GENERIC = "generic", "JSON, signed"

    project = models.ForeignKey("projects.Project", on_delete=models.CASCADE, related_name="webhooks")
    name = models.CharField(max_length=100)
    format = models.CharField(max_length=10, choices=Format)
    url = EncryptedTextField()
    host = models.CharField(max_length=253)  # of the address: what pages show of it
    secret = EncryptedTextField(blank=True)  # signs what is posted; of the signed format alone
    kinds = models.JSONField(default=list)
    is_on = models.BooleanField(default=True)
    made_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["project", "name"], name="webhook_name_once")]

    def __str__(self) -> str:
        return self.name


class Notice(models.Model):
    """One change of state that somebody may want to hear of; written in the transaction of the act itself."""

    key = models.CharField(max_length=120, unique=True)  # of the change: it is told once
    event = models.ForeignKey("audit.AuditEvent", null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    project = models.ForeignKey("projects.Project", on_delete=models.CASCADE, related_name="notices")
    at = models.DateTimeField(default=timezone.now)
    dealt_at = models.DateTimeField(null=True, blank=True)  # when it was worked out who hears of it
    # What it says is found when it is dealt; empty before, and of what is told to nobody.
    kind = models.CharField(max_length=12, choices=NoticeKind, blank=True)
    wave = models.ForeignKey("projects.Wave", null=True, blank=True, on_delete=models.SET_NULL, related_name="notices")
    application = models.ForeignKey(
        "projects.Application", null=True, blank=True, on_delete=models.SET_NULL, related_name="notices"
    )
    title = models.CharField(max_length=300, blank=True)
    text = models.TextField(blank=True)
    path = models.CharField(max_length=200, blank=True)  # of the page that it is about

    class Meta:
        ordering = ["pk"]
        indexes = [models.Index(fields=["id"], condition=Q(dealt_at=None), name="notice_undealt")]

    def __str__(self) -> str:
        return self.title or self.key


class Message(models.Model):
    """One mail, or one post to a webhook: what one receiver hears of one wave within a short time."""

    class State(models.TextChoices):
        WAITING = "waiting", "Waits"
        QUEUED = "queued", "Is about to be sent"
        SENDING = "sending", "Is being sent"
        SENT = "sent", "Sent"
        FAILED = "failed", "Not sent"
        UNKNOWN = "unknown", "May have been sent"
        DROPPED = "dropped", "Kept back"

    UNDER_WAY = (State.QUEUED, State.SENDING)

    project = models.ForeignKey("projects.Project", on_delete=models.CASCADE, related_name="messages")
    wave = models.ForeignKey("projects.Wave", null=True, blank=True, on_delete=models.SET_NULL, related_name="messages")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.CASCADE, related_name="+"
    )
    webhook = models.ForeignKey("projects.Webhook", null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    to = models.CharField(max_length=300)  # the address, or the webhook's name and host
    is_test = models.BooleanField(default=False)  # goes to the tester in the place of the others
    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    tries = models.PositiveSmallIntegerField(default=0)
    due_at = models.DateTimeField()  # not sent before
    changed_at = models.DateTimeField(default=timezone.now)  # when the state last changed
    sent_at = models.DateTimeField(null=True, blank=True)
    reason = models.TextField(blank=True)  # why not sent, why not yet
    uuid = models.UUIDField(unique=True)  # tells a receiver that it is the same message
    created_at = models.DateTimeField(auto_now_add=True)
    notices: models.ManyToManyField[Notice, Part] = models.ManyToManyField(
        "projects.Notice", through="projects.Part", related_name="messages"
    )

    class Meta:
        ordering = ["-pk"]
        indexes = [
            models.Index(fields=["due_at"], condition=Q(state="waiting"), name="message_due"),
            models.Index(fields=["project", "-id"], name="message_of_project"),
        ]

    def __str__(self) -> str:
        return f"to {self.to}"


class Part(models.Model):
    """That a receiver is told of a change; once for each person and each webhook, whatever happens."""

    message = models.ForeignKey("projects.Message", on_delete=models.CASCADE, related_name="parts")
    notice = models.ForeignKey("projects.Notice", on_delete=models.CASCADE, related_name="parts")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.CASCADE, related_name="+"
    )
    webhook = models.ForeignKey("projects.Webhook", null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    meant_for = models.JSONField(default=list, blank=True)  # in test mode: whom it would have gone to

    class Meta:
        ordering = ["notice"]
        constraints = [
            models.UniqueConstraint(fields=["notice", "user"], name="told_person_once"),
            models.UniqueConstraint(fields=["notice", "webhook"], name="told_webhook_once"),
        ]

    def __str__(self) -> str:
        return f"{self.notice} {self.message}"
