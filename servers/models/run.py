"""The ledger of work: one run is one try of one piece of work on one machine."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

OPEN = ("queued", "running", "scheduled", "cancelling")
ENDED = ("succeeded", "failed", "cancelled", "lost")


class Run(models.Model):
    class State(models.TextChoices):
        QUEUED = "queued", "Queued"
        RUNNING = "running", "Running"
        SCHEDULED = "scheduled", "Scheduled by the engine"
        CANCELLING = "cancelling", "Stopping"
        SUCCEEDED = "succeeded", "Done"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Cancelled"
        LOST = "lost", "Lost"

    work_key = models.CharField(max_length=120, db_index=True)  # what piece of work; outside effects carry it
    number = models.PositiveIntegerField(default=1)  # which try of it
    operation = models.CharField(max_length=40)
    title = models.CharField(max_length=200)
    server = models.ForeignKey("servers.Server", null=True, blank=True, on_delete=models.PROTECT, related_name="runs")
    parameters = models.JSONField(default=dict)  # ids and choices, never secrets
    state = models.CharField(max_length=12, choices=State, default=State.QUEUED)
    phase = models.CharField(max_length=80, blank=True)
    raw = models.CharField(max_length=80, blank=True)
    reason = models.TextField(blank=True)
    code = models.CharField(max_length=60, blank=True)
    bytes_done = models.BigIntegerField(default=0)
    bytes_total = models.BigIntegerField(null=True, blank=True)
    files_done = models.BigIntegerField(default=0)
    files_total = models.BigIntegerField(null=True, blank=True)
    rate = models.FloatField(null=True, blank=True)  # bytes per second, measured
    memo = models.JSONField(default=dict)
    result = models.JSONField(default=dict)

    # The act in hand: enqueued under an epoch, claimed by a worker.
    epoch = models.BigIntegerField(default=0)
    act = models.CharField(max_length=60, blank=True)
    act_enqueued_at = models.DateTimeField(null=True, blank=True)
    act_started_at = models.DateTimeField(null=True, blank=True)
    act_worker = models.CharField(max_length=120, blank=True)  # host:pid:start time
    acts = models.PositiveIntegerField(default=0)
    check_at = models.DateTimeField(null=True, blank=True, db_index=True)  # look again then

    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    observed_at = models.DateTimeField(null=True, blank=True)
    contact_lost_since = models.DateTimeField(null=True, blank=True)
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    give_up_reason = models.TextField(blank=True)  # why a person gave it up; it ends once both sides were asked
    version = models.BigIntegerField(default=1)

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(fields=["work_key", "number"], name="run_number_once"),
            models.UniqueConstraint(fields=["work_key"], condition=Q(state__in=OPEN), name="run_open_once"),
            models.CheckConstraint(
                condition=Q(state__in=OPEN, finished_at=None) | Q(state__in=ENDED, finished_at__isnull=False),
                name="run_finished_iff_ended",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.title} (run {self.number})"

    @property
    def is_open(self) -> bool:
        return self.state in OPEN

    @property
    def key(self) -> str:
        """The name of this try on the outside."""
        return f"{self.work_key}.{self.number}"


class RunEvent(models.Model):
    class Level(models.TextChoices):
        INFO = "info"
        WARNING = "warning"
        ERROR = "error"

    run = models.ForeignKey("servers.Run", on_delete=models.CASCADE, related_name="events")
    at = models.DateTimeField(auto_now_add=True)
    level = models.CharField(max_length=8, choices=Level, default=Level.INFO)
    text = models.TextField()

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return self.text
