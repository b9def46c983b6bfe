"""Every page: no fault that axe can see, nothing that sticks out on a phone, light and dark."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import ViewportSize

from tests.addresses import pages
from tests.scenes import make_scene

from .conftest import faults, shoot, too_wide

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def addresses(live_server) -> tuple[dict[str, str], User]:
    """Pages that a lead may open, of a project in mid-migration; buttons have addresses too, but no page."""
    scene = make_scene(12)
    client = Client()
    client.force_login(scene.lead, "django.contrib.auth.backends.ModelBackend")
    answers = {name: (address, client.get(address)) for name, address in pages(scene).items()}
    return {
        name: address
        for name, (address, answer) in answers.items()
        if answer.status_code == 200 and answer["Content-Type"].startswith("text/html")
    }, scene.lead


LOOKS = ((1440, "light"), (390, "dark"), (1440, "dark"), (390, "light"))  # px, colour scheme


@pytest.mark.parametrize(
    "looks",
    [
        pytest.param(1, id="in-one-look-each"),
        pytest.param(len(LOOKS), id="in-all-looks", marks=pytest.mark.full),
    ],
)
def test_every_page_is_accessible_and_fits(addresses, visit, looks: int) -> None:
    found, lead = addresses
    page = visit(lead, "/", viewport=size(1440), bypass_csp=True, reduced_motion="reduce")
    wrong: list[str] = []
    for number, (name, address) in enumerate(found.items()):
        page.goto(address)
        for turn in range(looks):
            width, scheme = LOOKS[(number + turn) % len(LOOKS)]
            page.set_viewport_size(size(width))
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            wrong += [f"{width} {scheme}: {one}" for one in faults(page) + too_wide(page)]
            shoot(page, f"{name}-{width}-{scheme}")
    assert len(found) > 30
    assert not wrong, "\n".join(wrong)


def size(width: int) -> ViewportSize:
    return {"width": width, "height": 900}
