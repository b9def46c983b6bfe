"""Carry out one look or one act of a run: the same code for the controller, the worker and the tests."""

from __future__ import annotations

import logging

from django.utils import timezone

from migrationhub.lib.findings import Problem
from servers import runs
from servers.models import Run
from servers.operations import operation
from servers.operations.base import Job, failed
from servers.progress import Memo, Progress
from servers.remote.ssh import Pool

log = logging.getLogger(__name__)


def look(run: Run, pool: Pool) -> str:
    """Look at a run, store what was seen; the name of the act that is due, or ''. Read only on the outside."""
    work = operation(run.operation)
    job = Job(run, pool.connect, dict(run.memo), cancel=run.state == Run.State.CANCELLING)
    try:
        progress = work.observe(job)
    except Exception as error:  # noqa: BLE001 - whatever happens ends in the run's row
        settle(run, job, error, held=False)
        return ""
    if not progress.next_act:
        runs.after_look(run, progress)
        return "stop" if job.cancel and not progress.ended else ""
    return progress.next_act


def act(run: Run, pool: Pool) -> None:
    """Do the act that is due and store memo and progress. The run is in this worker's hand."""
    work = operation(run.operation)
    job = Job(run, pool.connect, dict(run.memo), cancel=run.state == Run.State.CANCELLING)
    try:
        memo, progress = work.confirm_cancel(job) if job.cancel else work.advance(job)
    except Exception as error:  # noqa: BLE001
        settle(run, job, error, held=True)
        return
    runs.after_act(run, memo, progress)


def settle(run: Run, job: Job, error: Exception, *, held: bool) -> None:
    """A fault: passing ones are tried again for the operation's patience, others end the run with their sentence."""
    work = operation(run.operation)
    if isinstance(error, Problem):
        problem = error
    else:
        log.exception("run %s: %s failed", run.pk, run.operation)
        problem = Problem(
            f"The hub itself failed in “{run.title}”: {type(error).__name__}.",
            "The log of the hub has the details; retry the step, and report it if it happens again.",
            code="hub.error",
        )
    lost_for = (timezone.now() - run.contact_lost_since).total_seconds() if run.contact_lost_since else 0.0
    if not problem.lasting and not work.gives_up(job, lost_for):
        runs.contact_lost(run, problem, held=held)
        return
    progress: Progress = failed(f"{problem.text} {problem.act}".strip(), problem.code)
    memo: Memo = job.memo
    if held:
        runs.after_act(run, memo, progress)
    else:
        runs.after_look(run, progress)
