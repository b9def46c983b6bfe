"""What the tests of the set-up pages share: look at a page, press a button, a platform that answers from a table."""

from __future__ import annotations

from html import unescape
from typing import Any

from django.test import Client
from django.urls import reverse

from migrationhub.lib.findings import Problem
from servers.platforms.base import Choice


def page(client: Client, name: str, /, *args: object, **query: Any) -> str:
    response = client.get(reverse(name, args=args), query)
    assert response.status_code == 200
    return unescape(response.content.decode())


def post(client: Client, name: str, /, *args: object, **data: Any) -> str:
    """The page that follows, whether by redirect or with the form's errors."""
    response = client.post(reverse(name, args=args), data, follow=True)
    assert response.status_code == 200
    return unescape(response.content.decode())


class TablePlatform:
    """Answers as a platform does, with two groups of which the second has one cloud only."""

    def __init__(self, problem: Problem | None = None) -> None:
        self.problem = problem
        self.asked: list[str] = []

    def _answer(self, name: str, *choices: tuple[str, str], **facts: Any) -> list[Choice]:
        self.asked.append(name)
        if self.problem:
            raise self.problem
        return [Choice(value, label, facts) for value, label in choices]

    def groups(self) -> list[Choice]:
        return self._answer("groups", ("1", "Admins"), ("2", "Shop"))

    def zones(self, group_id: str) -> list[Choice]:
        return self._answer("zones", *([("10", "Basel")] if group_id == "2" else [("10", "Basel"), ("11", "Bern")]))

    def layouts(self) -> list[Choice]:
        return self._answer("layouts", ("7", "HVM"), instance_type="mvm-7")

    def pools(self, zone_id: str, group_id: str, layout_id: str) -> list[Choice]:
        return self._answer("pools", ("pool-1", "Cluster A"))

    def plans(self, zone_id: str, layout_id: str, group_id: str, pool_id: str) -> list[Choice]:
        return self._answer("plans", ("20", "2 CPU, 4 GB"), ("21", "4 CPU, 8 GB"))

    def images(self) -> list[Choice]:
        return self._answer("images", ("30", "Debian 12"))

    def datastores(self, zone_id: str) -> list[Choice]:
        return self._answer("datastores", ("40", "gfs2-1, 500 GiB free"))

    def networks(self, zone_id: str, pool_id: str) -> list[Choice]:
        self.asked.append("networks")
        return [
            Choice("network-1", "migration, 10.9.1.0/24", {"cidr": "10.9.1.0/24"}),
            Choice("network-2", "production, 10.9.2.0/24", {"cidr": "10.9.2.0/24"}),
        ]
