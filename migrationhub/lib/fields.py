"""A text column that is encrypted with the keys of CREDENTIAL_KEYS (never with SECRET_KEY)."""

from __future__ import annotations

from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import models
from django.db.models.query_utils import DeferredAttribute

from migrationhub.lib.findings import Problem


class Sealed(str):
    """Text as it is stored. It is opened where it is used, so that what does not need a secret does not read it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<sealed>"


def cipher() -> MultiFernet:
    try:
        return MultiFernet([Fernet(key) for key in settings.CREDENTIAL_KEYS])
    except ValueError as error:
        raise ImproperlyConfigured("CREDENTIAL_KEYS: each key must be 32 url-safe base64 bytes (Fernet).") from error


def seal(text: str) -> str:
    """Encrypt with the first of CREDENTIAL_KEYS."""
    return cipher().encrypt(text.encode()).decode("ascii")


def opened(text: str) -> str:
    """Decrypt with any of CREDENTIAL_KEYS. Raises Problem where none fits."""
    try:
        return cipher().decrypt(text.encode("ascii")).decode()
    except (InvalidToken, UnicodeError):
        raise Problem(
            "A stored credential cannot be decrypted with any of CREDENTIAL_KEYS.",
            "Put the key that encrypted it back into CREDENTIAL_KEYS, or enter the credential again.",
            code="credential.undecryptable",
        ) from None


def as_stored(row: models.Model, name: str) -> Any:
    """The column of a row without opening it: tells whether there is something, and whether it was replaced."""
    if name in row.get_deferred_fields():
        row.__dict__[name] = type(row)._base_manager.values_list(name, flat=True).get(pk=row.pk)
    return row.__dict__.get(name)


def readable(row: models.Model, name: str) -> bool:
    """Whether a stored secret can be opened, or is empty."""
    try:
        getattr(row, name)
    except Problem:
        return False
    return True


class SealedAttribute(DeferredAttribute):
    """Opens a sealed value the first time that it is asked for."""

    def __get__(self, instance: Any, cls: Any = None) -> Any:
        value = super().__get__(instance, cls)
        if isinstance(value, Sealed):
            value = instance.__dict__[self.field.attname] = opened(value)
        return value

    def __set__(self, instance: Any, value: Any) -> None:
        instance.__dict__[self.field.attname] = value


class EncryptedTextField(models.TextField):  # type: ignore[type-arg]
    """Encrypts on the way in, decrypts when it is asked for; the first of CREDENTIAL_KEYS encrypts, all decrypt.

    `values()` and `values_list()` give what is stored, sealed.
    """

    descriptor_class = SealedAttribute

    def get_prep_value(self, value: Any) -> Any:
        if isinstance(value, Sealed):
            return str(value)
        return value if value in (None, "") else seal(str(value))

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        return as_stored(model_instance, self.attname)  # what nobody opened is stored as it was

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        return value if value in (None, "") else Sealed(value)
