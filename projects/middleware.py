"""What every request is accompanied by: where a login leads back to, and what was asked about the person once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode, urlsplit

from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, resolve_url
from django.utils import timezone
from django_htmx.http import HttpResponseClientRedirect

from migrationhub.lib.reading import split_url

from . import second_factor
from .access import standing

GetResponse = Callable[[HttpRequest], HttpResponse]
SEEN = "seen_at"  # in a session: when it was last noted that it is in use, Unix time
SEEN_EVERY = 300  # seconds; each poll would otherwise be a write


class StandingMiddleware:
    """Role and stand-ins of a person are asked once for each page or press, however many rules look at them."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        token = standing.set({})
        try:
            return self.get_response(request)
        finally:
            standing.reset(token)


class LoginAgainMiddleware:
    """An expired session leads to the login page, and from there back to the page that was open.

    Inside an htmx request by `HX-Redirect`: a redirect would put the login page into a table cell. What was asked for
    may be a region of a page or the address of a button; neither can be opened, so the open page is remembered.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if response.status_code not in (301, 302) or request.user.is_authenticated:
            return response
        login = resolve_url(settings.LOGIN_URL)
        htmx = getattr(request, "htmx", None)
        if urlsplit(response["Location"]).path == login and (htmx or request.method not in ("GET", "HEAD")):
            page = self.open_page(request)
            response["Location"] = f"{login}?{urlencode({REDIRECT_FIELD_NAME: page})}" if page else login
        return HttpResponseClientRedirect(response["Location"]) if htmx else response

    def open_page(self, request: HttpRequest) -> str:
        """Path and query of the page that the person looks at; empty where it is not known or not ours."""
        address = request.headers.get("HX-Current-URL") or request.headers.get("Referer") or ""
        parts = split_url(address)
        if parts.netloc != request.get_host() or parts.scheme not in ("http", "https"):
            return ""
        return f"{parts.path}?{parts.query}" if parts.query else parts.path


class SecondFactorMiddleware:
    """Whoever must have a second factor and has none is led to set one up before any page; log-in and log-out, the
    password and the second factor itself stay open."""

    OPEN = ("account_", "mfa_")  # names of the addresses that lead there

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> HttpResponse | None:
        match = request.resolver_match
        if match is None or (match.url_name or "").startswith(self.OPEN) or match.route.startswith("invitations/"):
            return None
        if not second_factor.is_missing(request.user):
            return None
        messages.warning(request, f"{'' if request.method == 'GET' else 'Nothing was done. '}{SET_UP}")
        address = resolve_url("mfa_activate_totp")
        return HttpResponseClientRedirect(address) if getattr(request, "htmx", None) else redirect(address)


SET_UP = "A second factor is asked of you here: set up an authenticator app, then go on."


class SeenMiddleware:
    """When a session was last in use, for the list of a person's sessions; noted every five minutes."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        now = int(time.time())
        if request.user.is_authenticated and request.session.get(SEEN, 0) + SEEN_EVERY < now:
            request.session[SEEN] = now
            UserSession.objects.filter(session_key=request.session.session_key).update(last_seen_at=timezone.now())
        return self.get_response(request)
