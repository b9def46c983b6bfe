"""Step 7: the same probes as before on the source; then a lead declares it complete and our access is removed."""

from __future__ import annotations

from projects.models import Action, Step

from .base import Item, Lane, Plan, StepModule, Unmet, before, busy
from .moving import probe_plan


class FinalValidation(StepModule):
    kind = Step.Kind.VALIDATION
    automatic = True
    items = (
        Item("users", "Users can work with it", "Ask the application's owner or a key user.", role="operator"),
        Item("backup", "Backup of the new server is set up", required=False),
        Item("monitoring", "Monitoring looks at the new server", required=False),
    )

    def unmet(self, lane: Lane) -> list[Unmet]:
        return (
            before(lane, Step.Kind.CUTOVER)
            + busy(lane, Step.Kind.VALIDATION)
            + lane.held_by("person", "engine", "limit")
        )

    def plan(self, lane: Lane) -> list[Plan]:
        return [
            probe_plan(lane, "target", "Ask the target once more", until_seconds=60, must_pass=True),
            Plan(
                "remove_access",
                "Remove our access from the target",
                {"target": lane.migration.target_id},
                reversible=Action.Reversible.NO,
                waits_for="declared",
            ),
        ]

    def unfinished(self, lane: Lane) -> str:
        return (
            ""
            if lane.migration.declared_at
            else super().unfinished(lane) or "Waits for the lead to declare it complete."
        )
