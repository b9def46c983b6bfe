"""What pages show to whom, beyond the question of who gets them at all, which `test_personas` walks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse

from projects.models import Approval, Hold
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
}
FOREIGN: dict[str, Address] = {
    "migration": lambda h: reverse("migration", args=[h.foreign.pk]),
    "acceptance": lambda h: reverse("acceptance", args=[h.wave.pk, h.other.pk]),
    "run": lambda h: reverse("run", args=[factories.make_run(server=h.foreign.source).pk]),
}


def test_an_owner_sees_own_servers_only_in_lists(house: House) -> None:
    client = house.client("owner")
    for name in ("wave-board", "progress", "progress-csv", "overview"):
        text = client.get(OWN[name](house)).content.decode()
        assert "ledger-01" not in text, name
        assert "Ledger" not in text, name
    assert "shop-db" in client.get(OWN["wave-board"](house)).content.decode()


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("query", ["", "?region=live&v=x"])
def test_an_owner_sees_nothing_of_other_applications(house: House, name: str, query: str) -> None:
    address = FOREIGN[name](house) + query
    assert house.client("owner").get(address, headers={"HX-Request": "true"}).status_code == 404
    assert house.client("manager").get(address, headers={"HX-Request": "true"}).status_code == 200


def test_an_operator_does_not_give_the_go(house: House) -> None:
    approval = factories.make_approval(house.wave, house.application, Approval.Gate.GO, digest="x")
    address = reverse("approval-decide", args=[approval.pk])
    house.client("operator").post(address, {"verdict": "approve", "digest": "x"})
    assert not Approval.objects.filter(state=Approval.State.APPROVED).exists()


def test_a_form_without_its_token_is_refused(house: House) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(house.lead, "django.contrib.auth.backends.ModelBackend")
    response = client.post(reverse("hold-add", args=[house.migration.pk]), {"why": "x"})
    assert response.status_code == 403
    assert "Press once more" in response.content.decode()
    assert not Hold.objects.exists()


@pytest.mark.parametrize("name", ["wave-board", "migration", "acceptance", "progress"])
def test_the_manager_sees_no_button_that_changes_anything(house: House, name: str) -> None:
    text = house.client("manager").get(OWN[name](house)).content.decode()
    inside = text.split("<main", 1)[1].split("</main>", 1)[0]
    assert "<form" not in inside
