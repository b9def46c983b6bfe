"""One sync by the profile's mover: what the mover reports becomes the run's progress and, at the end, a sync point."""

from __future__ import annotations

from django.db.models import Max

from migrationhub.lib.findings import Finding, Level
from servers.models import Run, Server, SyncPoint
from servers.movers import mover
from servers.progress import Memo, Progress, State
from servers.remote import guest_address

from .base import Job, Operation, done, failed
from .moving import move_job


class Preflight(Operation):
    """Ask both machines whether the copy can work; a blocking finding fails the run and says what to do."""

    name = "preflight"

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        findings = [*mover(job.parameters["mover"]).preflight(move_job(job)), *unlike_networks(job)]
        told = [finding.as_dict() for finding in findings]
        blocking = [finding for finding in findings if finding.level == Level.BLOCKING]
        if blocking:
            words = " ".join(f"{finding.text} {finding.act}".strip() for finding in blocking)
            return job.memo, failed(words, blocking[0].code, findings=told)
        warnings = [finding.text for finding in findings if finding.level == Level.WARNING]
        return job.memo, done(" ".join(warnings), findings=told)


def unlike_networks(job: Job) -> list[Finding]:
    """Which network unit is enabled comes with the source's system; the files it reads stay the target's own."""
    if job.parameters["scope"] != "system" or job.server("source").manager != "systemd":
        return []
    here, there = (guest_address.current(job.connection(name)).kind for name in ("source", "target"))
    if here == there:
        return [Finding(Level.READY, "network.kind", f"Both configure their network by {here}.")]
    return [
        Finding(
            Level.BLOCKING,
            "network.kind",
            f"The source configures its network by {here}, the target by {there}: after the copy it would have none.",
            f"Choose an image that uses {here}, or the scope “paths”.",
        )
    ]


class Sync(Operation):
    name = "sync"
    patience = 120

    def observe(self, job: Job) -> Progress:
        return mover(job.parameters["mover"]).observe(move_job(job), job.memo)

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        return mover(job.parameters["mover"]).advance(move_job(job), job.memo)

    def confirm_cancel(self, job: Job) -> tuple[Memo, Progress]:
        return self.advance(job)

    def gives_up(self, job: Job, seconds: float) -> bool:
        """Once something was begun on the machines, only they can say what became of it."""
        return not job.memo and seconds > self.patience

    def goes_on(self, job: Job) -> bool:
        """The copy is a detached job on the source; until its end was read it may be at work."""
        return "start" in job.memo.get("done", []) and "outcome" not in job.memo

    def finish(self, run: Run, progress: Progress) -> None:
        if progress.state != State.SUCCEEDED or progress.sync is None:
            return
        facts = progress.sync
        pair = SyncPoint.objects.filter(source=run.parameters["source"], target=run.parameters["target"])
        SyncPoint.objects.create(
            run=run,
            source_id=run.parameters["source"],
            target_id=run.parameters["target"],
            number=1 + (pair.aggregate(last=Max("number"))["last"] or 0),
            kind=facts.kind,
            method=facts.method,
            bytes_sent=facts.bytes_sent,
            files_sent=facts.files_sent,
            seconds=facts.seconds,
            as_of=facts.as_of,
            consistency=facts.consistency.value,
            generation=facts.generation,
            discarded_count=facts.discarded_count,
            facts=facts.as_dict(),
        )
        Server.objects.filter(pk=run.parameters["target"]).update(power=Server.Power.ON, power_at=run.finished_at)
