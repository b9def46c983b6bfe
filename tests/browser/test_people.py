"""Accounts in a real browser: the second factor, an invitation, a stand-in's page, the audit trail's filter."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from allauth.mfa.totp.internal import auth as totp
from django.contrib.auth.models import User
from django.core.cache import cache
from django.urls import reverse
from django.utils import timezone

from migrationhub.audit.record import record
from projects import invitations
from projects.models import Application, Membership, StandIn
from tests import factories

from .conftest import faults, shoot, too_wide

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
NEW = {"username": "nina", "full_name": "Nina Novak", "password": "quite long enough", "again": "quite long enough"}


def seen(page, name: str) -> None:
    """Nothing that axe finds, nothing that sticks out; a picture where somebody asked for pictures."""
    shoot(page, name)
    assert faults(page) + too_wide(page) == []


def code(secret: str) -> str:
    return totp.format_hotp_value(totp.hotp_value(secret, int(time.time()) // 30))


@pytest.fixture
def anna(live_server) -> User:
    return factories.make_user("anna", log_in=True, first_name="Anna", last_name="Adler", email="anna@example.com")


def log_in(page, name: str) -> None:
    page.get_by_label("User name").fill(name)
    page.get_by_label("Password").fill(factories.PASSWORD)
    page.get_by_role("button", name="Log in").click()


def test_the_second_factor_from_set_up_to_log_in(anna: User, visit, browser, live_server) -> None:
    page = visit(anna, reverse("account"), bypass_csp=True)
    seen(page, "account")
    page.get_by_role("link", name="Set one up").click()
    seen(page, "factor-off")
    page.get_by_role("link", name="Set it up").click()
    seen(page, "is-it-you")
    page.get_by_label("Password").fill(factories.PASSWORD)
    page.get_by_role("button", name="Go on").click()
    secret = page.locator("#secret").inner_text()
    assert page.locator("img.qr").evaluate("image => image.naturalWidth") > 0
    seen(page, "factor-set-up")
    page.get_by_label("Code").fill("000000")
    page.get_by_role("button", name="Switch it on").click()
    page.get_by_text("That code is not right").wait_for()
    page.get_by_label("Code").fill(code(page.locator("#secret").inner_text()))
    page.get_by_role("button", name="Switch it on").click()
    page.get_by_text("10 of 10 are left").wait_for()
    seen(page, "recovery-codes")
    recovery = page.locator(".codes code").first.inner_text()
    page.get_by_role("button", name="Log out").click()
    cache.clear()
    page.goto(reverse("overview"))
    seen(page, "login")
    log_in(page, "anna")
    page.get_by_role("heading", name="Second factor").wait_for()
    seen(page, "code")
    page.get_by_label("Code").fill(code(secret))
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", name="Nothing waits for you").wait_for()
    page.get_by_role("button", name="Log out").click()
    page.goto(reverse("account_login"))
    log_in(page, "anna")
    page.get_by_label("Code").fill(recovery)
    page.get_by_role("button", name="Log in").click()
    page.goto(reverse("mfa_index"))
    page.get_by_text("9 of 10 are left").wait_for()
    seen(page, "factor-on")


def test_another_browser_is_logged_out(anna: User, visit) -> None:
    there = visit(anna, reverse("account_login"))
    there.context.clear_cookies()
    there.goto(reverse("account_login"))
    log_in(there, "anna")
    there.get_by_role("heading", name="Nothing waits").wait_for()
    here = visit(anna, reverse("sessions"), bypass_csp=True)
    seen(here, "sessions")
    here.get_by_role("button", name="End this session").click()
    here.get_by_text("That session has ended").wait_for()
    there.goto(reverse("overview"))
    there.get_by_role("heading", name="Log in").wait_for()


def test_an_expired_session_leads_to_the_log_in_and_back(anna: User, visit) -> None:
    """Within a poll: the whole page goes to the log-in, and comes back to where it was."""
    project = factories.make_project("Basel exit", lead=anna)
    page = visit(anna, reverse("progress", args=[project.slug]))
    page.context.clear_cookies()
    page.get_by_role("heading", name="Log in").wait_for()
    log_in(page, "anna")
    page.wait_for_url(f"**{reverse('progress', args=[project.slug])}")


def test_somebody_is_invited_and_joins_on_a_phone(anna: User, visit) -> None:
    project = factories.make_project("Basel exit", lead=anna)
    Application.objects.create(project=project, name="Mail", slug="mail")
    page = visit(anna, reverse("members", args=[project.slug]), bypass_csp=True)
    page.get_by_role("link", name="Invitations").click()
    page.get_by_label("E-mail address").fill("nina@example.com")
    page.locator("#id_role").select_option("owner")
    page.locator("#id_application").select_option(label="Mail")
    page.get_by_role("button", name="Make the invitation").click()
    words = page.locator(".messages").inner_text()
    assert "was not sent: no mail leaves here" in words
    seen(page, "invitations")
    link = words.split("nobody else: ")[1].strip()
    page.get_by_role("button", name="Log out").click()
    phone = visit(
        anna, reverse("account_login"), bypass_csp=True, viewport={"width": 390, "height": 844}, color_scheme="dark"
    )
    phone.context.clear_cookies()
    phone.goto(link)
    phone.get_by_role("heading", name="Join Basel exit").wait_for()
    seen(phone, "join-phone-dark")
    for name, value in NEW.items():
        phone.fill(f"#id_{name}", value)
    phone.fill("#id_again", "another one")
    phone.get_by_role("button", name="Make the account and join").click()
    phone.get_by_text("The two passwords differ.").wait_for()
    seen(phone, "join-wrong-phone-dark")
    phone.fill("#id_password", NEW["password"])
    phone.fill("#id_again", NEW["again"])
    phone.get_by_role("button", name="Make the account and join").click()
    phone.get_by_text("You are a member of Basel exit now.").wait_for()
    assert Application.objects.get(name="Mail").owner == User.objects.get(username="nina")
    phone.goto(link)
    phone.get_by_text("This invitation was used on").wait_for()
    seen(phone, "join-used-phone-dark")
    # The browser complains about the status of a link that does not count any more.
    assert all("410" in text for text in visit.complaints)
    visit.complaints.clear()


def test_a_stand_in_is_named(anna: User, visit) -> None:
    project = factories.make_project("Basel exit", lead=anna)
    olga = factories.make_user("olga", first_name="Olga", last_name="Owner")
    application = factories.make_application(project, "Shop", owner=olga)
    factories.make_member(
        project, Membership.Role.OWNER, factories.make_user("ben", first_name="Ben", last_name="Berg")
    )
    page = visit(anna, reverse("stand-ins", args=[project.slug]), bypass_csp=True)
    page.get_by_label("Shop (Olga Owner)").check()
    page.locator("#id_person").select_option(label="Ben Berg")
    page.locator("#id_last_day").fill(str(timezone.localdate()))
    page.locator("#id_why").fill("on holiday")
    page.get_by_role("button", name="Name them").click()
    page.get_by_text("Ben Berg for Olga Owner").wait_for()
    seen(page, "stand-ins")
    page.get_by_role("button", name="End").click()
    page.locator("td", has_text="Ended").wait_for()
    assert StandIn.objects.get(application=application).ended_by == anna


def test_the_trail_is_filtered_with_the_keyboard(anna: User, visit) -> None:
    project = factories.make_project("Basel exit", lead=anna)
    migration = factories.make_migration(project=project, source=factories.make_server("shop-db"))
    for number in range(60):
        record("step.done", migration, project_id=project.pk, after={"attempt": number})
    changed = {"before": {"address": "10.0.0.1"}, "after": {"address": "10.0.0.2"}, "address": "198.51.100.7"}
    record("server.change", migration.source, actor=anna, project_id=project.pk, why="It moved.", **changed)
    page = visit(anna, reverse("audit", args=[project.slug]), bypass_csp=True)
    page.get_by_text("page 1 of 2").wait_for()
    seen(page, "audit")
    page.locator("#f-who").select_option("anna")
    page.locator("#f-q").fill("10.0.0.2")
    page.locator("#f-q").press("Enter")
    page.get_by_role("heading", name="1 event").wait_for()
    row = page.locator("tbody tr").first
    assert "server: change" in row.inner_text() and "from 198.51.100.7" in row.inner_text()
    assert page.locator("#f-who").input_value() == "anna"
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert len(lines) == 2 and "10.0.0.2" in lines[1]
    page.get_by_role("link", name="Show everything").click()
    page.get_by_role("link", name="Older").click()
    page.get_by_text("page 2 of 2").wait_for()


@pytest.mark.parametrize(("width", "scheme"), [(1440, "dark"), (390, "light")])
def test_nothing_sticks_out(anna: User, visit, width: int, scheme: str) -> None:
    project = factories.make_project("Basel exit", lead=anna)
    factories.make_application(project, "Shop", owner=factories.make_user("a-user-with-a-very-long-name-indeed"))
    invitations.invite(
        project=project,
        email="a.very.long.address.of.somebody@mail.example.com",
        role="owner",
        application=None,
        user=anna,
    )
    migration = factories.make_migration(project=project, source=factories.make_server("shop-db"))
    changed = {"before": {"url": "https://" + "x" * 80}, "after": {"url": "https://" + "y" * 80}}
    record("platform.change", migration.source, actor=anna, project_id=project.pk, why="w" * 120, **changed)
    page = visit(anna, "/", bypass_csp=True, viewport={"width": width, "height": 900}, color_scheme=scheme)
    for name in ("account", "sessions", "account_change_password", "mfa_index"):
        page.goto(reverse(name))
        seen(page, f"{name}-{width}-{scheme}")
    for name in ("members", "invitations", "stand-ins", "audit"):
        page.goto(reverse(name, args=[project.slug]))
        seen(page, f"{name}-{width}-{scheme}")
