"""Tries at a DNS record: where each one changed it, what it found there and what it was to become.

A try keeps both before it changes anything, so that also one whose answer was lost counts as perhaps changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from django.db.models import QuerySet

from servers.models import Credential, NameServer, Run
from servers.progress import Memo
from servers.remote import dns
from servers.remote.dns import RecordSet, TsigKey


@dataclass(frozen=True)
class Authority:
    """The zone and its primary server as they were entered when a try began; the entry may have changed since."""

    entry: int
    address: str
    port: int
    zone: str
    resolvers: tuple[str, ...]
    credential: int

    @classmethod
    def entered(cls, pk: int) -> Authority:
        row = NameServer.objects.get(pk=pk)
        return cls(pk, row.address, row.port, row.zone, tuple(row.resolvers), row.credential_id)

    @classmethod
    def of(cls, memo: Memo, parameters: dict[str, Any]) -> Authority:
        """Where this try is at work; one that began before this was kept is taken to be at today's entry."""
        if "at" in memo:
            return cls(**{**memo["at"], "resolvers": tuple(memo["at"]["resolvers"])})
        found = cls.entered(parameters["name_server"])
        return replace(found, zone=memo["done"]["zone"]) if "done" in memo else found

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def where(self) -> str:
        return f"{self.address} port {self.port}"

    @property
    def everywhere(self) -> list[tuple[str, int]]:
        """Every server of the zone that is known: where a record is proven."""
        return [(self.address, self.port), *((other, 53) for other in self.resolvers)]

    def at_its_entry(self) -> Authority:
        """The same zone at the server that is entered now."""
        return replace(Authority.entered(self.entry), zone=self.zone)

    def key(self) -> TsigKey:
        """The key that is entered now, which may be newer; of a server that is not entered any more, the one kept."""
        row = NameServer.objects.select_related("credential").get(pk=self.entry)
        credential = row.credential
        if (row.address, row.port) != (self.address, self.port):
            credential = Credential.objects.filter(pk=self.credential).first() or credential
        return TsigKey(credential.username, credential.secret, credential.algorithm or "hmac-sha256")


@dataclass(frozen=True)
class Try:
    """One run that found `old` and changed it to `new`, or may have."""

    at: Authority
    old: RecordSet
    new: RecordSet

    @classmethod
    def of(cls, run: Run) -> Try | None:
        """None where it did not get as far as a look: then it changed nothing."""
        if "old" not in run.memo:
            return None
        old = RecordSet.from_dict(run.memo["old"])
        if "done" in run.memo:
            new = RecordSet.from_dict(run.memo["done"]["new"])
        else:
            address = run.parameters["address"].split("/")[0]
            new = RecordSet(old.name, old.rtype, (address,), run.parameters["ttl"])
        return cls(Authority.of(run.memo, run.parameters), old, new)

    @property
    def record(self) -> tuple[str, int, str, str, str]:
        """Which record it is, on the outside."""
        return record_at(self.at, self.old)


def record_at(at: Authority, record: RecordSet) -> tuple[str, int, str, str, str]:
    zone, name = (text.lower().rstrip(".") for text in (at.zone, record.name))
    return at.address, at.port, zone, name, record.rtype


def tries_of(runs: QuerySet[Run]) -> list[Try]:
    """Oldest first."""
    return [found for run in runs.order_by("pk") if (found := Try.of(run)) is not None]


def records_of(tries: Iterable[Try]) -> list[list[Try]]:
    """The tries by record, oldest first; the record that was changed last comes first."""
    found: dict[tuple[str, int, str, str, str], list[Try]] = {}
    for each in tries:
        found[each.record] = [*found.pop(each.record, []), each]
    return list(reversed(found.values()))


def from_before(tries: Sequence[Try], found: RecordSet) -> RecordSet:
    """The record from before these tries, oldest first: what one of them made is traced to what it found.

    Where somebody else changed the record between two tries, what they made of it is what is to come back.
    """
    for each in reversed(tries):
        if dns.same(each.new, found, each.at.zone):
            found = each.old
    return found
