"""DNS records at their authoritative server: looked up, changed by RFC 2136 with a prerequisite, proven, undone.

A change is made only if the record is still exactly the one that was recorded; where the new record is there
already (an answer was lost, a run is repeated) it is adopted. A value set is compared as records, not as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import dns.exception
import dns.flags
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.SOA
import dns.update

from migrationhub.lib.findings import Finding, Level
from servers.remote.dns_exchange import TIMEOUT, DnsProblem, TsigKey, ask, send_update

__all__ = [
    "DnsConflict",
    "DnsPlan",
    "DnsProblem",
    "DnsProof",
    "DnsResult",
    "RecordSet",
    "TsigKey",
    "change",
    "look_up",
    "plan_change",
    "proven",
    "same",
    "undo",
]

_LONG_TTL = 300  # seconds: above it, clients keep the old address for longer than a cutover should last
_TYPES = ("A", "AAAA", "CNAME", "PTR", "TXT", "SRV", "MX")
_FAMILIES = {"A": "AAAA", "AAAA": "A"}


@dataclass(frozen=True)
class RecordSet:
    """All records of one name and type; no values: there is none. `ttl` in seconds.

    `wildcard`: the values are those of a wildcard, the name has no record of its own.
    """

    name: str
    rtype: str
    values: tuple[str, ...] = ()
    ttl: int = 0
    wildcard: bool = False

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RecordSet:
        values, wildcard = tuple(data["values"]), bool(data.get("wildcard"))
        return cls(data["name"], data["rtype"], values, int(data["ttl"]), wildcard)

    def __str__(self) -> str:
        values = ", ".join(self.values) if self.values else "no record"
        return f"{self.name} {self.rtype} {values}"


class DnsConflict(DnsProblem):
    """The record is not the one that was recorded: somebody else changed it. `found` is what is there now."""

    def __init__(self, text: str, act: str, *, found: RecordSet) -> None:
        super().__init__(text, act, code="dns.conflict")
        self.found = found


@dataclass(frozen=True)
class DnsPlan:
    old: RecordSet
    new: RecordSet
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class DnsResult:
    """What a change did. `adopted`: the new record was there already. `old` is what `undo` brings back."""

    zone: str
    old: RecordSet
    new: RecordSet
    adopted: bool

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> DnsResult:
        old, new = RecordSet.from_dict(data["old"]), RecordSet.from_dict(data["new"])
        return cls(data["zone"], old, new, bool(data["adopted"]))


@dataclass(frozen=True)
class DnsProof:
    """`passed` only when every authoritative server that was asked gives the new record; one finding for each."""

    passed: bool
    findings: tuple[Finding, ...]


def look_up(server: str, zone: str, name: str, rtype: str, *, port: int = 53, timeout: float = TIMEOUT) -> RecordSet:
    """What the authoritative server has now. Raises `DnsProblem` where it is not authoritative or does not answer."""
    owner, _ = _names(zone, name)
    answer = ask(server, port, owner, _type(rtype), timeout)
    where, code = f"{server} port {port}", answer.rcode()
    if code not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        raise _verdict(code, where, zone, name)
    if not answer.flags & dns.flags.AA:
        raise DnsProblem(
            f"{where} answers for {name} but is not authoritative for {zone}.",
            "Enter the address of a name server that serves the zone itself.",
            code="dns.not_authoritative",
        )
    wanted = dns.rdatatype.from_text(rtype)
    for rrset in answer.answer:
        if rrset.name == owner and rrset.rdtype == dns.rdatatype.CNAME != wanted:
            alias = rrset[0].to_text()
            raise DnsProblem(
                f"{name} is an alias (CNAME) of {alias}; it has no {rtype} record of its own.",
                f"Plan the change for {alias.rstrip('.')} or change the type to CNAME.",
                code="dns.alias",
            )
        if rrset.name == owner and rrset.rdtype == wanted:
            return RecordSet(name, rtype, tuple(sorted(record.to_text() for record in rrset)), int(rrset.ttl))
    return RecordSet(name, rtype)


def plan_change(
    server: str, port: int, zone: str, name: str, rtype: str, new: Sequence[str], *, ttl: int = 60
) -> DnsPlan:
    """What a change would do, with the old record that `change` takes as its prerequisite. Changes nothing."""
    planned = RecordSet(name, rtype, tuple(new), ttl)
    try:
        _records(planned, zone)
        old = look_up(server, zone, name, rtype, port=port)
        also = _beside(server, port, zone, old, planned)
    except DnsProblem as problem:
        finding = Finding(Level.BLOCKING, problem.code, problem.text, problem.act, name)
        return DnsPlan(RecordSet(name, rtype), planned, (finding,))
    if not old.values:
        text = f"{name} has no {rtype} record yet; it is created as {', '.join(new)}."
        return DnsPlan(old, planned, (Finding(Level.READY, "dns.new", text, subject=name), *also))
    if same(old, planned, zone):
        text = f"{name} {rtype} is {', '.join(new)} already."
        return DnsPlan(old, planned, (Finding(Level.READY, "dns.same", text, subject=name), *also))
    text = f"{old} becomes {', '.join(new)}."
    findings = [Finding(Level.READY, "dns.change", text, subject=name), *also]
    if old.ttl > _LONG_TTL:
        text = f"{name} has a TTL of {old.ttl} s: clients may keep the old address for that long."
        act = f"Lower the TTL to {_LONG_TTL} s or less, {old.ttl} s before the cutover."
        findings.append(Finding(Level.WARNING, "dns.ttl", text, act, name))
    return DnsPlan(old, planned, tuple(findings))


def _beside(server: str, port: int, zone: str, old: RecordSet, planned: RecordSet) -> list[Finding]:
    """Warnings of what goes with the old record, and of what stays beside the new one."""
    name, findings = planned.name, []
    if len(old.values) > 1 and not same(old, planned, zone):
        text = f"{name} has {len(old.values)} {old.rtype} records: {', '.join(old.values)}. All are replaced."
        act = "If other servers share this name, leave it out of the plan and change the record by hand."
        findings.append(Finding(Level.WARNING, "dns.several", text, act, name))
    if planned.rtype in _FAMILIES:
        try:
            other = look_up(server, zone, name, _FAMILIES[planned.rtype], port=port)
        except DnsProblem as problem:
            if not problem.lasting:
                raise
            return findings
        if other.values:
            text = f"{name} also has the {other.rtype} record {', '.join(other.values)}, which stays as it is."
            act = "If it leads to the source, take it out or change it by hand at the cutover: clients still ask there."
            findings.append(Finding(Level.WARNING, "dns.family", text, act, name))
    return findings


def change(
    server: str,
    port: int,
    key: TsigKey | None,
    zone: str,
    name: str,
    rtype: str,
    old: RecordSet,
    new: Sequence[str],
    ttl: int = 60,
    *,
    timeout: float = TIMEOUT,
) -> DnsResult:
    """Replace `old` by `new` (none: delete) if `old` is still exactly what is there; else adopt or refuse.

    Safe to repeat. Raises `DnsConflict` with what is there now, or `DnsProblem`.
    """
    return _replace(server, port, key, zone, old, RecordSet(name, rtype, tuple(new), ttl), timeout)


def _replace(
    server: str, port: int, key: TsigKey | None, zone: str, old: RecordSet, wanted: RecordSet, timeout: float
) -> DnsResult:
    name, rtype = wanted.name, wanted.rtype
    now = look_up(server, zone, name, rtype, port=port, timeout=timeout)
    if same(now, wanted, zone):
        return DnsResult(zone, old, wanted, adopted=True)
    if not same(now, old, zone):
        raise _conflict(old, wanted, now)
    code = send_update(server, port, _update(zone, old, wanted), key, timeout)
    if code == dns.rcode.NXRRSET and old.values and not old.wildcard:
        now = look_up(server, zone, name, rtype, port=port, timeout=timeout)
        if same(now, old, zone):
            # It is answered, and yet not there: by a wildcard.
            old = replace(old, wildcard=True)
            code = send_update(server, port, _update(zone, old, wanted), key, timeout)
    if code in (dns.rcode.NXRRSET, dns.rcode.YXRRSET, dns.rcode.NXDOMAIN, dns.rcode.YXDOMAIN):
        now = look_up(server, zone, name, rtype, port=port, timeout=timeout)
        if same(now, wanted, zone):
            return DnsResult(zone, old, wanted, adopted=True)
        raise _conflict(old, wanted, now)
    if code != dns.rcode.NOERROR:
        raise _verdict(code, f"{server} port {port}", zone, name)
    return DnsResult(zone, old, wanted, adopted=False)


def undo(server: str, port: int, key: TsigKey | None, result: DnsResult, *, timeout: float = TIMEOUT) -> DnsResult:
    """Bring the old record back, if the new one is still exactly what is there. Raises as `change` does."""
    return _replace(server, port, key, result.zone, result.new, result.old, timeout)


def proven(
    servers: Sequence[tuple[str, int]],
    zone: str,
    name: str,
    rtype: str,
    new: Sequence[str],
    *,
    timeout: float = TIMEOUT,
) -> DnsProof:
    """One look at every authoritative server given as (address, port): does it answer with exactly `new`?"""
    wanted = RecordSet(name, rtype, tuple(new))
    findings = []
    for server, port in servers:
        try:
            now = look_up(server, zone, name, rtype, port=port, timeout=timeout)
        except DnsProblem as problem:
            findings.append(Finding(Level.BLOCKING, problem.code, problem.text, problem.act, name))
            continue
        if same(now, wanted, zone):
            findings.append(Finding(Level.READY, "dns.proven", f"{server}: {now}.", subject=name))
        else:
            text = f"{server} still answers: {now}; expected {', '.join(new) or 'no record'}."
            act = "Wait for the zone transfer, or look whether somebody changed the record."
            findings.append(Finding(Level.BLOCKING, "dns.not_yet", text, act, name))
    passed = bool(findings) and all(finding.level is Level.READY for finding in findings)
    return DnsProof(passed, tuple(findings))


def _update(zone: str, old: RecordSet, new: RecordSet) -> dns.update.UpdateMessage:
    owner, origin = _names(zone, new.name)
    update = dns.update.UpdateMessage(origin)
    relative = owner.relativize(origin)
    if old.values and not old.wildcard:
        for record in _records(old, zone):
            update.present(relative, record)
    else:
        update.absent(relative, new.rtype)
    update.delete(relative, new.rtype)
    for record in () if new.wildcard else _records(new, zone):
        update.add(relative, new.ttl, record)
    return update


def _names(zone: str, name: str) -> tuple[dns.name.Name, dns.name.Name]:
    try:
        origin = dns.name.from_text(zone)
        owner = dns.name.from_text(name)
    except dns.exception.DNSException:
        raise DnsProblem(
            f"“{name}” in zone “{zone}” is not a DNS name.",
            "Enter the full name, for example “db.example.com”, and its zone “example.com”.",
            code="dns.name",
        ) from None
    if not owner.is_subdomain(origin):
        raise DnsProblem(
            f"The name {name} is not in the zone {zone}.",
            "Enter the full name of the record, or the zone that holds it.",
            code="dns.name",
        )
    return owner, origin


def _type(rtype: str) -> str:
    if rtype not in _TYPES:
        raise DnsProblem(
            f"The record type {rtype!r} cannot be changed here.",
            f"Choose one of: {', '.join(_TYPES)}.",
            code="dns.type",
        )
    return rtype


def _records(records: RecordSet, zone: str) -> set[dns.rdata.Rdata]:
    """The values as records with absolute names. Raises `DnsProblem` naming the value that is none."""
    _, origin = _names(zone, records.name)
    found = set()
    for value in records.values:
        try:
            record = dns.rdata.from_text(
                dns.rdataclass.IN, _type(records.rtype), value, origin=origin, relativize=False
            )
        except dns.exception.DNSException:
            raise DnsProblem(
                f"“{value}” is not a value for a record of type {records.rtype}.",
                "Enter an IPv4 address for A, an IPv6 address for AAAA, a full name for CNAME and PTR.",
                code="dns.value",
            ) from None
        found.add(record)
    return found


def same(one: RecordSet, other: RecordSet, zone: str) -> bool:
    """Whether both hold the same values, compared as records; names and TTLs are not looked at."""
    return _records(one, zone) == _records(other, zone)


def _conflict(old: RecordSet, wanted: RecordSet, now: RecordSet) -> DnsConflict:
    return DnsConflict(
        f"{now.name} {now.rtype} was recorded as {', '.join(old.values) or 'no record'} and should become "
        f"{', '.join(wanted.values) or 'no record'}, but now it is {', '.join(now.values) or 'no record'}: "
        "somebody else changed it.",
        "Find out who did and why; then plan the change again from what is there now.",
        found=now,
    )


def _verdict(code: dns.rcode.Rcode, where: str, zone: str, name: str) -> DnsProblem:
    said = dns.rcode.to_text(code)
    act = {
        "NOTAUTH": f"Enter the primary name server of {zone}: this one does not serve the zone.",
        "NOTZONE": f"Check the zone: {name} is not in {zone} there.",
        "REFUSED": f"Allow this key to change {name} in the zone's update policy, or the hub to ask.",
        "NOTIMP": "Dynamic updates are switched off there: allow them for this key.",
        "SERVFAIL": "Look into the name server's log; a zone that it cannot write is the usual cause.",
        "FORMERR": "Look into the name server's log for what it did not understand.",
    }.get(said, "Look into the name server's log.")
    return DnsProblem(
        f"{where} answered {said} for {name} in {zone}.",
        act,
        code=f"dns.{said.lower()}",
        lasting=said != "SERVFAIL",
    )
