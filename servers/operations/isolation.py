"""Prove that the clone opens no connection to production and that its address is not in production's DNS."""

from __future__ import annotations

import ipaddress

from migrationhub.lib.findings import Finding, Level
from servers.models import NameServer
from servers.progress import Memo, Progress
from servers.remote import isolation

from .base import Job, Operation, done, failed, words_of
from .shutdown import known_ports


class Isolation(Operation):
    name = "isolation"

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        source = job.server("source")
        # The hub logs in at the first: there somebody answers.
        ports = list(dict.fromkeys([source.port, *known_ports(source)]))[:5]
        findings = isolation.prove(job.connection("target"), [(source.address, port) for port in ports])
        proven = any(finding.level == Level.READY for finding in findings)
        findings += self.names(job)
        told = [finding.as_dict() for finding in findings]
        blocking = [finding for finding in findings if finding.level == Level.BLOCKING]
        if blocking:
            return job.memo, failed(words_of(blocking), blocking[0].code, findings=told)
        if not proven:
            return job.memo, failed(words_of(findings), "isolation.unproven", findings=told)
        return job.memo, done(" ".join(finding.text for finding in findings), findings=told)

    def names(self, job: Job) -> list[Finding]:
        """Whether production's name server gives the clone's address for the name; nothing where none is planned."""
        name, pk = job.parameters.get("dns_name"), job.parameters.get("name_server")
        target = job.server("target")
        if not name or not pk or isolation.not_applicable(job.connection("target")):
            return []
        server = NameServer.objects.get(pk=pk)
        rtype = "AAAA" if ipaddress.ip_address(target.address).version == 6 else "A"
        return [isolation.prove_name(server.address, server.port, server.zone, name, target.address, rtype=rtype)]
