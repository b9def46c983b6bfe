"""Where a target is between the start and the end of its move: at which address, on or off, and what was done to it."""

from __future__ import annotations

from typing import Any

from servers.models import Run
from servers.platforms.base import Instance
from servers.remote.base import Connection, Unreachable

from .base import Job
from .platforming import client_of, placement_of

TARGET_GONE = "target.gone"  # the finding of a target whose instance is not there any more
MOVED = ("up", "reach")  # stages of a move in which the interface is on the other network


def instance_of(job: Job) -> Instance | None:
    """What the platform says of the target now; None where it knows no such instance. Raises `PlatformProblem`."""
    target = job.server("target")
    return client_of(target).get(placement_of(target).external_id)


def connect_target(job: Job) -> Connection:
    """By our own access where it was last reached, else where a move that was not finished may have brought it.

    No other machine passes for it: the host key of our access is known. Raises `Unreachable` of the first address.
    """
    endpoint = job.server("target").endpoint()
    try:
        return _asked(job, endpoint.address)
    except Unreachable:
        moved = last(job, "network", "network_back")
        if moved is None or moved.memo.get("stage") not in MOVED:
            raise
        try:
            return _asked(job, str(moved.memo.get("address", "")))
        except Unreachable:
            pass
        raise


def _asked(job: Job, address: str) -> Connection:
    """A connection that answers now: a kept one may be that of before a restart."""
    connection = job.connect(job.server("target").endpoint(address=address))
    connection.run(["true"], timeout=20, check=True, root=False)
    return connection


def last(job: Job, *operations: str) -> Run | None:
    """The newest run on this target, other than this one, that is one of these operations."""
    mine = Run.objects.filter(operation__in=operations, parameters__target=job.parameters["target"])
    return mine.exclude(pk=job.run.pk).order_by("-pk").first()


def done_before(job: Job, operation: str, undo: str, names: tuple[str, ...]) -> dict[str, Any] | None:
    """The result of an earlier success with the same parameters that nothing has taken back since."""
    found = Run.objects.filter(operation__in=(operation, undo), parameters__target=job.parameters["target"])
    newest = found.filter(state=Run.State.SUCCEEDED).exclude(pk=job.run.pk).order_by("-pk").first()
    if newest is None or newest.operation == undo:
        return None
    same = all(newest.parameters.get(name) == job.parameters.get(name) for name in names)
    return dict(newest.result) if same else None
