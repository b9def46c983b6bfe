"""Waiting for what comes about by itself."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until[Found](done: Callable[[], Found], seconds: float = 60.0, missing: str = "") -> Found:
    """What `done` answers once it is not empty or false; it is asked 50 times a second."""
    deadline = time.monotonic() + seconds
    while not (found := done()):
        assert time.monotonic() < deadline, missing or f"did not come about in {seconds} s"
        time.sleep(0.02)
    return found
