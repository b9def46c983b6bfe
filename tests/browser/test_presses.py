"""One press is one act, whatever page, network or somebody else did meanwhile, and the word says what is now."""

from __future__ import annotations

import pytest
from django.db.models import F
from django.urls import reverse
from playwright.sync_api import Page

from projects.models import Membership, Migration, Step, StepAttempt
from tests import factories

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
POLLS = "**/*region=live*"


@pytest.fixture
def ready(live_server) -> Migration:
    """A server whose initial migration may start."""
    return factories.make_migration(source=factories.make_server("shop-db"))


def board(migration: Migration) -> str:
    return reverse("wave-board", args=[migration.wave_id])


def lead_of(migration: Migration):
    return Membership.objects.get(project=migration.project, role="lead").user


def button(page: Page):
    return page.locator("#lanes").get_by_role("button", name="Start initial migration")


def attempts(migration: Migration) -> int:
    return StepAttempt.objects.filter(step__migration=migration).count()


def test_two_clicks_are_one_press(ready: Migration, visit) -> None:
    page = visit(lead_of(ready), board(ready))
    button(page).dblclick()
    page.locator(".messages", has_text="Initial migration was started").wait_for()
    assert page.locator(".messages [role=alert]").count() == 0
    assert attempts(ready) == 1


def test_an_old_page_of_somebody_else_does_nothing_and_shows_what_is_now(ready: Migration, visit) -> None:
    operator = factories.make_member(ready.project, Membership.Role.OPERATOR)
    first, second = visit(lead_of(ready), board(ready)), visit(operator, board(ready))
    second.context.route(POLLS, lambda route: route.fulfill(status=204))  # it stays as old as it is
    button(first).click()
    first.locator(".messages", has_text="Initial migration was started").wait_for()
    button(second).click()
    refusal = second.locator(".messages [role=alert]")
    refusal.wait_for()
    assert "Nothing was done." in refusal.inner_text()
    assert "is running now" in refusal.inner_text()
    assert button(second).count() == 0  # and the page is as new as its word
    assert attempts(ready) == 1


def test_going_back_to_an_old_page_and_pressing_again_does_nothing(ready: Migration, visit) -> None:
    page = visit(lead_of(ready), board(ready))
    drawn = page.locator("#lanes form").first.evaluate("form => Object.fromEntries(new FormData(form))")
    action = page.locator("#lanes form").first.get_attribute("action")
    button(page).click()
    page.locator(".messages", has_text="Initial migration was started").wait_for()
    answer = page.context.request.post(action, form=drawn, headers={"Referer": page.url})
    assert "Nothing was done." in answer.text()
    assert attempts(ready) == 1


def test_nothing_is_sent_into_a_lost_connection(ready: Migration, visit) -> None:
    page = visit(lead_of(ready), board(ready))
    page.evaluate("window.same = true")
    page.context.set_offline(True)
    page.locator("#lost").wait_for()  # at once, not after a failed poll
    button(page).click()
    page.locator(".press-word", has_text="Nothing was sent").wait_for()
    assert attempts(ready) == 0
    Step.objects.filter(migration=ready, position=1).update(reason="changed meanwhile", version=F("version") + 1)
    page.context.set_offline(False)
    page.locator("#live", has_text="Live").wait_for()
    assert page.locator("#lost").is_hidden()
    assert page.evaluate("window.same") is True
    button(page).click()
    page.locator(".messages", has_text="Initial migration was started").wait_for()
    assert attempts(ready) == 1
    visit.complaints.clear()  # the console names each poll that did not get through


@pytest.mark.parametrize(
    ("status", "words"), [(500, "The hub fails: page is"), (403, "Not open to you any more: reload")]
)
def test_a_poll_that_is_refused_is_said_and_ends_well(ready: Migration, visit, status: int, words: str) -> None:
    page = visit(lead_of(ready), board(ready))
    page.context.route(POLLS, lambda route: route.fulfill(status=status, body="no"))
    page.locator("#live", has_text=words).wait_for()
    assert page.locator("html[data-lost]").count() == 1
    page.context.unroute(POLLS)
    page.locator("#live", has_text="Live").wait_for()
    assert page.locator("html[data-lost]").count() == 0
    visit.complaints.clear()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (403, "your role does not allow this"),
        (409, "somebody was faster"),
        (500, "The hub failed"),
        (0, "no connection"),
    ],
)
def test_a_press_by_htmx_that_fails_says_so_at_the_button(ready: Migration, visit, status: int, words: str) -> None:
    page = visit(lead_of(ready), board(ready))
    page.context.route("**/pressed/", lambda route: route.fulfill(status=status) if status else route.abort())
    page.evaluate(
        """() => {
          document.querySelector("#wave-acts").insertAdjacentHTML("beforeend",
            '<span class="act"><button type="button" class="btn" id="try" hx-post="/pressed/">Try</button></span>');
          htmx.process(document.getElementById("try"));
        }"""
    )
    page.click("#try")
    word = page.locator("#wave-acts .press-word")
    word.wait_for()
    assert words in word.inner_text()
    assert word.get_attribute("role") == "alert"
    visit.complaints.clear()


def test_only_what_changed_is_announced(ready: Migration, visit) -> None:
    other = factories.make_migration(
        wave=ready.wave, application=ready.application, profile=ready.profile, source=factories.make_server("shop-web")
    )
    page = visit(lead_of(ready), board(ready))
    spoken = page.locator("#announce")
    assert spoken.inner_text() == ""
    assert spoken.get_attribute("role") == "status"
    Step.objects.filter(migration=ready, position=1).update(state=Step.State.ATTENTION, version=F("version") + 1)
    page.locator("#announce", has_text="shop-db: initial migration, failed.").wait_for()
    assert other.source.name not in spoken.inner_text()


def test_what_was_written_for_an_answer_that_was_refused_stays_until_it_is_folded_away(ready: Migration, visit) -> None:
    assert ready.application is not None
    step = ready.steps.get(kind=Step.Kind.UAT)
    Step.objects.filter(pk=step.pk).update(state=Step.State.RUNNING, started_at=factories.hours(-4))
    item = factories.make_item(step, "Orders", role="owner")
    page = visit(ready.application.owner, reverse("acceptance", args=[ready.wave_id, ready.application.pk]))
    page.route(POLLS, lambda route: route.fulfill(status=204))  # it stays as old as it is
    form = page.locator("form.test", has=page.locator(f"#keep-{item.pk}"))
    form.locator("summary").click()
    form.get_by_label("Note").fill("All fine")
    type(item).objects.filter(pk=item.pk).update(state="failed", note="May is missing", at=factories.hours(-1))
    page.unroute(POLLS)
    page.locator(f"#done-{item.pk}").check(force=True)
    page.locator(f"#keep-{item.pk}").click()
    hint = page.get_by_text("You had written: “All fine”")
    hint.wait_for()
    Migration.objects.filter(pk=ready.pk).update(version=F("version") + 1)
    page.locator("#live", has_text="Paused while you answer").wait_for()
    assert hint.is_visible()
    page.locator("form.test summary").click()
    page.locator("#live", has_text="Live").wait_for()
    hint.wait_for(state="detached")
