"""The tester: works on the copies as a user of them does, from inside, and looks whether that is left."""

from __future__ import annotations

import time

from migrationhub.lab.hosts import HostBackend
from migrationhub.lab.state import Lab
from migrationhub.lab.vme.store import hosts_by_instance
from migrationhub.lib.findings import Problem

from .scenario import POSTGRES_BIN
from .verification import source_name

ORDER_AMOUNT = "123456.78"  # an amount that the shop's own orders never have
START_SECONDS = 60
INSERT = (
    "INSERT INTO orders (number, written_by, amount) "
    f"SELECT coalesce(max(number), 0) + 1, '%s', {ORDER_AMOUNT} FROM orders"
)
COUNT = f"SELECT count(*) FROM orders WHERE amount = {ORDER_AMOUNT}"


class Tester:
    def __init__(self, lab: Lab, backend: HostBackend) -> None:
        self.lab, self.backend = lab, backend

    def clone(self, server: str) -> str:
        """The lab's name of the host behind the instance of a server."""
        for instance, host in hosts_by_instance(self.lab.dir / "vme").items():
            if source_name(instance) == server:
                return host
        raise Problem(f"The platform has no instance for {server}.", "Start its initial migration.", code="demo.clone")

    def write(self, server: str) -> list[str]:
        """Work on the copy of a server; what was done, in words."""
        if server == "shop-db":
            self._sql(INSERT % self._run(server, "cat etc/machine-id").strip())
            return ["an order of " + ORDER_AMOUNT]
        if server == "files":
            self._run(
                server,
                "mkdir -p srv/files/tester && echo mine > srv/files/tester/note && "
                "echo changed > srv/files/README-of-tester && ls srv/files/tester/note",
            )
            return ["srv/files/tester/note", "srv/files/README-of-tester"]
        return []

    def left(self, server: str) -> list[str]:
        """What of it is still there."""
        if server == "shop-db":
            count = self._sql(COUNT).strip()
            return [] if count == "0" else [f"{count} orders of {ORDER_AMOUNT}"]
        if server == "files":
            return self._run(server, "ls -d srv/files/tester srv/files/README-of-tester 2>/dev/null || true").split()
        return []

    def _sql(self, statement: str) -> str:
        process = f'{POSTGRES_BIN}/psql -h "$HOST_ADDRESS"'
        login = process if self.backend.kind == "process" else "psql -h 127.0.0.1"
        script = f'{login} -U shop -d shop -X -A -t -v ON_ERROR_STOP=1 -c "{statement}"'
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                return self._run("shop-db", script)
            except Problem:
                if time.monotonic() > deadline:
                    raise
            time.sleep(1)  # after a sync the copy starts again

    def _run(self, server: str, script: str) -> str:
        begin = "" if self.backend.kind == "process" else "cd / && "
        done = self.backend.execute(self.clone(server), begin + script)
        if done.rc:
            raise Problem(
                f"The tester's work on the copy of {server} ended with {done.rc}: {done.err.strip() or done.out}",
                "Look at the copy; does it run?",
                code="demo.tester",
            )
        return done.out
