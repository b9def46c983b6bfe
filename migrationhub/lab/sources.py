"""The lab's sources: the servers that the demo moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from migrationhub.lab.state import Lab, LabProblem


@dataclass(frozen=True)
class Source:
    name: str  # also the name of its recipe, on both kinds of host
    record: str  # name in shop.lab
    number: int  # host number in production
    services: tuple[str, ...]
    wave: int = 1
    new_number: int = 0  # host number of its target; 0: takes the source's address over
    clone_image: str = "Debian 12"  # as the platform calls it; must configure its network as the source does
    options: Mapping[str, str] = field(default_factory=dict)  # nspawn
    process_options: Mapping[str, str] = field(default_factory=dict)

    def address(self, lab: Lab, kind: str) -> str:
        return lab.address("production", self.number, kind)

    def new_address(self, lab: Lab, kind: str) -> str:
        """Where its target shall be in production."""
        return lab.address("production", self.new_number or self.number, kind)


SOURCES = (
    # Its line is slow, so that copying the database takes longer than the time between two checkpoints.
    Source("shop-db", "db", 20, ("postgresql", "orders"), new_number=60, options={"rate": "40mbit"}),
    Source("shop-web", "web", 21, ("nginx", "shop"), new_number=61, clone_image="Debian 12 networkd"),
    Source("files", "files", 22, ("churn", "rsync"), options={"files": "10000"}, process_options={"files": "1000"}),
    Source("wiki", "wiki", 23, ("nginx",), wave=2, new_number=63),
)


def source_of(name: str) -> Source:
    for source in SOURCES:
        if source.name == name:
            return source
    raise LabProblem(
        f"The lab has no source “{name}”.", f"Take of {', '.join(one.name for one in SOURCES)}.", code="lab.source"
    )
