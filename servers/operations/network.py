"""Move the target to the production network: off, one resize with the complete list, on, read back, reached there."""

from __future__ import annotations

from dataclasses import replace

from django.utils import timezone

from servers.models import HostKey, Placement, Run, Server
from servers.platforms.base import Nic
from servers.progress import Memo, Progress, State
from servers.remote import power
from servers.remote.base import Unreachable

from .base import Job, Operation, failed, settled
from .guest_address import production_address
from .platforming import client_of, placement_of

REACH_PATIENCE = 300
STAGES = ("down", "connect", "up", "reach")
WORDS = {
    "down": "shutting the target down",
    "connect": "moving its interface",
    "up": "switching it on",
    "reach": "reaching it in production",
}


class Network(Operation):
    """Memo: stage, and the platform's own memo for each stage."""

    name = "network"
    patience = 300

    def observe(self, job: Job) -> Progress:
        stage = job.memo.get("stage", "down")
        if stage == "reach":
            return Progress(next_act="reach", phase=WORDS[stage])
        target = job.server("target")
        client, external_id = client_of(target), placement_of(target).external_id
        key, memo = f"{job.key}.{stage}", job.resumed(job.memo.get(stage, {}))
        if stage == "connect":
            progress = client.observe_connect(key, external_id, self.wanted(job), memo)
        else:
            progress = client.observe_power(key, external_id, "off" if stage == "down" else "on", memo)
        due = stage if progress.ended or progress.next_act else None
        return replace(progress, state=State.RUNNING, next_act=due, phase=WORDS[stage])

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        stage = job.memo.get("stage", "down")
        if stage == "reach":
            return self.reach(job)
        target = job.server("target")
        client, external_id = client_of(target), placement_of(target).external_id
        key, memo = f"{job.key}.{stage}", job.resumed(job.memo.get(stage, {}))
        if stage == "connect":
            stored, progress = client.advance_connect(key, external_id, self.wanted(job), memo)
        else:
            stored, progress = client.advance_power(key, external_id, "off" if stage == "down" else "on", memo)
        kept = {**settled(job.memo), "stage": stage, stage: stored}
        if progress.state == State.SUCCEEDED:
            following = STAGES[STAGES.index(stage) + 1]
            kept["stage"] = following
            if stage == "connect":
                kept["nics"] = progress.result.get("nics", [])
            if stage == "up":
                kept["since"] = timezone.now().timestamp()
            return kept, Progress(next_act=following, phase=WORDS[following], raw=progress.raw, log=progress.log)
        return kept, replace(progress, phase=WORDS[stage])

    def wanted(self, job: Job) -> tuple[Nic, ...]:
        """The complete list: one interface, on the production network, with the production address."""
        address = production_address(job).address.split("/")[0]
        return (Nic(network_id=job.parameters["network"], address=address, primary=True),)

    def reach(self, job: Job) -> tuple[Memo, Progress]:
        """Log in at the new address by our own access, whose host key we know: no other machine passes for it."""
        target, address = job.server("target"), production_address(job).address.split("/")[0]
        endpoint = replace(target.endpoint(), address=address)
        try:
            boot = power.boot_id(job.connect(endpoint))
        except Unreachable as problem:
            waited = timezone.now().timestamp() - job.memo.get("since", 0)
            if waited > REACH_PATIENCE:
                return job.memo, failed(
                    f"{problem.text} It runs on the production network, but does not answer at {address} after"
                    f" {int(waited)} s. Look at its console: is {address} set inside the guest? Then retry.",
                    "network.unreached",
                )
            return job.memo, Progress(phase=WORDS["reach"], reason=problem.text, check_after=2)
        return job.memo, Progress(
            state=State.SUCCEEDED,
            reason=f"It answers at {address} on the production network.",
            target_power="on",
            result={"address": address, "nics": job.memo.get("nics", []), "boot_id": boot},
        )

    def finish(self, run: Run, progress: Progress) -> None:
        now = timezone.now()
        if run.memo.get("nics"):
            Placement.objects.filter(server=run.parameters["target"]).update(nics=run.memo["nics"], observed_at=now)
        if progress.state != State.SUCCEEDED:
            return
        Server.objects.filter(pk=run.parameters["target"]).update(
            address=progress.result["address"], power=Server.Power.ON, power_at=now
        )
        if run.parameters["take_over"]:
            # The address is another machine's now: the source's keys must not be expected there any more.
            HostKey.objects.filter(server=run.parameters["source"], state=HostKey.State.ACCEPTED).update(
                state=HostKey.State.RETIRED, decided_at=now
            )
