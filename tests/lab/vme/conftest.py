from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.vme.standin import StandIn


@pytest.fixture
def make_standin(tmp_path: Path) -> Iterator[Callable[..., StandIn]]:
    started: list[StandIn] = []

    def make(**settings: Any) -> StandIn:
        started.append(StandIn(tmp_path / f"vme-{len(started)}", **settings))
        return started[-1]

    yield make
    for standin in started:
        standin.stop()


@pytest.fixture
def standin(make_standin: Callable[..., StandIn]) -> StandIn:
    return make_standin()
