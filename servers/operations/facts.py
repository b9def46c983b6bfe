"""Look at a machine and keep what was seen, with its age."""

from __future__ import annotations

from django.utils import timezone

from servers.models import Run, Server
from servers.progress import Memo, Progress
from servers.remote import facts

from .base import Job, Operation, done


class Facts(Operation):
    name = "facts"

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        gathered = facts.gather(job.connection("server"))
        return job.memo, done("", facts=gathered)

    def finish(self, run: Run, progress: Progress) -> None:
        if progress.state == "succeeded":
            now = timezone.now()
            Server.objects.filter(pk=run.parameters["server"]).update(
                facts=progress.result["facts"], facts_at=now, power=Server.Power.ON, power_at=now
            )
