"""`manage.py rotate_keys`: encrypt every stored secret anew with the first of CREDENTIAL_KEYS."""

from __future__ import annotations

from typing import Any

from allauth.mfa.models import Authenticator
from django.apps import apps
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from migrationhub.lib.fields import EncryptedTextField, opened, seal
from migrationhub.lib.findings import Problem

SECRETS_OF_CODES = ("secret", "seed")  # of an authenticator app, of recovery codes


class Command(BaseCommand):
    help = "Encrypt every stored secret anew with the first of CREDENTIAL_KEYS; then older keys may be dropped."

    def handle(self, *args: Any, **options: Any) -> None:
        with transaction.atomic():
            count = sum(self.rotate(model) for model in apps.get_models()) + self.rotate_codes()
        self.stdout.write(f"{count} rows encrypted with the first of CREDENTIAL_KEYS.")

    def rotate(self, model: Any) -> int:
        fields = [field.name for field in model._meta.concrete_fields if isinstance(field, EncryptedTextField)]
        count = 0
        for row in model._default_manager.only("pk", *fields).iterator() if fields else ():
            try:
                for name in fields:
                    setattr(row, name, getattr(row, name))  # read with any key, written with the first
            except Problem as problem:
                raise CommandError(f"{model.__name__} {row.pk}: {problem} Nothing was changed.") from problem
            row.save(update_fields=fields)
            count += 1
        return count

    def rotate_codes(self) -> int:
        count = 0
        for row in Authenticator.objects.select_for_update():
            try:
                row.data |= {name: seal(opened(row.data[name])) for name in SECRETS_OF_CODES if name in row.data}
            except Problem as problem:
                raise CommandError(f"Second factor {row.pk}: {problem} Nothing was changed.") from problem
            row.save(update_fields=["data"])
            count += 1
        return count
