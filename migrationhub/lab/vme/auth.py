"""Accounts, their rights, and OAuth tokens as before 9.0: a log-in returns the token that is still valid."""

from __future__ import annotations

import json
import os
import secrets
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from migrationhub.lab.vme.store import Store

Json = dict[str, Any]

FULL = {
    "provisioning": "Instances: List",
    "provisioning-add": "Instances: Add",
    "provisioning-edit": "Instances: Edit",
    "provisioning-delete": "Instances: Delete",
    "provisioning-power": "Power Control",
    "provisioning-reconfigure": "Reconfigure",
    "provisioning-reconfigure-add-network": "Reconfigure: Network Add",
    "provisioning-reconfigure-modify-network": "Reconfigure: Network Modify",
    "provisioning-reconfigure-remove-network": "Reconfigure: Network Remove",
    "execution-request": "API: Execution Request",
    "snapshots": "Snapshots",
    "virtual-images": "Virtual Images",
}
READ = {
    "infrastructure-networks": "Networks",
    "infrastructure-storage": "Storage",
    "infrastructure-cluster": "Clusters",
    "admin-servers": "Compute",
    "admin-zones": "Clouds",
    "admin-groups": "Groups",
    "admin-servicePlans": "Service Plans",
    "admin-health": "Health",
    "admin-licenses": "License Settings",
    "activity": "Activity",
}
SERVICE, READER = "svc-migrationhub", "svc-reader"


@dataclass(frozen=True)
class Account:
    id: int
    username: str
    password: str = field(repr=False)
    rights: dict[str, str]  # permission code → access

    def may(self, code: str, access: str = "full") -> bool:
        return self.rights.get(code, "none") in ("full", access)


class Accounts:
    """The service account (in `account.json`) and one that may only look (in `reader.json`)."""

    def __init__(self, directory: Path, first_id: int) -> None:
        full = {**dict.fromkeys(FULL, "full"), **dict.fromkeys(READ, "read")}
        look = {
            **dict.fromkeys(FULL, "none"),
            **dict.fromkeys(READ, "read"),
            "provisioning": "read",
            "virtual-images": "read",
        }
        self.by_name = {
            SERVICE: Account(first_id, SERVICE, _password(directory / "account.json", SERVICE), full),
            READER: Account(first_id + 2, READER, _password(directory / "reader.json", READER), look),
        }

    def whoami(self, account: Account, version: str) -> Json:
        names = FULL | READ
        return {
            "user": {
                "id": account.id,
                "accountId": 1,
                "username": account.username,
                "displayName": account.username,
                "enabled": True,
                "roles": [{"id": account.id + 1, "name": account.username, "authority": account.username}],
                "account": {"id": 1, "name": "lab"},
            },
            "isMasterAccount": True,
            "permissions": [
                {"name": names[code], "code": code, "access": access} for code, access in account.rights.items()
            ],
            "appliance": {"buildVersion": version},
        }


def _password(path: Path, username: str) -> str:
    if path.exists():
        return str(json.loads(path.read_text())["password"])
    password = secrets.token_urlsafe(18)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump({"username": username, "password": password}, file)
    return password


class Tokens:
    def __init__(self, store: Store, accounts: Accounts, seconds: float) -> None:
        self.store, self.accounts, self.seconds = store, accounts, seconds

    def grant(self, form: dict[str, str]) -> tuple[int, Json]:
        """The answer of POST /oauth/token."""
        if form.get("client_id") != "morph-api":
            return 401, {"error": "invalid_client", "error_description": "Bad client credentials"}
        with self.store.lock:
            self._forget_old()
            if form.get("grant_type") == "password":
                account = self.accounts.by_name.get(form.get("username", ""))
                if account is None or not secrets.compare_digest(account.password, form.get("password", "")):
                    return 400, {"error": "invalid_grant", "error_description": "Bad credentials"}
                known = next((one for one in self._valid() if one["username"] == account.username), None)
                return 200, self._answer(known or self._issue(account.username))
            if form.get("grant_type") == "refresh_token":
                asked = form.get("refresh_token", "")
                known = next((one for one in self.store.state["tokens"] if one["refresh"] == asked), None)
                if known is None:
                    return 400, {"error": "invalid_grant", "error_description": f"Invalid refresh token: {asked}"}
                self.store.state["tokens"].remove(known)
                return 200, self._answer(self._issue(known["username"]))
        return 400, {"error": "unsupported_grant_type", "error_description": "Unsupported grant type"}

    def account(self, header: str) -> Account | None:
        """Who sends this Authorization header, None where the token is unknown or has ended."""
        kind, _, access = header.partition(" ")
        if kind.lower() != "bearer":
            return None
        with self.store.lock:
            known = next((one for one in self._valid() if one["access"] == access), None)
        return self.accounts.by_name.get(known["username"]) if known else None

    def expire(self) -> None:
        """End all access tokens now (tests); refresh tokens go on."""
        with self.store.lock:
            for one in self.store.state["tokens"]:
                one["ends"] = 0.0
            self.store.save()

    def _valid(self) -> list[Json]:
        return [one for one in self.store.state["tokens"] if one["ends"] > time.time()]

    def _forget_old(self) -> None:
        # A refresh token outlives its access token by an hour.
        state = self.store.state
        state["tokens"] = [one for one in state["tokens"] if one["ends"] == 0.0 or one["ends"] > time.time() - 3600]

    def _issue(self, username: str) -> Json:
        one = {
            "username": username,
            "access": str(uuid.uuid4()),
            "refresh": str(uuid.uuid4()),
            "ends": time.time() + self.seconds,
        }
        self.store.state["tokens"].append(one)
        self.store.save()
        return one

    def _answer(self, one: Json) -> Json:
        return {
            "access_token": one["access"],
            "refresh_token": one["refresh"],
            "expires_in": max(0, int(one["ends"] - time.time())),
            "token_type": "bearer",
            "scope": "write",
        }
