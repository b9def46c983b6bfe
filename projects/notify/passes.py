"""What the controller does for notifications in each of its passes."""

from __future__ import annotations

import logging
from datetime import datetime

from django.db import InterfaceError, OperationalError

from . import clock, dealing, sending

log = logging.getLogger(__name__)


def advance(now: datetime) -> None:
    """Look at the clock, deal what happened, put what is due on its way. A fault here stops no migration."""
    for part in (clock.look, dealing.deal, sending.recover, sending.queue):
        try:
            part(now)
        except (InterfaceError, OperationalError):
            raise  # the database is away: the controller waits for it
        except Exception:
            log.exception("Notifications: %s.%s failed.", part.__module__, part.__name__)
