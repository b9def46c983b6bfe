"""Stored secrets: sealed until they are used, and a row that no key opens is in nobody's way."""

from __future__ import annotations

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import override_settings

from migrationhub.lib import fields
from migrationhub.lib.findings import Problem
from servers.models import Credential
from tests import factories

pytestmark = pytest.mark.django_db


def stored(credential: Credential) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT secret FROM servers_credential WHERE id = %s", [credential.pk])
        return str(cursor.fetchone()[0])


@pytest.fixture
def lost(db: None) -> Credential:
    """A credential whose key is gone."""
    with override_settings(CREDENTIAL_KEYS=[Fernet.generate_key().decode()]):
        made = factories.make_credential(secret="long gone")
    return Credential.objects.get(pk=made.pk)


def test_a_secret_is_opened_where_it_is_asked_for_and_only_there() -> None:
    made = factories.make_credential(secret="open sesame")
    found = Credential.objects.get(pk=made.pk)
    sealed = found.__dict__["secret"]
    assert isinstance(sealed, fields.Sealed)
    assert repr(sealed) == "<sealed>"
    assert "sesame" not in str(Credential.objects.values_list("secret"))
    assert found.secret == "open sesame"
    found.name = "renamed"
    found.save()
    assert Credential.objects.get(pk=made.pk).secret == "open sesame"


def test_what_was_not_opened_is_stored_as_it_was(lost: Credential) -> None:
    before = stored(lost)
    lost.name = "renamed"
    lost.save()
    lost = Credential.objects.only("name").get(pk=lost.pk)
    lost.save(update_fields=["name", "secret"])
    assert stored(lost) == before
    with pytest.raises(Problem, match="cannot be decrypted"):
        _ = lost.secret


def test_rotation_opens_with_any_key_and_closes_with_the_first() -> None:
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    with override_settings(CREDENTIAL_KEYS=[old]):
        made = factories.make_credential(secret="open sesame")
    with override_settings(CREDENTIAL_KEYS=[new, old]):
        call_command("rotate_keys")
    with override_settings(CREDENTIAL_KEYS=[new]):
        assert Credential.objects.get(pk=made.pk).secret == "open sesame"


def test_rotation_that_cannot_open_a_row_names_it_and_changes_nothing(lost: Credential) -> None:
    kept = factories.make_credential(secret="open sesame")
    before = stored(kept)
    with pytest.raises(CommandError, match=rf"Credential {lost.pk}: A stored credential cannot be decrypted"):
        call_command("rotate_keys")
    assert stored(kept) == before
