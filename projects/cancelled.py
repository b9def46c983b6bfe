"""What a cancelled step leaves, in words."""

from __future__ import annotations

from projects.models import Action, Step
from projects.steps.base import Lane
from servers.models import Run

BACK = "Start the step again, or press “Abort and restart services”."


def words(lane: Lane, kind: str, actions: list[Action]) -> str:
    """What a cancelled step leaves: a service that is down must not look as if nothing had happened."""
    if kind == Step.Kind.CUTOVER:
        # The move says where it left the target; without a word of it nothing was moved.
        move = next((action for action in actions if action.operation == "network"), None)
        left = move.reason if move and move.reason else "The target was not moved. Start the step again to go on."
        return f"Cancelled. {left.removeprefix('Stopped. ')}"
    if kind == Step.Kind.FINAL:
        return f"Cancelled. What was copied is kept; the services on the source stay stopped. {BACK}"
    make = next((action for action in actions if action.operation == "provision"), None)
    if make is not None and make.reason.startswith("Stopped. "):
        return f"Cancelled. {make.reason.removeprefix('Stopped. ')}"  # what it says of the instance
    stop = next((action for action in actions if action.operation == "stop_services"), None)
    run = Run.objects.filter(work_key=stop.work_key).order_by("-number").first() if stop else None
    if run is not None and run.started_at is not None:
        names = ", ".join(lane.migration.services)
        return f"Cancelled, with {run.phase or 'some stopped'} (in this order: {names}); these stay stopped. {BACK}"
    sync = next((action for action in reversed(actions) if action.operation == "sync"), None)
    run = Run.objects.filter(work_key=sync.work_key).order_by("-number").first() if sync else None
    if run is not None and (run.result or {}).get("target_in_receive_mode"):
        return f"Cancelled. {run.reason.removeprefix('Stopped on request. ')}"  # what it says of the clone
    return "Cancelled. What was copied is kept."
