"""A target before it exists: its row, its placement, and a key pair of its own."""

from __future__ import annotations

from servers.models import Credential, Placement, Platform, Server
from servers.remote import access


def new_target(source: Server, platform: Platform) -> Server:
    """The row of the machine that will take `source` over. Raises IntegrityError if its name is taken on `platform`."""
    private, public = access.new_key_pair(f"migrationhub {source.name}")
    target = Server.objects.create(
        name=source.name,
        role=Server.Role.TARGET,
        manager=source.manager,
        port=access.access_port(source.manager),
        credential=Credential.objects.create(
            name=f"access to {source.name} on {platform.name}"[:100],
            kind=Credential.Kind.KEY,
            username="root",
            secret=private,
            public=public,
            internal=True,
        ),
    )
    Placement.objects.create(server=target, platform=platform, label=source.name)
    return target
