"""What fields and addresses may be sent: a wrong value is refused in words or left out, and never a fault."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from projects.models import Approval, ChangeFreeze, ChecklistItem, Hold, StandIn, Wave
from servers.models import Credential, NameServer, Platform
from tests import factories as make

from .conftest import House

pytestmark = [pytest.mark.whole, pytest.mark.django_db]
NUMBERS = ["²", "9" * 30, "9" * 3000, "-1", "x"]
NEXT_YEAR = timezone.now().year + 1


def sent(house: House, address: str, /, *args: object, who: str = "lead", **data: Any) -> str:
    """The page that follows, whether by redirect or with the form's errors."""
    response = house.client(who).post(reverse(address, args=args), data, follow=True)
    assert response.status_code == 200
    return unescape(response.content.decode())


def entered(house: House, kind: str, **more: str) -> Credential:
    """A credential whose secret the lead entered."""
    data = {"kind": kind, "name": kind, "username": "key.example", "secret": "s", **more}
    sent(house, "credential-new", house.project.slug, **data)
    return Credential.objects.get(name=kind)


# -- dates ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "starts", "ends", "words"),
    [
        (
            "America/New_York",
            f"{NEXT_YEAR}-01-01T00:00",
            "9999-12-31T23:59",
            "ends: “9999-12-31” is too far from today.",
        ),
        (
            "Europe/Zurich",
            "0001-01-01T00:00",
            f"{NEXT_YEAR}-01-01T00:00",
            "starts: “0001-01-01” is too far from today.",
        ),
        ("UTC", f"{NEXT_YEAR}-01-01T00:00", f"{NEXT_YEAR + 9}-01-01T00:00", "Enter a day from 2000-01-01 to "),
        ("UTC", f"{NEXT_YEAR}-01-01T00:00", f"{NEXT_YEAR + 1}-02-01T00:00", "is more than a year after the start “"),
    ],
)
@pytest.mark.parametrize("kind", ["wave-new", "freeze-new"])
def test_a_window_at_the_ends_of_time_is_refused(
    house: House, kind: str, zone: str, starts: str, ends: str, words: str
) -> None:
    data = {"name": "typo", "number": "7", "starts_at": starts, "ends_at": ends, "time_zone": zone}
    page = sent(house, kind, house.project.slug, **data)
    assert words in page or words[0].upper() + words[1:] in page
    assert f'value="{ends}"' in page, "what was typed is still there"
    assert not ChangeFreeze.objects.exists() and Wave.objects.count() == 1


def test_a_stored_freeze_without_end_does_not_hold_the_page_up(house: House) -> None:
    starts, ends = datetime(2026, 12, 20, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
    for year in (2926, 9999):
        ChangeFreeze.objects.create(
            project=house.project,
            name="typo",
            starts_at=starts,
            ends_at=ends.replace(year=year),
            time_zone="Europe/Zurich",
        )
    begun = time.monotonic()
    assert house.client("manager").get(reverse("waves", args=[house.project.slug])).status_code == 200
    assert time.monotonic() - begun < 2


@pytest.mark.parametrize("field", ["first_day", "last_day"])
@pytest.mark.parametrize("day", ["9999-12-31", "0001-01-01"])
def test_a_stand_in_has_days_that_exist_in_every_zone(house: House, field: str, day: str) -> None:
    house.project.time_zone = "Europe/Zurich"
    house.project.save()
    stan = make.make_member(house.project, "owner", make.make_user("stan"))
    days = {"first_day": f"{NEXT_YEAR}-01-01", "last_day": f"{NEXT_YEAR}-01-05", field: day}
    data = {"applications": [house.application.pk], "person": stan.pk, "why": "away", **days}
    page = sent(house, "stand-ins", house.project.slug, **data)
    assert f"{'First' if field == 'first_day' else 'Last'} day: “{day}” is too far from today." in page
    assert not StandIn.objects.exists()


@pytest.mark.parametrize("address", ["audit", "audit-csv"])
@pytest.mark.parametrize("query", [{"until": "9999-12-31"}, {"since": "0001-01-01"}, {"since": "1999-12-31"}])
def test_the_trail_at_the_ends_of_time(house: House, address: str, query: dict[str, str]) -> None:
    house.project.time_zone = "Europe/Zurich"
    house.project.save()
    response = house.client("lead").get(reverse(address, args=[house.project.slug]), query)
    assert response.status_code == 200
    if address == "audit":
        assert f"“{next(iter(query.values()))}” is no day of 2000 to 2999." in unescape(response.content.decode())


@pytest.mark.parametrize("until", ["9999-12-31T23:59-08:00", "9999-12-31T23:59", "0001-01-01T00:00+09:00"])
def test_a_test_is_not_promised_for_the_end_of_time(house: House, until: str) -> None:
    page = sent(house, "uat-open", house.wave.pk, house.application.pk, who="owner", until=until)
    assert f"until: “{until[:10]}” is too far from today. Enter a day from" in page


# -- numbers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", NUMBERS)
def test_a_number_that_is_none_is_refused_where_it_is_sent(house: House, value: str) -> None:
    approval = make.make_approval(house.wave, house.application, digest="x")
    defect = make.make_defect(house.migration.steps.get(kind="acceptance_testing"))
    page = sent(house, "approval-delegate", approval.pk, who="owner", to=value)
    assert f"to={value[:40]}: choose a member of Basel exit." in page
    page = sent(house, "defect-change", defect.pk, severity="minor", reason="z", assignee=value)
    assert f"assignee={value[:40]}: " in page
    page = sent(house, "defect-change", defect.pk, severity="minor", reason="z", seen_version=value)
    assert f"seen_version={value[:40]}: expected a whole number from 0 on." in page
    rejected = {"verdict": "reject", "comment": "n", "digest": "x", "defect_title": "t", "defect_step": value}
    page = sent(house, "approval-decide", approval.pk, who="owner", **rejected)
    assert "Defect “t”: choose the server on which it was found." in page
    page = sent(house, "server-many", house.project.slug, lines=f"a 10.0.0.9:{value}", manager="systemd")
    assert f"port “{value[:40]}” is not a port." in page
    page = sent(house, "known-hosts", house.project.slug, text="x", server=value)
    assert f"For these servers “{value[:77]}" in page
    assert house.client("lead").get(reverse("profile-new", args=[house.project.slug]), {"platform": value})


@pytest.mark.parametrize("value", NUMBERS)
def test_a_key_that_no_row_has_is_a_wrong_tick(house: House, value: str) -> None:
    page = sent(house, "stand-ins", house.project.slug, applications=[value], why="away")
    assert f"For “{value[:77]}" in page
    page = sent(house, "application-new", house.project.slug, name="New", waits_for=[value])
    assert f"Waits for “{value[:77]}" in page


@pytest.mark.parametrize("name", ["server", "server-edit", "server-check", "server-withdraw"])
def test_a_server_with_a_number_that_no_row_can_hold_is_not_found(house: House, name: str) -> None:
    address, client = reverse(name, args=[house.project.slug, 10**19]), house.client("lead")
    press = name in ("server-check", "server-withdraw")
    assert (client.post(address) if press else client.get(address)).status_code == 404


@pytest.mark.parametrize(
    ("field", "value", "label"),
    [
        ("bandwidth", "3000000000", "Bandwidth limit"),
        ("bandwidth", "9" * 30, "Bandwidth limit"),
        ("nic_type_id", "9" * 99, "NIC type"),
        ("nic_type_id", "²", "NIC type"),
    ],
)
def test_a_profile_keeps_no_number_that_its_row_cannot_hold(house: House, field: str, value: str, label: str) -> None:
    profile = house.migration.profile
    assert profile is not None
    data = {"name": "P", "platform": profile.platform_id, field: value}
    assert f"{label} “{value[:77]}" in sent(house, "profile-edit", house.project.slug, profile.pk, **data)


# -- addresses ------------------------------------------------------------------------------------------------

URLS = [
    "https://[::1",
    "https://vme\uff0fx",
    "https://a..b:1",
    "https://" + "a" * 64 + ".example",
    "https://h:99999999",
    "https://h:abc",
    "https://a b",
    "https://*",
]


@pytest.mark.parametrize("url", URLS)
def test_an_address_that_nothing_can_connect_to_is_refused(house: House, url: str) -> None:
    data = {"name": "New", "kind": "vme", "url": url, "credential": entered(house, "api").pk}
    assert f"URL “{url}” has no host, or no port, that" in sent(house, "platform-new", house.project.slug, **data)
    assert not Platform.objects.filter(name="New").exists()
    data = {"name": "x", "format": "generic", "url": url, "kinds": ["asked"], "is_on": "1"}
    assert "That is no address of a webhook." in sent(house, "webhook-new", house.project.slug, **data)


@pytest.mark.parametrize("url", URLS)
def test_an_address_that_was_stored_before_is_no_fault_of_the_page(house: House, url: str) -> None:
    assert house.migration.profile is not None
    platform = house.migration.profile.platform
    Platform.objects.filter(pk=platform.pk).update(url=url)
    response = house.client("lead").get(
        reverse("profile-new", args=[house.project.slug]), {"platform": platform.pk, "load": "1"}
    )
    assert response.status_code == 200
    assert "is no address of an appliance" in unescape(response.content.decode())


def test_a_referer_that_is_no_address_is_left_out(house: House) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(house.lead, "django.contrib.auth.backends.ModelBackend")
    url = reverse("hold-add", args=[house.migration.pk])
    assert client.post(url, {"why": "x"}, headers={"Referer": "https://[::1"}).status_code == 403
    response = Client().post(url, {"why": "x"}, headers={"Referer": "https://[::1"})
    assert response.status_code == 302


# -- texts ----------------------------------------------------------------------------------------------------


def test_a_nul_is_refused_in_every_text_that_is_kept(house: House) -> None:
    step = house.migration.steps.get(kind="initial_migration")
    item = make.make_item(step)
    approval = make.make_approval(house.wave, house.application, digest="x")
    words = "it holds a NUL character"
    assert f"why: {words}" in sent(house, "hold-add", house.migration.pk, why="a\0b")
    assert f"note: {words}" in sent(house, "checklist-tick", item.pk, state="done", note="a\0b")
    assert f"reason: {words}" in sent(house, "step-pass", step.pk, understood="1", reason="it must go on\0 tonight")
    titles = {"defect_title": ["a\0b", "c"], "defect_step": [step.pk, step.pk]}
    rejected = {"verdict": "reject", "comment": "no", "digest": "x", **titles}
    assert f"defect_title: {words}" in sent(house, "approval-decide", approval.pk, who="owner", **rejected)
    assert not Hold.objects.exists()
    assert ChecklistItem.objects.get(pk=item.pk).state == "open"
    assert Approval.objects.get(pk=approval.pk).state == "requested"


def test_the_trail_is_searched_without_nuls(house: House) -> None:
    query = {"q": "a\0b", "who": "\0", "what": "\0", "kind": "\0"}
    response = house.client("lead").get(reverse("audit", args=[house.project.slug]), query)
    wanted = response.context["wanted"]
    assert (wanted.q, wanted.who, wanted.what, wanted.kind) == ("ab", "", "", "")


def test_a_link_longer_than_its_column_is_refused(house: House) -> None:
    item = make.make_item(house.migration.steps.get(kind="initial_migration"))
    link = "https://x.example/" + "a" * 500
    page = sent(house, "checklist-tick", item.pk, state="done", link=link)
    assert "link: 518 characters; at most 500 are kept." in page
    item.refresh_from_db()
    assert (item.state, item.link) == ("open", "")


def test_line_ends_count_once(house: House) -> None:
    """As the browser counts them, whose limit of 4000 characters the field has."""
    why = "a\r\n" * 2000
    sent(house, "hold-add", house.migration.pk, why=why)
    assert Hold.objects.exists()


# -- twice ----------------------------------------------------------------------------------------------------


def test_a_form_that_is_sent_twice_makes_one_row(house: House) -> None:
    slug = house.project.slug
    api, tsig = entered(house, "api"), entered(house, "tsig", secret="YWJj", algorithm="hmac-sha256")
    vme = {"name": "VME", "kind": "vme", "url": "https://127.0.0.1:1", "credential": api.pk}
    sent(house, "platform-new", slug, **vme)
    assert "Name “vme” is another platform's." in sent(house, "platform-new", slug, **vme | {"name": "vme"})
    ns = {"name": "ns", "address": "10.0.0.1", "port": 53, "zone": "shop.lab", "credential": tsig.pk}
    sent(house, "name-server-new", slug, **ns)
    assert "Name “ns” is another name server's." in sent(house, "name-server-new", slug, **ns)
    assert (Platform.objects.filter(name__iexact="VME").count(), NameServer.objects.count()) == (1, 1)
    own = Platform.objects.get(name="VME")
    sent(house, "platform-edit", slug, own.pk, **vme | {"url": "https://127.0.0.1:2", "secret_again": "s"})
    own.refresh_from_db()
    assert own.url == "https://127.0.0.1:2", "its own name is no other's"
