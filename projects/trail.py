"""The audit trail as people read it: filtered, in words, and as CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import Q, QuerySet
from django.http import QueryDict
from django.utils.dateparse import parse_date

from migrationhub.audit.models import AuditEvent
from migrationhub.lib.sheets import cell
from projects.models import Project

# Verbs whose own name says too little.
WORDS = {
    "account.login": "logged in",
    "account.logout": "logged out",
    "account.login_failed": "log-in failed",
    "account.login_refused": "log-in refused: too many tries",
    "account.code_failed": "wrong code of the second factor",
    "account.recovery_code": "logged in with a recovery code",
    "account.email_change": "changed the e-mail address",
    "account.password_change": "changed the password",
    "account.password_reset": "set a new password by a link",
    "account.password_set": "was given a new password",
    "account.factor_add": "added a second factor",
    "account.factor_remove": "removed a second factor",
    "account.session_end": "ended a session",
    "credential.wrong_secret": "entered a wrong secret",
    "checklist.version": "took a newer version into a checklist",
    "defect.follow": "defect went along with its server",
    "approval.stale": "approval needs another look",
    "approval.void": "go is void",
    "approval.new_owner": "approval is asked of a new owner",
    "step.done": "step is done",
    "migration.withdraw": "took a server out of the project",
    "cutover.abort": "aborted the cutover",
    "cutover.undone": "cutover is undone",
}
HEADER = ["at", "who", "what", "object", "name", "project", "address", "why", "before", "after"]
MOST = 100_000  # rows of a CSV
FIRST_YEAR, LAST_YEAR = 2000, 2999  # at the ends of time no zone and no next day can be reckoned with


def word(verb: str) -> str:
    """“member.remove” as “member: remove”."""
    return WORDS.get(verb) or verb.replace(".", ": ").replace("_", " ")


@dataclass(frozen=True)
class Filter:
    """What the page was asked for; `wrong` says what of it could not be understood."""

    who: str = ""
    what: str = ""
    kind: str = ""
    q: str = ""
    since: date | None = None
    until: date | None = None
    wrong: tuple[str, ...] = ()

    @classmethod
    def of(cls, query: QueryDict) -> Filter:
        wrong, days = [], {}
        for name, label in (("since", "From"), ("until", "To")):
            text = query.get(name, "").strip()
            days[name] = _day(text)
            if text and days[name] is None:
                wrong.append(
                    f"{label} “{text[:20]}” is no day of {FIRST_YEAR} to {LAST_YEAR}. Enter one such as 2026-11-28."
                )
        # A NUL is in no text that the database holds; PostgreSQL refuses to look for one.
        words = {name: query.get(name, "").replace("\0", "").strip()[:200] for name in ("who", "what", "kind", "q")}
        return cls(**words, since=days["since"], until=days["until"], wrong=tuple(wrong))

    @property
    def is_set(self) -> bool:
        return bool(self.who or self.what or self.kind or self.q or self.since or self.until)

    def apply(self, events: QuerySet[AuditEvent], zone: str) -> QuerySet[AuditEvent]:
        if self.who:
            events = events.filter(actor_name=self.who)
        if self.what:
            events = events.filter(verb=self.what)
        if self.kind:
            events = events.filter(object_type=self.kind)
        if self.since:
            events = events.filter(at__gte=_midnight(self.since, zone))
        if self.until:
            events = events.filter(at__lt=_midnight(self.until + timedelta(days=1), zone))
        for part in self.q.split():
            found = Q(object_label__icontains=part) | Q(actor_name__icontains=part) | Q(why__icontains=part)
            found |= Q(verb__icontains=part) | Q(address__icontains=part)
            for text in {part, json.dumps(part)[1:-1]}:  # quotes are escaped in JSON, on SQLite “ü” is too
                found |= Q(before__icontains=text) | Q(after__icontains=text)
            events = events.filter(found)
        return events


def _day(text: str) -> date | None:
    """A day that can be moved by one and into another zone; None for any other text."""
    try:
        day = parse_date(text)
    except ValueError:
        return None
    return day if day is not None and FIRST_YEAR <= day.year <= LAST_YEAR else None


def _midnight(day: date, zone: str) -> datetime:
    return datetime.combine(day, time(), ZoneInfo(zone))


def events_of(project: Project | None) -> QuerySet[AuditEvent]:
    """What may be seen: of one project, or everything, log-ins too."""
    events = AuditEvent.objects.all()
    return events if project is None else events.filter(project_id=project.pk)


@dataclass(frozen=True)
class Offered:
    """What can be filtered by: from everything there is, not from the page that is shown."""

    who: list[str]
    what: list[tuple[str, str]]
    kind: list[tuple[str, str]]


def offered(events: QuerySet[AuditEvent]) -> Offered:
    plain = events.order_by()
    verbs = [(verb, word(verb)) for verb in plain.values_list("verb", flat=True).distinct()]
    kinds = [(kind, kind_word(kind)) for kind in plain.values_list("object_type", flat=True).distinct() if kind]
    who = sorted(plain.values_list("actor_name", flat=True).distinct(), key=str.lower)
    return Offered(who, sorted(verbs, key=lambda each: each[1]), sorted(kinds, key=lambda each: each[1]))


def kind_word(kind: str) -> str:
    """“servers.hostkey” as “host key”."""
    name = kind.rpartition(".")[2]
    joined = {"hostkey": "host key", "checklistitem": "checklist item", "changefreeze": "change freeze"}
    joined |= {"standin": "stand-in", "nameserver": "name server", "user": "account"}
    return joined.get(name, name)


def changes(event: AuditEvent) -> list[tuple[str, str, str]]:
    """Name, before and after of what changed."""
    names = [*event.before, *(name for name in event.after if name not in event.before)]
    return [(name.replace("_", " "), _short(event.before.get(name)), _short(event.after.get(name))) for name in names]


def _short(value: Any) -> str:
    if value is None or value == "":
        return ""
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 200 else text[:199] + "…"


class _Echo:
    """A file for the CSV writer that hands each line on."""

    def write(self, line: str) -> str:
        return line


def csv_lines(events: QuerySet[AuditEvent]) -> Iterator[str]:
    """Line by line: the whole trail does not fit into memory."""
    writer = csv.writer(_Echo())
    names = dict(Project.objects.values_list("pk", "name"))
    yield writer.writerow(HEADER)
    for number, event in enumerate(events[: MOST + 1].iterator(chunk_size=1000)):
        if number == MOST:
            left = f"Only the newest {MOST:,} events are in this file. Choose an earlier day under “To” for the others."
            yield writer.writerow(["", "", "cut", "", "", "", "", left, "", ""])
            return
        yield writer.writerow(map(cell, _row(event, names)))


def _row(event: AuditEvent, names: dict[int, str]) -> Iterable[Any]:
    return (
        event.at.isoformat(timespec="seconds"),
        event.actor_name,
        event.verb,
        event.object_type,
        event.object_label,
        names.get(event.project_id or 0, ""),
        event.address,
        event.why,
        json.dumps(event.before, ensure_ascii=False) if event.before else "",
        json.dumps(event.after, ensure_ascii=False) if event.after else "",
    )
