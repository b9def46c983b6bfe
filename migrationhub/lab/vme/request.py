"""One request as the routes see it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from migrationhub.lab.vme.auth import Account
from migrationhub.lab.vme.refusals import Refusal

Json = dict[str, Any]


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    body: Json
    work_key: str = ""  # X-Request-Id: for the journal, otherwise ignored
    account: Account | None = None
    match: dict[str, str] = field(default_factory=dict)

    def need(self, code: str, access: str = "full") -> None:
        if self.account is None or not self.account.may(code, access):
            raise Refusal(403, f"Forbidden – Your API key does not have the required role or permissions ({code}).")

    def number(self, name: str) -> int | None:
        value = self.query.get(name, "")
        return int(value) if value.isdigit() else None
