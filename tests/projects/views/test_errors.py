"""Pages of what went wrong: in our look, without giving anything away, and each says what to do."""

from __future__ import annotations

import pytest
from django.test import Client, override_settings
from django.urls import reverse

from .conftest import House

LOOK = "css/layout.css"


def words(response) -> str:
    text = response.content.decode()
    assert LOOK in text
    assert 'href="/"' in text  # there is always a way on
    assert "Traceback" not in text
    return text


def test_what_is_not_there_or_not_yours(house: House) -> None:
    nowhere = house.client("lead").get("/nothing/")
    assert nowhere.status_code == 404
    assert "ask the lead of that project" in words(nowhere)
    theirs = house.client("outsider").get(reverse("migration", args=[house.migration.pk]))
    assert theirs.status_code == 404
    assert house.migration.source.name not in words(theirs)


def test_what_a_role_may_not_do(house: House) -> None:
    response = house.client("manager").post(reverse("wave-start", args=[house.wave.pk]))
    assert response.status_code == 403
    text = words(response)
    assert "Your role in this project is manager" in text
    assert "Nothing was done." in text


def test_an_old_form_leads_back_to_its_page(house: House) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(house.lead, "django.contrib.auth.backends.ModelBackend")
    board, start = reverse("wave-board", args=[house.wave.pk]), reverse("wave-start", args=[house.wave.pk])
    response = client.post(start, headers={"Referer": f"http://testserver{board}?x=1"})
    assert response.status_code == 403
    text = words(response)
    assert "Nothing was done" in text
    assert f'href="{board}?x=1"' in text
    elsewhere = client.post(start, headers={"Referer": "https://evil.example/steal"})
    assert "evil.example" not in words(elsewhere)


@override_settings(DATA_UPLOAD_MAX_NUMBER_FIELDS=5)
def test_too_many_fields_are_too_big(house: House) -> None:
    client = house.client("lead")
    data = {f"field-{n}": "x" for n in range(20)}
    response = client.post(reverse("servers-check", args=[house.project.slug]), data)
    assert response.status_code == 413
    assert "nothing was saved" in words(response)


@override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=1000)
def test_too_many_bytes_are_too_big(house: House) -> None:
    response = house.client("lead").post(reverse("servers-check", args=[house.project.slug]), {"server": "1" * 5000})
    assert response.status_code == 413


def test_a_request_that_makes_no_sense(house: House) -> None:
    response = house.client("lead").get("/", headers={"Host": "evil.example"})
    assert response.status_code == 400
    assert "nothing was done" in words(response)


def test_a_fault_of_ours(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret of the database")

    monkeypatch.setattr("projects.views.wave_board.board", broken)
    client = house.client("lead")
    client.raise_request_exception = False
    response = client.get(reverse("wave-board", args=[house.wave.pk]))
    assert response.status_code == 500
    text = words(response)
    assert "Try again" in text
    assert "secret" not in text
