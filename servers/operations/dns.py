"""Change the DNS record and prove it at every authoritative server that is known."""

from __future__ import annotations

import ipaddress

from django.utils import timezone

from servers.models import NameServer, Run
from servers.progress import Memo, Progress, State
from servers.remote import dns
from servers.remote.dns import DnsResult, RecordSet, TsigKey

from .base import Job, Operation, failed

PROOF_PATIENCE = 120


class Dns(Operation):
    """Memo: old (the record before, what undo brings back), done (what the change did)."""

    name = "dns"

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        parameters = job.parameters
        server = NameServer.objects.select_related("credential").get(pk=parameters["name_server"])
        address = parameters["address"].split("/")[0]
        rtype = "AAAA" if ipaddress.ip_address(address).version == 6 else "A"
        name = parameters["name"]
        if "old" not in job.memo:
            now = dns.look_up(server.address, server.zone, name, rtype, port=server.port)
            old = found_by_an_earlier_try(job, rtype) if now.values == (address,) else None
            old = old or now
            return {**job.memo, "old": old.as_dict()}, Progress(next_act="change", log=(f"Found: {old}.",))
        if "done" not in job.memo:
            result = dns.change(
                server.address,
                server.port,
                tsig(server),
                server.zone,
                name,
                rtype,
                RecordSet.from_dict(job.memo["old"]),
                [address],
                parameters["ttl"],
            )
            memo = {**job.memo, "done": result.as_dict(), "since": timezone.now().timestamp()}
            return memo, Progress(next_act="prove", log=(f"{result.old} became {result.new}.",))
        return self.prove(job, server, rtype, address)

    def prove(self, job: Job, server: NameServer, rtype: str, address: str) -> tuple[Memo, Progress]:
        places = [(server.address, server.port), *((other, 53) for other in server.resolvers)]
        proof = dns.proven(places, server.zone, job.parameters["name"], rtype, [address])
        words = " ".join(f"{finding.text} {finding.act}".strip() for finding in proof.findings)
        if proof.passed:
            result = DnsResult.from_dict(job.memo["done"])
            return job.memo, Progress(
                state=State.SUCCEEDED,
                reason=f"{result.new} is proven at {len(places)} authoritative server{'s' if len(places) > 1 else ''}.",
                result={"change": result.as_dict()},
            )
        if timezone.now().timestamp() - job.memo["since"] > PROOF_PATIENCE:
            return job.memo, failed(words, "dns.unproven")
        return job.memo, Progress(phase="proving the record", reason=words, check_after=2)

    def observe(self, job: Job) -> Progress:
        act = "look up" if "old" not in job.memo else "change" if "done" not in job.memo else "prove"
        return Progress(next_act=act)


def found_by_an_earlier_try(job: Job, rtype: str) -> RecordSet | None:
    """The record from before all tries: one that changed it and ended unproven must not make the new the old."""
    for run in Run.objects.filter(work_key=job.run.work_key, number__lt=job.run.number).order_by("number"):
        if "old" in run.memo:
            found = RecordSet.from_dict(run.memo["old"])
            if (found.name, found.rtype) == (job.parameters["name"], rtype):
                return found
    return None


def tsig(server: NameServer) -> TsigKey:
    credential = server.credential
    return TsigKey(credential.username, credential.secret, credential.algorithm or "hmac-sha256")
