"""Services behind one contract, whichever manager was declared."""

from __future__ import annotations

from servers.remote.base import Connection

from .base import ServiceManager, ServiceRecord, Unit, difference
from .supervisord import Supervisord
from .systemd import Systemd

__all__ = ["ServiceManager", "ServiceRecord", "Unit", "difference", "manager_for"]


def manager_for(connection: Connection) -> ServiceManager:
    """Declared, never detected: on a process host systemctl would speak to the real machine."""
    return Supervisord(connection) if connection.endpoint.manager == "supervisord" else Systemd(connection)
