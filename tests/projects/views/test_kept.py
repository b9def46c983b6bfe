"""A form that was refused comes back with what was typed; and an answer that nobody has read is not written over."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from projects.models import ChecklistItem, Decision, StandIn, Step
from tests import factories as make

from .conftest import House

pytestmark = [pytest.mark.whole, pytest.mark.django_db]
WORDS = "Orders of May are missing."


def post(client: Client, name: str, /, *args: object, **data: Any) -> str:
    return unescape(client.post(reverse(name, args=args), data, follow=True).content.decode())


def get(client: Client, name: str, /, *args: object) -> str:
    return unescape(client.get(reverse(name, args=args)).content.decode())


def area(page: str, key: str) -> str:
    found = re.search(rf'<textarea[^>]* id="{key}"[^>]*>(.*?)</textarea>', page, re.DOTALL)
    assert found, f"no {key}"
    return found.group(1)


# -- what was typed -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("digest", "comment"),
    [("older", WORDS), ("x", WORDS * 200), ("older", 'A\r\n<b>"B"</b>')],
    ids=["old", "long", "odd"],
)
def test_a_refused_answer_keeps_its_words_for_the_next_page_alone(house: House, digest: str, comment: str) -> None:
    approval = make.make_approval(house.wave, house.application, digest="x", requested_by=house.lead)
    owner = house.client("owner")
    acceptance = ("acceptance", house.wave.pk, house.application.pk)
    data = {
        "verdict": "reject",
        "comment": comment,
        "digest": digest,
        "next": reverse(acceptance[0], args=acceptance[1:]),
    }
    page = post(owner, "approval-decide", approval.pk, **data)
    assert "Nothing was done." in page and not Decision.objects.exists()
    assert area(page, "comment") == comment
    assert re.search(r'<textarea[^>]* id="comment"[^>]* maxlength="4000" data-kept>', page), "a poll leaves it alone"
    assert area(get(owner, *acceptance), "comment") == ""


def test_it_stands_on_its_own_page_in_its_own_form_for_its_own_person(house: House) -> None:
    approval = make.make_approval(house.wave, house.application, digest="x", requested_by=house.operator)
    owner, lead = house.client("owner"), house.client("lead")
    data = {
        "verdict": "more_time",
        "comment": WORDS,
        "digest": "older",
        "next": reverse("approval", args=[approval.pk]),
    }
    owner.post(reverse("approval-decide", args=[approval.pk]), data)
    assert area(get(owner, "acceptance", house.wave.pk, house.application.pk), "comment") == ""
    assert WORDS not in get(lead, "approval", approval.pk)
    assert area(get(owner, "approval", approval.pk), "comment") == WORDS


def test_defects_of_a_refused_rejection_come_back_row_by_row(house: House) -> None:
    approval = make.make_approval(house.wave, house.application, digest="x", requested_by=house.lead)
    step = house.migration.steps.get(kind=Step.Kind.UAT)
    rows = {
        "defect_title": ["", "Search is “slow”", ""],
        "defect_severity": ["blocking", "minor", "blocking"],
        "defect_step": [step.pk] * 3,
    }
    owner, here = house.client("owner"), reverse("approval", args=[approval.pk])
    page = post(
        owner, "approval-decide", approval.pk, verdict="reject", comment=WORDS, digest="older", next=here, **rows
    )
    assert re.search(r'<details class="more" data-ask open><summary[^>]*>Reject', page)
    assert (
        '<input class="input" id="defect-title-2" name="defect_title" maxlength="200" value="Search is “slow”">' in page
    )
    second = page.partition('id="defect-severity-2"')[2].partition("</fieldset>")[0]
    assert '<option value="minor" selected>' in second and f'<option value="{step.pk}" selected>' in second
    assert page.count('name="defect_title"') == 3
    post(owner, "approval-decide", approval.pk, verdict="reject", comment=WORDS, digest="older", next=here)
    assert 'value="Search is' not in get(owner, "approval", approval.pk)


def test_an_answer_that_is_taken_leaves_nothing_behind(house: House) -> None:
    """Who was refused with 403 saw no page; what is sent well afterwards is what counts."""
    url, here = reverse("hold-add", args=[house.migration.pk]), reverse("migration", args=[house.migration.pk])
    client = house.client("operator")
    client.post(url, {"why": "x" * 4001})
    client.post(url, {"why": "backup first"})
    assert "x" * 4001 not in client.get(here).content.decode()


@pytest.mark.parametrize("name", ["hold-add", "step-pass", "break-glass-confirm", "defect-move"])
def test_reasons_come_back_too(house: House, name: str) -> None:
    step = house.migration.steps.get(kind=Step.Kind.INITIAL)
    make.make_item(step, holds="start")
    passed = make.make_break_glass(step, house.operator)
    defect = make.make_defect(house.migration.steps.get(kind=Step.Kind.UAT))
    key, field = {
        "hold-add": (house.migration.pk, "why"),
        "step-pass": (step.pk, "reason"),
        "break-glass-confirm": (passed.pk, "comment"),
        "defect-move": (defect.pk, "reason"),
    }[name]
    page = post(house.client("lead"), name, key, **{field: WORDS * 200, "to": "mended"})
    assert f"{field}: {len(WORDS) * 200} characters; at most 4000 are kept. Shorten it." in page
    assert WORDS * 200 in page


# -- what somebody else answered ------------------------------------------------------------------------------


def form_of(page: str, item: ChecklistItem) -> dict[str, str]:
    """The hidden fields of the form of a test."""
    url = reverse("checklist-tick", args=[item.pk])
    form = re.search(rf'<form[^>]* action="{url}".*?</form>', page, re.DOTALL)
    assert form
    return dict(re.findall(r'<input type="hidden" name="(next|seen|state)" value="([^"]*)"', form.group(0)))


@pytest.fixture
def item(house: House) -> ChecklistItem:
    stan = make.make_member(house.project, "owner", make.make_user("stan"))
    house.stan = stan  # type: ignore[attr-defined]
    StandIn.objects.create(
        application=house.application,
        owner=house.owner,
        person=stan,
        by=house.lead,
        starts_at=make.hours(-1),
        ends_at=make.hours(5),
        why="away",
    )
    step = house.migration.steps.get(kind=Step.Kind.UAT)
    Step.objects.filter(pk=step.pk).update(state=Step.State.RUNNING, started_at=make.hours(-4))
    return make.make_item(step, "Orders", role="owner")


@pytest.mark.parametrize("name", ["acceptance", "migration"])
@pytest.mark.parametrize("before", ["open", "failed"])
def test_an_answer_on_a_page_from_before_is_refused_and_shows_both(
    house: House, item: ChecklistItem, name: str, before: str
) -> None:
    here = reverse(name, args=[house.wave.pk, house.application.pk] if name == "acceptance" else [house.migration.pk])
    ChecklistItem.objects.filter(pk=item.pk).update(state=before, at=make.hours(-3))
    owner, stan = house.client("owner"), house.client("stan")
    fields = form_of(owner.get(here).content.decode(), item)
    theirs = form_of(stan.get(here).content.decode(), item)
    post(stan, "checklist-tick", item.pk, **theirs | {"state": "failed", "note": "Orders of May are missing"})
    page = post(owner, "checklist-tick", item.pk, **fields | {"state": "done", "note": "All fine"})
    item.refresh_from_db()
    assert (item.state, item.note, item.by) == ("failed", "Orders of May are missing", house.stan)  # type: ignore[attr-defined]
    assert "“Orders” was answered in the meantime: failed, by stan." in page
    assert "You had written: “All fine”" in page and "Orders of May are missing" in page
    fields = form_of(owner.get(here).content.decode(), item)
    post(owner, "checklist-tick", item.pk, **fields | {"state": "done", "note": "All fine"})
    item.refresh_from_db()
    assert (item.state, item.note) == ("done", "All fine")
