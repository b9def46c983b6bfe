"""Carry out one look or one act of a run: the same code for the controller, the worker and the tests."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace

from django.utils import timezone

from migrationhub.lib.findings import Problem
from servers import runs
from servers.away import AWAY, written
from servers.models import Run
from servers.operations import operation
from servers.operations.base import Job, failed
from servers.progress import Memo, Progress
from servers.remote.ssh import Pool

log = logging.getLogger(__name__)


def look(run: Run, pool: Pool) -> str:
    """Look at a run, store what was seen; the name of the act that is due, or ''. Read only on the outside."""
    if run.give_up_reason:
        return "give up"  # whoever is to be looked at does not answer
    work = operation(run.operation)
    job = Job(run, pool.connect, dict(run.memo), cancel=run.state == Run.State.CANCELLING)
    try:
        progress = work.observe(job)
    except AWAY:
        raise  # nothing is known of the machines: the next look asks them
    except Exception as error:  # noqa: BLE001 - whatever happens ends in the run's row
        settle(run, job, error, held=False)
        return ""
    if progress.next_act:
        return progress.next_act
    try:
        runs.after_look(run, progress)
    except AWAY:
        raise
    except Exception as error:  # noqa: BLE001
        settle(run, job, error, held=False, finish=False)
        return ""
    return "stop" if job.cancel and not progress.ended else ""


def act(run: Run, pool: Pool) -> None:
    """Do the act that is due and store memo and progress. The run is in this worker's hand."""
    work = operation(run.operation)
    job = Job(run, pool.connect, dict(run.memo), cancel=run.state == Run.State.CANCELLING)
    try:
        if run.give_up_reason:
            memo, progress = work.give_up(job)
        else:
            memo, progress = work.confirm_cancel(job) if job.cancel else work.advance(job)
    except AWAY:
        raise  # it was cut off in the middle: the next act asks the machines what it did
    except Exception as error:  # noqa: BLE001
        settle(run, job, error, held=True)
        return
    if progress.observed_at is None and not progress.code:
        # The act came back without a fault: its machine was there just now.
        progress = replace(progress, observed_at=timezone.now())
    try:
        written(lambda: runs.after_act(run, memo, progress))
    except AWAY:
        raise  # nothing can be written now
    except Exception as error:  # noqa: BLE001
        _end_unstored(run, job, memo, error)


def _end_unstored(run: Run, job: Job, memo: Memo, error: Exception) -> None:
    """The outcome could not be written. The run ends with what the act remembers, or, where it is the memo that
    cannot be written, with what was stored before: it would be begun again for ever."""
    job.memo = memo
    try:
        settle(run, job, error, held=True, finish=False)
    except AWAY:
        raise
    except Exception:  # noqa: BLE001
        job.memo = dict(run.memo)
        settle(run, job, error, held=True, finish=False)


def settle(run: Run, job: Job, error: Exception, *, held: bool, finish: bool = True) -> None:
    """A fault: passing ones are tried again for the operation's patience, others end the run with their sentence.

    A run whose work may go on without us on the machines is not ended by any fault of ours: a retry would start a
    second one beside it.
    """
    work = operation(run.operation)
    problem = error if isinstance(error, Problem) else _own_fault(run)
    lost_for = (timezone.now() - run.contact_lost_since).total_seconds() if run.contact_lost_since else 0.0
    goes_on = work.goes_on(job) and (job.cancel or not held)
    if finish and (goes_on or not (problem.lasting or work.gives_up(job, lost_for))):
        if held:
            written(lambda: runs.contact_lost(run, problem, held=True))
        else:
            runs.contact_lost(run, problem, held=False)
        return
    progress: Progress = failed(f"{problem.text} {problem.act}".strip(), problem.code)
    if held:
        written(lambda: runs.after_act(run, job.memo, progress, finish=finish))
    else:
        runs.after_look(run, progress, finish=finish)


def _own_fault(run: Run) -> Problem:
    """Told without details, which may hold anything; the log has them."""
    error = sys.exception()
    log.error("run %s: %s failed", run.pk, run.operation, exc_info=error)
    return Problem(
        f"The hub itself failed in “{run.title}”: {type(error).__name__}.",
        "The log of the hub has the details; retry the step, and report it if it happens again.",
        code="hub.error",
    )
