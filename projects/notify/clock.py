"""What time alone brings: a reminder of an answer that is missing, a test that is longer than promised.

Each is an audit event like any other act, and is told as such.
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.db.models import Exists, OuterRef, Q

from migrationhub.audit.record import record
from projects import approvals
from projects.models import Approval, Hold, Migration
from projects.notify.outbox import note_once


def look(now: datetime) -> None:
    """One pass of the controller. Each is told once, whoever looks at the same time."""
    there = Migration.objects.filter(
        wave=OuterRef("wave"), application=OuterRef("application"), state=Migration.State.OPEN
    )
    # An application that left the wave with all its servers is not decided on there any more.
    due = Approval.objects.filter(Exists(there), remind_at__lte=now, state__in=approvals.ASKED)
    for approval in due.filter(Q(expires_at=None) | Q(expires_at__gt=now)).select_related("wave", "application"):
        remind(approval)
    tests = Hold.objects.filter(kind=Hold.Kind.UAT, released_at=None, until__lte=now)
    for hold in tests.select_related("application"):
        overdue(hold)


def remind(approval: Approval) -> None:
    """Ask once more; the moment is taken away, so that it is asked once."""
    with transaction.atomic():
        same = Approval.objects.filter(pk=approval.pk, remind_at=approval.remind_at, state__in=approvals.ASKED)
        if same.update(remind_at=None):
            record("approval.remind", approval, project_id=approval.wave.project_id)


def overdue(hold: Hold) -> None:
    """The promised end is over. Another promise that is broken is told again."""
    assert hold.until is not None
    until = hold.until.isoformat()
    key = f"uat.overdue:{hold.pk}:{until}"
    note_once(key, hold.until, "uat.overdue", hold, project_id=hold.project_id, after={"until": until})
