"""Step 3: the owner tests the clone in isolation. Open while its hold is open; done when the owner has signed."""

from __future__ import annotations

from projects.models import Approval, Step

from .base import Item, Lane, Plan, StepModule, Unmet, before, busy, open_items
from .moving import probe_plan, service_parameters


class AcceptanceTesting(StepModule):
    kind = Step.Kind.UAT
    automatic = True
    items = (
        Item(
            "log-in", "You can reach the clone and log in", "Use the address and the note on this page.", role="owner"
        ),
        Item(
            "usual-work",
            "Your usual work can be done on it",
            "What you change on the clone is thrown away by the next sync: work as you would in a rehearsal.",
            role="owner",
        ),
        Item("data", "The data is there and looks right", role="owner"),
        Item("recorded", "Services of the source are recorded", operation="record_services"),
        Item("probes-source", "Probes on the source", operation="probe:source", required=False),
        Item("probes-clone", "Probes on the clone", operation="probe:clone", required=False),
        Item("isolated", "The clone opens no connection to production", operation="isolation"),
    )

    def unmet(self, lane: Lane) -> list[Unmet]:
        missing = before(lane, Step.Kind.INITIAL)
        if lane.uat_hold is None:
            missing.append(Unmet("The acceptance test is not open.", "uat.closed"))
        missing += busy(lane, Step.Kind.DELTA, Step.Kind.INITIAL, Step.Kind.UAT)
        if lane.over(Step.Kind.UAT) and lane.approved(Approval.Gate.SIGN_OFF):
            missing.append(Unmet("The owner has signed.", "uat.signed"))
        return missing + lane.held_by("person", "engine")

    def plan(self, lane: Lane) -> list[Plan]:
        migration = lane.migration
        return [
            Plan("record_services", "Record the source's services", service_parameters(migration)),
            probe_plan(lane, "source", "Ask the source"),
            probe_plan(lane, "clone", "Ask the clone"),
            Plan(
                "isolation",
                "Prove that the clone is isolated",
                {"target": migration.target_id, "source": migration.source_id, "dns_name": migration.dns_name},
                not_applicable="Process hosts share one network: there is nothing to isolate."
                if lane.on_process_host
                else "",
            ),
        ]

    def unfinished(self, lane: Lane) -> str:
        if not lane.approved(Approval.Gate.SIGN_OFF):
            missing = [item.title for item in open_items(lane, self.kind)]
            return "Waits for the owner's sign-off." + (f" Open: {', '.join(missing)}." if missing else "")
        if lane.uat_hold is not None:
            return "Signed. The test is still open: end it, so that deltas may go on."
        return ""
