"""Checks that a person asks for: can we log in to this machine, can this account do the job on the platform."""

from __future__ import annotations

import time
from typing import Any

from django.utils import timezone

from migrationhub.lib.findings import Finding, Level, Problem
from servers import runs
from servers.models import HostKey, Platform, Run, RunEvent, Server
from servers.platforms import platform as client_for
from servers.platforms.base import PASSING, InstanceSpec, PlatformProblem
from servers.platforms.base import Platform as Client
from servers.progress import Memo, Progress
from servers.remote import facts, hostkeys
from servers.remote.base import HostKeyChanged, HostKeyUnknown, RemoteProblem

from .base import ACT_SECONDS, Job, Operation, done, failed, words_of
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
            findings += _moved(server, offered) or _changed(server, offered)
            if not findings:
                try:
                    gathered = facts.gather(job.connection("server"))
                except (HostKeyUnknown, HostKeyChanged, RemoteProblem) as problem:
                    findings.append(_finding(problem, server))
        reason = f"{findings[0].text} {findings[0].act}".strip() if findings else "Log-in works."
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


def _moved(server: Server, offered: list[dict[str, str]]) -> list[Finding]:
    """A key that was taken over at cutover: whoever shows it is the new server, or the old one switched on again."""
    moved = {key.fingerprint for key in server.host_keys.all() if key.state == HostKey.State.MOVED}
    shown = [key["fingerprint"] for key in offered if key["fingerprint"] in moved]
    if not shown:
        return []
    return [
        Finding(
            Level.BLOCKING,
            "hostkey.moved",
            f"{server.address} shows the host key {shown[0]}, which the new server took over from {server.name}.",
            "It is the new server that answers there. If it should be the old one, it was switched on again: switch it"
            " off, two machines must not have one identity.",
            server.name,
        )
    ]


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
    """Memo: reached (how the platform was reached when it was asked), findings, looked (how many of the wanted ones
    are looked at)."""

    name = "platform_check"
    patience = 0

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        platform = Platform.objects.select_related("credential").get(pk=job.parameters["platform"])
        client = client_for(platform.kind, platform.access())
        began = time.monotonic()
        memo: Memo = job.memo if job.memo.get("reached") == reached(platform) else {"reached": reached(platform)}
        findings = [Finding.from_dict(told) for told in memo.get("findings", [])] or client.check(None)
        wanted, looked = job.parameters.get("wanted", []), memo.get("looked", 0)
        while looked < len(wanted) and not any(finding.code in PASSING for finding in findings):
            if time.monotonic() - began > ACT_SECONDS:
                memo = {**memo, "findings": [finding.as_dict() for finding in findings], "looked": looked}
                words = f"{looked} of {len(wanted)} planned servers are looked at."
                return memo, Progress(phase="checking what is planned", reason=words, next_act=self.name)
            told = {(finding.code, finding.text) for finding in findings}
            more = self.look(client, wanted, looked)
            findings += [finding for finding in more if (finding.code, finding.text) not in told]
            looked += 1
        version = getattr(client, "version", lambda: "")() if not _blocked(findings) else ""
        words = "This account can do the job."
        for first in [finding for finding in findings if finding.level == Level.BLOCKING][:1]:
            words = f"This account cannot do the job yet: {first.text} {first.act}".strip()
        return {"reached": memo["reached"]}, done(
            words, findings=[finding.as_dict() for finding in findings], version=version
        )

    def look(self, client: Client, wanted: list[dict[str, Any]], position: int) -> list[Finding]:
        """Servers of one profile differ only in their name: the rest is asked for the first of them."""
        spec, production = wanted_spec(wanted[position])
        plan = {**wanted[position], "label": ""}
        if any({**before, "label": ""} == plan for before in wanted[:position]):
            return client.check_name(spec.label)
        return client.check(spec, production)

    def finish(self, run: Run, progress: Progress) -> None:
        findings = progress.result.get("findings")
        if findings is None:
            findings = [{"level": "blocking", "code": progress.code, "text": progress.reason, "act": "", "subject": ""}]
        asked = run.memo.get("reached") or run.parameters.get("reached", {})
        noted = Platform.objects.filter(pk=run.parameters["platform"], **asked).update(
            findings=findings, checked_at=timezone.now(), build_version=progress.result.get("version", "")[:40]
        )
        if not noted:
            words = (
                f"How the platform is reached was changed during the check: what was found at {asked['url']} says"
                " nothing about it now and is not kept. Check it again."
            )
            Run.objects.filter(pk=run.pk).update(reason=words)
            runs.note(run.pk, words, RunEvent.Level.WARNING)


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
        passing = [finding for finding in blocking if finding.code in PASSING]
        if passing:  # it stopped there, and may know more a moment later
            first = passing[0]
            raise PlatformProblem(first.text, first.act, code=first.code, lasting=False)
        if blocking:
            return job.memo, failed(words_of(blocking), blocking[0].code, findings=told)
        return job.memo, done(f"{len(findings)} findings, none blocking.", findings=told)


def reached(platform: Platform) -> dict[str, Any]:
    """By which URL, account and certificate a platform is asked: of another one the answer says nothing."""
    return {name: getattr(platform, name) for name in ("url", "credential_id", "ca_bundle", "insecure")}


def wanted_spec(wanted: dict[str, Any]) -> tuple[InstanceSpec, str]:
    """A planned instance and its production network, from JSON."""
    fields = {key: value for key, value in wanted.items() if key != "production"}
    return InstanceSpec(**{**fields, "disks": tuple(fields["disks"])}), str(wanted["production"])


def _blocked(findings: list[Finding]) -> bool:
    return any(finding.level == Level.BLOCKING for finding in findings)
