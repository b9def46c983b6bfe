"""What is to be seen to within a step: templates per project and kind of step, and the lists made from them."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils import timezone

from .step import Step


class Holds(models.TextChoices):
    """What of the step an open required item holds."""

    START = "start", "Before the step starts"
    END = "end", "Before the step ends"


class ItemRole(models.TextChoices):
    """Whose an item is."""

    OWNER = "owner", "Application owner"
    OPERATOR = "operator", "Operator"
    LEAD = "lead", "Lead"


class ChecklistTemplate(models.Model):
    """One version of a project's checklist for one kind of step.

    A version that a checklist was made from (`used`) is never changed: the next change makes the next version.
    `revision` grows with every change of a version that is still unused; both are part of each UPDATE's condition.
    """

    project = models.ForeignKey("projects.Project", on_delete=models.CASCADE, related_name="checklist_templates")
    kind = models.CharField(max_length=20, choices=Step.Kind)
    version = models.PositiveIntegerField(default=1)
    revision = models.PositiveIntegerField(default=1)
    used = models.BooleanField(default=False)
    made_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )  # empty: the product's own
    made_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["kind", "version"]
        constraints = [
            models.UniqueConstraint(fields=["project", "kind", "version"], name="checklist_template_version_once"),
        ]

    def __str__(self) -> str:
        return f"Checklist of {self.get_kind_display().lower()}, version {self.version}"


class Line(models.Model):
    """What a line of a template and the item made from it have in common."""

    position = models.PositiveSmallIntegerField()
    key = models.SlugField(max_length=60)
    title = models.CharField(max_length=200)
    instruction = models.TextField(blank=True)  # Markdown; sanitised when it is drawn
    role = models.CharField(max_length=10, choices=ItemRole, default=ItemRole.OPERATOR)
    required = models.BooleanField(default=True)
    evidence = models.BooleanField(default=False)  # a note, a link or an attachment is needed to tick it
    holds = models.CharField(max_length=5, choices=Holds, default=Holds.END)
    # Ticks itself from the action with this operation ("probe:clone": asked on the clone); empty: people tick it.
    operation = models.CharField(max_length=40, blank=True)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.title

    @property
    def automatic(self) -> bool:
        return bool(self.operation)


class TemplateItem(Line):
    template = models.ForeignKey("projects.ChecklistTemplate", on_delete=models.CASCADE, related_name="items")

    class Meta:
        ordering = ["position"]
        constraints = [models.UniqueConstraint(fields=["template", "key"], name="template_item_key_once")]


class ChecklistItem(Line):
    """One thing to be seen to within a step. An automatic item ticks itself from a run and links to it."""

    class State(models.TextChoices):
        OPEN = "open", "Open"
        DONE = "done", "Done"
        FAILED = "failed", "Failed"
        NOT_APPLICABLE = "not_applicable", "Not applicable"

    CLOSED = (State.DONE, State.NOT_APPLICABLE)

    step = models.ForeignKey("projects.Step", on_delete=models.CASCADE, related_name="checklist")
    state = models.CharField(max_length=15, choices=State, default=State.OPEN)
    note = models.TextField(blank=True)  # a reason, what was seen
    link = models.URLField(max_length=500, blank=True)  # evidence kept elsewhere: a ticket, a dashboard
    run = models.ForeignKey("servers.Run", null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["position"]
        constraints = [models.UniqueConstraint(fields=["step", "key"], name="checklist_key_once")]

    @property
    def is_closed(self) -> bool:
        return self.state in self.CLOSED
