"""Step 5: the last bits are synced and proven equal, then the source is shut down and proven absent."""

from __future__ import annotations

from projects.models import Action, Step

from .base import Lane, Plan, StepModule, Unmet, before, busy
from .moving import service_parameters, sync_plan


class FinalDelta(StepModule):
    kind = Step.Kind.FINAL
    automatic = True

    def unmet(self, lane: Lane) -> list[Unmet]:
        return (
            before(lane, Step.Kind.STOP)
            + busy(lane, Step.Kind.DELTA, Step.Kind.FINAL)
            + lane.held_by("person", "engine", "limit")
        )

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
