"""Before services are stopped: what the cutover events would fail on with the source off. Read only."""

from __future__ import annotations

import ipaddress

from migrationhub.lib.findings import Finding, Level
from servers.models import NameServer
from servers.progress import Memo, Progress
from servers.remote import dns, guest_address
from servers.remote.dns import DnsProblem

from .base import Job, Operation, done, failed, words_of
from .guest_address import production_address

# What a name server says that may answer in a moment.
PASSING = ("dns.timeout", "dns.unreachable", "dns.server", "dns.servfail")


class CheckCutover(Operation):
    """The clone is looked at as it runs: its network is configured now as it will be then."""

    name = "check_cutover"
    patience = 180  # the clone may be restarting after a delta

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        findings = [*address_findings(job), *record_findings(job)]
        told = [finding.as_dict() for finding in findings]
        blocking = [finding for finding in findings if finding.level == Level.BLOCKING]
        if blocking:
            words = f"With the source off, step 6 would fail. {words_of(blocking)}"
            return job.memo, failed(words, blocking[0].code, findings=told)
        return job.memo, done(words_of([one for one in findings if one.level == Level.WARNING]), findings=told)


def address_findings(job: Job) -> list[Finding]:
    connection = job.connection("target")
    if guest_address.not_applicable(connection):
        return []
    wanted = production_address(job)
    look = guest_address.plan_by_hand if job.parameters["by_hand"] else guest_address.plan
    return look(connection, wanted)


def record_findings(job: Job) -> list[Finding]:
    """Nothing where no record is to change. Raises `DnsProblem` for what may pass by itself."""
    parameters = job.parameters
    if not parameters["name"]:
        return []
    server = NameServer.objects.get(pk=parameters["name_server"])
    address = parameters["address"].split("/")[0]
    rtype = "AAAA" if ipaddress.ip_address(address).version == 6 else "A"
    planned = dns.plan_change(
        server.address, server.port, server.zone, parameters["name"], rtype, [address], ttl=parameters["ttl"]
    )
    for finding in planned.findings:
        if finding.code in PASSING:
            raise DnsProblem(finding.text, finding.act, code=finding.code, lasting=False)
    return list(planned.findings)
