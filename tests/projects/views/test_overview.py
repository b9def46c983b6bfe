"""The first page: what waits for me, then my projects."""

from __future__ import annotations

from django.urls import reverse
from django.utils import timezone

from projects.models import Migration, Step
from tests import factories

from .conftest import House


def page(house: House, who: str = "lead") -> str:
    return house.client(who).get(reverse("overview")).content.decode()


def test_a_failed_step_waits_for_those_who_run_it(house: House) -> None:
    Step.objects.filter(migration=house.migration, kind=Step.Kind.STOP).update(state="attention", reason="cron runs.")
    for who in ("lead", "operator"):
        text = page(house, who)
        assert "1 thing waits for you" in text, who
        assert "cron runs." in text
    for who in ("manager", "owner", "outsider"):
        assert "Nothing waits for you" in page(house, who), who


def test_a_sign_off_waits_for_its_owner_alone(house: House) -> None:
    factories.make_approval(house.wave, house.application)
    text = page(house, "owner")
    assert "Sign-off of Shop" in text
    assert reverse("acceptance", args=[house.wave.pk, house.application.pk]) in text
    assert "Sign-off of Shop" not in page(house, "lead")


def test_projects_with_counts(house: House) -> None:
    now = timezone.now()
    Migration.objects.filter(pk=house.migration.pk).update(state="complete", completed_at=now, declared_at=now)
    text = page(house)
    assert "<b>1</b> of 2" in text
    assert "1 not begun" in text
    assert "you lead" in text
    own = page(house, "owner")
    assert "<b>1</b> of 1" in own  # the own server only
    assert "you own" in own


def test_an_outsider_is_told_what_to_do(house: House) -> None:
    text = page(house, "outsider")
    assert house.project.name not in text
    assert "You are in no project yet" in text


def test_times_are_in_the_zone_of_the_wave(house: House) -> None:
    start = timezone.datetime(2099, 7, 1, 20, 0, tzinfo=timezone.get_fixed_timezone(0))
    type(house.wave).objects.filter(pk=house.wave.pk).update(starts_at=start, time_zone="Europe/Zurich")
    assert "Wed 1 Jul 22:00 CEST" in page(house)


def test_login_page_and_log_out(house: House) -> None:
    client = house.client("anonymous")
    user = factories.make_user("vera", log_in=True)
    login = reverse("account_login")
    assert 'autocomplete="current-password"' in client.get(login).content.decode()
    wrong = client.post(login, {"login": "vera", "password": "wrong"})
    assert 'role="alert"' in wrong.content.decode()
    right = client.post(login, {"login": "vera", "password": factories.PASSWORD})
    assert right["Location"] == reverse("overview")
    assert client.get(reverse("overview")).context["user"] == user
    client.post(reverse("account_logout"))
    assert client.get(reverse("overview")).status_code == 302


def test_nobody_signs_up(house: House) -> None:
    response = house.client("anonymous").post(
        reverse("account_signup"), {"username": "eve", "password1": "long-enough-1", "password2": "long-enough-1"}
    )
    assert b"eve" not in response.content
    assert not type(house.lead).objects.filter(username="eve").exists()
    assert "topbar" in house.client("anonymous").get(reverse("account_signup")).content.decode()
