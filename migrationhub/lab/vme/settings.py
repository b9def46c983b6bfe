"""How one stand-in behaves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Durations are in seconds. `directory` holds everything that outlives a restart."""

    name: str
    directory: Path
    kind: str = "nspawn"
    duration: float = 3.0  # of each act, on top of what the host itself needs
    token_seconds: float = 43200.0
    version: str = "8.1.2.1-3"
    power_sync: float = 2.0  # how old what VME knows of a machine's power may be
    production: str = "10.100.1.0/24"
    migration: str = "10.100.2.0/24"
    first: int = 100  # transient addresses of the migration network, host numbers
    last: int = 199
    machines: int = 500  # licensed
