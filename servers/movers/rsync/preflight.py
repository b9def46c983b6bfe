"""What would keep a sync from working, found before it starts. Blocking findings say what to do."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from migrationhub.lib.findings import Finding, Level, Problem
from servers.movers.base import MoveJob
from servers.movers.rsync import (
    preflight_data,
    preflight_freeze,
    preflight_machine,
    preflight_programs,
    preflight_views,
    preflight_writable,
)
from servers.movers.rsync.exclusions import exclusions
from servers.movers.rsync.layout import Layout, layout, program, scope_paths
from servers.movers.rsync.state import parse_lines
from servers.movers.rsync.walk import LOCAL_TYPES
from servers.remote.base import Connection, Endpoint, RemoteProblem

Fields = dict[str, bytes]
_TIMEOUT = 100.0  # seconds: the slow parts of the script have limits of their own


def preflight(job: MoveJob) -> list[Finding]:
    """All findings of both machines; what cannot be found out is a finding as well."""
    try:
        scope = scope_paths(job)
        exclusions(job.scope, job.exclusions)
        here, there = layout(job, job.source), layout(job, job.target)
    except Problem as problem:
        return [Finding(Level.BLOCKING, problem.code, problem.text, problem.act)]
    with ThreadPoolExecutor(2) as pool:
        asked = [
            pool.submit(_ask, job, job.source, here, scope, "source"),
            pool.submit(_ask, job, job.target, there, scope, "target"),
        ]
        answers = [one.result() for one in asked]
    findings = [answer for answer in answers if isinstance(answer, Finding)]
    if findings:
        return findings
    (source, offset), (target, target_offset) = (answer for answer in answers if isinstance(answer, tuple))
    checks: tuple[Callable[[], Iterable[Finding]], ...] = (
        lambda: preflight_machine.tools(job, source, target),
        lambda: preflight_programs.programs(job),
        lambda: preflight_writable.writable(job),
        lambda: preflight_machine.clocks(job, offset, target_offset),
        lambda: preflight_machine.path_to_target(job, source),
        lambda: preflight_machine.system(job, source, target),
        lambda: preflight_views.views(job, source, target),
        lambda: preflight_data.scope(job, source),
        lambda: preflight_data.unreadable(job, source),
        lambda: preflight_data.space(job, source, target),
        lambda: preflight_data.databases(job, source),
        lambda: preflight_freeze.freeze(job, job.connect(job.source), source),
    )
    return [finding for check in checks for finding in check()]


def _ask(
    job: MoveJob, endpoint: Endpoint, place: Layout, scope: tuple[str, ...], side: str
) -> tuple[Fields, float] | Finding:
    """What the machine told, and how far its clock is ahead of ours, in seconds; a finding where it told nothing."""
    paths = [f".{path}" for path in scope] or ["."]
    own = " ".join(sorted(LOCAL_TYPES))
    arguments = [place.root, side, str(job.target.port), job.target.address, own, "--", *paths]
    try:
        connection: Connection = job.connect(endpoint)
        before = time.time()
        connection.run("true", check=True)
        round_trip = time.time() - before
        result = connection.run(
            f"sh -s {shlex.join(arguments)}",
            stdin=program("preflight.sh").encode(),
            timeout=_TIMEOUT,
            check=True,
        )
        after = time.time()
        fields = parse_lines(result.out)
        clock = int(fields["clock"]) / 1e9
    except RemoteProblem as problem:
        return Finding(Level.BLOCKING, problem.code, problem.text, problem.act, subject=endpoint.name)
    except (ValueError, KeyError):
        return Finding(
            Level.BLOCKING,
            "preflight.answer",
            f"{endpoint.name} answered something that is not understood.",
            "Check that a login there prints nothing of its own.",
            subject=endpoint.name,
        )
    return fields, clock - (after - round_trip / 2)
