"""Isolation proven from inside a real clone, and not believed where the attempt proves nothing."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from migrationhub.lib.findings import Level
from servers.remote import dns, isolation
from servers.remote.base import Endpoint, Result
from servers.remote.dns import RecordSet
from servers.remote.reach import Reach, from_inside
from servers.remote.ssh import connect


class Canned:
    """A clone whose attempts end as given, one “number status words” each."""

    endpoint = Endpoint("clone", "127.0.0.1", port=2299)

    def __init__(self, *lines: str) -> None:
        self.text = "".join(f"{line}\n" for line in lines)

    def run(self, *_: Any, **__: Any) -> Result:
        return Result(0, self.text.encode(), b"")


@pytest.fixture
def listening() -> Any:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()


def codes(findings: list[Any]) -> list[tuple[Level, str]]:
    return [(finding.level, finding.code) for finding in findings]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("1 124 ", (Level.READY, "isolation.closed")),
        ("1 1 bash: connect: Connection refused", (Level.READY, "isolation.closed")),
        ("1 1 bash: connect: Network is unreachable", (Level.READY, "isolation.closed")),
        ("1 0 ", (Level.BLOCKING, "isolation.open")),
        ("1 1 bash: db: Name or service not known", (Level.BLOCKING, "isolation.unproven")),
        ("nonsense", (Level.BLOCKING, "isolation.unproven")),
    ],
)
def test_each_end_of_an_attempt(listening: tuple[str, int], line: str, expected: tuple[Level, str]) -> None:
    assert codes(isolation.prove(Canned("0 0 ", line), [listening])) == [expected]


def test_a_place_where_nobody_answers_proves_nothing(listening: tuple[str, int]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        place = closed.getsockname()
    [finding] = isolation.prove(Canned("0 0 ", "1 124 "), [place])
    assert (finding.level, finding.code) == (Level.WARNING, "isolation.no_answer")


@pytest.mark.parametrize("lines", [("missing",), ("0 1 bash: connect: Connection refused", "1 124 "), ()])
def test_without_the_control_nothing_is_proven(listening: tuple[str, int], lines: tuple[str, ...]) -> None:
    assert codes(isolation.prove(Canned(*lines), [listening])) == [(Level.BLOCKING, "isolation.unproven")]


def test_nothing_to_try_is_a_warning() -> None:
    assert codes(isolation.prove(Canned(), [])) == [(Level.WARNING, "isolation.nothing_tried")]


def test_not_applicable_on_a_supervisord_host(listening: tuple[str, int]) -> None:
    there = Canned()
    there.endpoint = replace(there.endpoint, manager="supervisord")
    assert codes(isolation.prove(there, [listening])) == [(Level.READY, "isolation.not_applicable")]


@pytest.mark.parametrize(
    ("values", "level"), [(("10.0.0.9",), Level.BLOCKING), (("10.0.0.1",), Level.READY), ((), Level.READY)]
)
def test_name_in_production(monkeypatch: pytest.MonkeyPatch, values: tuple[str, ...], level: Level) -> None:
    monkeypatch.setattr(dns, "look_up", lambda *a, **o: RecordSet("db.shop.lab", "A", values))
    assert isolation.prove_name("127.0.0.1", 53, "shop.lab", "db.shop.lab", "10.0.0.9").level is level


def test_name_that_could_not_be_asked_is_blocking() -> None:
    finding = isolation.prove_name("127.0.0.1", 9, "shop.lab", "db.shop.lab", "10.0.0.9", timeout=0.3)
    assert finding.level is Level.BLOCKING


@pytest.mark.nspawn
def test_a_real_clone_is_isolated_on_the_migration_network_and_not_on_production(
    nspawn_host: Callable[..., Any],
) -> None:
    source = nspawn_host("iso-source", network="production")
    clone = nspawn_host("iso-clone", network="migration")
    places = [(source.endpoint.address, 22), (source.endpoint.address, 9)]
    connection = connect(clone.endpoint)
    findings = isolation.prove(connection, places, timeout=1.5)
    assert codes(findings) == [(Level.READY, "isolation.closed"), (Level.WARNING, "isolation.no_answer")]
    connection.close()

    inside = connect(source.endpoint)  # a machine that does reach production
    assert codes(isolation.prove(inside, places[:1], timeout=1.5)) == [(Level.BLOCKING, "isolation.open")]
    attempts = from_inside(inside, [*places, ("192.0.2.1", 9)], timeout=1)
    assert [attempt.reach for attempt in attempts[:2]] == [Reach.OPEN, Reach.REFUSED]
    assert attempts[2].reach not in (Reach.OPEN, Reach.UNKNOWN)
    inside.close()
