"""Set the production address inside the guest for its next start: moving the interface does not do it.

Where the profile says that it is set by hand, nothing is written: it is looked for, and the move proves it.
"""

from __future__ import annotations

from migrationhub.lib.findings import Level
from servers.models import Run, Server
from servers.progress import Memo, Progress
from servers.remote import guest_address
from servers.remote.base import Unreachable
from servers.remote.guest_address import NewAddress

from .base import Job, Operation, done, failed, words_of
from .whereabouts import connect_target, done_before, instance_of

PLANNED = ("address", "gateway", "resolvers", "take_over")


class GuestAddress(Operation):
    name = "guest_address"

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        wanted = production_address(job)
        if job.parameters.get("by_hand"):
            return job.memo, look_for(job, wanted)
        try:
            connection = connect_target(job)
        except Unreachable:
            ended = switched_off(job, f"{wanted.address} is set", "undo_guest_address", PLANNED)
            if ended is None:
                raise
            return job.memo, ended
        blocking = [finding for finding in guest_address.plan(connection, wanted) if finding.level == Level.BLOCKING]
        if blocking:
            return job.memo, failed(words_of(blocking), blocking[0].code)
        record = guest_address.apply(connection, wanted)
        wrong = [f for f in guest_address.verify_file(connection, wanted) if f.level == Level.BLOCKING]
        if wrong:
            return job.memo, failed(words_of(wrong), wrong[0].code)
        return job.memo, done(f"{wanted.address} is set for the next start.", record=record.as_dict())


def look_for(job: Job, wanted: NewAddress) -> Progress:
    """Whether the address that a person is to set is there for the next start. Writes nothing.

    It may come from where nothing of it shows, such as a DHCP server, or be at work in the guest already, which then
    does not answer here any more: a retry after the question counts as a yes.
    """
    tries = Run.objects.filter(work_key=job.run.work_key, number__lt=job.run.number, parameters__by_hand=True)
    asked, address = tries.filter(state=Run.State.FAILED).exists(), wanted.address.split("/")[0]
    try:
        connection = connect_target(job)
    except Unreachable as problem:
        instance = instance_of(job)
        if instance is not None and (asked or instance.power == "off"):
            return by_hand("It does not answer, so that nobody looked.")
        act = f"If {address} is at work in it already, retry; else bring its old address back until the move."
        raise Unreachable(problem.text, act, code=problem.code, lasting=problem.lasting) from problem
    if found := guest_address.named_in(connection, wanted):
        return by_hand(f"{', '.join(found)} {'name' if len(found) > 1 else 'names'} {address}.")
    if asked:
        return by_hand(f"No file of its network configuration names {address}; whoever retried was told so.")
    told = [finding for finding in guest_address.plan_by_hand(connection, wanted) if finding.level == Level.WARNING]
    return failed(
        f"{words_of(told)} No file of its network configuration names it yet. Retry once it is set; a retry also"
        " counts as the word that it comes from elsewhere, such as a DHCP server.",
        "guest_address.not_set_by_hand",
    )


def by_hand(seen: str) -> Progress:
    words = "Not set by migrationhub: the profile says that it is set by hand."
    return done(f"{words} {seen} The move proves it.", by_hand=True)


def switched_off(job: Job, what: str, undo: str, names: tuple[str, ...]) -> Progress | None:
    """How an act on the guest's files ends where the target is switched off; None where the platform says it is on.

    A move that was stopped halfway leaves it so: what an earlier try wrote there holds for the next start.
    """
    instance = instance_of(job)
    target = job.server("target")
    if instance is None:
        return failed(
            f"{target.placement.platform} knows no instance of {target.name} any more."
            " Find out there who deleted it. Bring it back, then retry; or start the initial migration again, which"
            " makes a new clone.",
            "instance.missing",
        )
    if instance.power != "off":
        return None
    earlier = done_before(job, job.run.operation, undo, names)
    if earlier is not None and not earlier.get("by_hand"):
        return done(f"{what} by an earlier try for its next start; it is switched off now.", **earlier)
    return failed(
        f"{target.name} is switched off on {target.placement.platform}, so that nothing can be written in it."
        " Switch it on there, or take the cutover events back; then try again.",
        "target.off",
    )


def production_address(job: Job) -> NewAddress:
    """What was planned; for *take over* the source's own address, gateway and resolvers as they were seen."""
    parameters = job.parameters
    address, gateway, resolvers = parameters["address"], parameters["gateway"], parameters["resolvers"]
    if parameters["take_over"]:
        seen = source_network(job.server("source"))
        address, gateway = address or seen["address"], gateway or seen["gateway"]
        resolvers = resolvers or seen["resolvers"]
    return NewAddress(address, gateway, tuple(resolvers))


def source_network(source: Server) -> dict[str, object]:
    """Address with prefix, gateway and resolvers of the source, from its facts."""
    addresses = [
        entry
        for entry in source.facts.get("addresses", [])
        if str(entry.get("address", "")).split("/")[0] == source.address
    ]
    first = addresses[0] if addresses else {}
    return {
        "address": first.get("cidr") or first.get("address") or source.address,
        "gateway": source.facts.get("default_route", {}).get("gateway", ""),
        "resolvers": list(source.facts.get("resolvers", [])),
    }
