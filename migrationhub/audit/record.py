"""Write an audit event. Call it inside the transaction of the act that it tells of."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.db import models

from .models import AuditEvent


def record(
    verb: str,
    obj: models.Model,
    *,
    actor: User | AnonymousUser | None = None,
    project_id: int | None = None,
    why: str = "",
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    address: str = "",
) -> AuditEvent:
    person = actor if isinstance(actor, User) else None
    return AuditEvent.objects.create(
        actor=person,
        actor_name=person.get_username() if person else "system",
        verb=verb,
        object_type=obj._meta.label_lower,
        object_id=str(obj.pk),
        object_label=str(obj)[:200],
        project_id=project_id,
        address=address,
        why=why,
        before=before or {},
        after=after or {},
    )
