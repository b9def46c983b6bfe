"""A newer version of a checklist's template, taken into a list that people work on: new items alone.

Nothing that was answered is asked again, no text changes under an answer, and nothing is taken away.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F

from migrationhub.audit.record import record
from projects import checklists, gates
from projects.access import PLAN, role_in
from projects.errors import Conflict, Forbidden, NotReady
from projects.models import ChecklistItem, ChecklistTemplate, Migration, Step, StepAttempt, TemplateItem
from projects.models.checklist import Line
from servers.models import Change

NAMES = {
    "title": "title",
    "instruction": "instruction",
    "role": "whose it is",
    "required": "required",
    "evidence": "evidence needed",
    "holds": "what it holds",
    "operation": "ticks itself from",
}


@dataclass(frozen=True)
class Changed:
    """An item that reads differently in the newer version. It stays as it is."""

    item: ChecklistItem
    fields: list[tuple[str, str, str]]  # what, as it is in the list, as it is in the version


@dataclass
class Difference:
    """What the newest version has that the list has not, and the other way round."""

    template: ChecklistTemplate
    added: list[TemplateItem] = field(default_factory=list)
    left_out: list[TemplateItem] = field(default_factory=list)  # would never tick themselves any more
    changed: list[Changed] = field(default_factory=list)
    gone: list[ChecklistItem] = field(default_factory=list)  # not in the version any more; they stay


def difference(step: Step) -> Difference:
    """Against the newest version of the template; four queries."""
    template = checklists.newest(step.migration.project)[step.kind]
    here = {item.key: item for item in step.checklist.all()}
    lines = list(template.items.all())
    found = Difference(template)
    under_way = step.attempts.filter(state__in=StepAttempt.OPEN).exists()
    for line in lines:
        item = here.get(line.key)
        if item is not None:
            fields = _fields(item, line)
            if fields:
                found.changed.append(Changed(item, fields))
        elif line.automatic and under_way:
            found.left_out.append(line)  # what it ticks itself from may have run already
        else:
            found.added.append(line)
    found.gone = [item for key, item in here.items() if key not in {line.key for line in lines}]
    return found


def _fields(item: ChecklistItem, line: TemplateItem) -> list[tuple[str, str, str]]:
    return [
        (word, _word(item, name), _word(line, name))
        for name, word in NAMES.items()
        if getattr(item, name) != getattr(line, name)
    ]


def _word(line: Line, name: str) -> str:
    value = getattr(line, name)
    if isinstance(value, bool):
        return "yes" if value else "no"
    display = getattr(line, f"get_{name}_display", None)
    return str(display() if display else value) or "nothing"


def unmet(step: Step) -> str:
    """Why the list of this step takes nothing new, in words; empty where it does."""
    if step.state in (Step.State.DONE, Step.State.SKIPPED, Step.State.NOT_APPLICABLE):
        return f"“{step}” is {step.get_state_display().lower()}: its checklist is not changed any more."
    if step.migration.state != Migration.State.OPEN:
        return f"The migration of {step.migration} is {step.migration.get_state_display().lower()}."
    return ""


def take(step_id: int, *, user: User, seen: str) -> list[TemplateItem]:
    """Add what is new; `seen`: `checklists.mark` of the version that the page showed. The items that were added.

    Raises Forbidden, NotReady, Conflict.
    """
    step = Step.objects.select_related("migration__project", "migration__source", "template").get(pk=step_id)
    migration = step.migration
    if role_in(migration.project, user) not in PLAN:
        raise Forbidden("A newer version is taken by a lead.", "Ask a lead of the project.")
    if why := unmet(step):
        raise NotReady([why])
    with transaction.atomic():
        found = difference(step)
        template = found.template
        if checklists.mark(template) != seen:
            raise Conflict(f"{template} was changed since the page was drawn.", "Look at what is new now.")
        if step.template_id == template.pk:
            raise NotReady([f"The list is of version {template.version} already."])
        _claim(step, template)
        last = max((item.position for item in step.checklist.all()), default=0)
        ChecklistItem.objects.bulk_create(
            ChecklistItem(step=step, **{name: getattr(line, name) for name in checklists.FIELDS} | {"position": place})
            for place, line in enumerate(found.added, start=last + 1)
        )
        record(
            "checklist.version",
            step,
            actor=user,
            project_id=migration.project_id,
            before={"version": step.template.version if step.template else None},
            after={
                "version": template.version,
                "added": [line.title for line in found.added],
                "left_out": [line.title for line in found.left_out],
            },
        )
        Change.bump()
    gates.follow(migration)
    return found.added


def _claim(step: Step, template: ChecklistTemplate) -> None:
    """On what was read: the step's state and version, and the template's; decisions see that the plan has changed."""
    Migration.objects.filter(pk=step.migration_id).update(version=F("version") + 1)
    if not Step.objects.filter(pk=step.pk, state=step.state, template=step.template_id).update(
        template=template, version=F("version") + 1
    ):
        raise Conflict(f"“{step}” was changed by somebody else a moment ago.", "Look at what is there now.")
    if not template.used and not ChecklistTemplate.objects.filter(pk=template.pk, revision=template.revision).update(
        used=True
    ):
        raise Conflict(f"{template} was changed a moment ago.", "Look at what is new now.", code="template.revision")
