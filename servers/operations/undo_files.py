"""Bring back files that were changed inside the target for its next start, also where no connection reaches it."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from django.utils import timezone

from servers.models import Run
from servers.progress import Memo, Progress, State
from servers.remote import guest_address, identity
from servers.remote.base import CommandFailed, Connection, Unreachable
from servers.remote.file_changes import undo_command

from .base import Job, Operation, done, failed, settled
from .guest_address import GuestAddress, production_address
from .identity import keys_come_back
from .platforming import client_of, placement_of
from .whereabouts import connect_target, instance_of, last

# Seconds after which a target that does not answer is asked through its platform; a start takes that long.
DEAF = 60
STILL_BY_HAND = "undo.by_hand"


class UndoFiles(Operation):
    """By our own access where it answers; else the platform switches it on and runs one line inside the guest.

    Memo: since, stage (reach, on, execute), the platform's own memo of the last two.
    """

    patience = 300
    changed: ClassVar[str]  # the name under which the originals are kept on the target
    words: ClassVar[str]

    def observe(self, job: Job) -> Progress:
        stage = job.memo.get("stage", "reach")
        client, external_id = client_of(job.server("target")), placement_of(job.server("target")).external_id
        memo = job.resumed(job.memo.get(stage, {}))
        if stage == "on":
            progress = client.observe_power(f"{job.key}.on", external_id, "on", memo)
        elif stage == "execute":
            progress = client.observe_execute(f"{job.key}.execute", external_id, undo_command(self.changed), memo)
        else:
            return Progress(next_act="reach", phase="reaching the target")
        return replace(progress, state=State.RUNNING, next_act=stage if progress.ended or progress.next_act else None)

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        stage = job.memo.get("stage", "reach")
        if stage == "reach":
            return self.reach(job)
        target = job.server("target")
        client, external_id = client_of(target), placement_of(target).external_id
        memo = job.resumed(job.memo.get(stage, {}))
        if stage == "on":
            stored, progress = client.advance_power(f"{job.key}.on", external_id, "on", memo)
            kept = {**settled(job.memo), "on": stored}
            if progress.state == State.SUCCEEDED:
                kept |= {"stage": "reach", "since": timezone.now().timestamp()}
                return kept, Progress(next_act="reach", phase="reaching the target", log=("It is switched on.",))
            return kept, replace(progress, phase="switching the target on")
        script = undo_command(self.changed)
        stored, progress = client.advance_execute(f"{job.key}.execute", external_id, script, memo)
        kept = {**settled(job.memo), "execute": stored}
        if progress.state == State.SUCCEEDED:
            ran = f"{job.server('target').placement.platform} ran it inside the guest."
            return kept, self.brought_back(job, None, ran)
        if not progress.ended:
            return kept, replace(progress, phase="running it inside the guest")
        return kept, self.by_hand(job, progress.reason)

    def reach(self, job: Job) -> tuple[Memo, Progress]:
        try:
            connection = connect_target(job)
            connection.run(undo_command(self.changed), check=True)
        except CommandFailed as problem:
            said = " ".join(problem.result.error_text.split())[-300:]
            return job.memo, failed(
                f"The files could not be brought back: {said or problem.text} Do it by hand on the target, then retry.",
                "undo.failed",
            )
        except Unreachable as problem:
            return self.deaf(job, problem)
        return job.memo, self.brought_back(job, connection, "")

    def brought_back(self, job: Job, connection: Connection | None, how: str) -> Progress:
        """The files are as they were; no connection where the platform did it (`how`)."""
        return done(f"{self.words} {how}".strip())

    def deaf(self, job: Job, problem: Unreachable) -> tuple[Memo, Progress]:
        instance, target = instance_of(job), job.server("target")
        if instance is None:
            return job.memo, done(
                f"{target.name} is gone on {target.placement.platform}: nothing is to be brought back."
            )
        if instance.power == "off":
            return {**job.memo, "stage": "on"}, Progress(next_act="on", phase="switching the target on")
        since = job.memo.get("since") or timezone.now().timestamp()
        if timezone.now().timestamp() - since < DEAF:
            return {**job.memo, "since": since}, Progress(
                phase="reaching the target", reason=problem.text, check_after=3
            )
        log = f"It does not answer; {target.placement.platform} is asked to do it inside the guest."
        return {**job.memo, "stage": "execute"}, Progress(next_act="execute", log=(log,))

    def by_hand(self, job: Job, why: str) -> Progress:
        """The console is left. What a person did there cannot be seen from here, and it is said so."""
        earlier = Run.objects.filter(work_key=job.run.work_key, number__lt=job.run.number, code="undo.console")
        if earlier.exists():
            return done(f"Taken on trust: it does not answer, so that nobody sees whether it was done there. {why}")
        return failed(
            f"{why} It does not answer either. Run this as root on its console, then retry:"
            f" {undo_command(self.changed)}",
            "undo.console",
        )


class UndoGuestAddress(UndoFiles):
    name = "undo_guest_address"
    changed = guest_address.NAME
    words = "The target has its old address again from its next start on."

    def brought_back(self, job: Job, connection: Connection | None, how: str) -> Progress:
        """What a person set by hand, a person takes back: it is asked for, and a retry counts as the answer."""
        set_by_hand = self.set_by_hand(job)
        if set_by_hand is None:
            return super().brought_back(job, connection, how)
        wanted = production_address(Job(set_by_hand, job.connect))
        found = guest_address.named_in(connection, wanted) if connection else []
        if connection and not found:
            return done("No file of the guest's network configuration names the production address any more.")
        asked = Run.objects.filter(work_key=job.run.work_key, number__lt=job.run.number, code=STILL_BY_HAND)
        if asked.exists():
            return done("Taken on trust: whoever retried was asked to bring the old address back by hand.")
        address, moved = wanted.address.split("/")[0], last(job, "network")
        before = (moved.memo.get("before") if moved else "") or job.server("target").address
        where = f" {', '.join(found)} {'name' if len(found) > 1 else 'names'} it still." if found else ""
        return failed(
            f"{address} was set by hand inside the guest.{where} Bring {before} back there for its next start, on its"
            " console where it does not answer; then retry.",
            STILL_BY_HAND,
        )

    def by_hand(self, job: Job, why: str) -> Progress:
        return super().by_hand(job, why) if self.set_by_hand(job) is None else self.brought_back(job, None, "")

    def set_by_hand(self, job: Job) -> Run | None:
        """The newest of the tries that are taken back in which a person was to set the address."""
        tries = Run.objects.filter(work_key__in=job.parameters["of"], operation=GuestAddress.name)
        return tries.filter(parameters__by_hand=True).order_by("-pk").first()


class UndoIdentity(UndoFiles):
    name = "undo_identity"
    changed = identity.NAME
    words = "The target has its own identity again from its next start on."

    def finish(self, run: Run, progress: Progress) -> None:
        if progress.state == State.SUCCEEDED:
            keys_come_back(run.parameters["source"], run.parameters["target"])
