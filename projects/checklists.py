"""Checklists: the templates of a project, the lists made from them, and what people answer."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import F, Max
from django.utils import timezone
from django.utils.text import slugify

from migrationhub.audit.record import record
from projects import gates
from projects.access import PLAN, RUN, answers_for, role_in
from projects.errors import Conflict, Forbidden, NotReady
from projects.models import (
    Attachment,
    ChecklistItem,
    ChecklistTemplate,
    ItemRole,
    Migration,
    Project,
    Step,
    TemplateItem,
)
from projects.models.checklist import Line
from projects.steps import MODULES
from servers.models import Change

LONGEST_LINK = 500  # characters, as its column
FIELDS = ("position", "key", "title", "instruction", "role", "required", "evidence", "holds", "operation")


def newest(project: Project) -> dict[str, ChecklistTemplate]:
    """The newest template of each kind of step, with its items; what the project does not have yet is made from the
    product's own lists. Two queries, where they exist."""
    found = _newest(project)
    missing = [kind for kind in Step.ORDER if kind not in found]
    if missing:
        _make_first(project, missing)
        found = _newest(project)
    return {kind: found[kind] for kind in Step.ORDER}


def _newest(project: Project) -> dict[str, ChecklistTemplate]:
    rows = ChecklistTemplate.objects.filter(project=project).select_related("made_by").order_by("version")
    found = {str(template.kind): template for template in rows.prefetch_related("items")}
    for template in found.values():
        template.project = project
    return found


def _make_first(project: Project, kinds: list[Step.Kind]) -> None:
    """Version 1, from the steps' own lists; whoever comes second finds it made."""
    try:
        with transaction.atomic():
            made = ChecklistTemplate.objects.bulk_create(
                ChecklistTemplate(project=project, kind=kind, version=1) for kind in kinds
            )
            TemplateItem.objects.bulk_create(
                TemplateItem(
                    template=template,
                    position=number,
                    key=item.key,
                    title=item.title,
                    instruction=item.instruction,
                    role=item.role,
                    required=item.required,
                    evidence=item.evidence,
                    holds=item.holds,
                    operation=item.operation,
                )
                for template in made
                for number, item in enumerate(MODULES[template.kind].items, start=1)
            )
    except IntegrityError:
        return


def apply(migration: Migration, steps: list[Step]) -> None:
    """Give new steps their checklists, from the newest templates. Call it inside a transaction.

    A template that is used for the first time is marked so, on the revision that was read: from then on nobody
    changes it any more.
    """
    templates = newest(migration.project)
    lines = []
    for step in steps:
        template = templates[step.kind]
        if not template.used and not ChecklistTemplate.objects.filter(
            pk=template.pk, revision=template.revision
        ).update(used=True):
            raise Conflict(
                f"{template} was changed a moment ago.", "Save the plan once more.", code="template.revision"
            )
        step.template = template
        lines += [
            ChecklistItem(step=step, **{name: getattr(line, name) for name in FIELDS}) for line in template.items.all()
        ]
    Step.objects.bulk_update(steps, ["template"])
    ChecklistItem.objects.bulk_create(lines)


def newer_version(step: Step, templates: dict[str, ChecklistTemplate]) -> int | None:
    """The version that is newer than the one the step's checklist was made from."""
    now = templates[step.kind].version
    return now if step.template is not None and step.template.version < now else None


def tick(item_id: int, *, user: User, state: str, note: str = "", link: str = "", seen: str = "") -> None:
    """Answer one line of a checklist; `seen`: the answer that the page showed (`seen_of`, or its state alone).

    Raises Forbidden, NotReady or Conflict, in words.
    """
    item = ChecklistItem.objects.select_related("step__migration__project", "step__migration__application").get(
        pk=item_id
    )
    migration = item.step.migration
    if item.automatic:
        raise Forbidden(f"“{item.title}” ticks itself from what was measured.", "Run the measurement again.")
    _check_may_tick(item, migration, user)
    _check_answer(item, state, note.strip(), link.strip())
    if migration.state != Migration.State.OPEN:
        raise Conflict(
            f"The migration of {migration} is {migration.get_state_display().lower()}.", "Nothing is left to answer."
        )
    if item.step.state in (Step.State.DONE, Step.State.SKIPPED):
        raise Conflict(f"“{item.step}” is done: its checklist is not changed any more.", "Look at what is there now.")
    if seen and seen not in (item.state, seen_of(item)):
        by = f", by {item.by}" if item.by else ""
        raise Conflict(
            f"“{item.title}” was answered in the meantime: {item.get_state_display().lower()}{by}.",
            "Look at that answer, then answer again if yours is still right.",
        )
    with transaction.atomic():
        if not ChecklistItem.objects.filter(pk=item.pk, state=item.state, at=item.at).update(
            state=state, note=note.strip(), link=link.strip(), by=user, at=timezone.now()
        ):
            raise Conflict(f"“{item.title}” was answered by somebody else a moment ago.", "Look at what is there now.")
        # Once the row is ours: nobody takes a file back any more on which this answer stands.
        if state == ChecklistItem.State.DONE and item.evidence and not has_evidence(item, note.strip(), link.strip()):
            raise NotReady(
                [f"“{item}” asks for evidence: write what you saw as a note, enter a link to it, or attach a file."]
            )
        Migration.objects.filter(pk=migration.pk).update(version=F("version") + 1)
        record(
            "checklist.tick",
            item,
            actor=user,
            project_id=migration.project_id,
            why=note,
            before={"state": item.state},
            after={"state": state, "link": link.strip()},
        )
        Change.bump()
    gates.follow(migration)


def seen_of(item: ChecklistItem) -> str:
    """What a page showed of the answer: its state and its moment, as two notes may stand on the same state."""
    return f"{item.state}@{item.at.timestamp():.6f}" if item.at else str(item.state)


def _check_answer(item: ChecklistItem, state: str, note: str, link: str) -> None:
    if state not in ChecklistItem.State.values:
        raise NotReady([f"state={state}: expected done, open, failed or not_applicable."])
    if state == ChecklistItem.State.NOT_APPLICABLE and not note:
        raise NotReady(["note: say why it does not apply."])
    if link and not link.startswith(("https://", "http://")):
        raise NotReady([f"link={link[:60]}: expected an address that begins with https:// or http://."])
    if len(link) > LONGEST_LINK:
        raise NotReady(
            [f"link: {len(link)} characters; at most {LONGEST_LINK} are kept."], "Shorten it, or put it into the note."
        )


def has_evidence(item: ChecklistItem, note: str, link: str) -> bool:
    """A note or a link comes with the answer, or a file was attached to the item before."""
    return bool(note or link or Attachment.objects.standing().filter(item=item).exists())


def _check_may_tick(item: ChecklistItem, migration: Migration, user: User) -> None:
    role = role_in(migration.project, user)
    if item.role == ItemRole.OWNER:
        if not answers_for(migration, user):
            raise Forbidden(f"“{item.title}” is answered by the application's owner.", "Ask the owner.")
    elif item.role == ItemRole.LEAD:
        if role not in PLAN:
            raise Forbidden(f"“{item.title}” is answered by a lead.", "Ask a lead of the project.")
    elif role not in RUN:
        raise Forbidden(f"“{item.title}” is answered by whoever runs the migration.", "Ask an operator.")


def may_answer(item: ChecklistItem, role: str | None, *, owns: bool) -> bool:
    """Whether a person with this role may tick it; asked again when the answer comes."""
    if item.automatic:
        return False
    if item.role == ItemRole.OWNER:
        return owns
    return role in (PLAN if item.role == ItemRole.LEAD else RUN)


def reopen(step: Step, why: str) -> None:
    """The step was taken back: what was done for it counts no more, and is to be done again."""
    ChecklistItem.objects.filter(step=step).exclude(state=ChecklistItem.State.OPEN).update(
        state=ChecklistItem.State.OPEN, note=why, run=None, by=None, at=timezone.now()
    )


# -- templates ------------------------------------------------------------------------------------------------


def save_item(*, template: ChecklistTemplate, key: str, values: dict[str, object], seen: str, user: User) -> None:
    """Add a line (`key` empty) or change one. `seen`: `mark` of the template that the page showed."""
    with transaction.atomic():
        now = _writable(template, seen, user)
        if key:
            line = _line(now, key)
            before = _told(line)
            for name, value in values.items():
                setattr(line, name, value)
            line.save(update_fields=list(values))
        else:
            last = now.items.aggregate(last=Max("position"))["last"] or 0
            line = TemplateItem(template=now, key=_free_key(now, str(values["title"])), position=last + 1, **values)
            before = {}
            line.save()
        _recorded("template.item", now, user, before=before, after=_told(line))


def remove_item(*, template: ChecklistTemplate, key: str, seen: str, user: User) -> None:
    with transaction.atomic():
        now = _writable(template, seen, user)
        line = _line(now, key)
        before = _told(line)
        line.delete()
        _renumber(list(now.items.order_by("position")))
        _recorded("template.remove", now, user, before=before, after={})


def move_item(*, template: ChecklistTemplate, key: str, up: bool, seen: str, user: User) -> tuple[int, int]:
    """One place up or down; the line's place afterwards, and of how many. At the end nothing moves."""
    with transaction.atomic():
        now = _writable(template, seen, user)
        lines = list(now.items.order_by("position"))
        at = next((number for number, line in enumerate(lines) if line.key == key), None)
        if at is None:
            raise Conflict(f"“{key}” is no item of this checklist any more.", "Look at what is there now.")
        to = min(max(at + (-1 if up else 1), 0), len(lines) - 1)
        lines.insert(to, lines.pop(at))
        _renumber(lines)
        _recorded("template.move", now, user, before={"key": key, "place": at + 1}, after={"key": key, "place": to + 1})
    return to + 1, len(lines)


def mark(template: ChecklistTemplate) -> str:
    """What a page was drawn for: version and revision."""
    return f"{template.version}.{template.revision}"


def _writable(template: ChecklistTemplate, seen: str, user: User) -> ChecklistTemplate:
    """The row to write on: the version itself while nothing was made from it, else the next version with its items."""
    if mark(template) != seen:
        raise _changed(template)
    if not template.used:
        if not ChecklistTemplate.objects.filter(pk=template.pk, revision=template.revision, used=False).update(
            revision=F("revision") + 1, made_by=user, made_at=timezone.now()
        ):
            raise _changed(template)
        template.revision += 1
        return template
    made, new = ChecklistTemplate.objects.get_or_create(
        project=template.project, kind=template.kind, version=template.version + 1, defaults={"made_by": user}
    )
    if not new:
        raise _changed(template)
    TemplateItem.objects.bulk_create(
        TemplateItem(template=made, **{name: getattr(line, name) for name in FIELDS}) for line in template.items.all()
    )
    return made


def _changed(template: ChecklistTemplate) -> Conflict:
    return Conflict(
        f"Somebody changed the checklist of {template.get_kind_display().lower()} since the page was drawn.",
        "Look at what is there now, and do it again if it is still right.",
        code="template.revision",
    )


def _line(template: ChecklistTemplate, key: str) -> TemplateItem:
    line = template.items.filter(key=key).first()
    if line is None:
        raise Conflict(f"“{key}” is no item of this checklist any more.", "Look at what is there now.")
    return line


def _renumber(lines: list[TemplateItem]) -> None:
    for number, line in enumerate(lines, start=1):
        line.position = number
    TemplateItem.objects.bulk_update(lines, ["position"])


def _free_key(template: ChecklistTemplate, title: str) -> str:
    """A short name for a new line, made from its title."""
    base = slugify(title)[:50] or "item"
    taken = set(template.items.values_list("key", flat=True))
    number, key = 1, base
    while key in taken:
        number += 1
        key = f"{base}-{number}"
    return key


def _told(line: Line) -> dict[str, object]:
    return {name: getattr(line, name) for name in FIELDS if name != "position"}


def _recorded(
    verb: str, template: ChecklistTemplate, user: User, *, before: dict[str, object], after: dict[str, object]
) -> None:
    record(
        verb,
        template,
        actor=user,
        project_id=template.project_id,
        before=before,
        after={**after, "version": template.version},
    )
