"""Step 3: the owner tests the clone in isolation. Open while its hold is open; done when the owner has signed."""

from __future__ import annotations

from projects.models import Approval, Holds, ItemRole, Step

from .base import Item, Lane, Plan, StepModule, Unmet, before, busy, open_items
from .moving import probe_plan, service_parameters


class AcceptanceTesting(StepModule):
    kind = Step.Kind.UAT
    automatic = True
    items = (
        Item(
            "log-in",
            "You can reach the clone and log in",
            "Use the address and the note on this page. Log in with an account of the server itself: the copy is "
            "isolated, so company accounts that ask a directory do not work on it.",
            role=ItemRole.OWNER,
        ),
        Item(
            "usual-work",
            "Your usual work can be done on it",
            "Do what you do most, from the first screen to the result. What you change on the clone is thrown away by "
            "the next sync: work as you would in a rehearsal.",
            role=ItemRole.OWNER,
        ),
        Item(
            "data",
            "The data is there and looks right",
            "Look for something recent, something old, and something large. Numbers that you know by heart are the "
            "best test.",
            role=ItemRole.OWNER,
        ),
        Item(
            "reports",
            "Reports, exports and print-outs look as usual",
            "Compare one with the same from production.",
            role=ItemRole.OWNER,
            required=False,
        ),
        Item(
            "speed",
            "It is fast enough to work with",
            "The first use after a start is slower. Judge the second.",
            role=ItemRole.OWNER,
            required=False,
        ),
        Item("recorded", "Services of the source are recorded", operation="record_services"),
        Item("probes-source", "Probes on the source", operation="probe:source", required=False),
        Item("probes-clone", "Probes on the clone", operation="probe:clone", required=False),
        Item("isolated", "The clone opens no connection to production", operation="isolation"),
        Item(
            "licences",
            "Licences and certificates are valid on the new machine",
            "Licences may be bound to a MAC address or hardware id, which the copy does not have: neither is kept. "
            "Certificates are copied; look at their names and dates.",
            required=False,
        ),
    )
    operations = {
        "record_services": "Record of the source's services",
        "probe:source": "Probes on the source",
        "probe:clone": "Probes on the clone",
        "isolation": "Proof of isolation",
    }

    def conditions(self, lane: Lane) -> list[Unmet]:
        missing = before(lane, Step.Kind.INITIAL)
        if lane.uat_hold is None:
            missing.append(Unmet("The acceptance test is not open.", "uat.closed"))
        missing += busy(lane, Step.Kind.DELTA, Step.Kind.INITIAL, Step.Kind.UAT)
        if lane.over(Step.Kind.UAT) and lane.approved(Approval.Gate.SIGN_OFF):
            missing.append(Unmet("The owner has signed.", "uat.signed"))
        return missing + lane.held_by("person", "engine")

    def plan(self, lane: Lane) -> list[Plan]:
        """The proof of isolation and the snapshot belong to each opening of the test: `uat_runs`."""
        migration = lane.migration
        return [
            Plan("record_services", "Record the source's services", service_parameters(migration)),
            probe_plan(lane, "source", "Ask the source"),
            probe_plan(lane, "clone", "Ask the clone"),
        ]

    def unfinished(self, lane: Lane) -> str:
        if not lane.approved(Approval.Gate.SIGN_OFF):
            missing = [item.title for item in open_items(lane, self.kind, Holds.END)]
            return "Waits for the owner's sign-off." + (f" Open: {', '.join(missing)}." if missing else "")
        if lane.uat_hold is not None:
            return "Signed. The test is still open: end it, so that deltas may go on."
        return ""
