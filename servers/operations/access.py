"""Remove our access from a target that is declared complete, and prove it by a refused connection."""

from __future__ import annotations

from django.utils import timezone

from servers.models import Credential, HostKey, Run, Server
from servers.progress import Memo, Progress, State
from servers.remote import access
from servers.remote.base import RemoteProblem

from .base import Job, Operation, failed

LIMIT = 60


class RemoveAccess(Operation):
    name = "remove_access"

    def observe(self, job: Job) -> Progress:
        return Progress(next_act="prove" if "asked" in job.memo else "remove")

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        target = job.server("target")
        if "asked" not in job.memo:
            script = access.removal_script(manager=target.manager, directory=target.directory)
            try:
                job.connection("target").run(["sh"], stdin=script.encode(), check=True)
            except RemoteProblem:
                # An earlier try, or an act that was cut off, may have removed it: then nobody gets in any more.
                earlier = job.run.number > 1 or "interrupted_at" in job.memo
                if not earlier or access.proven_removed(target.endpoint(), job.connect).level != "ready":
                    raise
            memo = {**job.memo, "asked": timezone.now().timestamp()}
            return memo, Progress(phase="removing", check_after=3)
        proof = access.proven_removed(target.endpoint(), job.connect)
        if proof.level == "ready":
            return job.memo, Progress(state=State.SUCCEEDED, reason=proof.text)
        if timezone.now().timestamp() - job.memo["asked"] > LIMIT:
            return job.memo, failed(f"{proof.text} {proof.act}", proof.code)
        return job.memo, Progress(phase="proving that it is removed", reason=proof.text, check_after=2)

    def finish(self, run: Run, progress: Progress) -> None:
        """The key pair opens nothing any more: it is forgotten."""
        if progress.state == State.SUCCEEDED:
            target = Server.objects.get(pk=run.parameters["target"])
            # Those of its own sshd stay known: they are the machine's, not our access's.
            HostKey.objects.filter(server=target, port=None).update(state=HostKey.State.RETIRED)
            Credential.objects.filter(server=target, internal=True).update(secret="", public="")
