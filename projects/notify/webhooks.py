"""A message as a post to a webhook: Slack's form, or JSON with a signature.

`requests`, which talks to the platform already, carries both; a library of a hundred services would be more code than
these two bodies. Private addresses are allowed on purpose: the receivers stand in the same house, only leads enter
them, and nothing of an answer but its status is kept or shown.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from dataclasses import dataclass
from typing import Any

import requests
from django.conf import settings

from migrationhub.lib.findings import Problem
from migrationhub.lib.reading import is_host, split_url
from projects.models import Message, Webhook

from .compose import Composed, Line, composed
from .outcomes import NotSent, Unclear

TIMEOUT = (5, 10)  # seconds to connect, to wait for each part of the answer
LONGEST_TEXT = 39_000  # characters: Slack cuts a text after 40,000, in the middle of a link
AGAIN = (408, 425, 429)  # and all from 500 on


@dataclass(frozen=True, repr=False)
class Post:
    url: str
    body: bytes
    headers: dict[str, str]


def host_of(url: str) -> str:
    """The host of an address that may be posted to. Raises Problem in words."""
    parts = split_url(url)
    host = parts.hostname
    if not host or not is_host(host) or parts.scheme not in ("http", "https"):
        raise Problem("That is no address of a webhook.", "Expected one such as https://hooks.example.com/services/…")
    if parts.username or parts.password:
        raise Problem("The address holds a user name or password.", "Leave it out: what is posted is signed instead.")
    if parts.scheme == "http" and host not in settings.WEBHOOK_HTTP_HOSTS:
        raise Problem(
            f"http://{host}: without TLS anybody on the way reads along.",
            "Use https, or have whoever runs migrationhub name the host in WEBHOOK_HTTP_HOSTS.",
        )
    return host


def built(message: Message, webhook: Webhook) -> Post:
    """Signed with the time of this try: a receiver refuses what is old. The delivery's id stays the same."""
    said = composed(message)
    host_of(webhook.url)
    headers = {"Content-Type": "application/json", "User-Agent": "migrationhub"}
    if webhook.format == Webhook.Format.SLACK:
        return Post(webhook.url, json.dumps({"text": slack_text(said)}).encode(), headers)
    body = json.dumps(_generic(message, said)).encode()
    stamp = str(int(time.time()))
    headers |= {
        "X-Migrationhub-Delivery": str(message.uuid),
        "X-Migrationhub-Timestamp": stamp,
        "X-Migrationhub-Signature": f"sha256={signature(webhook.secret, stamp, body)}",
    }
    return Post(webhook.url, body, headers)


def signature(secret: str, stamp: str, body: bytes) -> str:
    """HMAC-SHA256, hexadecimal, over the timestamp, a full stop and the raw body."""
    return hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def _generic(message: Message, said: Composed) -> dict[str, Any]:
    changes = [
        {
            "kind": line.kind,
            "title": line.title,
            "text": line.text,
            "url": line.url,
            "application": line.application,
            "at": line.at.isoformat(timespec="seconds"),
        }
        for line in said.lines
    ]
    return {"delivery": str(message.uuid), "project": said.project, "wave": said.wave, "changes": changes}


def slack_text(said: Composed) -> str:
    head = f"*{_escaped(said.project)}*" + (f", {_escaped(said.wave)}" if said.wave else "")
    told = [head]
    left = LONGEST_TEXT - len(head)
    for number, line in enumerate(said.lines):
        text = _slack_line(line)
        left -= len(text) + 1
        if left < 0:
            return "\n".join([*told, f"… and {len(said.lines) - number} more changes: see the pages."])
        told.append(text)
    return "\n".join(told)


def _slack_line(line: Line) -> str:
    title = _escaped(line.title)
    linked = f"<{line.url}|{title.replace('|', '¦')}>" if line.url else title
    return f"• {linked}" + (f"\n{_escaped(line.text)}" if line.text else "")


def _escaped(text: str) -> str:
    """What people wrote calls nobody (`<!channel>`) and makes no link."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def hand_over(post: Post) -> None:
    """Post it. Raises NotSent, Unclear; never with the address, which is a secret."""
    try:
        answer = requests.post(
            post.url, data=post.body, headers=post.headers, timeout=TIMEOUT, allow_redirects=False, stream=True
        )
    except requests.exceptions.SSLError as error:
        raise NotSent(f"TLS: {_cause(error)}", again=True) from None
    except requests.exceptions.ConnectTimeout:
        raise NotSent(f"No connection within {TIMEOUT[0]} s.", again=True) from None
    except requests.exceptions.ReadTimeout:
        raise Unclear(f"It was posted, and no answer came within {TIMEOUT[1]} s.") from None
    except requests.exceptions.ConnectionError as error:
        if _never_connected(error):
            raise NotSent(f"No connection: {_cause(error)}", again=True) from None
        raise Unclear("It was posted, and the connection broke before an answer came.") from None
    except requests.exceptions.RequestException as error:
        raise NotSent(f"It could not be posted: {type(error).__name__}.", again=False) from None
    status = answer.status_code
    answer.close()
    if 200 <= status < 300:
        return
    if 300 <= status < 400:
        raise NotSent(f"It answered {status}, a redirect, which is not followed. Enter where it leads to.", again=False)
    raise NotSent(f"It answered {status}.", again=status >= 500 or status in AGAIN)


def _never_connected(error: Exception) -> bool:
    """The request had no connection to leave by. What breaks later is a ProtocolError, without a reason."""
    return getattr(error.args[0] if error.args else None, "reason", None) is not None


def _cause(error: Exception) -> str:
    """The operating system's own words, which hold no address; else the kind of error."""
    seen: Any = error
    for _ in range(8):
        if isinstance(seen, OSError) and seen.strerror and not isinstance(seen, requests.RequestException):
            return str(seen.strerror)[:200]
        inner = seen.args[0] if getattr(seen, "args", None) else None
        reason = getattr(seen, "reason", None)
        following = reason if isinstance(reason, Exception) else inner if isinstance(inner, Exception) else None
        seen = following or seen.__cause__ or seen.__context__
        if seen is None:
            break
    return type(error).__name__
