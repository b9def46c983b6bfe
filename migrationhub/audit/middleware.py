"""Where a request comes from, for the audit events that are written while it is answered."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from .record import origin


def client_address(request: HttpRequest) -> str:
    """The browser's IP address; empty where it cannot be known (a Unix socket without a proxy).

    `X-Forwarded-For` is believed only where BEHIND_PROXY says that our proxy writes it, and only its last entry: that
    one our proxy added itself, everything before it was sent by the browser.
    """
    found = str(request.META.get("REMOTE_ADDR") or "")
    if settings.BEHIND_PROXY:
        found = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip() or found
    found = found.removeprefix("[").partition("]")[0] if found.startswith("[") else found
    try:
        return str(ipaddress.ip_address(found))
    except ValueError:
        return ""


class OriginMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        token = origin.set(client_address(request))
        try:
            return self.get_response(request)
        finally:
            origin.reset(token)
