"""`manage.py account`."""

from __future__ import annotations

import io

import pytest
from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection

pytestmark = pytest.mark.django_db


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def make(name: str, typed: io.StringIO, *more: str) -> str:
    out = io.StringIO()
    call_command("account", name, *more, stdin=typed, stdout=out)
    return out.getvalue()


def test_a_password_from_standard_input_is_taken_and_not_shown() -> None:
    said = make("lead", io.StringIO("correct horse battery\n"), "--staff", "--full-name", "Lena van Lead")
    assert said == "The account lead was made.\n"
    user = authenticate(username="lead", password="correct horse battery")
    assert isinstance(user, User)
    assert (user.is_staff, user.get_full_name()) == (True, "Lena van Lead")


@pytest.mark.parametrize(
    "typed", [Terminal(), io.StringIO(""), io.StringIO("\n")], ids=["terminal", "nothing", "empty"]
)
def test_a_password_is_generated_and_shown_once(typed: io.StringIO) -> None:
    said = make("owner", typed)
    password = said.splitlines()[1].removeprefix("Its password: ")
    assert authenticate(username="owner", password=password) is not None


def test_an_account_that_exists_gets_a_new_password_and_keeps_the_rest() -> None:
    make("lead", io.StringIO("correct horse battery\n"), "--staff", "--email", "lead@example.org")
    said = make("Lead", io.StringIO("another good password\n"))
    assert said == "The account Lead was changed: it has a new password.\n"
    user = User.objects.get()
    assert (user.username, user.is_staff, user.email) == ("lead", True, "lead@example.org")
    assert user.check_password("another good password")


@pytest.mark.parametrize(
    ("name", "password", "more", "words"),
    [
        ("lead", "short", (), "This password is too short"),
        ("le ad", "correct horse battery", (), "Enter a valid username"),
        ("lead", "correct horse battery", ("--email", "lead@"), "Enter a valid email address"),
    ],
)
def test_what_will_not_do_is_told_and_nothing_is_made(
    name: str, password: str, more: tuple[str, ...], words: str
) -> None:
    with pytest.raises(CommandError, match=words):
        make(name, io.StringIO(f"{password}\n"), *more)
    assert not User.objects.exists()


def test_without_tables_it_says_what_makes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection.introspection, "table_names", list)
    with pytest.raises(CommandError, match="no tables yet: start `make run` first"):
        make("lead", io.StringIO("correct horse battery\n"))
