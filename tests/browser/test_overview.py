"""The overview of lead, owner, stand-in and manager: what waits, its count in the tab, live, wide and on a phone."""

from __future__ import annotations

import pytest
from django.urls import reverse

from projects.models import StandIn, Step
from tests import factories
from tests.scenes import make_scene

from .conftest import faults, shoot, too_wide

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
LOOKS = {
    "wide-light": {"viewport": {"width": 1440, "height": 900}, "color_scheme": "light"},
    "wide-dark": {"viewport": {"width": 1440, "height": 900}, "color_scheme": "dark"},
    "phone-light": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light"},
    "phone-dark": {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"},
}


def test_everybody_reads_what_waits_for_them(live_server, visit) -> None:
    scene = make_scene(12)
    eva = factories.make_member(scene.project, "owner", factories.make_user("eva", first_name="Eva"))
    StandIn.objects.create(
        application=scene.applications[1],
        owner=scene.owner,
        person=eva,
        starts_at=factories.hours(-1),
        ends_at=factories.hours(24),
        why="on holiday",
        by=scene.lead,
    )
    factories.make_member(scene.project, "lead", second := factories.make_user("lars", first_name="Lars"))
    people = {"lead": second, "owner": scene.owner, "stand-in": eva, "manager": scene.manager}
    titles, wrong = {}, []
    for name, user in people.items():
        for look, options in LOOKS.items():
            if name in ("stand-in", "manager") and look in ("wide-dark", "phone-dark"):
                continue
            page = visit(user, "/", bypass_csp=True, **options)
            wrong += [f"{name}: {each}" for each in faults(page) + too_wide(page)]
            shoot(page, f"overview-{name}-{look}")
            titles[name] = page.title()
            page.context.close()
    assert not wrong, "\n".join(wrong)
    assert titles["manager"] == "Overview · migrationhub"
    assert titles["lead"].startswith("(") and titles["lead"] != titles["owner"]


def test_the_tab_counts_what_comes_and_goes_while_somebody_looks_at_it(live_server, visit) -> None:
    migration = factories.make_migration()
    page = visit(migration.application.owner, reverse("overview"))
    page.get_by_role("heading", name="Nothing waits for you").wait_for()
    assert page.title() == "Overview · migrationhub"
    approval = factories.make_asked(migration.wave, migration.application)
    page.get_by_role("heading", name="1 thing waits for you").wait_for()
    page.wait_for_function("document.title === '(1) Overview · migrationhub'")
    assert page.locator("#announce").inner_text() == "1 thing waits for you."
    factories.make_break_glass(
        migration.steps.get(kind=Step.Kind.STOP), migration.project.memberships.get(role="lead").user
    )
    type(approval).objects.filter(pk=approval.pk).update(state="approved", version=2)
    page.get_by_role("heading", name="Urgent").wait_for()
    page.get_by_role("link", name="Break-glass of").click()
    page.get_by_role("button", name="It was in order").click()
    page.goto(reverse("overview"))
    assert page.title() == "Overview · migrationhub"
