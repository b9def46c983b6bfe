"""A snapshot of the target on its platform, and the way back to it."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from django.db.models import F
from django.utils import timezone

from servers.models import Run, Server
from servers.progress import Memo, Progress, State
from servers.remote import power
from servers.remote.base import Unreachable

from .base import Job, Operation, failed, settled
from .platforming import client_of, placement_of

REACH_PATIENCE = 300  # seconds for a reverted guest to boot and answer


class Snapshot(Operation):
    """Memo: the platform's own. `result` names the snapshot by the platform's id."""

    name = "snapshot"
    patience = 300

    def observe(self, job: Job) -> Progress:
        target = job.server("target")
        memo = job.resumed(job.memo)
        external_id = placement_of(target).external_id
        progress = client_of(target).observe_snapshot(job.key, external_id, self.called(job), memo)
        due = self.name if progress.ended or progress.next_act else None
        return replace(progress, state=State.RUNNING, next_act=due)

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        target = job.server("target")
        memo = job.resumed(job.memo)
        external_id = placement_of(target).external_id
        memo, progress = client_of(target).advance_snapshot(job.key, external_id, self.called(job), memo)
        if progress.state == State.SUCCEEDED:
            words = f"The platform keeps {target.name} as it is now, as snapshot “{self.called(job)}”."
            return settled(memo), replace(progress, reason=words)
        return settled(memo), progress

    def called(self, job: Job) -> str:
        """By this name it is found again after a lost answer, so it is this try's own."""
        return f"migrationhub-{job.key}"


class Revert(Operation):
    """Memo: stage, the platform's own memo of each stage, since (when it was switched on)."""

    name = "revert"
    patience = 300
    words: ClassVar[dict[str, str]] = {
        "back": "going back to the snapshot",
        "up": "switching it on",
        "reach": "reaching it",
    }

    def observe(self, job: Job) -> Progress:
        stage = job.memo.get("stage", "back")
        if stage == "reach":
            return Progress(next_act=stage, phase=self.words[stage], check_after=2)
        target = job.server("target")
        client, external_id = client_of(target), placement_of(target).external_id
        key, memo = f"{job.key}.{stage}", job.resumed(job.memo.get(stage, {}))
        if stage == "back":
            progress = client.observe_revert(key, external_id, job.parameters["snapshot_id"], memo)
        else:
            progress = client.observe_power(key, external_id, "on", memo)
        due = stage if progress.ended or progress.next_act else None
        return replace(progress, state=State.RUNNING, next_act=due, phase=self.words[stage])

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        stage = job.memo.get("stage", "back")
        if stage == "reach":
            return self.reach(job)
        target = job.server("target")
        client, external_id = client_of(target), placement_of(target).external_id
        key, memo = f"{job.key}.{stage}", job.resumed(job.memo.get(stage, {}))
        if stage == "back":
            stored, progress = client.advance_revert(key, external_id, job.parameters["snapshot_id"], memo)
        else:
            stored, progress = client.advance_power(key, external_id, "on", memo)
        kept = {**settled(job.memo), "stage": stage, stage: stored}
        if progress.state != State.SUCCEEDED:
            return kept, replace(progress, phase=self.words[stage])
        following = "up" if stage == "back" else "reach"
        kept |= {"stage": following, "since": timezone.now().timestamp()}
        return kept, Progress(next_act=following, phase=self.words[following], raw=progress.raw, log=progress.log)

    def reach(self, job: Job) -> tuple[Memo, Progress]:
        """By our own access: it was there when the snapshot was taken."""
        target = job.server("target")
        try:
            power.boot_id(job.connection("target"))
        except Unreachable as problem:
            waited = timezone.now().timestamp() - job.memo.get("since", 0)
            if waited > REACH_PATIENCE:
                words = (
                    f"{target.name} is back at its snapshot and switched on, but does not answer after {int(waited)} s:"
                    f" {problem.text} Look at its console, then try again."
                )
                return job.memo, failed(words, "revert.unreached")
            return job.memo, Progress(phase=self.words["reach"], reason=problem.text, check_after=2)
        return job.memo, Progress(
            state=State.SUCCEEDED,
            reason=f"{target.name} is as it was when the test began. The next sync compares every file with it.",
            target_power="on",
        )

    def finish(self, run: Run, progress: Progress) -> None:
        """However it ended, nothing that was known of its content holds any more: an answer may have been lost."""
        target = Server.objects.filter(pk=run.parameters["target"])
        target.update(generation=F("generation") + 1, reverts=F("reverts") + 1)
        if progress.state == State.SUCCEEDED:
            target.update(power=Server.Power.ON, power_at=timezone.now())
