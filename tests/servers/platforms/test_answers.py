"""Loose types read leniently, errors of all shapes read as words."""

from __future__ import annotations

from typing import Any

import pytest

from servers.platforms.base import Nic
from servers.platforms.vme import answers, shapes


@pytest.mark.parametrize(
    ("value", "expected"),
    [(7, 7), ("7", 7), ("pool-7", 7), (7.0, 7), (None, 0), (True, 0), ("auto", 0), ("", 0), ([], 0)],
)
def test_numbers(value: Any, expected: int) -> None:
    assert answers.number(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(7, "network-7"), ("7", "network-7"), ("network-7", "network-7"), ({"id": 7}, "network-7"),
     ("networkGroup-2", "networkGroup-2"), ("subnet-3", "subnet-3"), (None, ""), ({"id": None}, "")],
)  # fmt: skip
def test_networks_are_named_in_one_way(value: Any, expected: str) -> None:
    assert answers.network_ref(value) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("8.1.2.1-3", (8, 1, 2)), ("9.0", (9, 0, 0)), ("8.0.12", (8, 0, 12)), ("", (0, 0, 0)), (None, (0, 0, 0))],
)
def test_versions(text: Any, expected: tuple[int, int, int]) -> None:
    assert answers.version_of(text) == expected


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"errors": {"name": "taken"}, "msg": "no"}, "name: taken; no"),
        ({"errors": {"name": ["too long", "taken"]}}, "name: too long; taken"),
        ({"errors": [{"field": "name", "msg": "taken"}]}, "name: taken"),
        ({"error": "invalid_token", "error_description": "ended"}, "ended"),
        ({"errors": None, "msg": "no"}, "no"),
        ({}, ""),
    ],
)
def test_errors_of_every_shape_are_read(body: dict[str, Any], words: str) -> None:
    assert answers.own_words(body) == words


def test_a_long_error_is_cut() -> None:
    assert len(answers.own_words({"msg": "x" * 9000})) == answers.LIMIT


@pytest.mark.parametrize(
    ("value", "expected"),
    [("10.0.0.5", "10.0.0.5"), ("10.0.0.5/24", "10.0.0.5"), ("0.0.0.0", ""), ("169.254.3.4", ""),
     ("", ""), (None, ""), ("dhcp", "")],
)  # fmt: skip
def test_placeholders_are_no_addresses(value: Any, expected: str) -> None:
    assert shapes.usable_address(value) == expected


def test_the_primary_interface_is_preferred() -> None:
    body = {
        "id": 1,
        "connectionInfo": [{"ip": "169.254.1.1"}],
        "containerDetails": [
            {
                "server": {
                    "interfaces": [
                        {"id": 1, "ipAddress": "10.0.0.1", "network": {"id": 1}},
                        {"id": 2, "ipAddress": "10.0.0.2", "network": {"id": 2}, "primaryInterface": True},
                    ]
                }
            }
        ],
    }
    assert shapes.address_of(shapes.instance_from(body), body) == "10.0.0.2"


@pytest.mark.parametrize(
    "body", [{}, {"containerDetails": None, "servers": None, "labels": None}, {"containerDetails": [{"server": None}]}]
)
def test_an_instance_with_nothing_known_is_read(body: dict[str, Any]) -> None:
    instance = shapes.instance_from(body)
    assert instance.power == "unknown" and instance.nics == () and instance.status == "unknown"
    assert shapes.address_of(instance, body) == "" and not shapes.has_label(body, "x")


def test_the_complete_list_keeps_what_stays_and_pairs_what_lost_its_id() -> None:
    present = (
        Nic("network-1", id="11", type_id="5"),
        Nic("network-2", id="12", type_id="5", primary=True),
    )
    # Known by id, whatever its place; the other one's id has changed since and is paired.
    wanted = (Nic("network-9", id="11", address="10.0.0.9/24"), Nic("network-2", id="77"))
    assert shapes.complete_list(wanted, present) == [
        {
            "network": {"id": "network-9"},
            "id": 11,
            "networkInterfaceTypeId": 5,
            "ipMode": "static",
            "ipAddress": "10.0.0.9",
        },
        {"network": {"id": "network-2"}, "id": 12, "networkInterfaceTypeId": 5, "ipMode": "dhcp"},
    ]
    # One more than there are is added without an id; the primary is paired first.
    three = shapes.complete_list((Nic("network-3"), Nic("network-4"), Nic("network-5")), present)
    assert [entry.get("id") for entry in three] == [12, 11, None]


def test_nics_are_the_same_by_network_and_address_and_not_by_id() -> None:
    present = (Nic("network-1", id="9", address="10.0.0.1"), Nic("network-1", id="8", address="10.0.0.2"))
    assert shapes.same_nics((Nic("1", address="10.0.0.2/24"), Nic("network-1", address="10.0.0.1")), present)
    assert not shapes.same_nics((Nic("network-1"),), present)
    assert not shapes.same_nics((Nic("network-1", address="10.0.0.2"), Nic("network-2")), present)
