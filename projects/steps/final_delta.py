"""Step 5: the last bits are synced and proven equal, then the source is shut down and proven absent."""

from __future__ import annotations

from projects.models import Action, Step

from .base import Item, Lane, Plan, StepModule, Unmet, before, busy
from .moving import service_parameters, sync_plan

PROVE_AGAIN = "A retry begins with the proof again that the services are stopped."
SYNC_AGAIN = "A retry does the final sync again, as the source may have changed since it was read."


class FinalDelta(StepModule):
    kind = Step.Kind.FINAL
    automatic = True
    items = (
        Item("final-sync", "The last changes are on the target, and both sides are equal", operation="sync"),
        Item("source-off", "The source is shut down and does not answer any more", operation="shutdown"),
        Item(
            "source-nic",
            "The source's network card is disconnected",
            "In the old platform's console, so that a source that somebody switches on by mistake cannot answer in the "
            "target's place. Its services are blocked on it as well. Do not delete it: it is the way back.",
            required=False,
        ),
    )
    operations = {
        "prove_stopped": "Proof that the services are stopped",
        "sync": "Final sync and proof of equality",
        "block_services": "Lasting block of the services",
        "shutdown": "Shutdown of the source",
    }

    def conditions(self, lane: Lane) -> list[Unmet]:
        return (
            before(lane, Step.Kind.STOP)
            + busy(lane, Step.Kind.DELTA, Step.Kind.FINAL)
            + lane.held_by("person", "engine", "limit")
        )

    def done_again(self, actions: list[Action]) -> str:
        """What was proven holds as long as nothing fails: the source is the original still, and whatever runs there
        for a moment writes what no later act would bring to the target. A source that may be off is asked nothing."""
        if any(action.operation == "shutdown" and action.was_begun for action in actions):
            return ""
        done = {action.operation for action in actions if action.state == Action.State.DONE}
        if "sync" in done:
            return SYNC_AGAIN
        return PROVE_AGAIN if done else ""

    def plan(self, lane: Lane) -> list[Plan]:
        parameters = service_parameters(lane.migration)
        return [
            Plan("prove_stopped", "Prove once more that the services are stopped", parameters),
            sync_plan(lane, "final", "Final sync and proof of equality"),
            Plan("prove_stopped", "Prove that nothing started during the sync", parameters),
            Plan(
                "block_services",
                "Block the services on the source for good",
                parameters,
                undo={
                    "operation": "unblock_services",
                    "title": "Lift the lasting block",
                    "parameters": parameters,
                },
                reversible=Action.Reversible.UNTIL,
            ),
            Plan(
                "shutdown",
                "Shut the source down and prove that it is gone",
                {"server": lane.migration.source_id},
                reversible=Action.Reversible.NO,
            ),
        ]
