"""A person's own account: who they are here, the second factor, where they are logged in."""

from __future__ import annotations

from allauth.account.internal.stagekit import unstash_login
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import HASH_SESSION_KEY
from django.contrib.sessions.models import Session
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from migrationhub.audit.record import record
from projects.access import valid_places
from projects.accounts import record_refusal
from projects.models import Membership

from .setup_common import person


@require_GET
def account(request: HttpRequest) -> HttpResponse:
    user = person(request)
    factors = dict(Authenticator.objects.filter(user=user).values_list("type", "created_at"))
    context = {
        "memberships": Membership.objects.filter(user=user).select_related("project").order_by("project__name"),
        "places": valid_places(user),
        "app_since": factors.get(Authenticator.Type.TOTP),
        "sessions": UserSession.objects.filter(user=user).count(),
        "mail_sent": settings.MAIL_SENT,
    }
    return render(request, "account/account.html", context)


def sessions_of(request: HttpRequest) -> list[UserSession]:
    """The person's sessions that are still good, this one first; asked for together, however many there are."""
    user, key = person(request), request.session.session_key
    if not UserSession.objects.filter(session_key=key).exists():
        UserSession.objects.create_from_request(request)
    found = list(UserSession.objects.filter(user=user))
    stored = Session.objects.filter(pk__in=[each.session_key for each in found], expire_date__gt=timezone.now())
    now = user.get_session_auth_hash()  # another one since the password was changed
    good = {each.session_key for each in stored if each.get_decoded().get(HASH_SESSION_KEY) == now}
    gone = [each.pk for each in found if each.session_key not in good]
    if gone:
        UserSession.objects.filter(pk__in=gone).delete()
    kept = [each for each in found if each.session_key in good]
    return sorted(kept, key=lambda each: (each.session_key != key, -each.last_seen_at.timestamp()))


@require_GET
def sessions(request: HttpRequest) -> HttpResponse:
    return render(request, "account/sessions.html", {"sessions": sessions_of(request)})


@require_POST
def session_end(request: HttpRequest, pk: int) -> HttpResponse:
    """Log one other browser out; this one logs out by its own button."""
    found = get_object_or_404(UserSession, pk=pk, user=person(request))
    if found.session_key == request.session.session_key:
        messages.error(request, "This is the session that you are in: use “Log out”.")
    else:
        _end(request, [found])
        messages.success(request, "That session has ended: whoever has it must log in again.")
    return redirect("sessions")


@require_POST
def sessions_end(request: HttpRequest) -> HttpResponse:
    """Log all other browsers out."""
    others = [one for one in sessions_of(request) if one.session_key != request.session.session_key]
    _end(request, others)
    messages.success(request, f"{len(others)} other session{'s' if len(others) != 1 else ''} ended.")
    return redirect("sessions")


def _end(request: HttpRequest, found: list[UserSession]) -> None:
    user = person(request)
    with transaction.atomic():
        for session in found:
            record(
                "account.session_end", user, actor=user, before={"address": session.ip, "browser": session.user_agent}
            )
            session.end()


def too_many(request: HttpRequest) -> HttpResponse:
    """For allauth: the answer to too many tries, which are recorded as what they are."""
    login = unstash_login(request, peek=True)
    name = request.POST.get("login", "").replace("\0", "")  # no form has looked at it
    name = name or (login.user.get_username() if login and login.user else "")
    if name:
        record_refusal(request, name)
    return render(request, "429.html", status=429)
