"""Accounts: log-in with a second factor, sessions, passwords, and what of all that the audit trail tells."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from html import unescape

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal import auth as totp
from allauth.usersessions.models import UserSession
from cryptography.fernet import Fernet
from django.contrib.auth.models import User
from django.core import mail
from django.core.cache import cache, caches
from django.core.management import call_command
from django.db import connections
from django.test import Client, override_settings
from django.urls import reverse

from migrationhub.audit.models import AuditEvent
from projects.middleware import SEEN, SEEN_EVERY
from tests import factories

from .conftest import House

pytestmark = pytest.mark.django_db
ADDRESS = "198.51.100.7"
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@pytest.fixture
def anna(db: None) -> User:
    return factories.make_user("anna", log_in=True, email="anna@example.com", first_name="Anna", last_name="Adler")


def browser() -> Client:
    return Client(REMOTE_ADDR=ADDRESS, headers={"User-Agent": AGENT})


def log_in(client: Client, name: str = "anna", password: str = factories.PASSWORD, **more: str) -> object:
    return client.post(reverse("account_login"), {"login": name, "password": password, **more})


def text(response: object) -> str:
    return unescape(response.content.decode())  # type: ignore[attr-defined]


def code(secret: str, step: int = 0) -> str:
    return totp.format_hotp_value(totp.hotp_value(secret, int(time.time()) // 30 + step))


def events(*verbs: str) -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(verb__in=verbs).order_by("pk"))


def with_factor(user: User) -> str:
    """The user gets an authenticator app; its secret."""
    secret = totp.generate_totp_secret()
    totp.TOTP.activate(user, secret)
    return secret


# Log-ins and what is recorded of them


def test_a_login_is_recorded_with_who_and_where(anna: User) -> None:
    client = browser()
    log_in(client)
    client.post(reverse("account_logout"))
    told = [(event.verb, event.actor, event.address) for event in events("account.login", "account.logout")]
    assert told == [("account.login", anna, ADDRESS), ("account.logout", anna, ADDRESS)]


def test_a_failed_login_carries_the_name_that_was_tried(anna: User) -> None:
    client = browser()
    assert "do not fit together" in text(log_in(client, "anna", "wrong"))
    log_in(client, "root", "wrong")
    told = [(e.actor, e.actor_name, e.object_label, e.address) for e in events("account.login_failed")]
    assert told == [(None, "anna", "anna", ADDRESS), (None, "root", "root", ADDRESS)]
    assert "wrong" not in str(list(AuditEvent.objects.values()))


TYPED = [
    ("hunter2hunter2", "hu… (14 characters)"),  # long enough to be a password here
    ("My secret!", "My… (10 characters)"),
    ("p&ssw0rd", "p&… (8 characters)"),  # no user name could look like this
    ("x" * 150, "xx… (150 characters)"),
    ("bob@example.com", "bob@example.com"),
    ("admin", "admin"),
]


@pytest.mark.parametrize(("typed", "kept"), TYPED)
def test_a_password_in_the_wrong_field_is_not_kept(anna: User, typed: str, kept: str) -> None:
    log_in(browser(), typed, "wrong")
    assert [event.object_label for event in events("account.login_failed")] == [kept]
    assert typed == kept or typed not in str(list(AuditEvent.objects.values()))


def test_a_known_name_is_kept_whole_whatever_its_length(anna: User) -> None:
    factories.make_user("bartholomaeus", log_in=True)
    log_in(browser(), "Bartholomaeus", "wrong")
    assert [event.actor_name for event in events("account.login_failed")] == ["bartholomaeus"]


def test_refusals_are_recorded_once_a_minute(anna: User) -> None:
    client = browser()
    for _ in range(5):
        log_in(client, password="wrong")
    for _ in range(3):
        assert "Too many failed log-ins" in text(log_in(client))
    assert len(events("account.login_failed")) == 5
    refused = events("account.login_refused")
    assert [(event.object_label, event.address) for event in refused] == [("anna", ADDRESS)]
    assert not events("account.login")


def test_a_flood_gets_429_in_words_and_is_recorded(anna: User) -> None:
    client = browser()
    with override_settings(ACCOUNT_RATE_LIMITS={"login": "2/m/ip"}):
        for _ in range(3):
            response = log_in(client, "eve", "wrong")
    assert response.status_code == 429  # type: ignore[attr-defined]
    assert "That was too often" in text(response)
    assert [event.object_label for event in events("account.login_refused")] == ["eve"]


def test_guessing_is_limited_for_all_web_processes_together() -> None:
    """The cache is a table: what one process counts, all see."""
    cache.set("counted", 5)
    assert type(caches["default"]).__name__ == "DatabaseCache"
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT count(*) FROM cache WHERE cache_key LIKE %s", ["%counted"])
        assert cursor.fetchone() == (1,)


# The second factor


def test_the_second_factor_is_set_up_and_asked_for(anna: User) -> None:
    client = browser()
    log_in(client)
    assert "Is it you?" in text(client.get(reverse("mfa_activate_totp"), follow=True))
    client.post(reverse("account_reauthenticate"), {"password": factories.PASSWORD})
    page = text(client.get(reverse("mfa_activate_totp")))
    secret = page.split('id="secret">')[1].split("<")[0]
    assert 'src="data:image/svg+xml;base64,' in page
    assert "That code is not right" in text(client.post(reverse("mfa_activate_totp"), {"code": "000000"}))
    shown = text(client.post(reverse("mfa_activate_totp"), {"code": code(secret)}, follow=True))
    assert "10 of 10 are left" in shown
    assert [event.after["factor"] for event in events("account.factor_add")] == ["authenticator app", "recovery codes"]
    cache.clear()  # the code that was just used counts once
    other = browser()
    assert log_in(other)["Location"] == reverse("mfa_authenticate")  # type: ignore[index]
    assert other.get(reverse("overview")).status_code == 302
    assert "That code is not right" in text(other.post(reverse("mfa_authenticate"), {"code": "123456"}))
    other.post(reverse("mfa_authenticate"), {"code": code(secret)})
    assert other.get(reverse("overview")).status_code == 200
    assert [event.actor_name for event in events("account.code_failed")] == ["anna"]


def test_the_secret_of_an_app_is_encrypted_and_rotated(anna: User) -> None:
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    with override_settings(CREDENTIAL_KEYS=[old]):
        secret = with_factor(anna)
    assert secret not in str(list(Authenticator.objects.values()))
    with override_settings(CREDENTIAL_KEYS=[new, old]):
        call_command("rotate_keys")
    with override_settings(CREDENTIAL_KEYS=[new]):
        assert Authenticator.objects.get().wrap().validate_code(code(secret))


def test_a_recovery_code_counts_once(anna: User) -> None:
    from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes

    with_factor(anna)
    first = RecoveryCodes.activate(anna).get_unused_codes()[0]
    for counts in (True, False):
        client = browser()
        log_in(client)
        client.post(reverse("mfa_authenticate"), {"code": first})
        assert (client.get(reverse("overview")).status_code == 200) is counts
    assert len(events("account.recovery_code")) == 1


def test_codes_are_not_guessed(anna: User) -> None:
    secret = with_factor(anna)
    client = browser()
    log_in(client)
    for _ in range(6):
        said = text(client.post(reverse("mfa_authenticate"), {"code": "000000"}))
    assert "Too many failed log-ins" in said
    client.post(reverse("mfa_authenticate"), {"code": code(secret)})
    assert client.get(reverse("overview")).status_code == 302
    assert [event.object_label for event in events("account.login_refused")] == ["anna"]


def test_a_lost_phone_is_taken_away_by_a_command(anna: User) -> None:
    with_factor(anna)
    call_command("account", "anna", without_second_factor=True)
    assert not Authenticator.objects.exists()
    assert [event.actor_name for event in events("account.factor_remove")] == ["anna"]
    client = browser()
    log_in(client)
    assert client.get(reverse("overview")).status_code == 200


# Sessions


def test_another_session_is_ended(anna: User) -> None:
    here, there = browser(), browser()
    log_in(here)
    log_in(there)
    page = text(here.get(reverse("sessions")))
    assert page.count("Firefox on Linux") >= 2 and ADDRESS in page
    other = UserSession.objects.get(session_key=there.session.session_key)
    here.post(reverse("session-end", args=[other.pk]))
    assert there.get(reverse("overview")).status_code == 302
    assert here.get(reverse("overview")).status_code == 200
    assert [event.before["address"] for event in events("account.session_end")] == [ADDRESS]


def test_ones_own_session_is_not_ended_by_that_button_nor_somebody_elses(anna: User) -> None:
    here = browser()
    log_in(here)
    mine = UserSession.objects.get()
    assert "use “Log out”" in text(here.post(reverse("session-end", args=[mine.pk]), follow=True))
    assert here.get(reverse("overview")).status_code == 200
    factories.make_user("eve", log_in=True)
    eve = browser()
    log_in(eve, "eve")
    assert eve.post(reverse("session-end", args=[mine.pk])).status_code == 404
    assert UserSession.objects.filter(pk=mine.pk).exists()


def test_all_other_sessions_are_ended(anna: User) -> None:
    here, *others = (browser() for _ in range(3))
    for client in (here, *others):
        log_in(client)
    assert "2 other sessions ended" in text(here.post(reverse("sessions-end"), follow=True))
    assert [client.get(reverse("overview")).status_code for client in (here, *others)] == [200, 302, 302]


def test_however_many_sessions_they_are_asked_for_together(
    anna: User, django_assert_max_num_queries: Callable[[int], AbstractContextManager[object]]
) -> None:
    here, *others = (browser() for _ in range(12))
    for client in (here, *others):
        log_in(client)
    others[0].session.flush()  # expired: not listed any more
    with django_assert_max_num_queries(12):
        page = text(here.get(reverse("sessions")))
    assert page.count("End this session") == 10
    anna.set_password("a much better one")
    anna.save()
    log_in(here, password="a much better one")
    assert "End this session" not in text(here.get(reverse("sessions")))


def test_a_session_in_use_is_noted_every_five_minutes_and_not_more(anna: User) -> None:
    client = browser()
    log_in(client)
    session = client.session
    session[SEEN] -= SEEN_EVERY + 1
    session.save()
    UserSession.objects.update(last_seen_at="2020-01-01T00:00:00Z")
    client.get(reverse("overview"))
    seen = UserSession.objects.get().last_seen_at
    assert seen.year > 2020
    client.get(reverse("overview"))
    assert UserSession.objects.get().last_seen_at == seen


# Passwords


def test_a_password_is_changed_and_other_sessions_end(anna: User) -> None:
    here, there = browser(), browser()
    log_in(here)
    log_in(there)
    page = text(here.get(reverse("account_change_password")))
    assert "password/reset" not in page  # no mail is sent: that page is closed
    new = "a much better one"
    here.post(
        reverse("account_change_password"), {"oldpassword": factories.PASSWORD, "password1": new, "password2": new}
    )
    assert here.get(reverse("overview")).status_code == 200
    assert there.get(reverse("overview")).status_code == 302
    assert [event.actor for event in events("account.password_change")] == [anna]
    assert new not in str(list(AuditEvent.objects.values()))


def test_without_mail_the_login_page_says_who_helps(anna: User) -> None:
    assert "No mail is sent from here" in text(browser().get(reverse("account_login")))


@override_settings(MAIL_SENT=True)
def test_a_forgotten_password_is_set_by_a_link_that_counts_once(anna: User) -> None:
    client = browser()
    assert reverse("account_reset_password") in text(client.get(reverse("account_login")))
    said = text(client.post(reverse("account_reset_password"), {"email": "ANNA@example.com"}, follow=True))
    assert "Look into your mailbox" in said
    (message,) = mail.outbox
    assert message.to == ["anna@example.com"] and "[migrationhub]" in message.subject
    link = next(word for word in message.body.split() if "/password/reset/key/" in word)
    form = client.get(link, follow=True)
    assert "Set a new password" in text(form)
    new = "a much better one"
    client.post(form.request["PATH_INFO"], {"password1": new, "password2": new})
    log_in(client, password=new)
    assert client.get(reverse("overview")).status_code == 200
    assert "does not count any more" in text(browser().get(link, follow=True))
    assert [event.actor for event in events("account.password_reset")] == [anna]


@override_settings(MAIL_SENT=True)
def test_nobody_gets_mail_for_an_address_without_account_and_nobody_learns_of_it(anna: User) -> None:
    said = text(browser().post(reverse("account_reset_password"), {"email": "eve@example.com"}, follow=True))
    assert "Look into your mailbox" in said
    assert mail.outbox == []


# Logging in again


def test_an_expired_session_leads_back_to_the_page_that_was_open(house: House) -> None:
    open_page = f"http://testserver{reverse('wave-board', args=[house.wave.pk])}?all=1"
    headers = {"HX-Request": "true", "HX-Current-URL": open_page}
    asked = house.client("anonymous").get(
        reverse("migration", args=[house.migration.pk]), {"region": "live", "v": "x"}, headers=headers
    )
    assert asked.status_code == 200
    assert asked["HX-Redirect"] == f"/accounts/login/?next=%2Fwaves%2F{house.wave.pk}%2F%3Fall%3D1"
    house.lead.set_password(factories.PASSWORD)
    house.lead.save()
    client = browser()
    back = client.post(asked["HX-Redirect"], {"login": "lea", "password": factories.PASSWORD})
    assert back["Location"] == f"/waves/{house.wave.pk}/?all=1"
    assert client.get(back["Location"]).status_code == 200


def test_a_press_after_the_session_ended_leads_back_to_its_page_not_to_the_button(house: House) -> None:
    page = reverse("migration", args=[house.migration.pk])
    press = house.client("anonymous").post(
        reverse("hold-add", args=[house.migration.pk]), {"why": "x"}, headers={"Referer": f"http://testserver{page}"}
    )
    assert press["Location"] == f"/accounts/login/?next=%2Fmigrations%2F{house.migration.pk}%2F"


@pytest.mark.parametrize("address", ["https://evil.example/waves/1/", "javascript:alert(1)", ""])
def test_nobody_is_led_elsewhere(house: House, address: str) -> None:
    headers = {"HX-Request": "true", "HX-Current-URL": address}
    asked = house.client("anonymous").get(reverse("overview"), headers=headers)
    assert asked["HX-Redirect"] == reverse("account_login")


def test_the_account_page_names_roles(house: House) -> None:
    page = text(house.client("operator").get(reverse("account")))
    assert "Basel exit" in page and "Operator: runs" in page
    assert "No second factor" in page
