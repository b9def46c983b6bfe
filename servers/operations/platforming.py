"""What operations on a platform have in common: the client and where the server is placed."""

from __future__ import annotations

from servers.models import Placement, Server
from servers.platforms import platform as client_for
from servers.platforms.base import Placed, Platform


def client_of(server: Server) -> Platform:
    """The platform client of the platform on which the server is placed; it touches nothing but what we placed."""
    placement = placement_of(server)
    owner = placement.platform
    client = client_for(owner.kind, owner.access())
    if not placement.external_id:
        return client
    return client.holding(Placed(placement.external_id, placement.label, placement.external_uuid))


def placement_of(server: Server) -> Placement:
    return server.placement
