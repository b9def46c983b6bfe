"""One's own e-mail address: changed after the password, by a link in a mail to the new one, and told to the old one."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core import mail
from django.core.cache import cache
from django.test import Client, override_settings
from django.urls import reverse
from django.utils import timezone

from migrationhub.audit.models import AuditEvent
from projects import own_address
from projects.errors import Conflict
from tests import factories

pytestmark = pytest.mark.django_db
WITH_MAIL = override_settings(MAIL_SENT=True)
NO_MAIL = override_settings(MAIL_SENT=False)


@pytest.fixture
def anna(db: None) -> User:
    cache.clear()
    return factories.make_user("anna", log_in=True, email="anna@example.com", first_name="Anna")


def inside(name: str = "anna", *, sure: bool = True) -> Client:
    """A browser in which the person is logged in and, unless `sure` is False, has just entered the password again."""
    client = Client()
    client.post(reverse("account_login"), {"login": name, "password": factories.PASSWORD})
    if sure:
        client.post(reverse("account_reauthenticate"), {"password": factories.PASSWORD})
    return client


def asked(client: Client, to: str = "anna@new.example") -> str:
    """What the page answers, messages too."""
    return client.post(reverse("address"), {"email": to}, follow=True).content.decode()


def link() -> str:
    found = re.search(r"https?://[^/\s]+(/accounts/address/\S+)", mail.outbox[-1].body)
    assert found
    return found[1]


@WITH_MAIL
def test_it_counts_when_the_link_in_the_mail_was_opened_and_pressed(anna: User) -> None:
    client = inside()
    assert "Open the link in it; until then nothing changes." in asked(client, "Anna@New.example")
    assert mail.outbox[-1].to == ["anna@new.example"]
    anna.refresh_from_db()
    assert anna.email == "anna@example.com"
    assert "Is this your address?" in client.get(link()).content.decode()
    anna.refresh_from_db()
    assert anna.email == "anna@example.com", "whatever opens links to look at them changes nothing"
    where = link()
    assert "anna@new.example is your address now" in client.post(where, follow=True).content.decode()
    anna.refresh_from_db()
    assert anna.email == "anna@new.example"
    assert mail.outbox[-1].to == ["anna@example.com"] and "is anna@new.example now" in mail.outbox[-1].body
    event = AuditEvent.objects.get(verb="account.email_change")
    assert (event.actor, event.before, event.after) == (
        anna,
        {"email": "anna@example.com"},
        {"email": "anna@new.example"},
    )
    assert "was changed since this link was sent" in client.post(where, follow=True).content.decode()
    assert AuditEvent.objects.filter(verb="account.email_change").count() == 1


@WITH_MAIL
def test_the_password_is_asked_for_first(anna: User) -> None:
    client = inside(sure=False)
    with time_machine.travel(timezone.now() + timedelta(hours=1)):
        assert "Is it you?" in client.get(reverse("address"), follow=True).content.decode()
        asked(client)
    assert not mail.outbox


@WITH_MAIL
def test_a_link_is_for_one_person_ends_after_a_day_and_can_not_be_forged(anna: User) -> None:
    client = inside()
    asked(client)
    where = link()
    factories.make_user("bert", log_in=True)
    assert "for another account" in inside("bert").post(where, follow=True).content.decode()
    assert "part of it may be missing" in client.post(where[:-3] + "/", follow=True).content.decode()
    with time_machine.travel(timezone.now() + timedelta(hours=25)):
        late = inside()
        assert "it counted for a day" in late.post(where, follow=True).content.decode()
    assert set(User.objects.values_list("email", flat=True)) == {"anna@example.com", ""}


@WITH_MAIL
def test_what_can_not_be_ones_own_is_refused_with_the_reason(anna: User) -> None:
    factories.make_user("bert", email="bert@example.com")
    client = inside()
    assert "is your address already" in asked(client, "anna@example.com")
    assert "belongs to another account" in asked(client, "BERT@example.com")
    assert "Enter a valid email address." in asked(client, "anna")
    assert not mail.outbox


@WITH_MAIL
def test_mails_are_not_sent_again_and_again(anna: User) -> None:
    client = inside()
    asked(client)
    assert "Wait a minute" in asked(client, "anna@third.example")
    assert len(mail.outbox) == 1


@WITH_MAIL
def test_a_server_that_takes_no_mail_is_named_and_may_be_tried_again_at_once(
    anna: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = inside()

    def refuse(self: object) -> int:
        raise ConnectionRefusedError("connection refused")

    with monkeypatch.context() as patch:
        patch.setattr(own_address.EmailMessage, "send", refuse)
        assert "No mail could be sent to anna@new.example: ConnectionRefusedError" in asked(client)
    assert "A mail was sent" in asked(client)


@NO_MAIL
def test_where_no_mail_is_sent_it_counts_at_once_and_the_page_says_so(anna: User) -> None:
    client = inside()
    assert "No mail is sent from here" in client.get(reverse("address")).content.decode()
    assert "anna@new.example is your address now." in asked(client)
    anna.refresh_from_db()
    assert anna.email == "anna@new.example" and not mail.outbox


def test_of_two_changes_at_the_same_time_one_wins(anna: User) -> None:
    other = User.objects.get(pk=anna.pk)
    own_address.change(other, "first@example.com")
    with pytest.raises(Conflict):
        own_address.change(anna, "second@example.com")
    assert User.objects.get(pk=anna.pk).email == "first@example.com"
