"""`manage.py rotate_keys`: encrypt every stored secret anew with the first of CREDENTIAL_KEYS."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand
from django.db import transaction

from migrationhub.lib.fields import EncryptedTextField


class Command(BaseCommand):
    help = "Encrypt every stored secret anew with the first of CREDENTIAL_KEYS; then older keys may be dropped."

    def handle(self, *args: Any, **options: Any) -> None:
        count = 0
        with transaction.atomic():
            for model in apps.get_models():
                fields = [field.name for field in model._meta.concrete_fields if isinstance(field, EncryptedTextField)]
                if not fields:
                    continue
                for row in model._default_manager.only("pk", *fields).iterator():
                    row.save(update_fields=fields)  # read with any key, written with the first
                    count += 1
        self.stdout.write(f"{count} rows encrypted with the first of CREDENTIAL_KEYS.")
