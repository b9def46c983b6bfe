"""What somebody typed or a machine answered, read so that nothing it may hold is a fault of ours."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

DIGITS = 18  # as many fit into the database's largest whole number
LONGEST_HOST = 253  # characters of a name in DNS
# Underscores are in no host name by the book, and in many a house.
HOST_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.IGNORECASE | re.ASCII)


def whole(text: str) -> int | None:
    """The whole number that the text is, from 0 on; None for anything else, and for one that no row can hold.

    `isdigit` alone says yes to “²”, which `int` refuses.
    """
    return int(text) if text.isdecimal() and len(text) <= DIGITS else None


def split_url(url: str) -> SplitResult:
    """The parts of an address; all of them empty where it is none or its port is none."""
    try:
        parts = urlsplit(url)
        good = parts.port != 0
    except ValueError:
        good = False
    return parts if good else urlsplit("")


def is_host(name: str) -> bool:
    """Whether the name, or its form in ASCII, can be looked up, or is an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        pass
    else:
        return True
    if len(name) > LONGEST_HOST:
        return False
    try:
        plain = name.rstrip(".").encode("idna").decode()
    except UnicodeError:
        return False
    return all(HOST_LABEL.fullmatch(label) for label in plain.split("."))
