"""The plan (step) and the tries (attempt, action). History is never overwritten; a retry is a new row."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from django.conf import settings
from django.db import models
from django.db.models import Q


class Step(models.Model):
    class Kind(models.TextChoices):
        INITIAL = "initial_migration", "Initial migration"
        DELTA = "delta_migrations", "Delta migrations"
        UAT = "acceptance_testing", "Acceptance testing"
        STOP = "stop_services", "Stop services"
        FINAL = "final_delta", "Final delta"
        CUTOVER = "cutover_events", "Cutover events"
        VALIDATION = "final_validation", "Final validation"

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        READY = "ready", "Ready"
        SCHEDULED = "scheduled", "Scheduled"
        RUNNING = "running", "Running"
        ATTENTION = "attention", "Needs attention"
        DONE = "done", "Done"
        NOT_APPLICABLE = "not_applicable", "Not applicable"
        SKIPPED = "skipped", "Skipped"
        CANCELLED = "cancelled", "Cancelled"
        UNDOING = "undoing", "Being undone"
        UNDONE = "undone", "Undone"

    ORDER = tuple(Kind)

    migration = models.ForeignKey("projects.Migration", on_delete=models.CASCADE, related_name="steps")
    kind = models.CharField(max_length=20, choices=Kind)
    position = models.PositiveSmallIntegerField()  # 1 to 7
    state = models.CharField(max_length=15, choices=State, default=State.WAITING)
    reason = models.TextField(blank=True)  # why it is in this state, in words
    # The version that its checklist was made from; empty for checklists older than templates.
    template = models.ForeignKey(
        "projects.ChecklistTemplate", null=True, blank=True, on_delete=models.PROTECT, related_name="steps"
    )
    version = models.BigIntegerField(default=1)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["position"]
        constraints = [models.UniqueConstraint(fields=["migration", "kind"], name="step_kind_once")]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} of {self.migration}"


class StepAttempt(models.Model):
    class Mode(models.TextChoices):
        REAL = "real", "Real"
        REHEARSAL = "rehearsal", "Rehearsal"
        ROLLBACK = "rollback", "Undo"

    class State(models.TextChoices):
        RUNNING = "running", "Running"
        ATTENTION = "attention", "Needs attention"
        CANCELLING = "cancelling", "Stopping"
        DONE = "done", "Done"
        CANCELLED = "cancelled", "Cancelled"
        UNDONE = "undone", "Undone"

    OPEN = (State.RUNNING, State.ATTENTION, State.CANCELLING)

    step = models.ForeignKey("projects.Step", on_delete=models.CASCADE, related_name="attempts")
    number = models.PositiveIntegerField()
    mode = models.CharField(max_length=10, choices=Mode, default=Mode.REAL)
    state = models.CharField(max_length=12, choices=State, default=State.RUNNING)
    reason = models.TextField(blank=True)
    undone_by = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="undoes")
    started_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    started_at = models.DateTimeField()
    retried_by = models.JSONField(default=list)  # keys (pk) of the people who retried it
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(fields=["step", "number"], name="attempt_number_once"),
            models.UniqueConstraint(
                fields=["step"],
                condition=Q(state__in=["running", "attention", "cancelling"]),
                name="attempt_open_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.step}, attempt {self.number}"

    @property
    def is_open(self) -> bool:
        return self.state in self.OPEN


class Runners:
    """Who started or retried a step of servers of these applications, in any wave; asked once, and only if needed."""

    def __init__(self, applications: Iterable[int]) -> None:
        self._applications = set(applications)

    def of(self, application: int) -> set[int]:
        return self._found[application]

    @cached_property
    def _found(self) -> dict[int, set[int]]:
        found: dict[int, set[int]] = {application: set() for application in self._applications}
        tries = StepAttempt.objects.filter(step__migration__application__in=self._applications)
        rows = tries.order_by().values_list("step__migration__application", "started_by", "retried_by")
        for application, starter, retriers in rows:
            found[application] |= {starter, *retriers} - {None}
        return found


class Action(models.Model):
    """One act of an attempt: an operation of `servers` with its parameters, and what takes it back."""

    class State(models.TextChoices):
        PLANNED = "planned", "Planned"
        RUNNING = "running", "Running"
        FAILED = "failed", "Failed"
        DONE = "done", "Done"
        NOT_APPLICABLE = "not_applicable", "Not applicable"
        CANCELLED = "cancelled", "Cancelled"

    class Reversible(models.TextChoices):
        YES = "yes", "Reversible"
        UNTIL = "until", "Reversible until the source is off"
        NO = "no", "Not reversible"

    attempt = models.ForeignKey("projects.StepAttempt", on_delete=models.CASCADE, related_name="actions")
    position = models.PositiveSmallIntegerField()
    depends_on = models.JSONField(default=list)  # positions
    operation = models.CharField(max_length=40)
    title = models.CharField(max_length=200)
    parameters = models.JSONField(default=dict)
    undo = models.JSONField(default=dict)  # {"operation": …, "parameters": …}; {} where there is none
    reversible = models.CharField(max_length=10, choices=Reversible, default=Reversible.YES)
    state = models.CharField(max_length=15, choices=State, default=State.PLANNED)
    reason = models.TextField(blank=True)  # why not applicable, why failed
    work_key = models.CharField(max_length=120, unique=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["position"]
        constraints = [models.UniqueConstraint(fields=["attempt", "position"], name="action_position_once")]

    def __str__(self) -> str:
        return self.title

    @property
    def was_begun(self) -> bool:
        """Its work began, in this try or an earlier one: a retry plans it again and keeps when that ended."""
        begun = (self.State.RUNNING, self.State.FAILED, self.State.DONE)
        return self.state in begun or self.finished_at is not None
