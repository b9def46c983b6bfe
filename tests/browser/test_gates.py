"""The template editor and the approval panel in a real browser: keyboard, focus, phones, and without scripts."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse

from projects import checklists, workflow
from projects.models import Approval, BreakGlass, ChecklistItem, Decision, Defect, Migration, Step
from tests import factories

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


@pytest.fixture
def migration(live_server: Any) -> Migration:
    """A server whose owner has tested everything."""
    made = factories.make_migration(steps=False)
    workflow.plan_steps(made)
    ChecklistItem.objects.filter(step__migration=made, step__kind=Step.Kind.UAT).update(state="done")
    return made


def lead_of(migration: Migration) -> Any:
    return migration.project.memberships.get(role="lead").user


def editor(migration: Migration) -> str:
    return reverse("checklist", args=[migration.project.slug, Step.Kind.STOP])


def order(migration: Migration) -> list[str]:
    return [line.key for line in checklists.newest(migration.project)[Step.Kind.STOP].items.all()]


@pytest.mark.parametrize("scripts", [True, False])
def test_items_are_moved_with_the_keyboard_and_the_focus_stays(migration, visit, scripts: bool) -> None:
    page = visit(lead_of(migration), editor(migration), java_script_enabled=scripts)
    page.locator("#down-users-told").focus()
    page.keyboard.press("Enter")
    page.get_by_text("is number 2 of 3 now").wait_for()
    assert order(migration) == ["pause-monitoring", "users-told", "stopped"]
    if scripts:
        assert page.evaluate("document.activeElement.id") == "down-users-told"
    page.keyboard.press("Enter")
    page.get_by_text("is number 3 of 3 now").wait_for()
    if scripts:
        assert page.evaluate("document.activeElement.id") == "up-users-told", "down cannot be pressed at the end"
    page.keyboard.press("Enter")
    page.get_by_text("is number 2 of 3 now").wait_for()
    assert order(migration)[1] == "users-told"


def test_an_item_is_written_and_removed(migration, visit) -> None:
    page = visit(lead_of(migration), editor(migration))
    page.get_by_role("link", name="New item").click()
    page.get_by_label("What is to be done").fill("Tell the bank")
    page.get_by_label("Instruction").fill("- **call** them\n- write to them")
    page.get_by_label("What it holds while it is open").select_option(label="Before the step starts")
    page.get_by_role("button", name="Save").click()
    page.locator("#item-tell-the-bank strong", has_text="call").wait_for()
    page.get_by_label("Remove “Tell the bank”").click()
    page.get_by_role("button", name="Remove it").click()
    page.get_by_text("“Tell the bank” is removed.").wait_for()
    assert "tell-the-bank" not in order(migration)


def test_an_owner_rejects_with_a_defect_on_a_phone_and_approves_when_it_is_verified(migration, visit) -> None:
    owner = migration.application.owner
    approval = factories.make_asked(migration.wave, migration.application)
    page = visit(owner, reverse("approval", args=[approval.pk]), **PHONE)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.get_by_label("In a few words").fill("Orders are missing")
    page.get_by_text("Reject, with defects…").click()
    page.get_by_label("What does not work").first.fill("Orders of January are missing")
    page.get_by_role("button", name="Reject", exact=True).click()
    page.get_by_text("Your no was recorded.").wait_for()
    page.get_by_role("link", name="Defect 1: Orders of January are missing").click()
    page.get_by_text("It holds sign-off, go and declaration").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    Defect.objects.update(state=Defect.State.MENDED)
    page.reload()
    page.get_by_role("button", name="Verified: it works").click()
    page.goto(reverse("approval", args=[approval.pk]))
    page.get_by_role("button", name="Approve").click()
    page.get_by_text("Your yes was recorded.").wait_for()
    approval.refresh_from_db()
    assert approval.state == Approval.State.APPROVED and Decision.objects.count() == 2


def test_a_lead_breaks_the_glass_and_a_second_one_looks_at_it(migration, visit) -> None:
    approval = factories.make_asked(migration.wave, migration.application)
    page = visit(lead_of(migration), reverse("approval", args=[approval.pk]))
    page.get_by_text("Pass it alone…").click()
    page.get_by_label("Why it cannot wait").fill("The data centre closes tonight, nobody answers.")
    page.get_by_label("I pass this alone").check()
    page.get_by_role("button", name="Break the glass").click()
    page.get_by_text("A second person has not looked at it yet.").wait_for()
    second = factories.make_member(migration.project, "lead")
    page = visit(second, reverse("overview"))
    page.get_by_role("link", name=f"Break-glass of {migration.application}").click()
    page.get_by_role("button", name="It was in order").click()
    page.get_by_text("is confirmed as in order").wait_for()
    assert BreakGlass.objects.get().confirmed_by == second
