"""What shows on rows and hosts that work is really under way: the conditions under which a test kills."""

from __future__ import annotations

from collections.abc import Callable

from tests.kills.journey import Journey

Seen = Callable[[Journey], bool]


def bytes_move(journey: Journey) -> bool:
    """The row says that it copies and is not at its end, and rsync is at work on the source."""
    run = journey.run_of("sync")
    moving = run is not None and run.phase == "copying" and 0 < run.bytes_done < (run.bytes_total or 0)
    return moving and bool(journey.says(journey.source, "pgrep -x rsync"))


def sleeps(place: str, seconds: str) -> Seen:
    """A probe's command, a sleep of so many seconds, runs on the source or the clone."""

    def seen(journey: Journey) -> bool:
        host = journey.source if place == "source" else journey.clone
        return bool(journey.says(host, f"pgrep -f 'sleep [{seconds[0]}]{seconds[1:]}'"))

    return seen


def goes_down(unit: str) -> Seen:
    """systemd on the source is stopping the unit."""
    return lambda journey: journey.says(journey.source, f"systemctl show -P ActiveState {unit}") == "deactivating"


def platform_is_at(act: str) -> Seen:
    return lambda journey: journey.pending(act)


def was_asked_to_go_down(journey: Journey) -> bool:
    run = journey.run_of("shutdown")
    return run is not None and "asked" in run.memo
