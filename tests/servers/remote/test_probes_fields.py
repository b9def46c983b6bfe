"""What a probe is asked with: wrong parameters are named, each by its field, and never run."""

from __future__ import annotations

from typing import Any

import pytest

from servers.remote import probes
from servers.remote.probes import Probe
from tests.servers.remote.test_probes import HERE, Canned


@pytest.mark.parametrize(
    ("kind", "parameters", "fields"),
    [
        ("ping", {}, {"kind"}),
        ("unit", {}, {"unit"}),
        ("unit", {"unit": "a; reboot"}, {"unit"}),
        ("unit", {"unit": "--all"}, {"unit"}),
        ("tcp", {}, {"port"}),
        ("tcp", {"port": "80"}, {"port"}),
        ("tcp", {"port": True}, {"port"}),
        ("tcp", {"port": 65536, "from": "moon"}, {"port", "from"}),
        ("http", {"path": "health", "status": 99, "scheme": "ftp"}, {"path", "status", "scheme"}),
        ("http", {"path": "/a b\r\nX: y"}, {"path"}),
        ("http", {"host": "a\r\nX: y"}, {"host"}),
        ("http", {"txt": "Shop"}, {"txt"}),
        ("http", {"timeout": 0}, {"timeout"}),
        ("dns", {"name": "", "server": "ns.example"}, {"name", "server"}),
        ("dns", {"name": "a.b", "values": "1.2.3.4"}, {"values"}),
        ("command", {"command": " "}, {"command"}),
        ("command", {"command": "x", "output": "(", "match": "regex"}, {"output"}),
    ],
)
def test_wrong_parameters_are_named_and_never_run(kind: str, parameters: dict[str, Any], fields: set[str]) -> None:
    assert set(probes.validate(kind, parameters)) == fields
    outcome = probes.run(Probe(kind, parameters), endpoint=HERE, connection=Canned(AssertionError("it ran")))
    assert outcome.passed is None


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("unit", {"unit": "postgresql@15-main.service"}),
        ("tcp", {"port": 5432, "from": "inside", "timeout": 3.5}),
        ("http", {}),
        ("http", {"path": "/?q=%20", "host": "::1", "text": "ü"}),
        ("dns", {"name": "db.shop.lab", "server": "10.0.0.1:53", "values": ["{address}"]}),
        ("dns", {"name": "db.shop.lab", "server": "2001:db8::1"}),
        ("command", {"command": "echo a", "output": "^a$", "match": "regex", "status": 3}),
    ],
)
def test_right_parameters_are_accepted(kind: str, parameters: dict[str, Any]) -> None:
    assert probes.validate(kind, parameters) == {}


def test_places() -> None:
    probe = Probe("tcp", {"port": 1}, places=("source", "target"))
    assert [probe.applies(place) for place in probes.PLACES] == [True, False, True]
