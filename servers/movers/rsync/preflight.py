from __future__ import annotations

from migrationhub.lib.findings import Finding
from servers.movers.base import MoveJob


def preflight(job: MoveJob) -> list[Finding]:
    return []
