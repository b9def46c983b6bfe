"""Machines and work."""

from .control import Change, Lease
from .platform import NameServer, Platform
from .probe import Probe, ProbeResult
from .run import Run, RunEvent
from .server import Credential, HostKey, Placement, Server
from .service import ServiceRecord
from .sync import SyncPoint

__all__ = [
    "Change",
    "Credential",
    "HostKey",
    "Lease",
    "NameServer",
    "Placement",
    "Platform",
    "Probe",
    "ProbeResult",
    "Run",
    "RunEvent",
    "Server",
    "ServiceRecord",
    "SyncPoint",
]
