"""Write an audit event. Call it inside the transaction of the act that it tells of."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.db import models

from .models import AuditEvent

# The browser's address while a request is answered; see `middleware`.
origin: ContextVar[str] = ContextVar("origin", default="")


def record(
    verb: str,
    obj: models.Model | None,
    *,
    actor: User | AnonymousUser | None = None,
    actor_name: str = "",
    label: str = "",
    project_id: int | None = None,
    why: str = "",
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    address: str = "",
) -> AuditEvent:
    """`actor_name`: who did it where that is nobody who is logged in; `label`: what it was done to where that has no
    row. The address is that of the request under way, unless one is given."""
    person = actor if isinstance(actor, User) else None
    name = person.get_username() if person else actor_name or "system"
    return AuditEvent.objects.create(
        actor=person,
        actor_name=name[:150],
        verb=verb,
        object_type=obj._meta.label_lower if obj is not None else "",
        object_id=str(obj.pk) if obj is not None else "",
        object_label=(label or str(obj or ""))[:200],
        project_id=project_id,
        address=(address or origin.get())[:45],
        why=why,
        before=before or {},
        after=after or {},
    )
