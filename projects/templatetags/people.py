"""What the pages of accounts write the same way."""

from __future__ import annotations

import re

from django import template
from django.conf import settings

register = template.Library()
BROWSERS = ("Edg", "OPR", "Firefox", "Chrome", "Safari")  # the first that a browser names is the narrowest
NAMES = {"Edg": "Edge", "OPR": "Opera"}
SYSTEMS = {"Windows": "Windows", "Android": "Android", "iPhone": "iPhone", "iPad": "iPad", "Mac OS": "macOS"}


@register.simple_tag
def mail_sent() -> bool:
    """Whether mails leave the house; where not, no page may say that one was sent."""
    return bool(settings.MAIL_SENT)


@register.filter
def browser(agent: str) -> str:
    """What a browser says of itself, short: “Firefox on Windows”."""
    name = next((one for one in BROWSERS if re.search(rf"{one}\w*/", agent)), "")
    system = next((word for mark, word in SYSTEMS.items() if mark in agent), "Linux" if "Linux" in agent else "")
    found = " on ".join(filter(None, [NAMES.get(name, name), system]))
    return found or agent[:60] or "A browser that does not say what it is"
