"""Step 2: incremental syncs, by hand or every n minutes, until the go ends the schedule. It overlaps step 3."""

from __future__ import annotations

from projects.models import Step

from .base import Lane, Plan, StepModule, Unmet, before, busy
from .moving import probe_plan, sync_plan
from .stop_services import StopServices


class DeltaMigrations(StepModule):
    kind = Step.Kind.DELTA

    def unmet(self, lane: Lane) -> list[Unmet]:
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
