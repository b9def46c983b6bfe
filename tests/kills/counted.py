"""A piece of work outside any migration whose every act is counted on the host that it touches."""

from __future__ import annotations

import subprocess

from servers import runs
from servers.models import HostKey, Lease, Run, Server
from servers.remote import hostkeys
from tests.fixtures_lab import ProcessHost, ProcessLab
from tests.hub_processes import HubProcesses, until
from tests.world import make_source


class Counted:
    """A hub, a host, and a piece of work that leaves a line on the host each time that it is done.

    Its act lasts until the test lets it go on, so that it is in its middle for as long as a busy machine needs.
    """

    def __init__(self, hub: HubProcesses, lab: ProcessLab, host: ProcessHost) -> None:
        self.hub, self.host = hub, host
        self.server: Server = make_source(lab, host)
        for line in host.host_keys():
            key_type, public = line.split()
            HostKey.objects.create(
                server=self.server,
                key_type=key_type,
                public=public,
                fingerprint=hostkeys.fingerprint(public),
                state=HostKey.State.ACCEPTED,
            )
        command = "echo done >>srv/lines; until [ -e srv/go-on ]; do sleep 0.1; done; echo answered | tee srv/answered"
        host.write("srv/lines", "")
        parameters = {"command": command, "timeout": 120}
        self.server.probes.create(name="slow", kind="command", parameters=parameters, places=["source"])

    def go_on(self, *, begun: bool = True) -> None:
        """The act may end, as may all that come later; of one that has begun the host has done its part then."""
        self.host.write("srv/go-on", "")
        if begun:
            until((self.host.root / "srv/answered").exists, 60, self.hub.words)

    def ask(self, key: str) -> Run:
        pk = self.server.pk
        parameters = {"owner": pk, "machine": pk, "place": "source", "until_seconds": 0, "must_pass": True}
        return runs.request(key, "probe", title=key, parameters=parameters, server=self.server)

    def lines(self) -> int:
        return len((self.host.root / "srv/lines").read_text().splitlines())

    def worker(self, run: Run) -> int:
        """Who is in the middle of the run's act, once the host has felt it; 0: nobody yet."""
        run.refresh_from_db()
        return int(run.act_worker.split(":")[1]) if run.act_worker and self.lines() else 0

    def taken(self, run: Run) -> int:
        """Wait for that."""
        found: list[int] = []

        def look() -> int:
            found.append(self.worker(run))
            return found[-1]

        until(look, 300, self.hub.words)
        return found[-1]

    def controller(self, epoch: int) -> subprocess.Popen[bytes]:
        process = self.hub.manage("controller")
        until(lambda: Lease.objects.filter(epoch=epoch).exists(), 300, self.hub.words)
        return process

    def workers(self) -> subprocess.Popen[bytes]:
        process = self.hub.manage("qcluster")
        until(lambda: self.hub.words().count("ready for work") >= 2, 300, self.hub.words)
        return process

    def finished(self, run: Run) -> Run:
        until(lambda: Run.objects.get(pk=run.pk).finished_at is not None, 300, self.hub.words)
        run.refresh_from_db()
        assert run.state == "succeeded", run.reason
        return run
