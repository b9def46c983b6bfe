"""Below the client: addresses, trust, and what requests' exceptions mean."""

from __future__ import annotations

import re
import ssl
import tempfile
import weakref
from pathlib import Path

import requests
from urllib3.exceptions import InsecureRequestWarning, NewConnectionError

from migrationhub.lib.reading import is_host, split_url
from servers.platforms.base import PlatformAccess, PlatformProblem
from servers.platforms.vme.answers import Json


def base_of(url: str) -> str:
    parts = split_url(url.strip())
    good = parts.scheme == "https" and is_host(parts.hostname or "")
    if not good or parts.username or parts.query or parts.fragment:
        raise PlatformProblem(
            f"“{parts.hostname or url[:80]}” is no address of an appliance: https:// and a host are expected.",
            "Enter it as https://vme.example.com.",
            code="platform.url",
        )
    return f"https://{parts.netloc}{parts.path}".rstrip("/")  # 9.0 refuses log-ins at an address with a slash


def trust(owner: object, access: PlatformAccess) -> str | bool:
    """What requests verifies with: the platform's CA as a private file, the system's, or, by name, nothing."""
    if access.insecure:
        # Said once on the platform's page; a warning at each request would only fill the log.
        requests.packages.urllib3.disable_warnings(InsecureRequestWarning)  # type: ignore[attr-defined]
        return False
    if not access.ca_bundle.strip():
        return True
    try:
        ssl.create_default_context(cadata=access.ca_bundle)
    except (ssl.SSLError, ValueError):
        raise PlatformProblem(
            f"The CA bundle of {access.name} is no PEM certificate.",
            "Paste the text from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----.",
            code="platform.tls",
        ) from None
    with tempfile.NamedTemporaryFile("w", prefix="migrationhub-ca-", suffix=".pem", delete=False) as file:
        file.write(access.ca_bundle)
    weakref.finalize(owner, Path(file.name).unlink, missing_ok=True)
    return file.name


def json_of(answer: requests.Response) -> Json | None:
    if not answer.content:
        return {}
    try:
        body = answer.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def seconds(value: str | None) -> float | None:
    try:
        return max(0.0, float(value)) if value else None
    except ValueError:
        return None


def never_connected(error: BaseException) -> bool:
    """Whether no connection was made at all (refused, no route, no such name)."""
    seen = error
    for _ in range(6):
        if isinstance(seen, NewConnectionError):
            return True
        inner = getattr(seen, "reason", None) or (seen.args[0] if seen.args else None)
        if not isinstance(inner, BaseException):
            return False
        seen = inner
    return False


def reason_of(error: BaseException) -> str:
    """The innermost cause in few words, without addresses of Python objects."""
    seen = error
    for _ in range(6):
        inner = getattr(seen, "reason", None)
        if not isinstance(inner, BaseException):
            inner = next((part for part in seen.args if isinstance(part, BaseException)), None)
        if inner is None:
            break
        seen = inner
    text = str(seen.args[-1] if seen.args else seen) or type(seen).__name__
    if isinstance(seen, ssl.SSLCertVerificationError):
        text = seen.verify_message or text
    elif isinstance(seen, TimeoutError) or "timed out" in text.lower():
        text = "no answer in time"
    elif isinstance(seen, OSError) and seen.strerror:
        text = seen.strerror
    # Of an error number only its words: “HTTPSConnection(host=…): Failed to …: [Errno 111] Connection refused”.
    return re.split(r">: |\[Errno -?\d+\] ", text)[-1].strip().rstrip(".")[:200]
