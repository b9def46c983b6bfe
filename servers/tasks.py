"""The only place in `servers` that knows django-q2: short tasks, one act each, triggered by (run id, epoch)."""

from __future__ import annotations

import logging
from functools import partial

from django.db import transaction
from django_q.tasks import async_task

from servers import runs, work
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
        runs.let_go(run)
    finally:
        pool.close()
