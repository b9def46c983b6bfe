"""The proof of isolation as a run: the clone's network, and what production's name server says of its address."""

from __future__ import annotations

from typing import Any

import pytest

from migrationhub.lib.findings import Finding, Level
from projects.models import Migration
from servers.models import NameServer
from servers.operations.base import Job
from servers.operations.isolation import Isolation
from servers.progress import State
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The network is closed; of the name server, what it was asked."""
    found: list[tuple[Any, ...]] = []

    def name(server: str, port: int, zone: str, name: str, transient: str, *, rtype: str) -> Finding:
        found.append((server, zone, name, transient, rtype))
        known = transient == "10.66.0.9"
        level = Level.BLOCKING if known else Level.READY
        return Finding(level, "isolation.name", f"{server} answers {name}.", "Take it out." if known else "", name)

    closed = Finding(Level.READY, "isolation.closed", "It does not get through.")
    monkeypatch.setattr("servers.operations.isolation.isolation.prove", lambda *_: [closed])
    monkeypatch.setattr("servers.operations.isolation.isolation.prove_name", name)
    monkeypatch.setattr("servers.operations.isolation.isolation.not_applicable", lambda _: "")
    return found


def prove(migration: Migration, **parameters: Any) -> Any:
    machines = {"source": migration.source_id, "target": migration.target_id}
    run = factories.make_run("isolation", parameters={**machines, **parameters})
    return Isolation().advance(Job(run, lambda endpoint: endpoint))[1]  # type: ignore[arg-type, return-value]


def test_production_must_not_know_the_clone_by_the_name(asked: list[Any]) -> None:
    migration = factories.make_migration(target=True)
    server = NameServer.objects.create(
        name="ns", address="10.0.0.53", zone="shop.lab", credential=factories.make_credential()
    )
    target = migration.target
    assert target is not None
    for address, state in (("10.66.0.9", State.FAILED), ("10.66.0.8", State.SUCCEEDED)):
        target.address = address
        target.save()
        progress = prove(migration, dns_name="db.shop.lab", name_server=server.pk)
        assert progress.state == state
        assert asked[-1] == ("10.0.0.53", "shop.lab", "db.shop.lab", address, "A")
    assert "10.0.0.53 answers db.shop.lab." in progress.reason and len(progress.result["findings"]) == 2


def test_without_a_name_only_the_network_is_proven(asked: list[Any]) -> None:
    progress = prove(factories.make_migration(target=True), dns_name="", name_server=None)
    assert progress.state == State.SUCCEEDED and asked == []


def test_where_nobody_answered_nothing_was_proven(asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    silent = Finding(Level.WARNING, "isolation.no_answer", "For the hub too, nobody answers.", "Look at the source.")
    monkeypatch.setattr("servers.operations.isolation.isolation.prove", lambda *_: [silent])
    progress = prove(factories.make_migration(target=True), dns_name="", name_server=None)
    assert (progress.state, progress.code) == (State.FAILED, "isolation.unproven")
    assert progress.reason == "For the hub too, nobody answers. Look at the source."


def test_ports_that_a_connect_can_reach_are_tried_once_each(asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Any] = []
    closed = [Finding(Level.READY, "isolation.closed", "It does not get through.")]
    monkeypatch.setattr(
        "servers.operations.isolation.isolation.prove", lambda _, places: tried.extend(places) or closed
    )
    migration = factories.make_migration(target=True)
    found = [("udp", "0.0.0.0", 68), ("tcp", "0.0.0.0", 111), ("tcp", "::", 111), ("udp", "::", 111)]
    migration.source.facts["listening"] = [
        {"protocol": protocol, "address": address, "port": port, "process": ""} for protocol, address, port in found
    ]
    migration.source.save()
    prove(migration, dns_name="", name_server=None)
    assert tried == [(migration.source.address, 22), (migration.source.address, 111)]
