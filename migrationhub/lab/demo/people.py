"""The demo's people: accounts with generated passwords, each with a browser of their own."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from migrationhub.lab.demo.driver import Person


@dataclass(frozen=True)
class Account:
    """`role`: as the members page names it; `staff`: may make projects."""

    name: str
    full_name: str
    role: str
    staff: bool = False
    password: str = field(default_factory=lambda: secrets.token_urlsafe(12), repr=False)


def accounts() -> list[Account]:
    """Everybody of the demo, with new passwords."""
    return [
        Account("lead", "Lena Lead", "Lead", staff=True),
        Account("operator", "Olaf Operator", "Operator"),
        Account("owner", "Orla Owner", "Application owner"),
        Account("owner-files", "Finn Files", "Application owner"),
        Account("manager", "Mara Manager", "Manager"),
    ]


class People:
    """Logged-in persons by account name."""

    def __init__(self, base: str, everybody: list[Account]) -> None:
        self.accounts = everybody
        self.persons = {one.name: Person(base, one.name, one.password) for one in everybody}

    def __getitem__(self, name: str) -> Person:
        return self.persons[name]

    def log_in(self) -> None:
        for person in self.persons.values():
            person.log_in()

    @property
    def lead(self) -> Person:
        return self["lead"]

    @property
    def operator(self) -> Person:
        return self["operator"]
