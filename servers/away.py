"""A database that is away for a moment: what is known meanwhile is written once it is back."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from django.db import InterfaceError, OperationalError, connection

log = logging.getLogger(__name__)

# It does not answer, restarts, or is locked by another writer: nothing was wrong with what was asked of it.
AWAY = (OperationalError, InterfaceError)
PATIENCE = 240.0  # seconds; less than what a worker is given for an act
PAUSE = 1.0  # seconds between two tries


def written[T](write: Callable[[], T]) -> T:
    """Call `write`, again and again while the database is away. It must be a transaction of its own, and safe to
    repeat: whether one that was cut off was committed is not known. Raises what it raised last after `PATIENCE`."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return write()
        except AWAY as error:
            if connection.in_atomic_block or time.monotonic() > deadline:
                raise
            log.warning("The database is away (%s): what is known is written once it is back.", type(error).__name__)
            connection.close()
            time.sleep(PAUSE)
