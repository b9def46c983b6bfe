"""`manage.py account NAME`: make an account, or give one that exists a new password."""

from __future__ import annotations

import secrets
import sys
from typing import Any

from allauth.mfa.models import Authenticator
from django.contrib.auth.models import User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.validators import validate_email
from django.db import connection, transaction

from migrationhub.audit.record import record


class Command(BaseCommand):
    help = (
        "Make an account or change one. The password is read from standard input (one line); in a terminal, or where "
        "that line is empty, one is generated and printed. What a person may do is decided by the projects that they "
        "are a member of."
    )

    stealth_options = ("stdin",)  # of tests

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="user name")
        parser.add_argument("--staff", action="store_true", help="may make projects")
        parser.add_argument("--full-name", default="", help="as pages show the person")
        parser.add_argument("--email", default="")
        parser.add_argument(
            "--without-second-factor",
            action="store_true",
            help="take authenticator app and recovery codes of an account away, for a lost phone; nothing else changes",
        )

    def handle(self, *args: Any, name: str, **options: Any) -> None:
        if User._meta.db_table not in connection.introspection.table_names():
            raise CommandError("The database has no tables yet: start `make run` first, it makes them; then try again.")
        if options["without_second_factor"]:
            self.take_factor_away(name)
            return
        stream = options.get("stdin") or sys.stdin
        given = "" if stream.isatty() else stream.readline().rstrip("\r\n")
        password = given or secrets.token_urlsafe(12)
        made = account(name, password, staff=options["staff"], full_name=options["full_name"], email=options["email"])
        self.stdout.write(f"The account {name} was {'made' if made else 'changed: it has a new password'}.")
        if not given:
            self.stdout.write(f"Its password: {password}")

    def take_factor_away(self, name: str) -> None:
        user = User.objects.filter(username__iexact=name).first()
        if user is None:
            raise CommandError(f"There is no account “{name}”.")
        with transaction.atomic():
            rows = list(Authenticator.objects.filter(user=user))
            for row in rows:
                row.delete()
        had = "had none" if not rows else "has none any more: its password alone opens it"
        self.stdout.write(f"Second factor: the account {user} {had}.")


def account(name: str, password: str, *, staff: bool = False, full_name: str = "", email: str = "") -> bool:
    """Make or change an account; whether it is new. Raises CommandError where name, password or address will not do.

    What is not given stays as it is; `staff` is never taken away.
    """
    user = User.objects.filter(username__iexact=name).first()
    made = user is None
    user = user or User(username=name)
    user.is_staff = user.is_staff or staff
    if full_name:
        user.first_name, _, user.last_name = full_name.partition(" ")
    user.email = email or user.email
    try:
        User.username_validator(name)
        if user.email:
            validate_email(user.email)
        validate_password(password, user)
    except ValidationError as error:
        words = " ".join(error.messages)
        raise CommandError(f"The account “{name}” was not {'made' if made else 'changed'}: {words}") from error
    user.set_password(password)
    with transaction.atomic():
        user.save()
        record("account.create" if made else "account.password_set", user, after={"staff": user.is_staff})
    return made
