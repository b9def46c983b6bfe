"""What every planning verb does the same way: write a row, tell what changed, wake the controller."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib.auth.models import User
from django.db import models

from migrationhub.audit.record import record
from projects.models import Migration, Project, Step, StepAttempt
from servers.models import Change

SECRETS = frozenset({"secret", "passphrase", "become_password"})
NOT_BEGUN = (Step.State.WAITING, Step.State.READY, Step.State.UNDONE, Step.State.NOT_APPLICABLE)


def begun(migration: Migration, kind: str) -> bool:
    """Whether a step was started and not taken back; a cancelled one may have left something behind."""
    return migration.steps.filter(kind=kind).exclude(state__in=NOT_BEGUN).exists() or (
        StepAttempt.objects.filter(step__migration=migration, step__kind=kind, state__in=StepAttempt.OPEN).exists()
    )


def given_up(migration: Migration, kind: str) -> bool:
    """Its next try is planned from scratch: a wrong address or name can be corrected, with the source off too."""
    return migration.steps.filter(kind=kind, state=Step.State.CANCELLED).exists()


def plain(value: Any) -> Any:
    """A value as the audit trail holds it."""
    if isinstance(value, models.Model):
        return f"{value} (#{value.pk})"
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return value


def told(obj: models.Model, names: Iterable[str]) -> dict[str, Any]:
    """The named fields for the audit trail; of a secret only whether there is one."""
    return {
        name: bool(getattr(obj, name)) if name in SECRETS else plain(getattr(obj, name))
        for name in names
        if name != "ca_bundle"
    }


def write[Row: models.Model](
    obj: Row, values: dict[str, Any], *, user: User, verb: str, project: Project, **more: Any
) -> Row:
    """Store `values` in a new or an existing row, with its audit event. Call it inside a transaction.

    `more` is added to what the audit event says was there afterwards.
    """
    new = obj.pk is None
    changed = [name for name, value in values.items() if new or getattr(obj, name) != value]
    before = {} if new else told(obj, changed)
    for name, value in values.items():
        setattr(obj, name, value)
    if new:
        obj.save()
    elif changed:
        obj.save(update_fields=changed)
    after = told(obj, changed) | {name: plain(value) for name, value in more.items()}
    replaced = sorted(SECRETS & set(changed))
    if replaced and not new:
        after["replaced"] = replaced
    if new or changed or more:
        record(verb, obj, actor=user, project_id=project.pk, before=before, after=after)
        Change.bump()
    return obj
