"""The outbox: what the audit trail records and people may want to hear of is noted in the transaction of the act.

One place for all acts: whoever writes an audit event with one of these verbs need not think of notifications, and what
is rolled back is told to nobody.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Model
from django.db.models.signals import post_save
from django.dispatch import receiver

from migrationhub.audit.models import AuditEvent
from migrationhub.audit.record import record
from projects.models import Notice

TOLD = frozenset(
    {
        "approval.request",
        "approval.stale",
        "approval.remind",
        "approval.new_owner",
        "approval.void",
        "approval.delegate",
        "approval.approve",
        "approval.reject",
        "approval.more_time",
        "approval.expire",
        "step.start",
        "step.done",
        "step.attention",
        "cutover.abort",
        "cutover.undone",
        "cutover.take_back",
        "cutover.moved_back",
        "uat.open",
        "uat.overdue",
        "uat.failed",
        "hold.release",
        "defect.raise",
        "defect.change",
        "defect.open",
        "defect.in_work",
        "defect.mended",
        "defect.verified",
        "defect.rejected",
        "break_glass.pass",
        "break_glass.confirm",
        "break_glass.not_in_order",
    }
)


@receiver(post_save, sender=AuditEvent, dispatch_uid="projects.notify.outbox")
def note(instance: AuditEvent, created: bool, **_: Any) -> None:
    """One row, nothing else: what it says and who hears of it is worked out after the act is committed."""
    if created and instance.verb in TOLD and instance.project_id is not None:
        Notice.objects.create(
            key=f"event:{instance.pk}", event=instance, project_id=instance.project_id, at=instance.at
        )


def note_once(key: str, at: datetime, verb: str, target: Model, *, project_id: int, **more: Any) -> None:
    """Record what nobody did, a promise that is over or a run that failed: once for each `key`, whoever looks at it.

    `at`: since when it is so; `more`: as `record` takes it.
    """
    if Notice.objects.filter(key=key).exists():
        return
    with transaction.atomic():
        if Notice.objects.get_or_create(key=key, defaults={"project_id": project_id, "dealt_at": at})[1]:
            record(verb, target, project_id=project_id, **more)
