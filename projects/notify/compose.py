"""What a message says, whatever carries it: one line for each change, with an absolute link."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from django.conf import settings
from django.utils import timezone

from projects.models import Membership, Message, Part

from .people import may_open

LONGEST = 1000  # characters of what somebody wrote as a reason; the page has all of it


@dataclass(frozen=True)
class Line:
    kind: str
    kind_label: str
    title: str
    text: str
    url: str  # absolute; empty where SITE_URL names no address
    at: datetime  # in the project's zone
    application: str
    meant_for: str  # in test mode: whom it would have gone to


@dataclass(frozen=True)
class Composed:
    subject: str
    project: str
    wave: str
    zone: str
    lines: list[Line]
    is_test: bool


def composed(message: Message) -> Composed:
    zone = ZoneInfo(message.project.time_zone)
    lines = [_line(part, zone) for part in parts_of(message)]
    wave = str(message.wave or "")
    many = ": ".join(filter(None, (wave, f"{len(lines)} changes")))
    what = lines[0].title if len(lines) == 1 else many
    subject = " ".join(f"[migrationhub]{' [test]' if message.is_test else ''} {message.project}: {what}".split())
    return Composed(subject[:250], str(message.project), wave, message.project.time_zone, lines, message.is_test)


def parts_of(message: Message) -> list[Part]:
    """What it tells of. It may have waited for long: what a person may not open any more is left out."""
    rows = Part.objects.filter(message=message).select_related("notice__application").order_by("notice__at", "notice")
    user = message.user
    if user is None or message.is_test:
        return list(rows)
    role = Membership.objects.filter(project=message.project, user=user).values_list("role", flat=True).first()
    return [part for part in rows if may_open(user, role, part.notice.application, part.notice.wave_id)]


def _line(part: Part, zone: ZoneInfo) -> Line:
    notice = part.notice
    text = notice.text.strip()
    return Line(
        kind=notice.kind,
        kind_label=notice.get_kind_display(),
        title=" ".join(notice.title.split()),
        text=text if len(text) <= LONGEST else f"{text[:LONGEST]}…",
        url=absolute(notice.path),
        at=timezone.localtime(notice.at, zone),
        application=str(notice.application or ""),
        meant_for=", ".join(part.meant_for) or ("nobody" if part.message.is_test else ""),
    )


def absolute(path: str) -> str:
    """A link that works in a mail; empty where nobody said under which address people reach the pages."""
    return f"{settings.SITE_URL}{path}" if settings.SITE_URL and path else ""
