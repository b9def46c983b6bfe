"""Checks that a person asks for: can we log in to this machine, can this account do the job on the platform."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from migrationhub.lib.findings import Finding, Level, Problem
from servers.models import HostKey, Platform, Run, Server
from servers.platforms import platform as client_for
from servers.platforms.base import InstanceSpec
from servers.progress import Memo, Progress
from servers.remote import facts, hostkeys
from servers.remote.base import HostKeyChanged, HostKeyUnknown, RemoteProblem

from .base import Job, Operation, done, failed
from .platforming import client_of


class HostCheck(Operation):
    """Host keys offered, log-in, facts. Never accepts a key by itself; a person does."""

    name = "host_check"
    patience = 0

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        server = job.server("server")
        findings: list[Finding] = []
        offered: list[dict[str, str]] = []
        gathered: dict[str, Any] = {}
        try:
            offered = [
                {"type": key.type, "public": key.base64, "fingerprint": key.fingerprint}
                for key in hostkeys.scan(server.address, server.port, timeout=10)
            ]
        except RemoteProblem as problem:
            findings.append(_finding(problem, server))
        if offered:
            findings += _changed(server, offered)
            if not findings:
                try:
                    gathered = facts.gather(job.connection("server"))
                except (HostKeyUnknown, HostKeyChanged, RemoteProblem) as problem:
                    findings.append(_finding(problem, server))
        reason = findings[0].text if findings else "Log-in works."
        return job.memo, done(
            reason, offered=offered, facts=gathered, findings=[finding.as_dict() for finding in findings]
        )

    def finish(self, run: Run, progress: Progress) -> None:
        server_id = run.parameters["server"]
        result = progress.result
        for key in result.get("offered", []):
            HostKey.objects.get_or_create(
                server_id=server_id,
                fingerprint=key["fingerprint"],
                defaults={"key_type": key["type"], "public": key["public"]},
            )
        changes: dict[str, Any] = {"findings": result.get("findings", []) if progress.ended else []}
        if progress.state != "succeeded":
            changes["findings"] = [
                {"level": "blocking", "code": progress.code, "text": progress.reason, "act": "", "subject": ""}
            ]
        if result.get("facts"):
            changes |= {"facts": result["facts"], "facts_at": timezone.now(), "power": "on", "power_at": timezone.now()}
        Server.objects.filter(pk=server_id).update(**changes)


def _finding(problem: Problem, server: Server) -> Finding:
    return Finding(Level.BLOCKING, problem.code, problem.text, problem.act, server.name)


def _changed(server: Server, offered: list[dict[str, str]]) -> list[Finding]:
    """A key of a type that was accepted before, but another one: refused until a person has looked."""
    accepted = {key.key_type: key for key in server.host_keys.all() if key.state == HostKey.State.ACCEPTED}
    return [
        Finding(
            Level.BLOCKING,
            "hostkey.changed",
            f"{server.name} ({server.address}) shows another {key['type']} host key: {key['fingerprint']};"
            f" accepted was {accepted[key['type']].fingerprint}.",
            "Find out why on the machine's console; accept the new key only if the machine was reinstalled.",
            server.name,
        )
        for key in offered
        if key["type"] in accepted and accepted[key["type"]].fingerprint != key["fingerprint"]
    ]


class PlatformCheck(Operation):
    name = "platform_check"
    patience = 0

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        platform = Platform.objects.select_related("credential").get(pk=job.parameters["platform"])
        client = client_for(platform.kind, platform.access())
        findings = client.check(None)
        for wanted in job.parameters.get("wanted", []):
            told = {(finding.code, finding.text) for finding in findings}
            more = client.check(*wanted_spec(wanted))
            findings += [finding for finding in more if (finding.code, finding.text) not in told]
        version = getattr(client, "version", lambda: "")() if not _blocked(findings) else ""
        words = "This account can do the job." if not _blocked(findings) else "This account cannot do the job yet."
        return job.memo, done(words, findings=[finding.as_dict() for finding in findings], version=version)

    def finish(self, run: Run, progress: Progress) -> None:
        findings = progress.result.get("findings")
        if findings is None:
            findings = [{"level": "blocking", "code": progress.code, "text": progress.reason, "act": "", "subject": ""}]
        Platform.objects.filter(pk=run.parameters["platform"]).update(
            findings=findings, checked_at=timezone.now(), build_version=progress.result.get("version", "")
        )


class PlatformFit(Operation):
    """Just before an instance is made: network, plan, image, storage and name, as planned."""

    name = "platform_fit"
    patience = 120

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        target = job.server("target")
        spec, production = wanted_spec({**job.parameters["spec"], "label": target.placement.label})
        findings = client_of(target).check(spec, production)
        told = [finding.as_dict() for finding in findings]
        blocking = [finding for finding in findings if finding.level == Level.BLOCKING]
        if blocking:
            words = " ".join(f"{finding.text} {finding.act}".strip() for finding in blocking)
            return job.memo, failed(words, blocking[0].code, findings=told)
        return job.memo, done(f"{len(findings)} findings, none blocking.", findings=told)


def wanted_spec(wanted: dict[str, Any]) -> tuple[InstanceSpec, str]:
    """A planned instance and its production network, from JSON."""
    fields = {key: value for key, value in wanted.items() if key != "production"}
    return InstanceSpec(**{**fields, "disks": tuple(fields["disks"])}), str(wanted["production"])


def _blocked(findings: list[Finding]) -> bool:
    return any(finding.level == Level.BLOCKING for finding in findings)
