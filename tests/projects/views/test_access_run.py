"""Who sees which page, and who may press what. A live region asked for directly obeys the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.urls import reverse

from projects.models import Approval, Hold, Step
from tests import factories

from .conftest import House

Address = Callable[[House], str]
OWN: dict[str, Address] = {
    "overview": lambda h: reverse("overview"),
    "progress": lambda h: reverse("progress", args=[h.project.slug]),
    "progress-csv": lambda h: reverse("progress-csv", args=[h.project.slug]),
    "wave-board": lambda h: reverse("wave-board", args=[h.wave.pk]),
    "migration": lambda h: reverse("migration", args=[h.migration.pk]),
    "acceptance": lambda h: reverse("acceptance", args=[h.wave.pk, h.application.pk]),
    "run": lambda h: reverse("run", args=[factories.make_run(server=h.migration.source).pk]),
}
FOREIGN: dict[str, Address] = {
    "migration": lambda h: reverse("migration", args=[h.foreign.pk]),
    "acceptance": lambda h: reverse("acceptance", args=[h.wave.pk, h.other.pk]),
    "run": lambda h: reverse("run", args=[factories.make_run(server=h.foreign.source).pk]),
}
HTMX = {"HX-Request": "true"}


@pytest.mark.parametrize("who", ["lead", "operator", "manager", "owner"])
@pytest.mark.parametrize("name", OWN)
def test_members_see_their_pages(house: House, name: str, who: str) -> None:
    response = house.client(who).get(OWN[name](house))
    assert response.status_code == 200
    assert "default-src 'none'" in response["Content-Security-Policy"]


@pytest.mark.parametrize("name", [name for name in OWN if name != "overview"])
@pytest.mark.parametrize("query", ["", "?region=live&v=x"])
def test_an_outsider_finds_nothing(house: House, name: str, query: str) -> None:
    assert house.client("outsider").get(OWN[name](house) + query, headers=HTMX).status_code == 404


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("query", ["", "?region=live&v=x"])
def test_an_owner_sees_nothing_of_other_applications(house: House, name: str, query: str) -> None:
    assert house.client("owner").get(FOREIGN[name](house) + query, headers=HTMX).status_code == 404
    assert house.client("manager").get(FOREIGN[name](house) + query, headers=HTMX).status_code == 200


def test_an_owner_sees_own_servers_only_in_lists(house: House) -> None:
    client = house.client("owner")
    for name in ("wave-board", "progress", "progress-csv", "overview"):
        text = client.get(OWN[name](house)).content.decode()
        assert "ledger-01" not in text, name
        assert "Ledger" not in text, name
    assert "shop-db" in client.get(OWN["wave-board"](house)).content.decode()


@pytest.mark.parametrize("name", OWN)
def test_anonymous_is_led_to_the_login(house: House, name: str) -> None:
    address = OWN[name](house)
    response = house.client("anonymous").get(address)
    assert response.status_code == 302
    assert response["Location"].startswith(reverse("account_login"))
    region = house.client("anonymous").get(f"{address}?region=live", headers=HTMX)
    assert region.status_code == 200  # a redirect would put the login page into the region
    assert region["HX-Redirect"].startswith(reverse("account_login"))


def _acts(house: House) -> dict[str, tuple[str, dict[str, str]]]:
    step = house.migration.steps.get(kind=Step.Kind.INITIAL)
    item = factories.make_item(step)
    approval = factories.make_approval(house.wave, house.application, Approval.Gate.GO)
    hold = Hold.objects.create(kind=Hold.Kind.PERSON, project=house.project, migration=house.migration, why="x")
    seen = {"seen_state": "waiting", "seen_attempt": "0"}
    both = [house.wave.pk, house.application.pk]
    return {
        "step-start": (reverse("step-start", args=[step.pk]), seen),
        "step-retry": (reverse("step-retry", args=[step.pk]), seen),
        "step-cancel": (reverse("step-cancel", args=[step.pk]), seen),
        "migration-abort": (reverse("migration-abort", args=[house.migration.pk]), {"why": "x"}),
        "migration-complete": (reverse("migration-complete", args=[house.migration.pk]), {}),
        "delta-schedule": (reverse("delta-schedule", args=[house.migration.pk]), {"minutes": "5"}),
        "uat-open": (reverse("uat-open", args=both), {}),
        "uat-end": (reverse("uat-end", args=both), {}),
        "approval-decide": (reverse("approval-decide", args=[approval.pk]), {"verdict": "approve", "digest": "x"}),
        "checklist-tick": (reverse("checklist-tick", args=[item.pk]), {"state": "done"}),
        "hold-add": (reverse("hold-add", args=[house.migration.pk]), {"why": "x"}),
        "hold-release": (reverse("hold-release", args=[hold.pk]), {}),
        "wave-start": (reverse("wave-start", args=[house.wave.pk]), {}),
    }


ACTS = [
    "step-start",
    "step-retry",
    "step-cancel",
    "migration-abort",
    "migration-complete",
    "delta-schedule",
    "uat-open",
    "uat-end",
    "approval-decide",
    "checklist-tick",
    "hold-add",
    "hold-release",
    "wave-start",
]
# Whether the answer is 404 or 303 with a message, nothing may have changed.
FORBIDDEN = {"outsider": {404}, "manager": {303, 403}}


@pytest.mark.parametrize("who", ["outsider", "manager", "anonymous"])
@pytest.mark.parametrize("name", ACTS)
def test_who_may_not_press_changes_nothing(house: House, name: str, who: str) -> None:
    address, fields = _acts(house)[name]
    before = _picture(house)
    response = house.client(who).post(address, fields)
    if who == "anonymous":
        assert response.status_code == 302
        assert response["Location"].startswith(reverse("account_login"))
    else:
        assert response.status_code in ({404, 403} if who == "outsider" else {303, 403})
    assert _picture(house) == before


@pytest.mark.parametrize("name", [name for name in ACTS if not name.startswith(("uat", "approval", "checklist"))])
def test_an_owner_does_not_run_migrations(house: House, name: str) -> None:
    address, fields = _acts(house)[name]
    before = _picture(house)
    assert house.client("owner").post(address, fields).status_code == 403
    assert _picture(house) == before


def test_an_operator_does_not_declare_complete_nor_give_the_go(house: House) -> None:
    acts = _acts(house)
    assert house.client("operator").post(*acts["migration-complete"]).status_code == 403
    house.client("operator").post(*acts["approval-decide"])
    assert not Approval.objects.filter(state=Approval.State.APPROVED).exists()


@pytest.mark.parametrize("name", ACTS)
def test_buttons_are_pressed_by_post_only(house: House, name: str) -> None:
    address, _ = _acts(house)[name]
    assert house.client("lead").get(address).status_code == 405


def test_a_form_without_its_token_is_refused(house: House) -> None:
    from django.test import Client

    client = Client(enforce_csrf_checks=True)
    client.force_login(house.lead, "django.contrib.auth.backends.ModelBackend")
    response = client.post(reverse("hold-add", args=[house.migration.pk]), {"why": "x"})
    assert response.status_code == 403
    assert "Press once more" in response.content.decode()
    assert not Hold.objects.exists()


def _picture(house: House) -> list[object]:
    """What pressing a button could have changed."""
    migration = type(house.migration).objects.get(pk=house.migration.pk)
    return [
        list(Step.objects.filter(migration=migration).values_list("state", "version")),
        (migration.version, migration.delta_every_minutes, migration.declared_at),
        list(Hold.objects.values_list("pk", "released_at")),
        list(Approval.objects.values_list("state", "version")),
        list(migration.steps.values_list("checklist__state", flat=True)),
        migration.steps.filter(attempts__isnull=False).count(),
    ]


def test_the_manager_sees_no_button_that_changes_anything(house: House) -> None:
    for name in ("wave-board", "migration", "acceptance", "progress"):
        text = house.client("manager").get(OWN[name](house)).content.decode()
        inside = text.split("<main", 1)[1].split("</main>", 1)[0]
        assert "<form" not in inside, name
