"""What each kind of probe takes as parameters, and what is wrong with given ones, field by field, for forms."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any

KINDS = ("unit", "tcp", "http", "dns", "command")
MAX_TIMEOUT = 120.0  # seconds

# Kind → field → (required, check). Every kind takes `timeout` in seconds too.
_Check = Callable[[Any], str]


def _port(value: Any) -> str:
    good = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535
    return "" if good else "Enter a port from 1 to 65535."


def _status(value: Any) -> str:
    good = isinstance(value, int) and not isinstance(value, bool) and 100 <= value <= 599
    return "" if good else "Enter an HTTP status from 100 to 599."


def _exit_status(value: Any) -> str:
    good = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255
    return "" if good else "Enter an exit status from 0 to 255."


def _timeout(value: Any) -> str:
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= MAX_TIMEOUT
    return "" if good else f"Enter seconds, more than 0 and at most {MAX_TIMEOUT:g}."


def _text(value: Any) -> str:
    return "" if isinstance(value, str) else "Enter text."


def _some_text(value: Any) -> str:
    return "" if isinstance(value, str) and value.strip() else "Enter something."


def _flag(value: Any) -> str:
    return "" if isinstance(value, bool) else "Choose yes or no."


def _unit(value: Any) -> str:
    good = isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9][\w.@:\\-]*", value)
    return "" if good else "Enter the name of a service, such as nginx or orders.service."


def _host(value: Any) -> str:
    good = isinstance(value, str) and (not value or re.fullmatch(r"[\w:][\w.:-]*", value))
    return "" if good else "Enter a host name or an IP address."


def _some_host(value: Any) -> str:
    return _host(value) if value else "Enter a host name."


def _path(value: Any) -> str:
    good = isinstance(value, str) and re.fullmatch(r"/[!-~]*", value)
    return "" if good else "Enter a path that starts with / and has no spaces, such as /health."


def _server(value: Any) -> str:
    if value == "":
        return ""
    try:
        ipaddress.ip_address(str(value).rpartition(":")[0] if str(value).count(":") == 1 else value)
    except ValueError:
        return "Enter the IP address of a name server, or address:port."
    return ""


def _values(value: Any) -> str:
    good = isinstance(value, list | tuple) and all(isinstance(one, str) and one.strip() for one in value)
    return "" if good else "Enter the expected values, one a line; {address} stands for the machine's address."


def _pattern(value: Any) -> str:
    if not isinstance(value, str):
        return "Enter text."
    try:
        re.compile(value)
    except re.error as error:
        return f"This is not a regular expression: {error}."
    return ""


def _one_of(*words: str) -> _Check:
    return lambda value: "" if value in words else f"Choose one of: {', '.join(words)}."


FIELDS: dict[str, dict[str, tuple[bool, _Check]]] = {
    "unit": {"unit": (True, _unit)},
    "tcp": {"port": (True, _port), "host": (False, _host), "from": (False, _one_of("hub", "inside"))},
    "http": {
        "scheme": (False, _one_of("http", "https")),
        "port": (False, _port),
        "path": (False, _path),
        "host": (False, _host),
        "status": (False, _status),
        "text": (False, _text),
        "verify": (False, _flag),
        "ca": (False, _text),
        "follow": (False, _flag),
    },
    "dns": {
        "name": (True, _some_host),
        "rtype": (False, _one_of("A", "AAAA", "CNAME", "PTR", "TXT", "SRV", "MX")),
        "values": (False, _values),
        "server": (False, _server),
    },
    "command": {
        "command": (True, _some_text),
        "output": (False, _text),
        "match": (False, _one_of("contains", "equals", "regex")),
        "status": (False, _exit_status),
        "root": (False, _flag),
    },
}


def validate(kind: str, parameters: Mapping[str, Any]) -> dict[str, str]:
    """Messages by field; empty: the probe can run. Unknown fields are named, so that a typo is not ignored."""
    if kind not in FIELDS:
        return {"kind": f"Choose one of: {', '.join(KINDS)}."}
    fields = {**FIELDS[kind], "timeout": (False, _timeout)}
    wrong = {name: "This kind of probe has no such field." for name in parameters if name not in fields}
    for name, (required, check) in fields.items():
        if name in parameters:
            message = check(parameters[name])
            if message:
                wrong[name] = message
        elif required:
            wrong[name] = check(None) or "Enter something."
    if kind == "command" and parameters.get("match") == "regex" and "output" not in wrong:
        message = _pattern(parameters.get("output", ""))
        if message:
            wrong["output"] = message
    return wrong
