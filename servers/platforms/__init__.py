"""Platforms by kind."""

from __future__ import annotations

import os
from functools import lru_cache

from servers.platforms.base import Platform, PlatformAccess, PlatformProblem
from servers.platforms.vme.platform import VmePlatform


def platform(kind: str, access: PlatformAccess) -> Platform:
    """The platform of a kind ("vme"), one per access and process, so that its token and its waits are kept."""
    return _kept(kind, access, os.getpid())


@lru_cache(maxsize=32)
def _kept(kind: str, access: PlatformAccess, process: int) -> Platform:
    if kind == "vme":
        return VmePlatform(access)
    raise PlatformProblem(
        f"“{kind}” is no kind of platform that migrationhub knows.", "Choose HPE VM Essentials.", code="platform.kind"
    )
