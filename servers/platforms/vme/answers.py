"""What an appliance's answer means: errors as sentences, ids and numbers read leniently.

HPE types many fields loosely (`datastoreId` int or string, `powerState` string or null), and an error may come as
HTTP 400 and above, as 200 with `success: false`, or as a proxy's HTML page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from servers.platforms.base import PlatformProblem

LIMIT = 400  # characters of an appliance's own words in a sentence
Json = dict[str, Any]
# What we ask for by its id; “User not found” is about ourselves.
_MISSING = re.compile(r"\b(instance|execution request|resource) not found", re.IGNORECASE)

# Field of HPE's `errors` → what a person does about it.
FIELD_ACTS = {
    "networkInterfaces": "Choose networks that are active, in the same cloud and bound to the resource pool, and"
    " visible to the account's group.",
    "name": "Choose another name, or delete the machine that has it (powered-off ones count too).",
    "plan": "Choose a service plan that is active for this cloud and layout.",
    "volumes": "Check the datastore and the disk sizes in the profile.",
    "layout": "Choose a layout that the instance type has on this appliance.",
    "license": "Free a licence or ask HPE for more.",
}
STATUS_ACTS = {
    401: "Correct the account's name or password in the platform's settings, then retry.",
    403: "Give the account's role the missing permission (the platform's check names it), then retry.",
    404: "Check in VME whether it was deleted or moved to another tenant.",
    409: "Look in VME at what the machine is doing, then try again.",
    429: "Nothing to do: it is asked again more slowly.",
    500: "It is asked again for a while; if that does not help, look at the appliance's log, then retry.",
    502: "It is asked again for a while; if that does not help, check the proxy in front of the appliance, then retry.",
    503: "It is asked again for a while; the appliance may be in maintenance: retry when that is over.",
}
PROXY_ACT = "Check the address and the proxy in front of the appliance."


class Refused(PlatformProblem):
    """The appliance said no and did nothing. `status` is HTTP's, `fields` HPE's own messages by field."""

    def __init__(
        self, text: str, act: str = "", *, code: str, status: int, fields: dict[str, str], lasting: bool = True
    ) -> None:
        super().__init__(text, act, code=code, lasting=lasting)
        self.status = status
        self.fields = fields


class Unavailable(PlatformProblem):
    """No answer that can be used, and the request surely did nothing: not reached, or put off (429)."""

    def __init__(self, text: str, act: str = "", *, code: str = "platform.unavailable", wait: float = 5.0) -> None:
        super().__init__(text, act, code=code, lasting=False)
        self.wait = wait


class Ambiguous(Unavailable):
    """The request went out and no usable answer came back: it may have been done or not."""


def field_messages(body: Json) -> dict[str, str]:
    """HPE's `errors`: a mapping, a list of {field, msg}, or absent."""
    errors = body.get("errors")
    if isinstance(errors, dict):
        return {str(name): _words(message) for name, message in errors.items()}
    if isinstance(errors, list):
        return {
            str(item.get("field") or item.get("id") or index): _words(item.get("msg") or item.get("message") or item)
            for index, item in enumerate(errors)
            if isinstance(item, dict)
        }
    return {}


def _words(message: object) -> str:
    if isinstance(message, list):
        return "; ".join(map(str, message))
    return str(message)


def own_words(body: Json) -> str:
    """What the appliance says itself, fields first."""
    parts = [f"{name}: {message}" for name, message in field_messages(body).items()]
    for key in ("msg", "message", "error_description", "error"):
        if isinstance(body.get(key), str) and body[key] not in parts:
            parts.append(body[key])
            break
    return "; ".join(parts)[:LIMIT]


def says_missing(body: Json, status: int) -> bool:
    """Whether the appliance itself says that what was asked for is not there.

    HPE's 404 has a `msg`; one without, or without a body, is a gateway's and says nothing of what the appliance has.
    """
    words = body.get("msg")
    if not isinstance(words, str):
        return False
    return status == 404 or (status == 200 and _MISSING.search(words) is not None)


def act_for(status: int, fields: Iterable[str]) -> str:
    for field in fields:
        for name, act in FIELD_ACTS.items():
            if field.lower().startswith(name.lower()):
                return act
    return STATUS_ACTS.get(status, "Look in VME for the cause, then try again.")


def html_title(text: str) -> str:
    """What an HTML page calls itself, so that a proxy's error is named and not dumped."""
    found = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
    return re.sub(r"\s+", " ", found.group(1)).strip()[:100] if found else ""


def number(value: object, default: int = 0) -> int:
    """An integer from 7, "7", "network-7" or 7.0; the default from anything else."""
    if isinstance(value, bool) or value is None:
        return default
    if isinstance(value, (int, float)):
        return int(value)
    found = re.search(r"(\d+)$", str(value).strip())
    return int(found.group(1)) if found else default


def text_id(value: object) -> str:
    """An id as text: "" for nothing, a reference's own id from {"id": …}."""
    if isinstance(value, dict):
        value = value.get("id")
    return "" if value is None else str(value)


def network_ref(value: object) -> str:
    """The form that requests take and options give: "network-7"; "networkGroup-3" and "subnet-2" as they are."""
    text = text_id(value)
    return f"network-{text}" if text.isdigit() else text


def pool_ref(value: object) -> str:
    text = text_id(value)
    return f"pool-{text}" if text.isdigit() else text


def version_of(text: object) -> tuple[int, int, int]:
    """The first three numbers of a build version ("8.1.2.1-3" → (8, 1, 2)); zeros where it tells none."""
    numbers = [int(part) for part in re.findall(r"\d+", str(text or "").split("-")[0])[:3]]
    padded = [*numbers, 0, 0, 0]
    return padded[0], padded[1], padded[2]


def items(value: object) -> list[Json]:
    """The objects of a list, whatever else is in it."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def obj(value: object) -> Json:
    return value if isinstance(value, dict) else {}
