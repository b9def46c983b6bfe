"""Shut a machine down, in order, and prove that it is gone."""

from __future__ import annotations

from django.utils import timezone

from servers.models import Run, Server
from servers.progress import Memo, Progress, State
from servers.remote import power
from servers.remote.base import Unreachable

from .base import Job, Operation, failed

# A machine that does not go down within this time needs a person, in seconds.
LIMIT = 300
# A machine that does not answer for so long cannot be asked to go down, in seconds; less than the patience.
DEAF = 30
# It counts as gone when nothing answers for so long, in seconds.
QUIET = 4


class Shutdown(Operation):
    """Memo: asked (when), boot (the boot id that was asked), ports (that answered before)."""

    name = "shutdown"

    def observe(self, job: Job) -> Progress:
        if "asked" not in job.memo:
            return Progress(next_act="shut down", phase="shutting down")
        return Progress(next_act="prove", phase="proving that it is gone", check_after=2)

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        if "asked" not in job.memo:
            return self.ask(job)
        return self.prove(job)

    def ask(self, job: Job) -> tuple[Memo, Progress]:
        server = job.server("server")
        ports = sorted({server.port, *(int(port) for port in known_ports(server))})
        try:
            connection = job.connection("server")
            boot = power.boot_id(connection)
            power.shut_down(connection)
            said = "Asked to shut down."
        except Unreachable:
            since = job.run.contact_lost_since
            if since is None or (timezone.now() - since).total_seconds() < DEAF:
                raise  # it may only be a moment
            # It is off already, or its sshd is: whether it is there is looked at, by all its ports.
            boot, said = "", f"{server.name} does not answer and was not asked; it is looked at whether it is gone."
        memo = {**job.memo, "asked": timezone.now().timestamp(), "boot": boot, "ports": ports}
        return memo, Progress(phase="shutting down", check_after=2, log=(said,))

    def prove(self, job: Job) -> tuple[Memo, Progress]:
        server = job.server("server")
        proof = power.absent(server.endpoint(), job.memo["ports"], seconds=QUIET)
        if proof.absent:
            return job.memo, Progress(
                state=State.SUCCEEDED, reason=proof.text, target_power="off", result={"proof": proof.text}
            )
        waited = timezone.now().timestamp() - job.memo["asked"]
        if waited > LIMIT:
            return job.memo, failed(
                f"{server.name} should be off since {int(waited)} s and is not: {proof.text}"
                " Look at its console, switch it off there, then retry.",
                "shutdown.still_there",
            )
        return job.memo, Progress(phase="proving that it is gone", reason=proof.text, check_after=2)

    def confirm_cancel(self, job: Job) -> tuple[Memo, Progress]:
        """What was asked to go down goes down: then only its absence ends this, or that it is still there."""
        cut = job.memo.get("interrupted_at")
        if "asked" not in job.memo and cut is None:
            return super().confirm_cancel(job)
        if "asked" not in job.memo:  # it may have been asked when the worker ended
            server = job.server("server")
            job.memo |= {"asked": cut, "boot": "", "ports": sorted({server.port, *known_ports(server)})}
        return self.prove(job)

    def finish(self, run: Run, progress: Progress) -> None:
        if progress.state == State.SUCCEEDED:
            Server.objects.filter(pk=run.parameters["server"]).update(power=Server.Power.OFF, power_at=timezone.now())


def known_ports(server: Server) -> list[int]:
    """Ports that it was seen to listen on, apart from those on loopback."""
    found = []
    for entry in server.facts.get("listening", []):
        port, address = entry.get("port"), str(entry.get("address", ""))
        if port and not (address.startswith("127.") and server.manager == "systemd") and address != "::1":
            found.append(int(port))
    return found[:20]
