"""Move the target to another network: off, one resize with the complete list, on, read back, reached there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from django.utils import timezone

from servers.models import HostKey, Placement, Run, Server
from servers.platforms.base import Nic, Platform
from servers.progress import Memo, Progress, State
from servers.remote import power
from servers.remote.base import Unreachable

from . import guest_off
from .base import Job, Operation, failed, settled
from .guest_address import production_address
from .platforming import client_of, placement_of
from .shutdown import absence
from .whereabouts import MOVED

REACH_PATIENCE = 300
STAGES = ("down", "connect", "up", "reach")
WORDS = {
    "begin": "looking where the target is",
    "down": "shutting the target down",
    "connect": "moving its interface",
    "up": "switching it on",
    "reach": "reaching it",
}
SAME = ("source", "target", "network", "address", "gateway", "resolvers", "take_over")


class Move(Operation):
    """Memo: before and address (where it was and will be reached), stage, the platform's own memo for each stage,
    guest (how it was asked to shut itself down)."""

    patience = 300
    where: ClassVar[str]  # the network that it goes to, in words
    back: ClassVar[str]  # the network that it comes from
    opposite: ClassVar[str]  # the operation that goes the other way

    def destination(self, job: Job) -> str:
        """The address at which it is to be reached there."""
        raise NotImplementedError

    def observe(self, job: Job) -> Progress:
        stage = job.memo.get("stage", "begin")
        if stage in ("begin", "reach"):
            return Progress(next_act=stage, phase=WORDS[stage])
        if stage == "down" and guest_due(job.memo):
            return Progress(next_act=stage, phase=WORDS[stage])
        progress = self.look(job, stage)
        late = stage == "down" and guest_waits(job.memo) and guest_off.is_late(job.memo["guest"])
        due = stage if progress.ended or progress.next_act or late else None
        return replace(progress, state=State.RUNNING, next_act=due, phase=WORDS[stage])

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        stage = job.memo.get("stage", "begin")
        if stage == "begin":
            return self.begin(job)
        if stage == "reach":
            return self.reach(job)
        if stage == "down" and (guest_due(job.memo) or guest_waits(job.memo)):
            seen = self.seen_off(job)
            if not seen.ended:
                return self.guest(job, seen)
        client, external_id = self.platform(job)
        key, memo = f"{job.key}.{stage}", job.resumed(job.memo.get(stage, {}))
        if stage == "connect":
            stored, progress = client.advance_connect(key, external_id, self.wanted(job), memo)
        else:
            stored, progress = client.advance_power(key, external_id, "off" if stage == "down" else "on", memo)
        kept = {**settled(job.memo), "stage": stage, stage: stored}
        if progress.state != State.SUCCEEDED:
            return kept, replace(progress, phase=WORDS[stage])
        kept = passed(kept, stage, progress)
        following = kept["stage"]
        return kept, Progress(next_act=following, phase=WORDS[following], raw=progress.raw, log=progress.log)

    def platform(self, job: Job) -> tuple[Platform, str]:
        target = job.server("target")
        return client_of(target), placement_of(target).external_id

    def look(self, job: Job, stage: str) -> Progress:
        """What the platform says of one stage. Read only."""
        if stage == "down" and guest_waits(job.memo):
            seen = self.seen_off(job)
            return seen if seen.ended else replace(seen, next_act=None, check_after=1)
        client, external_id = self.platform(job)
        key, memo = f"{job.key}.{stage}", job.resumed(job.memo.get(stage, {}))
        if stage == "connect":
            return client.observe_connect(key, external_id, self.wanted(job), memo)
        return client.observe_power(key, external_id, "off" if stage == "down" else "on", memo)

    def seen_off(self, job: Job) -> Progress:
        """Whether the platform says that it is off, of which it was asked nothing yet. Read only."""
        client, external_id = self.platform(job)
        return client.observe_power(f"{job.key}.down", external_id, "off", {})

    def guest(self, job: Job, seen: Progress) -> tuple[Memo, Progress]:
        """The guest's own part in going down, while the platform does not say that it is off."""
        memo, phase = settled(job.memo), WORDS["down"]
        if guest_due(memo) and not seen.next_act:
            return job.memo, replace(seen, phase=phase)  # the platform does not answer, or is at something else
        if guest_due(memo):
            guest, said = ({}, "") if seen.code else guest_off.ask(job)
            log = (said,) if said else ()
            return {**memo, "guest": guest}, Progress(phase=phase, check_after=1 if guest else 0, log=log)
        if guest_off.is_late(memo["guest"]) and guest_off.is_silent(job, memo["guest"]):
            return {**memo, "guest": {}}, Progress(next_act="down", phase=phase)
        return memo, Progress(phase=phase, check_after=2)

    def wanted(self, job: Job) -> tuple[Nic, ...]:
        """The complete list: one interface, on the other network, with the address there."""
        return (Nic(network_id=job.parameters["network"], address=self.destination(job), primary=True),)

    # -- where it is at the beginning ------------------------------------------------------------------------

    def begin(self, job: Job) -> tuple[Memo, Progress]:
        """An earlier try may have come so far that nothing is left but to switch it on, or to reach it."""
        memo = {**settled(job.memo), "before": self.came_from(job), "address": self.destination(job), "stage": "down"}
        if self.moved_before(job):
            client, external_id = self.platform(job)
            is_there = client.observe_connect(f"{job.key}.connect", external_id, self.wanted(job), {})
            if is_there.state == State.SUCCEEDED:
                memo |= {"stage": "reach" if is_there.target_power == "on" else "up", "nics": is_there.result["nics"]}
                memo["since"] = timezone.now().timestamp()
        stage = memo["stage"]
        log = "" if stage == "down" else f"It is on the {self.where} already: nothing is moved again."
        return memo, Progress(next_act=stage, phase=WORDS[stage], log=(log,) if log else ())

    def moved_before(self, job: Job) -> bool:
        """Whether a try with the same parameters moved it, and it was started there with what was written in it."""
        earlier = self.earlier(job)
        same = earlier is not None and all(
            earlier.parameters.get(name) == job.parameters.get(name) for name in (*SAME, "parts")
        )
        return same and earlier is not None and earlier.memo.get("stage") in MOVED

    def earlier(self, job: Job) -> Run | None:
        """The newest try of this move, unless the way back was begun since."""
        found = Run.objects.filter(
            operation__in=(self.name, self.opposite), parameters__target=job.parameters["target"]
        ).exclude(pk=job.run.pk)
        newest = found.order_by("-pk").first()
        return newest if newest is not None and newest.operation == self.name else None

    def came_from(self, job: Job) -> str:
        earlier = self.earlier(job)
        return str((earlier.memo.get("before") if earlier else "") or job.server("target").address)

    # -- reaching it ---------------------------------------------------------------------------------------

    def reach(self, job: Job) -> tuple[Memo, Progress]:
        """Log in at the new address by our own access, whose host key we know: no other machine passes for it."""
        address = job.memo.get("address") or self.destination(job)
        endpoint = replace(job.server("target").endpoint(), address=address)
        try:
            boot = power.boot_id(job.connect(endpoint))
        except Unreachable as problem:
            waited = timezone.now().timestamp() - job.memo.get("since", 0)
            if waited > REACH_PATIENCE:
                return job.memo, self.unreached(job, problem, int(waited))
            return job.memo, Progress(phase=WORDS["reach"], reason=problem.text, check_after=2)
        return job.memo, Progress(
            state=State.SUCCEEDED,
            reason=f"It answers at {address} on the {self.where}.",
            target_power="on",
            result={"address": address, "nics": job.memo.get("nics", []), "boot_id": boot},
        )

    def unreached(self, job: Job, problem: Unreachable, waited: int) -> Progress:
        client, external_id = self.platform(job)
        instance, target = client.get(external_id), job.server("target")
        address = job.memo.get("address") or self.destination(job)
        if instance is not None and instance.power == "off":
            return replace(
                failed(
                    f"{target.name} is on the {self.where}, but switched off: it stopped after its start."
                    " Look at its console in VME why. Retry switches it on without moving it again.",
                    "network.off",
                ),
                target_power="off",
            )
        return failed(
            f"{problem.text} It runs on the {self.where}, but does not answer at {address} after {waited} s."
            f" Look at its console: is {address} set inside the guest? Retry tries to reach it again without moving"
            f" or restarting it{self.way_out}.",
            "network.unreached",
        )

    way_out: ClassVar[str] = ""

    # -- cancelled halfway -----------------------------------------------------------------------------------

    def confirm_cancel(self, job: Job) -> tuple[Memo, Progress]:
        """What was asked of the platform comes to its end first: it is known then where the target is."""
        memo = dict(job.memo)
        stage = memo.get("stage", "begin")
        if stage in ("down", "connect", "up"):
            asked = job.resumed(memo.get(stage, {})) | (memo.get("guest", {}) if guest_waits(memo) else {})
            progress = self.look(job, stage)
            if {"asked_at", "unsure_since"} & set(asked) and not progress.ended and not progress.next_act:
                return memo, replace(progress, phase=f"{WORDS[stage]}, then it stops")
            if progress.state == State.SUCCEEDED:
                memo = passed(settled(memo), stage, progress)
        return memo, Progress(state=State.CANCELLED, reason=self.stopped_words(memo))

    def stopped_words(self, memo: Memo) -> str:
        place = {
            "connect": f"The target is switched off, still on the {self.back}.",
            "up": f"The target is switched off; its interface is on the {self.where}.",
            "reach": f"The target runs on the {self.where}; it was not reached there yet.",
        }.get(memo.get("stage", "begin"), "The target was not moved.")
        return f"Stopped. {place} Start the step again to go on from there{self.way_out}."

    # -- what the rows know afterwards -----------------------------------------------------------------------

    def finish(self, run: Run, progress: Progress) -> None:
        now = timezone.now()
        target = Server.objects.filter(pk=run.parameters["target"])
        if run.memo.get("nics"):
            Placement.objects.filter(server=run.parameters["target"]).update(nics=run.memo["nics"], observed_at=now)
        if progress.state != State.SUCCEEDED:
            off = run.memo.get("stage") in ("connect", "up") or progress.target_power == "off"
            if off:
                target.update(power=Server.Power.OFF, power_at=now)
            return
        target.update(address=progress.result["address"], power=Server.Power.ON, power_at=now)
        self.arrived(run)

    def arrived(self, run: Run) -> None:
        """What else is true from now on."""


def guest_due(memo: Memo) -> bool:
    """Whether the guest is to be asked to shut down; not once the platform was."""
    return "guest" not in memo and not memo.get("down")


def guest_waits(memo: Memo) -> bool:
    return guest_off.waits(memo.get("guest", {})) and not memo.get("down")


def passed(memo: Memo, stage: str, progress: Progress) -> Memo:
    """The memo after a stage came to its good end."""
    kept: dict[str, Any] = {**memo, "stage": STAGES[STAGES.index(stage) + 1]}
    if stage == "connect":
        kept["nics"] = progress.result.get("nics", [])
    if stage == "up":
        kept["since"] = timezone.now().timestamp()
    return kept


class Network(Move):
    """To the production network, with the production address that was set inside the guest before."""

    name = "network"
    opposite = "network_back"
    where, back = "production network", "migration network"
    way_out = "; “Take cutover events back” moves it to the migration network again"

    def destination(self, job: Job) -> str:
        return production_address(job).address.split("/")[0]

    def begin(self, job: Job) -> tuple[Memo, Progress]:
        """An address is taken over from nobody who runs: since its shutdown somebody may have switched it on again."""
        memo, progress = super().begin(job)
        if memo["stage"] == "reach" or not job.parameters["take_over"]:
            return memo, progress
        client, external_id = self.platform(job)
        there = client.observe_connect(f"{job.key}.connect", external_id, self.wanted(job), {})
        if not there.ended and not there.next_act:
            return job.memo, replace(there, phase=WORDS["begin"])  # who answers at the address is not known yet
        if there.state == State.SUCCEEDED and there.target_power != "off":
            return memo, progress  # an earlier try moved the target there: it is the one that answers
        source = job.server("source")
        proof = absence(source)
        if proof.absent:
            return memo, progress
        what = "answers again" if proof.heard else "is not proven off"
        return job.memo, failed(
            f"{source.name} {what} at {source.address}: {proof.text} Two machines would have one address: switch it off"
            " at its console, then retry.",
            "network.source_on",
        )

    def arrived(self, run: Run) -> None:
        if run.parameters["take_over"]:
            # The address is another machine's now: the source's keys must not be expected there any more.
            HostKey.objects.filter(server=run.parameters["source"], state=HostKey.State.ACCEPTED).update(
                state=HostKey.State.RETIRED, decided_at=timezone.now()
            )


class NetworkBack(Move):
    """Back to the migration network, at the address from before the move; `of`: the moves that are taken back."""

    name = "network_back"
    opposite = "network"
    where, back = "migration network", "production network"

    def destination(self, job: Job) -> str:
        for run in Run.objects.filter(work_key__in=job.parameters["of"]).order_by("pk"):
            if run.memo.get("before"):
                return str(run.memo["before"])
        return job.server("target").address

    def begin(self, job: Job) -> tuple[Memo, Progress]:
        """It may never have left, or have been moved back by an earlier try: then it is reached there as it is."""
        memo, progress = super().begin(job)
        if memo["stage"] == "reach":
            return memo, progress
        client, external_id = self.platform(job)
        is_there = client.observe_connect(f"{job.key}.connect", external_id, self.wanted(job), {})
        if is_there.state == State.SUCCEEDED and is_there.target_power == "on":
            try:
                job.connect(job.server("target").endpoint(address=memo["address"])).run(
                    ["true"], timeout=20, check=True
                )
            except Unreachable:
                return memo, progress  # it runs with the other address: only a restart brings the old one back
            memo |= {"stage": "reach", "nics": is_there.result["nics"], "since": timezone.now().timestamp()}
            return memo, Progress(next_act="reach", phase=WORDS["reach"], log=("It is on the migration network.",))
        return memo, progress

    def arrived(self, run: Run) -> None:
        """The source's address is its own again."""
        moves = Run.objects.filter(work_key__in=run.parameters["of"], state=Run.State.SUCCEEDED)
        times = moves.values_list("finished_at", flat=True)
        if run.parameters.get("take_over") and times:
            HostKey.objects.filter(
                server=run.parameters["source"], state=HostKey.State.RETIRED, decided_at__gte=min(filter(None, times))
            ).update(state=HostKey.State.ACCEPTED, decided_at=timezone.now())
