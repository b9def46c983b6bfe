"""A text column that is encrypted with the keys of CREDENTIAL_KEYS (never with SECRET_KEY)."""

from __future__ import annotations

from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import models

from migrationhub.lib.findings import Problem


def cipher() -> MultiFernet:
    try:
        return MultiFernet([Fernet(key) for key in settings.CREDENTIAL_KEYS])
    except ValueError as error:
        raise ImproperlyConfigured("CREDENTIAL_KEYS: each key must be 32 url-safe base64 bytes (Fernet).") from error


class EncryptedTextField(models.TextField):  # type: ignore[type-arg]
    """Encrypts on the way in, decrypts on the way out; the first of CREDENTIAL_KEYS encrypts, all decrypt."""

    def get_prep_value(self, value: Any) -> Any:
        if value in (None, ""):
            return value
        return cipher().encrypt(str(value).encode()).decode("ascii")

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        if value in (None, ""):
            return value
        try:
            return cipher().decrypt(value.encode("ascii")).decode()
        except InvalidToken:
            raise Problem(
                "A stored credential cannot be decrypted with any of CREDENTIAL_KEYS.",
                "Put the key that encrypted it back into CREDENTIAL_KEYS, or enter the credential again.",
                code="credential.undecryptable",
            ) from None
