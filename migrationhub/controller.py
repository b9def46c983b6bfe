"""The one loop: starts what is due, watches what runs, advances steps, promotes what is queued, finds what was lost.

It holds a lease with an epoch; every act on the outside is a short django-q task that is fenced by that epoch. The
controller itself only looks (`observe`), over connections that it keeps.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from django.conf import settings
from django.db import DatabaseError, Error, InterfaceError, close_old_connections, connection
from django.utils import timezone

from projects import workflow
from projects.notify import passes
from servers import lease, runs, work
from servers.away import AWAY
from servers.models import Change, Run
from servers.remote.ssh import Pool
from servers.tasks import enqueue_act

log = logging.getLogger(__name__)

# The workflow is walked when something changed, and this often for what time alone brings (seconds).
CLOCK_PASS = 2.0
# After a pass that failed, in seconds.
DATABASE_PAUSE = 2.0


class Controller:
    def __init__(self) -> None:
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self.epoch: int | None = None
        self.pool = Pool()
        self.lookers = ThreadPoolExecutor(max_workers=8, thread_name_prefix="look")
        self.looking: set[int] = set()
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.seen_change = -1
        self.walked_at = 0.0

    def run(self) -> None:
        """Until `stopping` is set. A database that does not answer is waited for; no fault ends the loop."""
        while not self.stopping.is_set():
            began = time.monotonic()
            try:
                close_old_connections()
                self.tick()
            except (DatabaseError, InterfaceError):
                log.exception("The database does not answer; the controller tries again.")
                connection.close()
                self.stopping.wait(DATABASE_PAUSE)
            except Exception:
                log.exception("A pass of the controller failed; it tries again.")
                self.stopping.wait(DATABASE_PAUSE)
            self.stopping.wait(max(0.05, settings.CONTROLLER_TICK - (time.monotonic() - began)))
        self.lookers.shutdown(wait=True, cancel_futures=True)
        self.pool.close()
        try:
            lease.release(self.holder, self.epoch)
        except Error:
            log.warning("The lease was not given back, as the database does not answer: it runs out by itself.")

    def tick(self) -> None:
        """One pass. Does nothing without the lease."""
        held = lease.hold(self.holder, self.epoch)
        if held != self.epoch:
            log.info("Lease: epoch %s", held)
            self.seen_change = -1
        self.epoch = held
        if self.epoch is None:
            return
        runs.recover(self.epoch)
        change = Change.current()
        if change != self.seen_change or time.monotonic() - self.walked_at > CLOCK_PASS:
            self.seen_change, self.walked_at = change, time.monotonic()
            self.walk()
        runs.promote(self.epoch)
        for run in runs.due(timezone.now()):
            self.start_looking(run, self.epoch)

    def walk(self) -> None:
        """A fault here stops nothing that runs: it is seen again at the next walk."""
        for part in (workflow.advance, passes.advance):
            try:
                part(timezone.now())
            except AWAY:
                raise  # the database is away: it is waited for
            except Exception:
                log.exception("A walk of the controller failed in %s; it tries again.", part.__module__)

    def start_looking(self, run: Run, epoch: int) -> None:
        with self.lock:
            if run.pk in self.looking:
                return
            self.looking.add(run.pk)
        self.lookers.submit(self.look, run, epoch)

    def look(self, run: Run, epoch: int) -> None:
        try:
            act = work.look(run, self.pool)
            if act:
                enqueue_act(run, epoch, act)
        except Exception:
            log.exception("Looking at run %s failed.", run.pk)
        finally:
            with self.lock:
                self.looking.discard(run.pk)
            connection.close()
