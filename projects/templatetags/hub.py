"""What every page writes the same way: signs of states, ages, bytes, rates, durations, the menu."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django import template
from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from projects import attachments
from projects.models import Project
from servers.models import Run

register = template.Library()

# States that have a sign of their own in `includes/sprite.html`.
SIGNS = {
    "waiting": "Waiting",
    "ready": "Ready",
    "held": "Held",
    "scheduled": "Scheduled",
    "running": "Running",
    "done": "Done",
    "failed": "Failed",
    "unknown": "Unknown",
    "cancelled": "Cancelled",
    "skipped": "Skipped",
    "not_applicable": "Not applicable",
    "undoing": "Being undone",
    "undone": "Undone",
    "relook": "Needs another look",
}
# Seconds after which an observation of something that runs is old: drawn grey, with its age.
STALE_AFTER = 15


@register.simple_tag
def icon(name: str, css: str = "icon") -> SafeString:
    """An icon of the sprite. Always beside a word: it is hidden from screen readers."""
    return format_html('<svg class="{}" aria-hidden="true"><use href="#i-{}"/></svg>', css, name)


@register.filter
def typed_into(kept: dict[str, dict[str, Any]], address: str) -> dict[str, Any]:
    """What a person had typed into the form with this address when it was refused; see `projects.views.kept`."""
    return (kept or {}).get(address, {})


@register.simple_tag
def file_limit() -> str:
    """How large an attached file may be, in words."""
    return filesizeformat(settings.ATTACHMENT_BYTES)


@register.simple_tag
def file_types() -> str:
    """For the file field's `accept`."""
    return attachments.ACCEPT


@register.simple_tag
def sign(state: str, word: str = "", css: str = "state") -> SafeString:
    """A state as outline, word and colour."""
    return format_html(
        '<span class="{}" data-state="{}">{}<span class="state-word">{}</span></span>',
        css,
        state,
        icon(state),
        word or SIGNS.get(state, state),
    )


@register.simple_tag
def chip(state: str, word: str = "") -> SafeString:
    return sign(state, word, "chip")


@register.filter
def duration(value: timedelta | float | None) -> str:
    """Seconds or a timedelta as "12 s", "2 min 16 s", "1 h 05 min", "3 d 4 h"; empty for None."""
    if value is None:
        return ""
    seconds = int(value.total_seconds() if isinstance(value, timedelta) else value)
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s" if seconds % 60 else f"{seconds // 60} min"
    if seconds < 86400:
        return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
    return f"{seconds // 86400} d {seconds % 86400 // 3600} h"


@register.filter(name="bytes")
def bytes_(value: float | None) -> str:
    """Bytes as a person reads them, in powers of ten as disks and networks are sold: "41.3 GB". Empty for None."""
    if value is None:
        return ""
    size = float(value)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(size) < 1000 or unit == "TB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return ""


@register.simple_tag
def took(run: Run) -> str:
    """How long a run took, or has been going on; empty before it began."""
    if run.started_at is None:
        return ""
    return duration((run.finished_at or timezone.now()) - run.started_at)


@register.filter
def rate(value: float | None) -> str:
    """Bytes per second; empty where nothing was measured."""
    return f"{bytes_(value)}/s" if value is not None else ""


@register.filter
def count(value: int | None) -> str:
    """A whole number with thin spaces between thousands: "18 204"."""
    return "" if value is None else f"{value:,}".replace(",", "\u202f")


@register.filter
def is_stale(moment: datetime | None) -> bool:
    """Whether an observation is older than `STALE_AFTER` seconds, or was never made."""
    return moment is None or (timezone.now() - moment).total_seconds() > STALE_AFTER


@register.simple_tag
def age(moment: datetime | None, stale: bool = False, ago: str = "old") -> SafeString:
    """How old an observation is; it ticks in the browser. `stale`: turns grey after `STALE_AFTER` seconds."""
    if moment is None:
        return format_html('<span class="age">never {}</span>', "seen" if ago == "old" else "")
    seconds = max(0, int((timezone.now() - moment).total_seconds()))
    css = "age age-stale" if stale and seconds > STALE_AFTER else "age"
    return format_html(
        '<time class="{}" datetime="{}" data-age="{}"{}>{} {}</time>',
        css,
        moment.isoformat(timespec="seconds"),
        ago,
        format_html(' data-stale="{}"', STALE_AFTER) if stale else "",
        duration(seconds),
        ago,
    )


@register.simple_tag
def moment(value: datetime | None, form: str = "auto", zone: str = "") -> SafeString:
    """A point in time, in the zone that is active or in the one named.

    `auto`: today only the clock, else day and clock; `full`: with day and zone; `clock`, `seconds`, `day`.
    """
    if value is None:
        return SafeString("")
    local = timezone.localtime(value, ZoneInfo(zone) if zone else None)
    if form == "seconds":
        words = local.strftime("%H:%M:%S")
    elif form == "clock" or (form == "auto" and local.date() == timezone.localdate()):
        words = local.strftime("%H:%M")
    elif form == "day":
        words = f"{local.day} {local.strftime('%b')}"
    else:
        words = f"{local.strftime('%a')} {local.day} {local.strftime('%b')} {local.strftime('%H:%M')}"
        if form == "full":
            words = f"{words} {local.strftime('%Z')}"
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        value.isoformat(timespec="seconds"),
        local.strftime("%Y-%m-%d %H:%M:%S %Z"),
        words,
    )


@register.filter
def initials(user: User) -> str:
    words = (user.get_full_name() or user.get_username()).split()
    return "".join(word[0] for word in words[:2]).upper()


@register.filter
def person(user: User | None) -> str:
    """A person's name for people; "the system" where nobody did it."""
    return (user.get_full_name() or user.get_username()) if user else "the system"


@register.inclusion_tag("includes/menu.html", takes_context=True)
def menu(context: dict[str, Any]) -> dict[str, Any]:
    """Overview and the projects of the person who looks: one query."""
    request: HttpRequest | None = context.get("request")
    user = getattr(request, "user", None)
    projects = list(Project.objects.visible_to(user)[:8]) if user is not None and user.is_authenticated else []
    match = getattr(request, "resolver_match", None)
    return {
        "projects": projects,
        "here": match.url_name if match else "",
        "project": context.get("project"),
    }


@register.inclusion_tag("includes/offer.html", takes_context=True)
def act(context: dict[str, Any], offer: Any, size: str = "") -> dict[str, Any]:
    """The button of an offer: a form that posts; grey and with its reason where it may not be pressed now."""
    uid = f"{offer.code}-{offer.url.strip('/').replace('/', '-')}"
    return {
        "offer": offer,
        "uid": uid,
        "size": size,
        "request": context.get("request"),
        "csrf_token": context.get("csrf_token"),
    }


@register.inclusion_tag("includes/field.html")
def field(bound: Any) -> dict[str, Any]:
    """One field of a form with label, help and errors."""
    kind = getattr(bound.field.widget, "input_type", "")
    return {"field": bound, "check": kind == "checkbox"}
