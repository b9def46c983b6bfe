"""One sync by the profile's mover: what the mover reports becomes the run's progress and, at the end, a sync point."""

from __future__ import annotations

from dataclasses import replace

from django.db.models import F, Max

from migrationhub.lib.findings import Finding, Level, Problem
from servers.models import Run, Server, SyncPoint
from servers.movers import mover
from servers.progress import Consistency, Memo, Progress, State, SyncFacts

from .base import Job, Operation
from .moving import move_job
from .whereabouts import TARGET_GONE, instance_of


class Sync(Operation):
    name = "sync"
    patience = 120

    def observe(self, job: Job) -> Progress:
        return told(job, mover(job.parameters["mover"]).observe(move_job(job), job.memo))

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        memo, progress = mover(job.parameters["mover"]).advance(move_job(job), job.memo)
        return memo, told(job, progress)

    def confirm_cancel(self, job: Job) -> tuple[Memo, Progress]:
        return self.advance(job)

    waits_for_ever = True

    def give_up(self, job: Job) -> tuple[Memo, Progress]:
        """Stopped in order where both sides answer after all. Else lost, once nothing of it can be at work."""
        try:
            return self.confirm_cancel(job)
        except Problem as problem:
            here = problem
        target = job.server("target")
        name, platform = target.name, target.placement.platform
        try:
            instance = instance_of(job)
        except Problem as problem:
            raise Problem(
                f"It cannot be given up yet: {problem.text}", problem.act, code="sync.unknown", lasting=False
            ) from problem
        if instance is None:
            there = f"{platform} knows no instance of {name} any more."
        else:
            there = f"{platform} says that {name} is {instance.power}, but it does not answer."
        try:
            source = mover(job.parameters["mover"]).abandon(move_job(job))
        except Problem as problem:
            if instance is not None and instance.power != "off":
                raise Problem(
                    f"It cannot be given up yet: {there} {problem.text}",
                    "As long as nobody can say that the copy has ended, it stays open. Mend one of the two.",
                    code="sync.unknown",
                    lasting=False,
                ) from problem
            source = f"{problem.text} A copy without its target ends by itself."
        words = f"Given up: {job.run.give_up_reason.rstrip('.')}. {here.text} {there} {source}"
        if instance is None:
            words += " Give this try up; the initial migration can be started again then and makes a new clone."
        return job.memo, Progress(
            state=State.LOST,
            reason=words,
            code="sync.given_up",
            target_power=instance.power if instance else "unknown",
            result={"target_gone": instance is None},
        )

    def gives_up(self, job: Job, seconds: float) -> bool:
        """Once something was begun on the machines, only they can say what became of it."""
        return not job.memo and seconds > self.patience

    def goes_on(self, job: Job) -> bool:
        """The copy is a detached job on the source; until its end was read it may be at work."""
        return "start" in job.memo.get("done", []) and "outcome" not in job.memo

    def finish(self, run: Run, progress: Progress) -> None:
        if progress.code == "sync.given_up":
            # Nobody knows what is on it: the next sync compares everything.
            target = Server.objects.filter(pk=run.parameters["target"])
            target.update(generation=F("generation") + 1, power=progress.target_power, power_at=run.finished_at)
            if progress.result["target_gone"]:
                act = "Start the initial migration again: it makes a new clone."
                gone = Finding(Level.BLOCKING, TARGET_GONE, "Its instance is gone on the platform.", act)
                target.update(findings=[gone.as_dict()])
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


def told(job: Job, progress: Progress) -> Progress:
    """What a sync that ended well has to say, and what to do about it."""
    if progress.state != State.SUCCEEDED or progress.sync is None or progress.reason:
        return progress
    return replace(progress, reason=words_about(progress.sync, job.parameters["freeze"]["method"]))


def words_about(facts: SyncFacts, freeze: str) -> str:
    """Its notes, a consistency that was wanted and lost, and what it took away from the clone; "" for none."""
    words = list(facts.notes)
    if facts.consistency == Consistency.LIVE and facts.kind != "final" and freeze != "none":
        words.append("Run another delta before anybody tests the clone.")
    if facts.discarded_count:
        some = ", ".join(f"/{path.lstrip('/')}" for path in facts.discarded[:3])
        some += "" if facts.discarded_count <= 3 else ", …"
        one = facts.discarded_count == 1
        words.append(
            f"{facts.discarded_count} path{' that was' if one else 's that were'} changed on the clone since the last"
            f" sync {'is' if one else 'are'} as on the source again ({some})."
            " Whoever still needs such a change makes it on the source."
        )
    return " ".join(words)
