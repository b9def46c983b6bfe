"""What a profile can choose on a platform: asked live, one list after the other, as far as the choices go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from migrationhub.lib.findings import Problem
from servers import checks
from servers.models import Platform
from servers.platforms.base import Choice
from servers.platforms.base import Platform as Client

# In the order in which they are asked: later ones depend on earlier ones.
PLACE_FIELDS = (
    "group_id",
    "zone_id",
    "layout_id",
    "pool_id",
    "plan_id",
    "image_id",
    "datastore_id",
    "migration_network_id",
    "production_network_id",
)


@dataclass
class Choices:
    """Lists by field, and the values so far: where there is one choice only, it is taken.

    A field without a list could not be asked yet: something before it is not chosen, or `problem` says why.
    """

    values: dict[str, str]
    lists: dict[str, list[Choice]] = field(default_factory=dict)
    problem: Problem | None = None
    gone: list[str] = field(default_factory=list)  # fields whose value the platform does not offer

    def label(self, name: str) -> str:
        value = self.values.get(name, "")
        return next((choice.label for choice in self.lists.get(name, []) if choice.value == value), "")

    def chosen(self, name: str) -> Choice | None:
        value = self.values.get(name, "")
        return next((choice for choice in self.lists.get(name, []) if choice.value == value), None)


def load(platform: Platform, values: dict[str, str]) -> Choices:
    """Network I/O (HTTPS to the platform): never call it inside a transaction."""
    found = Choices({name: values.get(name, "") for name in PLACE_FIELDS})
    try:
        client = checks.platform_client(platform)
        for name in PLACE_FIELDS:
            needs, ask = QUESTIONS[name]
            if all(found.values[need] for need in needs):
                _take(found, name, ask(client, found.values))
    except Problem as problem:
        found.problem = problem
    return found


def _take(found: Choices, name: str, offered: list[Choice]) -> None:
    found.lists[name] = offered
    value = found.values[name]
    if value and value not in {choice.value for choice in offered}:
        found.gone.append(name)
        found.values[name] = value = ""
    if not value and len(offered) == 1:
        found.values[name] = offered[0].value


_Values = dict[str, str]
_Question = tuple[tuple[str, ...], Callable[[Client, _Values], list[Choice]]]
_NETWORKS: _Question = (("zone_id", "pool_id"), lambda client, v: client.networks(v["zone_id"], v["pool_id"]))
QUESTIONS: dict[str, _Question] = {
    "group_id": ((), lambda client, v: client.groups()),
    "zone_id": (("group_id",), lambda client, v: client.zones(v["group_id"])),
    "layout_id": ((), lambda client, v: client.layouts()),
    "pool_id": (
        ("zone_id", "group_id", "layout_id"),
        lambda client, v: client.pools(v["zone_id"], v["group_id"], v["layout_id"]),
    ),
    "plan_id": (
        ("zone_id", "layout_id", "group_id", "pool_id"),
        lambda client, v: client.plans(v["zone_id"], v["layout_id"], v["group_id"], v["pool_id"]),
    ),
    "image_id": ((), lambda client, v: client.images()),
    "datastore_id": (("zone_id",), lambda client, v: client.datastores(v["zone_id"])),
    "migration_network_id": _NETWORKS,
    "production_network_id": _NETWORKS,
}
