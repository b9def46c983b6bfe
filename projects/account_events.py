"""What happens to accounts, told to the audit trail by the signals of Django and allauth."""

from __future__ import annotations

import time
from typing import Any

from allauth.account.signals import user_logged_in
from allauth.core import context
from allauth.mfa.models import Authenticator
from allauth.mfa.signals import authentication_failed, authenticator_used
from django.contrib.auth import signals as django_signals
from django.contrib.auth.models import AnonymousUser, User
from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver
from django.http import HttpRequest

from migrationhub.audit.record import record

from .accounts import record_failure
from .middleware import SEEN

FACTORS = {
    Authenticator.Type.TOTP: "authenticator app",
    Authenticator.Type.RECOVERY_CODES: "recovery codes",
}


@receiver(django_signals.user_logged_in)
def on_session_begun(sender: Any, request: HttpRequest | None, **kwargs: Any) -> None:
    if request is not None:
        request.session[SEEN] = int(time.time())


@receiver(user_logged_in)
def on_logged_in(sender: Any, request: HttpRequest, user: User, **kwargs: Any) -> None:
    record("account.login", user, actor=user)


@receiver(django_signals.user_logged_out)
def on_logged_out(sender: Any, request: HttpRequest, user: User | None, **kwargs: Any) -> None:
    if user is not None:
        record("account.logout", user, actor=user)


@receiver(django_signals.user_login_failed)
def on_login_failed(sender: Any, credentials: dict[str, Any], request: HttpRequest | None = None, **kw: Any) -> None:
    record_failure(request, str(credentials.get("username") or credentials.get("email") or ""))


@receiver(authentication_failed)
def on_code_failed(sender: Any, request: HttpRequest, user: User, **kwargs: Any) -> None:
    record_failure(request, user.get_username(), "account.code_failed")


@receiver(authenticator_used)
def on_code_used(sender: Any, user: User, authenticator: Authenticator, **kwargs: Any) -> None:
    if authenticator.type == Authenticator.Type.RECOVERY_CODES:
        record("account.recovery_code", user, actor=user)


def _by(owner: User) -> User | None:
    """Who changes a second factor: whoever is logged in, else the system (a command)."""
    request = context.request
    person = getattr(request, "user", None)
    return owner if person is None or isinstance(person, AnonymousUser) or person.pk == owner.pk else person


@receiver(post_save, sender=Authenticator)
def on_factor_added(sender: Any, instance: Authenticator, created: bool, **kwargs: Any) -> None:
    """In the transaction that adds it."""
    if created:
        what = {"factor": FACTORS.get(instance.type, instance.type)}
        record("account.factor_add", instance.user, actor=_by(instance.user), after=what)


@receiver(post_delete, sender=Authenticator)
def on_factor_removed(sender: Any, instance: Authenticator, **kwargs: Any) -> None:
    what = {"factor": FACTORS.get(instance.type, instance.type)}
    record("account.factor_remove", instance.user, actor=_by(instance.user), before=what)
