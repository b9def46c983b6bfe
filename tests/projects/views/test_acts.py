"""Buttons: the verb is called with what the form carried; what it says reaches the person; a reload repeats nothing."""

from __future__ import annotations

import re

import pytest
from django.urls import reverse
from django.utils import timezone

from projects import offers as offering
from projects.errors import Conflict, Forbidden, NotReady
from projects.models import ChecklistItem, Hold, Migration, Step
from tests import factories

from .conftest import House

Kind = Step.Kind


def step_of(house: House, kind: str = Kind.INITIAL) -> Step:
    return house.migration.steps.get(kind=kind)


def shown(response) -> list[str]:
    """The messages on the page that a press ended on."""
    text = response.content.decode()
    return [re.sub(r"<[^>]+>", "", found).strip() for found in re.findall(r'callout-title">(.*?)</p>', text)]


def test_the_drawn_button_starts_the_step(house: House) -> None:
    page = house.client("operator").get(reverse("migration", args=[house.migration.pk])).content.decode()
    form = page.split(reverse("step-start", args=[step_of(house).pk]), 1)[1].split("</form>", 1)[0]
    fields = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form))
    response = house.client("operator").post(reverse("step-start", args=[step_of(house).pk]), fields, follow=True)
    assert response.redirect_chain == [(reverse("migration", args=[house.migration.pk]), 303)]
    assert shown(response) == ["Initial migration was started."]
    step = step_of(house)
    assert step.state == "running"
    assert step.attempts.get().started_by == house.operator


def test_an_old_page_starts_nothing_and_is_shown_what_is_now(house: House) -> None:
    url = reverse("step-start", args=[step_of(house).pk])
    Step.objects.filter(pk=step_of(house).pk).update(state="cancelled")
    response = house.client("lead").post(url, {"seen_state": "waiting", "seen_attempt": "0"}, follow=True)
    (said,) = shown(response)
    assert said.startswith("Nothing was done.")
    assert "is cancelled now" in said
    assert not step_of(house).attempts.exists()


@pytest.mark.parametrize("value", ["", "one", "1.5", "-1", "²", "9" * 30])
def test_a_form_without_its_number_names_the_field(house: House, value: str) -> None:
    url = reverse("step-start", args=[step_of(house).pk])
    response = house.client("lead").post(url, {"seen_state": "waiting", "seen_attempt": value}, follow=True)
    assert f"seen_attempt={value}: expected a whole number from 0 on." in shown(response)[0]


def test_what_is_missing_is_said_in_words(house: House) -> None:
    Migration.objects.filter(pk=house.migration.pk).update(profile=None)
    url = reverse("step-start", args=[step_of(house).pk])
    response = house.client("lead").post(url, {"seen_state": "waiting", "seen_attempt": "0"}, follow=True)
    assert "It has no profile" in shown(response)[0]


VERBS = [
    ("step-retry", "projects.workflow.retry_step", {"seen_attempt": "2"}, {"seen_attempt": 2}),
    ("step-cancel", "projects.workflow.cancel_step", {"seen_attempt": "2"}, {"seen_attempt": 2}),
    ("migration-abort", "projects.workflow.abort_cutover", {"why": "no mail"}, {"why": "no mail"}),
    ("migration-complete", "projects.workflow.declare_complete", {}, {}),
    ("delta-schedule", "projects.workflow.set_delta_schedule", {"minutes": "15"}, {"minutes": 15}),
]


def url_of(house: House, name: str) -> str:
    return reverse(name, args=[step_of(house).pk if name.startswith("step") else house.migration.pk])


@pytest.mark.parametrize(("name", "verb", "fields", "wanted"), VERBS)
def test_the_verb_gets_what_the_form_carried(house: House, monkeypatch, name, verb, fields, wanted) -> None:
    calls = []
    monkeypatch.setattr(verb, lambda pk, **given: calls.append((pk, given)))
    response = house.client("lead").post(url_of(house, name), fields)
    assert response.status_code == 303
    pk = step_of(house).pk if name.startswith("step") else house.migration.pk
    assert calls == [(pk, {"user": house.lead, **wanted})]


@pytest.mark.parametrize(("name", "verb", "fields", "_"), VERBS)
@pytest.mark.parametrize(
    "problem",
    [
        Conflict("It is running now.", "Look again."),
        NotReady(["The source is off."], "Switch it on."),
    ],
)
def test_a_refusal_becomes_a_message_never_a_crash(house: House, monkeypatch, name, verb, fields, _, problem) -> None:
    def refuse(*args: object, **given: object) -> None:
        raise problem

    monkeypatch.setattr(verb, refuse)
    response = house.client("lead").post(url_of(house, name), fields, follow=True)
    (said,) = shown(response)
    assert said.startswith("Nothing was done.")
    assert problem.act in said
    assert 'role="alert"' in response.content.decode()


def test_who_may_not_do_it_gets_403_with_the_reason(house: House, monkeypatch) -> None:
    def refuse(*args: object, **given: object) -> None:
        raise Forbidden("Not yours.", "Ask Ruth.")

    monkeypatch.setattr("projects.workflow.set_delta_schedule", refuse)
    response = house.client("lead").post(url_of(house, "delta-schedule"), {"minutes": "5"})
    assert response.status_code == 403
    assert "Not yours. Ask Ruth. Nothing was done." in response.content.decode()


def test_go_back_to_where_the_button_was_but_never_to_another_site(house: House) -> None:
    url, board = url_of(house, "delta-schedule"), reverse("wave-board", args=[house.wave.pk])
    client = house.client("lead")
    assert client.post(url, {"minutes": "5", "next": board})["Location"] == board
    page = reverse("migration", args=[house.migration.pk])
    for bad in ("https://evil.example/", "//evil.example", "javascript:alert(1)"):
        assert client.post(url, {"minutes": "5", "next": bad})["Location"] == page


def test_hold_and_release(house: House) -> None:
    client = house.client("operator")
    empty = client.post(reverse("hold-add", args=[house.migration.pk]), {"why": " "}, follow=True)
    assert "say why it has to wait" in shown(empty)[0]
    client.post(reverse("hold-add", args=[house.migration.pk]), {"why": "backup first"})
    hold = Hold.objects.get(released_at=None)
    assert (hold.why, hold.by, hold.migration) == ("backup first", house.operator, house.migration)
    client.post(reverse("hold-release", args=[hold.pk]))
    hold.refresh_from_db()
    assert hold.released_by == house.operator
    again = client.post(reverse("hold-release", args=[hold.pk]), follow=True)
    assert "released already" in shown(again)[-1]


def test_the_owner_ends_the_own_test_only(house: House) -> None:
    own, other = (
        Hold.objects.create(kind=Hold.Kind.UAT, project=house.project, wave=house.wave, application=application)
        for application in (house.application, house.other)
    )
    client = house.client("owner")
    assert client.post(reverse("uat-end", args=[house.wave.pk, house.other.pk])).status_code == 404
    assert client.post(reverse("hold-release", args=[other.pk])).status_code == 404
    assert client.post(reverse("uat-end", args=[house.wave.pk, house.application.pk])).status_code == 303
    own.refresh_from_db()
    other.refresh_from_db()
    assert own.released_by == house.owner
    assert other.released_at is None


def test_a_checklist_item_is_answered_with_a_note(house: House) -> None:
    item = factories.make_item(step_of(house, Kind.VALIDATION), role="operator")
    url = reverse("checklist-tick", args=[item.pk])
    client = house.client("operator")
    assert "why it does not apply" in shown(client.post(url, {"state": "not_applicable"}, follow=True))[0]
    client.post(url, {"state": "not_applicable", "note": "no backup here"})
    item.refresh_from_db()
    assert (item.state, item.note, item.by) == (ChecklistItem.State.NOT_APPLICABLE, "no backup here", house.operator)


def test_a_wave_starts_what_may_start_and_says_why_not_for_the_rest(house: House) -> None:
    Migration.objects.filter(pk=house.foreign.pk).update(profile=None)
    response = house.client("lead").post(reverse("wave-start", args=[house.wave.pk]), follow=True)
    said = shown(response)
    assert any("ledger-01 was not started. It has no profile" in each for each in said)
    assert step_of(house).state == "running"
    assert house.foreign.steps.get(kind=Kind.INITIAL).state == "waiting"


def test_every_offer_leads_to_a_view(house: House) -> None:
    """What the offers name is an address that takes a POST from this person."""
    offers = offering.migration_offers(house.migration, house.lead)
    offers += offering.wave_offers(house.wave, house.lead)
    offers += offering.application_offers(house.wave, house.application, house.lead)
    assert offers
    for offer in offers:
        assert house.client("outsider").post(offer.url, offer.fields).status_code == 404
        assert house.client("lead").post(offer.url, offer.fields).status_code == 303, offer


def test_schedule_in_words(house: House) -> None:
    response = house.client("lead").post(url_of(house, "delta-schedule"), {"minutes": "90000"}, follow=True)
    assert "expected 0 (by hand) to 10080" in shown(response)[0]
    house.client("lead").post(url_of(house, "delta-schedule"), {"minutes": "5"})
    house.migration.refresh_from_db()
    assert house.migration.next_delta_at is not None
    assert house.migration.next_delta_at > timezone.now()
