"""Prove that the clone opens no connection to production and that its address is not in production's DNS."""

from __future__ import annotations

from migrationhub.lib.findings import Level
from servers.progress import Memo, Progress
from servers.remote import isolation

from .base import Job, Operation, done, failed
from .shutdown import known_ports


class Isolation(Operation):
    name = "isolation"

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        source = job.server("source")
        ports = known_ports(source)[:5] or [source.port]
        findings = isolation.prove(job.connection("target"), [(source.address, port) for port in ports])
        told = [finding.as_dict() for finding in findings]
        blocking = [finding for finding in findings if finding.level == Level.BLOCKING]
        if blocking:
            words = " ".join(f"{finding.text} {finding.act}".strip() for finding in blocking)
            return job.memo, failed(words, blocking[0].code, findings=told)
        return job.memo, done(" ".join(finding.text for finding in findings), findings=told)
