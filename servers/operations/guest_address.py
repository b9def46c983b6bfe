"""Set the production address inside the guest for its next start: moving the interface does not do it."""

from __future__ import annotations

from migrationhub.lib.findings import Level
from servers.models import Server
from servers.progress import Memo, Progress
from servers.remote import guest_address
from servers.remote.guest_address import NewAddress

from .base import Job, Operation, done, failed


class GuestAddress(Operation):
    name = "guest_address"

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        wanted = production_address(job)
        connection = job.connection("target")
        blocking = [finding for finding in guest_address.plan(connection, wanted) if finding.level == Level.BLOCKING]
        if blocking:
            words = " ".join(f"{finding.text} {finding.act}".strip() for finding in blocking)
            return job.memo, failed(words, blocking[0].code)
        record = guest_address.apply(connection, wanted)
        wrong = [f for f in guest_address.verify_file(connection, wanted) if f.level == Level.BLOCKING]
        if wrong:
            return job.memo, failed(
                " ".join(f"{finding.text} {finding.act}".strip() for finding in wrong), wrong[0].code
            )
        return job.memo, done(f"{wanted.address} is set for the next start.", record=record.as_dict())


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
