"""The only place in `servers` that knows django-q2: short tasks, one act each, triggered by (run id, epoch)."""

from __future__ import annotations

import logging
from datetime import timedelta
from functools import partial

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django_q.models import OrmQ
from django_q.tasks import async_task

from servers import runs, work
from servers.away import written
from servers.models import Run
from servers.remote.ssh import Pool

log = logging.getLogger(__name__)


def enqueue_act(run: Run, epoch: int, act: str) -> bool:
    """Put the act into the row, and a message on its way once the row is committed."""
    with transaction.atomic():
        if not runs.begin_act(run, epoch, act):
            return False
        transaction.on_commit(
            partial(async_task, "servers.tasks.carry_out", run.pk, epoch, task_name=f"run {run.pk} {act}"[:100])
        )
    return True


def stalled() -> bool:
    """Messages wait although no worker is at work.

    A worker that is killed while it waits for work takes the lock of django-q's queue with it, and all others wait
    for ever (Koed00/django-q #23, inherited by django-q2): only a new cluster helps.
    """
    long_ago = timezone.now() - timedelta(seconds=settings.TASK_PATIENCE)
    waiting = OrmQ.objects.filter(lock__lt=long_ago)  # when it was put there; a message that was taken is locked ahead
    return waiting.exists() and not Run.objects.exclude(act_started_at=None).exists()


def carry_out(run_id: int, epoch: int) -> None:
    """Worker side: claim, act, store. A second delivery of the same message finds nothing to claim."""
    run = runs.claim_act(run_id, epoch)
    if run is None:
        return
    pool = Pool()
    try:
        work.act(run, pool)
    except Exception:
        # This process lives on and would seem to hold the act for ever.
        log.exception("The outcome of “%s” of run %s could not be stored.", run.act, run.pk)
        written(lambda: runs.let_go(run))
    finally:
        pool.close()
