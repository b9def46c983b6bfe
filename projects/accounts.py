"""Accounts: sign-up is closed, secrets of a second factor are encrypted, and what happens to an account is recorded.

Accounts are made by an invitation (`invitations`), `manage.py account` or `manage.py createsuperuser`.
"""

from __future__ import annotations

import re
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.core import context
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.base.forms import AuthenticateForm
from django.contrib.auth.models import AnonymousUser, User
from django.core.cache import cache
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest

from migrationhub.audit.middleware import client_address
from migrationhub.audit.record import record
from migrationhub.lib.fields import opened, seal

# The shortest password that an account here can have; see AUTH_PASSWORD_VALIDATORS.
SHORTEST_PASSWORD = 10
LIKE_A_NAME = re.compile(r"[\w.@+-]+\Z")
LIKE_AN_ADDRESS = re.compile(r"[\w.+-]{1,64}@[\w-]+(\.[\w-]+)+\Z")
AGAIN_AFTER = 60  # seconds for which refusals of one name from one address are recorded once


def tried(name: str) -> tuple[User | None, str]:
    """Whose log-in was tried, and the name as the audit trail may hold it.

    People type a password into the field above. A name that has an account is written whole; another one only where
    it cannot be a password of this hub: shorter than any, or an e-mail address. Of the rest, the beginning.
    """
    name = name.strip()
    user = User.objects.filter(username__iexact=name).first() if name else None
    if user is not None:
        return user, user.get_username()
    plain = LIKE_A_NAME.match(name) and len(name) < SHORTEST_PASSWORD
    if plain or (len(name) <= 150 and LIKE_AN_ADDRESS.match(name)):
        return None, name
    return None, f"{name[:2]}… ({len(name)} characters)" if name else "(no name)"


def record_failure(request: HttpRequest | None, name: str, verb: str = "account.login_failed", why: str = "") -> None:
    """A log-in that did not come about. Nobody is logged in: the actor is a name that somebody typed."""
    user, shown = tried(name)
    address = client_address(request) if request is not None else ""
    record(verb, user, actor_name=shown, label=shown, address=address, why=why, after={"tried": shown})


def record_refusal(request: HttpRequest, name: str) -> None:
    """A log-in that was refused unseen, after too many. Once a minute for a name and an address: the trail must not
    be filled by whoever guesses."""
    _, shown = tried(name)
    if cache.add(f"refused:{client_address(request)}:{shown}"[:200], 1, AGAIN_AFTER):
        why = f"Too many tries. More within the next {AGAIN_AFTER} s are not listed."
        record_failure(request, name, "account.login_refused", why)


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]  # allauth has no types
    error_messages = {
        **DefaultAccountAdapter.error_messages,
        "username_password_mismatch": "User name and password do not fit together. Check both, and the keyboard.",
        "too_many_login_attempts": "Too many failed log-ins. Wait five minutes, then try again.",
        "rate_limited": "That was too often. Wait a minute, then try again.",
    }

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def get_client_ip(self, request: HttpRequest) -> str:
        return client_address(request) or "0.0.0.0"  # noqa: S104  # not known: all of them count as one

    def pre_authenticate(self, request: HttpRequest, **credentials: Any) -> None:
        try:
            super().pre_authenticate(request, **credentials)
        except ValidationError:
            record_refusal(request, str(credentials.get("username", "")))
            raise

    def set_password(self, user: User, password: str) -> None:
        """For a changed and for a forgotten password. Whoever forgot it is not logged in: the link was theirs."""
        request = context.request
        by_link = request is None or isinstance(request.user, AnonymousUser)
        with transaction.atomic():
            super().set_password(user, password)
            record("account.password_reset" if by_link else "account.password_change", user, actor=user)


class SecondFactor(DefaultMFAAdapter):  # type: ignore[misc]
    """Secrets of authenticator apps and recovery codes are encrypted with CREDENTIAL_KEYS."""

    error_messages = {
        **DefaultMFAAdapter.error_messages,
        "incorrect_code": "That code is not right. A code counts for 30 seconds and once; enter the one shown now.",
    }

    def encrypt(self, text: str) -> str:
        return seal(text)

    def decrypt(self, encrypted_text: str) -> str:
        return opened(encrypted_text)

    def get_totp_label(self, user: User) -> str:
        return user.get_username()


class CodeForm(AuthenticateForm):  # type: ignore[misc]
    """The second step of a log-in."""

    def clean_code(self) -> str:
        try:
            return str(super().clean_code())
        except ValidationError as error:
            if error.code == "too_many_login_attempts":
                record_refusal(context.request, self.user.get_username())
            raise
