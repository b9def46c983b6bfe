"""Movers: what moves the data of a source to its target. `mover(name)` is the one way to get one."""

from __future__ import annotations

from collections.abc import Callable

from migrationhub.lib.findings import Problem
from servers.movers.base import Mover


def _rsync() -> Mover:
    from servers.movers.rsync.mover import RsyncMover

    return RsyncMover()


MOVERS: dict[str, Callable[[], Mover]] = {"rsync": _rsync}


def mover(name: str = "rsync") -> Mover:
    """The mover of that name. Raises `Problem` for an unknown one."""
    try:
        return MOVERS[name]()
    except KeyError:
        raise Problem(
            f"There is no mover named {name!r}.",
            f"Choose one of: {', '.join(sorted(MOVERS))}.",
            code="mover.unknown_name",
        ) from None
