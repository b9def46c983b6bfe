"""Where a secret is sent: whoever sends it somewhere else shows that they know it.

A password and the password of an API account cross the wire, and so does a password for sudo; of an SSH key and a TSIG
key only signatures do. Without this rule a person who plans could read a stored password by naming a machine of
their own as the place where it is used. Each password is looked at by itself: who replaced one does not know the other.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib.auth.models import User
from django.core.cache import cache

from migrationhub.audit.models import AuditEvent
from migrationhub.audit.record import record
from migrationhub.lib.fields import as_stored
from migrationhub.lib.findings import Problem
from projects.forms.base import SetupForm, sentence
from projects.planning_base import SECRETS
from servers.models import Credential

TRIES, PAUSE = 5, 900  # wrong answers of a person about one credential; seconds until the next
SECRET_ENTERED = ("credential.create", "credential.change")
# What a password is called, and the field of a form in which it is entered once more.
CALLED = {"secret": "password", "become_password": "password for sudo"}
AGAIN = {"secret": "secret_again", "become_password": "become_again"}


def again_field(help_text: str, name: str = "secret") -> forms.CharField:
    """The field of a form in which one of the passwords is entered once more."""
    return forms.CharField(
        label=f"{CALLED[name].capitalize()} of the credential, once more",
        required=False,
        strip=False,
        max_length=1000,
        widget=forms.PasswordInput,
        help_text=help_text,
    )


def travelling(credential: Credential) -> list[str]:
    """Which fields' text itself is sent to the other side. A password for sudo is, also while nothing asks for it."""
    found = ["secret"] if credential.kind in (Credential.Kind.PASSWORD, Credential.Kind.API) else []
    logs_in = credential.kind in (Credential.Kind.PASSWORD, Credential.Kind.KEY)
    if logs_in and as_stored(credential, "become_password"):
        found.append("become_password")
    return found


def entered_by(credential: Credential) -> dict[str, int | None]:
    """Who entered each stored secret last, as the audit trail has it."""
    events = AuditEvent.objects.filter(
        object_type="servers.credential", object_id=str(credential.pk), verb__in=SECRET_ENTERED
    )
    found: dict[str, int | None] = {}
    for event in events.values("actor_id", "verb", "after"):  # newest first
        created = event["verb"] == "credential.create"
        for name in SECRETS if created else event["after"].get("replaced", ()):
            found.setdefault(name, event["actor_id"])
    return found


def prove(credential: Credential, name: str, typed: str, user: User) -> None:
    """Whether this is the stored secret. Raises Problem: not entered, wrong, or wrong too often."""
    called = CALLED[name]
    if not typed:
        raise Problem(
            f"“{credential}” would be sent somewhere else: its {called} is needed once more.",
            "Enter it, or choose a credential that you entered yourself.",
            code="credential.again",
        )
    key = f"secret-again:{user.pk}:{credential.pk}"
    wrong = int(cache.get(key, 0))
    if wrong >= TRIES:
        raise Problem(
            f"A password of “{credential}” was entered wrong {wrong} times.",
            f"Wait {PAUSE // 60} minutes, or enter the {called} anew on the credential's page.",
            code="credential.again_limit",
        )
    if not hmac.compare_digest(str(getattr(credential, name)).encode(), typed.encode()):
        cache.set(key, wrong + 1, PAUSE)
        record("credential.wrong_secret", credential, actor=user)
        raise Problem(
            f"That is not the {called} of “{credential}”; nothing was saved.",
            "Enter it again, or enter the right one on the credential's page first.",
            code="credential.again_wrong",
        )


def check(form: SetupForm, user: User, places: Iterable[str]) -> None:
    """In a form's `clean`: where one of the fields `places` or the credential says that a secret goes somewhere new."""
    credential = form.cleaned_data.get("credential")
    if form.errors or not isinstance(credential, Credential):
        return
    for name in _to_prove(form.row, form.cleaned_data, credential, user, places):
        try:
            prove(credential, name, str(form.cleaned_data.get(AGAIN[name]) or ""), user)
        except Problem as problem:
            form.add_error(AGAIN[name], sentence(problem.text, problem.act))


def _to_prove(row: Any, data: dict[str, Any], credential: Credential, user: User, places: Iterable[str]) -> list[str]:
    """All that travels to where a row moves; to a place that is new, all that the user did not enter."""
    names = travelling(credential)
    if row is not None and any(getattr(row, place) != data.get(place) for place in places):
        return names
    if not names or (row is not None and row.credential_id == credential.pk):
        return []
    by = entered_by(credential)
    return [name for name in names if by.get(name) != user.pk]
