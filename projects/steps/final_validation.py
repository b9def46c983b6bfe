"""Step 7: the same probes as before on the source; then a lead declares it complete and our access is removed."""

from __future__ import annotations

from projects.models import Action, ItemRole, Step

from .base import Item, Lane, Plan, StepModule, Unmet, before, busy
from .moving import probe_plan


class FinalValidation(StepModule):
    kind = Step.Kind.VALIDATION
    automatic = True
    items = (
        Item(
            "users",
            "Users can work with it",
            "Ask the application's owner or a key user. What does not work is raised as a defect of this step.",
        ),
        Item("probes-after", "The target gives the same answers as the source did", operation="probe", required=False),
        Item(
            "backup",
            "Backup of the new server is set up",
            "Take the new server into the backup, wait for the first good run, and restore one file from it. Keep the "
            "last backup of the source as long as your rules say.",
            required=False,
        ),
        Item(
            "disaster-recovery",
            "Disaster recovery covers the new server",
            "Replication, recovery plan and its order of start name the new server and not the old one.",
            required=False,
        ),
        Item(
            "monitoring",
            "Monitoring looks at the new server",
            "End the maintenance window, point the checks to the new server, and see one of them turn green.",
            required=False,
        ),
        Item(
            "retire",
            "The source is marked for removal",
            "Write down from which day it may be removed (commonly 14 to 30 days after the cutover) and who does it. "
            "Until then it stays switched off and untouched.",
            role=ItemRole.LEAD,
            required=False,
        ),
    )
    operations = {"probe": "Probes of the target", "remove_access": "Removal of our access"}

    def conditions(self, lane: Lane) -> list[Unmet]:
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
