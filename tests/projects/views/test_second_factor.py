"""REQUIRE_SECOND_FACTOR: who is led to set one up before any page, and what stays open on the way there."""

from __future__ import annotations

import time

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal import auth as totp
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from migrationhub.lib import env
from projects.models import Hold
from tests import factories

from .conftest import House

SET_UP = "A second factor is asked of you here"


def led_to_set_it_up(client: Client, address: str = "/") -> bool:
    answer = client.get(address)
    return answer.status_code == 302 and answer["Location"] == reverse("mfa_activate_totp")


@pytest.mark.whole
@pytest.mark.parametrize(
    ("rule", "asked"),
    [("off", set()), ("leads", {"lead"}), ("all", {"lead", "operator", "owner", "manager", "outsider"})],
)
def test_who_is_asked(house: House, rule: str, asked: set[str]) -> None:
    people = ("lead", "operator", "owner", "manager", "outsider")
    with override_settings(REQUIRE_SECOND_FACTOR=rule):
        assert {who for who in people if led_to_set_it_up(house.client(who))} == asked


def test_staff_are_asked_like_leads(house: House) -> None:
    User.objects.filter(pk=house.outsider.pk).update(is_staff=True)
    with override_settings(REQUIRE_SECOND_FACTOR="leads"):
        assert led_to_set_it_up(house.client("outsider"), reverse("audit-all"))


@override_settings(REQUIRE_SECOND_FACTOR="all")
def test_nothing_is_pressed_and_no_region_is_drawn_without_it(house: House) -> None:
    client = house.client("lead")
    answer = client.post(reverse("hold-add", args=[house.migration.pk]), {"why": "wait"})
    assert answer["Location"] == reverse("mfa_activate_totp")
    assert not Hold.objects.exists()
    part = client.get("/?region=live&v=x", headers={"HX-Request": "true"})
    assert part["HX-Redirect"] == reverse("mfa_activate_totp")
    assert not part.content
    assert led_to_set_it_up(client, reverse("progress-csv", args=[house.project.slug]))
    assert led_to_set_it_up(client, reverse("account"))
    assert Client().get("/")["Location"].startswith(reverse("account_login"))


@override_settings(REQUIRE_SECOND_FACTOR="all")
def test_from_the_log_in_to_the_pages_by_way_of_the_app(house: House) -> None:
    factories.make_user("vera", log_in=True)
    client = Client()
    client.post(reverse("account_login"), {"login": "vera", "password": factories.PASSWORD})
    page = client.get("/", follow=True).content.decode()
    assert SET_UP in page
    client.post(reverse("account_reauthenticate"), {"password": factories.PASSWORD})
    page = client.get(reverse("mfa_activate_totp")).content.decode()
    secret = page.split('id="secret">')[1].split("<")[0]
    code = totp.format_hotp_value(totp.hotp_value(secret, int(time.time()) // 30))
    client.post(reverse("mfa_activate_totp"), {"code": code}, follow=True)
    assert Authenticator.objects.filter(user__username="vera").exists()
    assert client.get("/").status_code == 200
    client.post(reverse("mfa_deactivate_totp"))
    assert led_to_set_it_up(client), "taken away: asked again"


@override_settings(REQUIRE_SECOND_FACTOR="all")
def test_password_and_log_out_stay_open(house: House) -> None:
    house.owner.set_password(factories.PASSWORD)
    house.owner.save()
    client = house.client("owner")
    assert client.get(reverse("account_change_password")).status_code == 200
    assert client.get(reverse("account_logout")).status_code == 200


def test_it_costs_one_query_and_none_where_it_is_off(house: House) -> None:
    totp.TOTP.activate(house.lead, totp.generate_totp_secret())
    counts = {}
    for rule in ("off", "leads", "all"):
        client = house.client("lead")
        client.get("/")
        with override_settings(REQUIRE_SECOND_FACTOR=rule), CaptureQueriesContext(connection) as queries:
            assert client.get(reverse("progress", args=[house.project.slug])).status_code == 200
        counts[rule] = len(queries)
    assert counts["leads"] == counts["all"] == counts["off"] + 1


def test_a_wrong_word_is_named_with_what_was_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUIRE_SECOND_FACTOR", "sometimes")
    with pytest.raises(env.ConfigurationError, match="sometimes: expected off, leads or all"):
        env.choice("REQUIRE_SECOND_FACTOR", ("off", "leads", "all"))
    monkeypatch.delenv("REQUIRE_SECOND_FACTOR")
    assert env.choice("REQUIRE_SECOND_FACTOR", ("off", "leads", "all")) == "off"
