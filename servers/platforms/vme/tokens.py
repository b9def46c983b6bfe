"""OAuth tokens of an appliance: password grant, then refresh, with the expiry computed and never assumed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

MARGIN = 60.0  # seconds before the end at which a token counts as used up


@dataclass(frozen=True)
class Token:
    access: str = field(repr=False)
    refresh: str = field(repr=False)
    expires_at: float  # seconds on the client's clock
    lifetime: float  # seconds that it had left when it was issued

    def usable(self, now: float) -> bool:
        # Before 9.0 a log-in returns the existing token with what is left of it, which may be very little.
        return now < self.expires_at - min(MARGIN, self.lifetime / 4)


def password_grant(username: str, password: str) -> dict[str, str]:
    return {
        "grant_type": "password",
        "scope": "write",
        "client_id": "morph-api",
        "username": username,
        "password": password,
    }


def refresh_grant(token: Token) -> dict[str, str]:
    return {"grant_type": "refresh_token", "client_id": "morph-api", "refresh_token": token.refresh}


def token_from(body: dict[str, Any], clock: Callable[[], float]) -> Token | None:
    """The token of an answer, or None where it has none."""
    access = body.get("access_token")
    if not isinstance(access, str) or not access:
        return None
    try:
        lifetime = float(body.get("expires_in") or 0)
    except (TypeError, ValueError):
        lifetime = 0.0
    return Token(
        access=access,
        refresh=str(body.get("refresh_token") or ""),
        expires_at=clock() + lifetime,
        lifetime=lifetime,
    )
