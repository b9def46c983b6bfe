"""The appliance's version, asked once, and what depends on it."""

from __future__ import annotations

from servers.platforms.base import PlatformProblem
from servers.platforms.vme.answers import obj
from servers.platforms.vme.client import Client

IN_PLACE_NICS = (8, 1, 2)  # a resize changes networks in place from here on (HPE's own provider gates on it)
OLDEST = (8, 0, 3)  # what was read of the API; below it nothing is promised


def build_version(client: Client) -> str:
    """health.buildVersion; where the account may not read health, what whoami or ping tell. "" if none does."""
    for path, key in (("/api/health", "health"), ("/api/whoami", "appliance"), ("/api/ping", "")):
        try:
            body = client.get(path)
        except PlatformProblem as problem:
            if not problem.lasting:
                raise
            continue
        version = (obj(body.get(key)) if key else body).get("buildVersion")
        if version:
            return str(version)
    return ""
