"""Shut a machine down, in order, and prove that it is gone."""

from __future__ import annotations

from django.utils import timezone

from servers.models import Run, Server
from servers.progress import Memo, Progress, State
from servers.remote import power
from servers.remote.base import Unreachable
from servers.remote.power import AbsenceProof

from .base import Job, Operation, failed, settled

# A machine that does not go down within this time needs a person, in seconds.
LIMIT = 300
# A machine that does not answer for so long cannot be asked to go down, in seconds; less than the patience.
DEAF = 30
# It counts as gone when nothing answers for so long, in seconds.
QUIET = 4
STILL_THERE = "shutdown.still_there"
NOT_ASKED = "shutdown.not_asked"


class Shutdown(Operation):
    """Silence proves that a machine is gone only where it was asked to go: else it may only not be reached from here.

    Memo: boot (the boot id of whom the order is for), asked (when), unsure (when the connection ended with the order),
    deaf (since when it cannot be asked).
    """

    name = "shutdown"

    def observe(self, job: Job) -> Progress:
        if "asked" in job.memo:
            return Progress(next_act="prove", phase="proving that it is gone", check_after=2)
        return Progress(next_act="shut down" if "boot" in job.memo else "prepare", phase="shutting down")

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        if "asked" in job.memo:
            return self.prove(job)
        try:
            return self.ask(job) if "boot" in job.memo else self.prepare(job)
        except Unreachable:
            since = deaf_since(job)
            if since is None or timezone.now().timestamp() - since < DEAF:
                raise  # it may only be a moment
            return self.look(job, since)

    def prepare(self, job: Job) -> tuple[Memo, Progress]:
        """An act of its own before the order: if a worker ends in the one that comes next, it may have been asked."""
        boot = power.boot_id(job.connection("server"))
        memo = {name: value for name, value in settled(job.memo).items() if name != "deaf"}
        return {**memo, "boot": boot}, Progress(next_act="shut down", phase="shutting down")

    def ask(self, job: Job) -> tuple[Memo, Progress]:
        now = timezone.now().timestamp()
        try:
            connection = job.connection("server")
        except Unreachable as problem:
            if may_have_heard(job.memo):
                raise
            # Nothing was asked, and that stays known if a worker ends while it cannot be reached.
            memo = {name: value for name, value in job.memo.items() if name != "boot"}
            return {**memo, "deaf": now}, Progress(phase="shutting down", reason=problem.text, check_after=2)
        try:
            power.shut_down(connection)
        except Unreachable as problem:
            memo = {**job.memo, "unsure": now}
            return memo, Progress(phase="shutting down", reason=problem.text, check_after=2, log=(problem.text,))
        memo = {**settled(job.memo), "asked": now}
        return memo, Progress(phase="shutting down", check_after=2, log=("Asked to shut down.",))

    def look(self, job: Job, since: float) -> tuple[Memo, Progress]:
        """It cannot be asked: whether it is there is looked at by all its ports, and it is asked once it answers."""
        proof = absence(job.server("server"))
        if proof.absent:
            return job.memo, self.silent(job, proof)
        name, waited = job.server("server").name, int(timezone.now().timestamp() - since)
        if waited > LIMIT:
            return job.memo, failed(
                f"{name} could not be asked to shut down for {waited} s, and it is not off: {proof.text}"
                " Look at its console, switch it off there, then retry.",
                STILL_THERE,
            )
        memo = {**job.memo, "deaf": since}
        return memo, Progress(phase="looking whether it is gone", reason=proof.text, check_after=2)

    def silent(self, job: Job, proof: AbsenceProof) -> Progress:
        """What silence means of a machine that could not be asked just now."""
        earlier = Run.objects.filter(work_key=job.run.work_key, number__lt=job.run.number).order_by("-number")
        tries = [job.memo, *(run.memo for run in earlier)]
        if any(may_have_heard(memo) for memo in tries):
            return gone(proof.text)
        name, last = job.server("server").name, earlier.first()
        if last is not None and last.code in (NOT_ASKED, STILL_THERE):
            return gone(f"{name} was not asked; off by the word of whoever retried. {proof.text}")
        return failed(
            f"{name} did not answer and was not asked to shut down: it may be off, or only not be reached from here."
            " Look at its console; when it is off there, retry.",
            NOT_ASKED,
        )

    def prove(self, job: Job) -> tuple[Memo, Progress]:
        proof = absence(job.server("server"))
        if proof.absent:
            return job.memo, gone(proof.text)
        waited = timezone.now().timestamp() - job.memo["asked"]
        if waited > LIMIT:
            return job.memo, failed(
                f"{job.server('server').name} should be off since {int(waited)} s and is not: {proof.text}"
                " Look at its console, switch it off there, then retry.",
                STILL_THERE,
            )
        return job.memo, Progress(phase="proving that it is gone", reason=proof.text, check_after=2)

    def confirm_cancel(self, job: Job) -> tuple[Memo, Progress]:
        """What was asked to go down goes down: then only its absence ends this, or that it is still there."""
        if not may_have_heard(job.memo):
            return super().confirm_cancel(job)
        job.memo.setdefault("asked", job.memo.get("interrupted_at") or job.memo.get("unsure"))
        return self.prove(job)

    def finish(self, run: Run, progress: Progress) -> None:
        if progress.state == State.SUCCEEDED:
            Server.objects.filter(pk=run.parameters["server"]).update(power=Server.Power.OFF, power_at=timezone.now())


def gone(reason: str) -> Progress:
    return Progress(state=State.SUCCEEDED, reason=reason, target_power="off", result={"proof": reason})


def deaf_since(job: Job) -> float | None:
    """Since when it cannot be asked; a look that found it there does not begin the time anew."""
    lost = job.run.contact_lost_since
    return job.memo.get("deaf") or (lost.timestamp() if lost else None)


def may_have_heard(memo: Memo) -> bool:
    """Whether the order was given, or may have been: by a worker, or over a connection, that ended with it."""
    return "asked" in memo or ("boot" in memo and bool({"interrupted_at", "unsure"} & set(memo)))


def absence(server: Server) -> AbsenceProof:
    """Whether a machine is gone, asked at every port that it is known by."""
    return power.absent(server.endpoint(), [server.port, *known_ports(server)], seconds=QUIET)


def known_ports(server: Server) -> list[int]:
    """TCP ports that it was seen to listen on, each once, apart from those on loopback."""
    found: list[int] = []
    for entry in server.facts.get("listening", []):
        port, address = entry.get("port"), str(entry.get("address", ""))
        if port in found or str(entry.get("protocol", "tcp")).startswith("udp"):
            continue
        if port and not (address.startswith("127.") and server.manager == "systemd") and address != "::1":
            found.append(int(port))
    return found[:20]
