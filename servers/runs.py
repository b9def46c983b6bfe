"""The ledger: how a run comes to be, moves and ends. Every change of state is one conditional UPDATE.

A row first, then a message: nothing is enqueued while a run is queued; the controller promotes it and enqueues
(run id, epoch). Losing every message costs seconds, because the controller enqueues again.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Exists, F, QuerySet
from django.utils import timezone

from migrationhub.lib.findings import Problem
from servers.models import Change, Lease, Run, RunEvent
from servers.models.server import Server
from servers.progress import Memo, Progress, storable

State = Run.State
Level = RunEvent.Level

TRANSITIONS: dict[str, frozenset[str]] = {
    State.QUEUED: frozenset({State.RUNNING, State.CANCELLED}),
    State.RUNNING: frozenset(
        {State.SCHEDULED, State.CANCELLING, State.SUCCEEDED, State.FAILED, State.CANCELLED, State.LOST}
    ),
    State.SCHEDULED: frozenset(
        {State.RUNNING, State.CANCELLING, State.SUCCEEDED, State.FAILED, State.CANCELLED, State.LOST}
    ),
    State.CANCELLING: frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.LOST}),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
    State.LOST: frozenset(),
}
WORKING = (State.RUNNING, State.SCHEDULED, State.CANCELLING)
# A message that no worker has taken for so long is taken for lost and sent again, in seconds.
REENQUEUE_AFTER = 15
# Longer than django-q lets an act live, in seconds: by then its worker is gone or at something else.
ACT_LIMIT = 330
NOT_BEGUN = "Cancelled before it began."
# Parameter: it waits for no other run's end, however many there are.
AT_ONCE = "at_once"
# Memo key: when an act was found to have been cut off in the middle (epoch seconds).
INTERRUPTED = "interrupted_at"


def may_come_from(state: str) -> list[str]:
    return [before for before, after in TRANSITIONS.items() if state in after]


def request(
    work_key: str,
    operation: str,
    *,
    title: str,
    parameters: dict[str, Any],
    server: Server | None = None,
    user: User | None = None,
) -> Run:
    """A queued run of this piece of work; the open one, if there is one: a retry never starts a second beside it."""
    with transaction.atomic():
        existing = Run.objects.filter(work_key=work_key).order_by("-number").first()
        if existing is not None and existing.is_open:
            return existing
        run = Run.objects.create(
            work_key=work_key,
            number=existing.number + 1 if existing else 1,
            operation=operation,
            title=title,
            parameters=parameters,
            server=server,
            requested_by=user,
        )
        Change.bump()
    return run


def note(run_id: int, text: str, level: str = Level.INFO) -> None:
    RunEvent.objects.create(run_id=run_id, text=storable(text), level=level)


def cancel(run_id: int) -> bool:
    """Ask a run to stop. A queued one is cancelled at once; else the operation confirms it."""
    now = timezone.now()
    with transaction.atomic():
        changed = Run.objects.filter(pk=run_id, state=State.QUEUED).update(
            state=State.CANCELLED,
            finished_at=now,
            cancel_requested_at=now,
            reason=NOT_BEGUN,
            version=F("version") + 1,
        ) or Run.objects.filter(pk=run_id, state__in=may_come_from(State.CANCELLING)).update(
            state=State.CANCELLING, cancel_requested_at=now, check_at=now, version=F("version") + 1
        )
        if changed:
            note(run_id, "Asked to stop.", Level.WARNING)
            Change.bump()
    return bool(changed)


def give_up(run_id: int, why: str) -> bool:
    """A person gives up a run that is out of contact. It ends once everybody who can be asked was asked."""
    now = timezone.now()
    with transaction.atomic():
        changed = (
            Run.objects.filter(pk=run_id, state__in=WORKING, give_up_reason="")
            .exclude(contact_lost_since=None)
            .update(
                state=State.CANCELLING,
                give_up_reason=why,
                cancel_requested_at=now,
                check_at=now,
                version=F("version") + 1,
            )
        )
        if changed:
            note(run_id, f"Given up by a person: {why}", Level.WARNING)
            Change.bump()
    return bool(changed)


def _holding(epoch: int) -> Exists:
    """A condition: the controller of this epoch still holds the lease, or nobody took it since."""
    return Exists(Lease.objects.filter(epoch=epoch))


def promote(epoch: int) -> list[int]:
    """Queued runs become running, oldest first, as far as the limit on concurrency allows; some at once."""
    queued = Run.objects.filter(state=State.QUEUED).order_by("pk").values_list("pk", flat=True)
    at_once = list(queued.filter(**{f"parameters__{AT_ONCE}": True}))
    free = settings.RUN_LIMIT - Run.objects.filter(state__in=WORKING).count() - len(at_once)
    promoted = []
    for pk in [*at_once, *queued.exclude(pk__in=at_once)[: max(free, 0)]]:
        now = timezone.now()
        if Run.objects.filter(_holding(epoch), pk=pk, state=State.QUEUED).update(
            state=State.RUNNING, epoch=epoch, started_at=now, check_at=now, version=F("version") + 1
        ):
            promoted.append(pk)
    return promoted


def due(now: datetime) -> Iterable[Run]:
    """Runs to look at now: working, no act in hand, their time has come."""
    return Run.objects.filter(state__in=WORKING, act_enqueued_at=None, check_at__lte=now).select_related("server")


def begin_act(run: Run, epoch: int, act: str) -> bool:
    """Put an act into a worker's hand, as due by a look at exactly this version of the run.

    True if it was put; the caller enqueues after commit.
    """
    mine = _as_looked_at(run).filter(_holding(epoch), state__in=WORKING)
    return bool(
        mine.update(epoch=epoch, act=act[:60], act_enqueued_at=timezone.now(), act_started_at=None, act_worker="")
    )


def claim_act(run_id: int, epoch: int) -> Run | None:
    """Write "about to act", conditional on the epoch: a controller that woke up late is fenced off here.

    None: somebody has it already, it is over, or another controller has taken over since.
    """
    claimed = (
        Run.objects.filter(_holding(epoch), pk=run_id, epoch=epoch, state__in=WORKING, act_started_at=None)
        .exclude(act="")
        .update(act_started_at=timezone.now(), act_worker=worker_name(), acts=F("acts") + 1)
    )
    return Run.objects.select_related("server").get(pk=run_id) if claimed else None


def after_act(run: Run, memo: Memo, progress: Progress, *, finish: bool = True) -> bool:
    """Store what an act did. False: the run was taken out of this worker's hand meanwhile; nothing is stored.

    `finish` False: the operation's own rows are left alone, because writing them is what failed.
    """
    return _store(run, progress, memo=memo, held=True, finish=finish)


def after_look(run: Run, progress: Progress, *, finish: bool = True) -> bool:
    """Store what the controller saw; nothing is stored if the run was changed since it was read for the look.

    So it never touches a run that is in a worker's hand, and a look that took long never covers a newer one.
    """
    return _store(run, progress, memo=None, held=False, finish=finish)


def let_go(run: Run) -> bool:
    """A worker's act ended without a word in the row: the next one asks the outside what it did."""
    now = timezone.now()
    return bool(
        _in_hand(run)
        .filter(state__in=WORKING)
        .update(
            **NO_ACT,
            memo={**run.memo, INTERRUPTED: now.timestamp()},
            check_at=now + timedelta(seconds=5),
            version=F("version") + 1,
        )
    )


NO_ACT: dict[str, Any] = {"act": "", "act_enqueued_at": None, "act_started_at": None, "act_worker": ""}


def _in_hand(run: Run) -> QuerySet[Run]:
    """The run, if it is still in the hand of the worker that claimed it as `run`."""
    return Run.objects.filter(
        pk=run.pk, epoch=run.epoch, act_started_at=run.act_started_at, act_worker=run.act_worker
    ).exclude(act_started_at=None)


def _as_looked_at(run: Run) -> QuerySet[Run]:
    """The run, if nothing happened to it since it was read."""
    return Run.objects.filter(pk=run.pk, version=run.version, act_enqueued_at=None)


def _store(run: Run, progress: Progress, *, memo: Memo | None, held: bool, finish: bool) -> bool:
    from servers.operations import operation  # operations use the ledger's models: import when needed

    now = timezone.now()
    progress = storable(progress)
    changes = _changes(run, progress, now)
    if memo is not None:
        changes["memo"] = storable(memo)
    mine = _in_hand(run) if held else _as_looked_at(run)
    if held:
        changes |= NO_ACT
    mine = mine.filter(state__in=may_come_from(progress.state.value) if progress.ended else WORKING)
    with transaction.atomic():
        if not mine.update(**changes):
            return False
        for line in progress.log:
            note(run.pk, line)
        if progress.ended:
            if progress.reason:
                note(run.pk, progress.reason, Level.INFO if progress.state == "succeeded" else Level.ERROR)
            if finish:
                # A row of its own: if this fails, `run` still tells in whose hand it is.
                operation(run.operation).finish(Run.objects.get(pk=run.pk), progress)
        if progress.ended or held:
            Change.bump()
    run.version += 1
    return True


def _changes(run: Run, progress: Progress, now: datetime) -> dict[str, Any]:
    """Columns from a progress. Bytes and files never run backwards."""
    changes: dict[str, Any] = {
        "phase": (progress.phase or run.phase)[:80],
        "raw": progress.raw[:80],
        "reason": progress.reason,
        "code": progress.code[:60],
        "bytes_done": max(run.bytes_done, progress.bytes_done),
        "files_done": max(run.files_done, progress.files_done),
        "bytes_total": progress.bytes_total if progress.bytes_total is not None else run.bytes_total,
        "files_total": progress.files_total if progress.files_total is not None else run.files_total,
        "rate": progress.rate,
        # An answer that saw nothing keeps the age of the last one that did.
        "observed_at": progress.observed_at or (now if progress.ended else run.observed_at),
        "contact_lost_since": None,
        "check_at": now + timedelta(seconds=0 if progress.next_act else progress.check_after),
        "version": F("version") + 1,
    }
    if progress.result:
        changes["result"] = {**run.result, **progress.result}
    if progress.ended:
        changes |= {"state": progress.state.value, "finished_at": now, "check_at": None, "rate": None}
    return changes


def contact_lost(run: Run, problem: Problem, *, held: bool) -> None:
    """No answer. The run stays open: only the far side can say that work is lost."""
    now = timezone.now()
    changes: dict[str, Any] = {
        "contact_lost_since": run.contact_lost_since or now,
        "reason": storable(f"{problem.text} {problem.act}".strip()),
        "code": problem.code[:60],
        "rate": None,
        "check_at": now + timedelta(seconds=5),
        "version": F("version") + 1,
    }
    mine = _in_hand(run) if held else _as_looked_at(run)
    if held:
        changes |= NO_ACT
    with transaction.atomic():
        if mine.filter(state__in=WORKING).update(**changes):
            if run.contact_lost_since is None:
                note(run.pk, f"No contact: {problem.text}", Level.WARNING)
            Change.bump()


def recover(epoch: int) -> list[int]:
    """Take acts back that no worker has: a message that was lost, a worker that was killed in the middle.

    What the act did is not guessed: the next look asks the outside.
    """
    now = timezone.now()
    back = []
    for run in Run.objects.filter(state__in=WORKING).exclude(act_enqueued_at=None):
        if run.act_started_at is None:
            stale = run.epoch != epoch or (now - run.act_enqueued_at).total_seconds() > REENQUEUE_AFTER  # type: ignore[operator]
            text = ""
        else:
            stale = _worker_gone(run.act_worker, (now - run.act_started_at).total_seconds())
            text = f"The worker ended in the middle of “{run.act}”; the machines are asked what it did."
        if not stale:
            continue
        # The next act is told that this one may have acted: it asks the outside before it tells it anything.
        memo = {**run.memo, INTERRUPTED: now.timestamp()} if text else run.memo
        with transaction.atomic():
            if Run.objects.filter(
                pk=run.pk, act_enqueued_at=run.act_enqueued_at, act_started_at=run.act_started_at
            ).update(**NO_ACT, check_at=now, memo=memo, version=F("version") + 1):
                back.append(run.pk)
                if text:
                    note(run.pk, text, Level.WARNING)
                Change.bump()
    return back


def worker_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{_started(os.getpid())}"


def _started(pid: int) -> str:
    """When a process began, in clock ticks since boot (proc(5), field 22): a pid alone may be another process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return ""


def _worker_gone(name: str, seconds: float) -> bool:
    """Whether the act has no worker any more. One that lives is at something else once the act's time is over."""
    if seconds > ACT_LIMIT:
        return True
    host, _, rest = name.partition(":")
    pid, _, started = rest.partition(":")
    if host == socket.gethostname() and pid.isdigit() and started:
        return _started(int(pid)) != started
    return False
