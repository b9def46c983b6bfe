"""Drive a mover as the controller and its tasks do: observe, then the act that is due, through JSON each time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from servers.movers.base import MoveJob
from servers.movers.rsync.mover import RsyncMover
from servers.progress import Memo, Progress, State


def drive(
    job: MoveJob,
    memo: Memo | None = None,
    *,
    until: Callable[[Progress], bool] = lambda progress: False,
    seconds: float = 120,
    seen: list[Progress] | None = None,
) -> tuple[Memo, Progress]:
    """Run a sync to its end, or to the first progress for which `until` is true."""
    mover, memo, deadline = RsyncMover(), memo or {}, time.monotonic() + seconds
    while time.monotonic() < deadline:
        progress = mover.observe(job, memo)
        if seen is not None:
            seen.append(progress)
        if progress.ended or until(progress):
            return memo, progress
        if progress.next_act is None:
            time.sleep(0.1)
            continue
        memo, progress = mover.advance(job, memo)
        memo = json.loads(json.dumps(memo))
    raise AssertionError(f"no end within {seconds} s: {progress}")


def succeed(job: MoveJob, memo: Memo | None = None, **options: object) -> Progress:
    _, progress = drive(job, memo, **options)  # type: ignore[arg-type]
    assert progress.state == State.SUCCEEDED, f"{progress.code}: {progress.reason}\n" + "\n".join(progress.log)
    assert progress.sync is not None
    return progress
