"""Have the guest shut itself down before its platform is asked to stop it.

A platform's stop may be a button that nothing hears in receive mode, or the plug, which loses what was just written.
Memo, {} where it was not asked: asked_at, address (at which it was asked).
"""

from __future__ import annotations

from django.utils import timezone

from migrationhub.lib.findings import Problem
from servers.progress import Memo
from servers.remote import power
from servers.remote.base import Unreachable

from .base import Job
from .whereabouts import connect_target

WRITE = 60  # seconds for what is not on its disks yet
LIMIT = 120  # seconds until its platform is asked although it may still be at it
# Some platforms learn late that a guest went off by itself: after so many seconds its silence, for so many, does too.
LATE, QUIET = 20, 10


def ask(job: Job) -> tuple[Memo, str]:
    """The memo of it, and what is told of it. Safe to repeat: what goes down already is asked to go down."""
    cut = job.memo.get("interrupted_at")
    guest: Memo = {"asked_at": cut} if cut else {}  # a worker that ended with the order may have given it
    try:
        connection = connect_target(job)
        connection.run(["sync"], timeout=WRITE, check=True)
        guest = {"asked_at": timezone.now().timestamp(), "address": connection.endpoint.address}
        power.shut_down(connection)
    except Unreachable as problem:
        if not guest:
            return guest, f"{problem.text} So it cannot be asked to shut down: its platform stops it."
    except Problem as problem:
        return {}, f"{problem.text} So its platform stops it."
    return guest, "The guest was asked to shut down."


def waits(guest: Memo) -> bool:
    """Whether it may still be going down, so that its platform is not asked yet."""
    return "asked_at" in guest and _since(guest) < LIMIT


def is_late(guest: Memo) -> bool:
    return "address" in guest and _since(guest) > LATE


def is_silent(job: Job, guest: Memo) -> bool:
    """Whether nothing of it answers where it was asked: then its platform has only not heard of it yet."""
    endpoint = job.server("target").endpoint(address=guest["address"])
    return power.absent(endpoint, [], seconds=QUIET).absent


def _since(guest: Memo) -> float:
    return timezone.now().timestamp() - float(guest["asked_at"])
