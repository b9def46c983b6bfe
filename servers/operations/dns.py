"""Change the DNS record and prove it at every authoritative server that is known."""

from __future__ import annotations

import ipaddress

from django.utils import timezone

from migrationhub.lib.findings import Finding
from servers.models import Run
from servers.progress import Memo, Progress, State
from servers.remote import dns
from servers.remote.dns import DnsConflict, DnsProblem, DnsResult, RecordSet

from .base import Job, Operation, done, failed, words_of
from .dns_tries import Authority, Try, from_before, record_at, records_of, tries_of

PROOF_PATIENCE = 120
MOVED = "dns.moved"


class Dns(Operation):
    """Memo: at (where), old (the record before, what undo brings back), done (what the change did).

    `earlier`: the work of earlier tries at the step that were not taken back.
    """

    name = "dns"

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        parameters = job.parameters
        at = Authority.of(job.memo, parameters)
        address = parameters["address"].split("/")[0]
        rtype = "AAAA" if ipaddress.ip_address(address).version == 6 else "A"
        wanted = RecordSet(parameters["name"], rtype, (address,), parameters["ttl"])
        if "old" not in job.memo:
            now = dns.look_up(at.address, at.zone, wanted.name, rtype, port=at.port)
            # The new address may be there by an earlier try that ended unproven: it must not become the old one.
            old = from_before(earlier_tries(job, at, wanted), now) if dns.same(now, wanted, at.zone) else now
            memo = {**job.memo, "at": at.as_dict(), "old": old.as_dict()}
            return memo, Progress(next_act="change", log=(f"Found: {old}.",))
        if "done" not in job.memo:
            old = RecordSet.from_dict(job.memo["old"])
            result = dns.change(
                at.address, at.port, at.key(), at.zone, wanted.name, rtype, old, wanted.values, wanted.ttl
            )
            memo = {
                **job.memo,
                "old": result.old.as_dict(),
                "done": result.as_dict(),
                "since": timezone.now().timestamp(),
            }
            return memo, Progress(next_act="prove", log=(f"{result.old} became {result.new}.",))
        return self.prove(job, at, wanted)

    def prove(self, job: Job, at: Authority, wanted: RecordSet) -> tuple[Memo, Progress]:
        proof = dns.proven(at.everywhere, at.zone, wanted.name, wanted.rtype, wanted.values)
        if proof.passed:
            result, count = DnsResult.from_dict(job.memo["done"]), len(at.everywhere)
            return job.memo, Progress(
                state=State.SUCCEEDED,
                reason=f"{result.new} is proven at {count} authoritative server{'s' if count > 1 else ''}.",
                result={"change": result.as_dict()},
            )
        words = words_of(list(proof.findings))
        if timezone.now().timestamp() - job.memo["since"] > PROOF_PATIENCE:
            return job.memo, failed(words, "dns.unproven")
        return job.memo, Progress(phase="proving the record", reason=words, check_after=2)

    def observe(self, job: Job) -> Progress:
        act = "look up" if "old" not in job.memo else "change" if "done" not in job.memo else "prove"
        return Progress(next_act=act)


def earlier_tries(job: Job, at: Authority, wanted: RecordSet) -> list[Try]:
    keys = {job.run.work_key, *job.parameters.get("earlier", ())}
    tries = tries_of(Run.objects.filter(work_key__in=keys, pk__lt=job.run.pk))
    return [each for each in tries if each.record == record_at(at, wanted)]


class UndoDns(Operation):
    """Bring back each record from before, if what is there is ours. `of`: the changes.

    Memo: back (what became of each record, in the order of `records_of`), since (the first proof that failed).
    """

    name = "undo_dns"

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        records = records_of(tries_of(Run.objects.filter(work_key__in=job.parameters["of"])))
        if not records:
            return job.memo, done("No change of a DNS record was begun.")
        back = job.memo.get("back", [])
        if len(back) < len(records):
            told = self.bring_back(job, records[len(back)])
            memo = {**job.memo, "back": [*back, told]}
            return memo, Progress(next_act="bring back", log=(told["words"],))
        words = " ".join(told["words"] for told in back)
        if codes := [told["code"] for told in back if told["code"]]:
            return job.memo, failed(words, codes[0])
        return self.prove(job, words)

    def bring_back(self, job: Job, tries: list[Try]) -> Memo:
        """Look at one record and bring it back if it is still ours; what became of it, in words.

        What lasts at one record is kept for the end: the others come back all the same.
        """
        old = from_before(tries[:-1], tries[-1].old)
        at = tries[-1].at
        told: Memo = {"code": "", "at": at.as_dict(), "old": old.as_dict(), "prove": True}
        if all(dns.same(each.new, old, at.zone) for each in tries):
            return {**told, "prove": False, "words": f"{old} was there before the change: it stays."}
        try:
            at, now = self.look(job, at, old)
            told["at"] = at.as_dict()
            if dns.same(now, old, at.zone):
                return {**told, "words": f"{shown(old)} as before."}
            if not any(dns.same(now, each.new, at.zone) for each in tries):
                return {**told, "code": "dns.conflict", "words": taken(at, tries, old, now)}
            change = DnsResult(at.zone, old, now, adopted=False)
            dns.undo(at.address, at.port, at.key(), change)
            return {**told, "words": f"{shown(old)} again."}
        except DnsConflict as conflict:
            return {**told, "code": conflict.code, "words": taken(at, tries, old, conflict.found)}
        except DnsProblem as problem:
            if not problem.lasting:
                raise
            return {**told, "code": problem.code, "words": f"{problem.text} {problem.act}".strip()}

    def look(self, job: Job, at: Authority, old: RecordSet) -> tuple[Authority, RecordSet]:
        """What is there now, and where: at the server of the change.

        Where that one is silent and another is entered now, only a person knows whether it moved there.
        """
        try:
            return at, dns.look_up(at.address, at.zone, old.name, old.rtype, port=at.port)
        except DnsProblem as problem:
            today = at.at_its_entry()
            if problem.lasting or today.where == at.where:
                raise
            told = Run.objects.filter(work_key=job.run.work_key, number__lt=job.run.number, code=MOVED)
            if not told.exists():
                raise DnsProblem(
                    f"{problem.text} {old.name} was changed there, but the name server of {at.zone} is entered as "
                    f"{today.where} now.",
                    f"If that is the same zone at a new address, retry: {today.where} is asked then. If not, make "
                    f"{at.where} answer first.",
                    code=MOVED,
                    lasting=False,
                ) from None
        return today, dns.look_up(today.address, today.zone, old.name, old.rtype, port=today.port)

    def prove(self, job: Job, words: str) -> tuple[Memo, Progress]:
        findings: list[Finding] = []
        for told in job.memo["back"]:
            if told["prove"]:
                at, old = Authority.of(told, {}), RecordSet.from_dict(told["old"])
                proof = dns.proven(at.everywhere, at.zone, old.name, old.rtype, old.values)
                findings += [] if proof.passed else proof.findings
        if not findings:
            return job.memo, done(words)
        missing = words_of(findings)
        since = job.memo.get("since") or timezone.now().timestamp()
        if timezone.now().timestamp() - since > PROOF_PATIENCE:
            return job.memo, failed(missing, "dns.unproven")
        return {**job.memo, "since": since}, Progress(phase="proving the record", reason=missing, check_after=2)


def shown(record: RecordSet) -> str:
    """What a record is, so that “again” or “as before” can follow."""
    if not record.values:
        return f"{record.name} has no {record.rtype} record"
    return f"{record.name} is {', '.join(record.values)}"


def taken(at: Authority, tries: list[Try], old: RecordSet, now: RecordSet) -> str:
    """Why a record is left as it is found, and what to do."""
    ours = ", ".join(dict.fromkeys(", ".join(each.new.values) for each in tries))
    wanted = f"to {', '.join(old.values)}" if old.values else f"to no {old.rtype} record"
    return (
        f"{shown(now)} at {at.where}, where {ours} was expected: somebody else changed it, so it is left as it is. "
        f"Find out who did and why, set it {wanted} there by hand, then retry."
    )
