"""One's own address and the second factor that is asked for, on a phone and wide, as a person meets them."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse

from tests import factories

from .conftest import faults, shoot, too_wide

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True, "color_scheme": "dark"}


def good(page: Any, name: str) -> None:
    shoot(page, name)
    assert not faults(page) + too_wide(page)


def test_an_address_is_changed_after_the_password(live_server, visit, settings) -> None:
    settings.MAIL_SENT = False
    anna = factories.make_user("anna", log_in=True, email="anna@example.com")
    page = visit(anna, reverse("account"), bypass_csp=True, **PHONE)
    page.get_by_role("link", name="Change it").first.click()
    page.get_by_label("Password").fill(factories.PASSWORD)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Change your e-mail address").wait_for()
    good(page, "address-phone")
    page.get_by_label("New e-mail address").fill("anna@new.example")
    page.get_by_role("button", name="Change the address").click()
    page.get_by_text("anna@new.example is your address now.").wait_for()
    anna.refresh_from_db()
    assert anna.email == "anna@new.example"


def test_who_leads_is_led_to_a_second_factor_from_whatever_was_open(live_server, visit, settings) -> None:
    migration = factories.make_migration()
    lead = migration.project.memberships.get(role="lead").user
    lead.set_password(factories.PASSWORD)
    lead.save()
    page = visit(lead, reverse("overview"), bypass_csp=True)
    page.get_by_role("heading", name="Nothing waits for you").wait_for()
    settings.REQUIRE_SECOND_FACTOR = "leads"
    page.get_by_text("Is it you?").first.wait_for()  # by the next poll of the page that was open
    page.get_by_text("A second factor is asked of you here").first.wait_for()
    page.get_by_label("Password").fill(factories.PASSWORD)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Set up an authenticator app").wait_for()
    good(page, "second-factor-asked")
