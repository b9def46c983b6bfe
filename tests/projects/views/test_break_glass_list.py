"""The list of what was passed by break-glass: everything, for whoever may see it, and its count in every report."""

from __future__ import annotations

import csv
import io

from django.urls import reverse
from django.utils import timezone

from projects.models import BreakGlass, Step
from tests import factories

from .conftest import House


def text(house: House, who: str, name: str = "break-glass-list") -> str:
    return house.client(who).get(reverse(name, args=[house.project.slug])).content.decode()


def passed(house: House) -> tuple[BreakGlass, BreakGlass]:
    """One that a second person confirmed, and one of another application that nobody has looked at."""
    first = factories.make_break_glass(house.migration.steps.get(kind=Step.Kind.STOP), house.lead)
    BreakGlass.objects.filter(pk=first.pk).update(
        state="in_order", confirmed_by=house.owner, confirmed_at=timezone.now(), comment="I was on the phone."
    )
    second = factories.make_break_glass(
        house.foreign.steps.get(kind=Step.Kind.VALIDATION), house.lead, reason="Night shift ends."
    )
    return first, second


def test_who_when_why_and_what_the_second_person_said(house: House) -> None:
    first, second = passed(house)
    for who in ("lead", "operator", "manager"):
        page = text(house, who)
        assert "2 (1 not confirmed yet)" in page
        assert "The contract ends tonight." in page and "Night shift ends." in page
        assert "Lea Adler" in page and "I was on the phone." in page and "Waits for a second person" in page
        assert page.index(reverse("break-glass", args=[second.pk])) < page.index(
            reverse("break-glass", args=[first.pk])
        )


def test_an_owner_sees_those_of_their_applications(house: House) -> None:
    passed(house)
    page = text(house, "owner")
    assert "1 (all confirmed as in order)" in page
    assert "Night shift ends." not in page
    assert house.client("outsider").get(reverse("break-glass-list", args=[house.project.slug])).status_code == 404


def test_an_empty_list_says_so(house: House) -> None:
    assert "Nothing was passed by break-glass." in text(house, "lead")
    assert "in your applications" in text(house, "owner")


def test_it_is_linked_and_counted_in_progress_audit_and_csv(house: House) -> None:
    address = reverse("break-glass-list", args=[house.project.slug])
    assert f'<a href="{address}">Break-glass</a>: <span class="muted">none</span>' in text(house, "lead", "progress")
    passed(house)
    BreakGlass.objects.filter(state="unconfirmed").update(
        state="not_in_order", confirmed_by=house.owner, confirmed_at=timezone.now()
    )
    assert '<span class="muted">2 (1 not in order)</span>' in text(house, "lead", "progress")
    assert address in text(house, "manager", "audit")
    told = house.client("lead").get(reverse("progress-csv", args=[house.project.slug])).content.decode()
    rows = {row["server"]: row for row in csv.DictReader(io.StringIO(told))}
    assert rows["shop-db"]["break-glass passes"] == "1"
    assert rows["shop-db"]["break-glass"].endswith("(confirmed as in order)")
