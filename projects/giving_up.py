"""A run that waits for ever for a machine that is gone: a person gives it up, with a reason."""

from __future__ import annotations

from datetime import timedelta

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from migrationhub.audit.record import record
from projects.errors import Conflict, NotReady
from projects.models import Project
from servers import runs
from servers.models import Run
from servers.operations import operation

# A machine that restarts is away for a while; only then is it more than a moment.
PATIENCE = timedelta(seconds=60)


def unmet(run: Run) -> list[str]:
    """Why the run cannot be given up now, in words; empty when it can."""
    if not run.is_open:
        return [f"“{run.title}” is over: {run.get_state_display().lower()}."]
    if run.give_up_reason:
        return [f"“{run.title}” was given up already; platform and source are being asked."]
    if not operation(run.operation).waits_for_ever:
        return [f"“{run.title}” ends by itself when a machine does not answer: wait, or stop it."]
    if run.contact_lost_since is None:
        return [f"“{run.title}” is in contact with its machines: stop it instead."]
    if timezone.now() - run.contact_lost_since < PATIENCE:
        return [f"It is out of contact for less than {PATIENCE.seconds} s: it may only be a moment."]
    return []


def give_up(run: Run, project: Project, *, user: User, why: str) -> None:
    """Ask for the end of a run that is out of contact. Raises NotReady with what is in the way, Conflict."""
    missing = unmet(run)
    if not why.strip():
        missing.append("The reason is empty: write why it is given up.")
    if missing:
        raise NotReady(missing)
    with transaction.atomic():
        if not runs.give_up(run.pk, why.strip()):
            raise Conflict(f"“{run.title}” changed a moment ago.", "Look at what is there now.")
        record("run.give_up", run, actor=user, project_id=project.pk, why=why.strip())
