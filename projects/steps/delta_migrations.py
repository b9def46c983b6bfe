"""Step 2: incremental syncs, by hand or every n minutes, until the go ends the schedule. It overlaps step 3."""

from __future__ import annotations

from projects.models import ItemRole, Step

from .base import Item, Lane, Plan, StepModule, Unmet, before, busy
from .moving import probe_plan, sync_plan
from .stop_services import StopServices


class DeltaMigrations(StepModule):
    kind = Step.Kind.DELTA
    # Step 2 has no end of its own: what is open here holds the stop.
    items = (
        Item(
            "ttl",
            "The TTL of the DNS record is lowered",
            "At least one old TTL before the cutover, so that resolvers do not keep the old address: for a TTL of "
            "86400 that is a day. Set it to 300 or less, and look at it from a client:\n\n"
            "    dig +noall +answer name.example.com\n\n"
            "*Not applicable* where the address stays the same.",
            required=False,
        ),
        Item(
            "fits",
            "The last deltas are short enough for the window",
            "Compare how long the last syncs took with the window of the wave. Pause batch jobs and backups of the "
            "source before the final delta: what they write has to be copied while users wait.",
            role=ItemRole.LEAD,
            required=False,
        ),
    )
    operations = {"sync": "Delta sync", "probe": "Probes of the clone after the sync"}

    def unfinished(self, lane: Lane) -> str:
        """A delta is over when its acts are: the next one may come."""
        return ""

    def conditions(self, lane: Lane) -> list[Unmet]:
        missing = before(lane, Step.Kind.INITIAL) + busy(lane, Step.Kind.DELTA, Step.Kind.STOP, Step.Kind.FINAL)
        if lane.over(Step.Kind.STOP):
            missing.append(Unmet("The cutover has begun: the final delta is the next sync.", "cutover.begun"))
        elif not [item for item in StopServices().unmet(lane) if not item.code.startswith("busy.")]:
            # Else a schedule that is always due would keep the stop waiting for ever.
            missing.append(Unmet("The go is given: services are stopped next.", "cutover.next"))
        attempt = lane.open_attempt(Step.Kind.UAT)
        if attempt and any(action.state == "running" for action in attempt.actions.all()):
            missing.append(Unmet("Evidence for the acceptance test is being taken.", "busy.uat"))
        return missing + lane.held_by("uat", "person", "engine", "limit")

    def plan(self, lane: Lane) -> list[Plan]:
        return [
            sync_plan(lane, "delta", "Delta sync"),
            probe_plan(lane, "clone", "Ask the clone after the sync", until_seconds=60),
        ]
