"""What an ended sync left: facts of the sync point, or words for the failure."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from servers.movers.base import MoveJob
from servers.movers.rsync import snapshots
from servers.movers.rsync.exitcodes import TABLE, meaning
from servers.movers.rsync.layout import safe
from servers.movers.rsync.state import Look
from servers.progress import Consistency, SyncFacts

_CONSISTENCY = {
    "postgresql": Consistency.FROZEN,
    **dict.fromkeys(snapshots.METHODS, Consistency.SNAPSHOT),
    "stop": Consistency.STOPPED,
}


# What rsync adds to each failure: its own status in words, and that its other side is gone. The row says it better.
_NOISE = re.compile(r"rsync error: |rsync: connection unexpectedly closed|rsync: \[\w+\] write error: Broken pipe")


def consistency(job: MoveJob, look: Look) -> Consistency:
    """Live unless something made the data consistent, and it held to the end."""
    if look.live:
        return Consistency.LIVE
    if job.kind == "final":
        return Consistency.STOPPED
    return _CONSISTENCY.get(job.freeze.method, Consistency.LIVE)


def sync_facts(job: MoveJob, look: Look) -> SyncFacts:
    """The facts of a sync that ended well."""
    begun = look.as_of or datetime.now(UTC)
    ended = look.ended_at or datetime.now(UTC)
    notes = look.notes
    if look.full and job.kind != "initial":
        notes = (*notes, f"Everything was compared: {look.full}.")
    return SyncFacts(
        kind=job.kind,
        method="rsync",
        bytes_sent=sum(one.sent for one in look.passes),
        files_sent=sum(one.transferred for one in look.passes),
        seconds=max(0.0, (ended - begun).total_seconds()),
        as_of=begun,
        consistency=consistency(job, look),
        generation=job.generation,
        full=bool(look.full),
        proof=job.proof if job.kind == "final" else "",
        discarded=look.discarded,
        discarded_count=look.discarded_count,
        config_changed=() if look.full else look.config_changed,
        notes=notes,
        manifest=safe(job.work_key),
    )


def failure_words(look: Look) -> dict[str, str]:
    """Reason and code of a sync that did not end well: cause and next act in words."""
    if look.rc is None:
        text = "The copy on the source ended without a result: its processes were killed."
        return {"reason": f"{text} Try again; it goes on where it stopped.", "code": "mover.killed"}
    said = look.error or look.log
    row = meaning(look.rc, said)
    if row.name == "ssh.failed" and any(one.size or one.entries for one in look.passes):
        row = TABLE[12]  # it was open: something had come through
    text = row.text
    # 70: the shell itself failed, and its word is in the log alone.
    words = look.error or (look.log if look.rc == 70 else "")
    if words:
        lines = [line.strip() for line in words.splitlines() if line.strip()]
        telling = [line for line in lines if not _NOISE.match(line)]
        if telling or row.name == "mover.unknown":
            text = f"{row.text} {_sentence(' · '.join(telling or lines)[:700])}"
    return {"reason": f"{text} {row.act}".strip(), "code": row.name}


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."
