"""Control never pauses: a loop of its own that looks twice a second.

A task that reschedules itself was tried: ten seconds of each minute went by without control.
"""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from django.conf import settings

from migrationhub.controller import Controller


@pytest.mark.django_db
def test_it_looks_twice_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.CONTROLLER_TICK <= 0.5
    controller = Controller()
    looks: list[float] = []

    def tick() -> None:
        looks.append(time.monotonic())
        if len(looks) == 4:
            controller.stopping.set()

    monkeypatch.setattr(controller, "tick", tick)
    controller.run()
    pauses = sorted(later - earlier for earlier, later in pairwise(looks))
    assert pauses[1] < 1, f"seconds without control: {pauses}"  # the middle one: a busy machine may delay one
