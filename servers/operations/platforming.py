"""What operations on a platform have in common: the client and where the server is placed."""

from __future__ import annotations

from servers.models import Placement, Server
from servers.platforms import platform as client_for
from servers.platforms.base import Platform


def client_of(server: Server) -> Platform:
    """The platform client of the platform on which the server is placed."""
    owner = placement_of(server).platform
    return client_for(owner.kind, owner.access())


def placement_of(server: Server) -> Placement:
    return server.placement
