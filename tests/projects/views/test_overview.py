"""The first page: what waits for me, then my projects."""

from __future__ import annotations

import re
from datetime import timedelta

import time_machine
from django.urls import reverse
from django.utils import timezone

from projects.models import Hold, Migration, StandIn, Step
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


def title(text: str) -> str:
    found = re.search(r"<title>(.*?)</title>", text)
    assert found
    return found[1]


def test_the_title_counts_what_waits_also_after_a_live_update(house: House) -> None:
    client = house.client("owner")
    assert title(page(house, "owner")) == "Overview · migrationhub"
    tag = re.search(r"region=live&amp;v=([^\"]*)", page(house, "owner"))
    assert tag
    factories.make_approval(house.wave, house.application)
    assert title(page(house, "owner")) == "(1) Overview · migrationhub"
    region = client.get(f"/?region=live&v={tag[1]}", headers={"HX-Request": "true"}).content.decode()
    assert title(region) == "(1) Overview · migrationhub"
    assert not region.lstrip().startswith("<html")


def test_an_end_that_is_over_is_drawn_without_anybody_doing_anything(house: House) -> None:
    until = timezone.now() + timedelta(minutes=5)
    hold = {"project": house.project, "wave": house.wave, "application": house.application, "until": until}
    Hold.objects.create(kind="uat", by=house.owner, **hold)
    client = house.client("owner")
    text = page(house, "owner")
    assert "The test of Shop is open" in text
    tag = re.search(r"region=live&amp;v=([^\"]*)", text)
    assert tag
    with time_machine.travel(until + timedelta(seconds=1), tick=False):
        factories.make_controller()
        answer = client.get(f"/?region=live&v={tag[1]}", headers={"HX-Request": "true"})
        assert "The test of Shop is overdue" in answer.content.decode()


def test_a_stand_in_reads_for_whom(house: House) -> None:
    factories.make_approval(house.wave, house.application)
    eva = factories.make_member(house.project, "owner", factories.make_user("eva"))
    StandIn.objects.create(
        application=house.application,
        owner=house.owner,
        person=eva,
        starts_at=factories.hours(-1),
        ends_at=factories.hours(5),
        why="holiday",
        by=house.lead,
    )
    house.outsider = eva
    assert 'class="todo-for">for olga</span>' in page(house, "outsider")
    assert "todo-for" not in page(house, "owner")


def test_many_things_are_folded_and_counted(house: House) -> None:
    step = house.migration.steps.get(kind=Step.Kind.STOP)
    for _ in range(15):
        factories.make_break_glass(step, house.lead)
    text = page(house, "owner")
    assert "15 things wait for you" in text
    assert "<summary>3 more</summary>" in text
    every = re.findall(r'\bid="([^"]+)"', text)
    assert len(every) == len(set(every))


def test_who_waits_for_nothing_reads_when_the_next_window_opens(house: House) -> None:
    assert "Whatever you are asked for stands here" in page(house, "manager")
    start = timezone.datetime(2099, 7, 1, 20, 0, tzinfo=timezone.get_fixed_timezone(0))
    type(house.wave).objects.filter(pk=house.wave.pk).update(starts_at=start, time_zone="Europe/Zurich")
    assert "The next window opens" in page(house, "manager")
