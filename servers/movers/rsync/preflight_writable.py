"""Findings about what a sync itself writes: its job directory and its lists, on both machines."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from migrationhub.lib.findings import Finding, Level
from servers.movers.base import MoveJob
from servers.movers.rsync.layout import layout
from servers.remote.base import Endpoint
from servers.remote.causes import cause_of

# A file is really written: a right, a full disk and a read-only file system are all met so.
_TRY = """
umask 077
for place; do
  said=$({ mkdir -p -- "$place" && file=$(mktemp "$place/.writable.XXXXXX") && rm -f -- "$file"; } 2>&1) ||
    printf '%s\t%s\n' "$place" "$(printf %s "$said" | tr '\n' ' ')"
done
"""


def writable(job: MoveJob) -> Iterator[Finding]:
    for endpoint in (job.source, job.target):
        here = layout(job, endpoint)
        places = [posixpath.dirname(here.job), posixpath.dirname(here.state)]
        yield from _tried(job, endpoint, places)


def _tried(job: MoveJob, endpoint: Endpoint, places: list[str]) -> Iterator[Finding]:
    answer = job.connect(endpoint).run(["sh", "-c", _TRY, "sh", *places], timeout=20, check=True).text.strip()
    if not answer:
        yield Finding(Level.READY, "own.writable", f"{endpoint.name} has room for the lists of a sync.")
        return
    place, _, said = answer.splitlines()[0].partition("\t")
    cause, act = cause_of(said)
    yield Finding(
        Level.BLOCKING,
        "own.unwritable",
        f"{endpoint.name}: the lists of a sync cannot be written below {place}: {cause or said[-300:]}.",
        act,
        endpoint.name,
    )
