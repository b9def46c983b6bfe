"""Step 4: the cutover begins. Services on the source are stopped in order and proven stopped."""

from __future__ import annotations

from typing import Any

from projects.models import Action, Approval, Migration, Profile, Step

from .base import Lane, Plan, StepModule, Unmet, before, busy
from .moving import probe_plan, service_parameters


class StopServices(StepModule):
    kind = Step.Kind.STOP
    automatic = True

    def unmet(self, lane: Lane) -> list[Unmet]:
        missing = before(lane, Step.Kind.INITIAL, Step.Kind.UAT)
        if not lane.approved(Approval.Gate.SIGN_OFF):
            missing.append(Unmet("The owner has not signed what is there now.", "gate.sign_off"))
        if not lane.approved(Approval.Gate.GO):
            missing.append(Unmet("The lead has not given the go.", "gate.go"))
        missing += busy(lane, Step.Kind.DELTA, Step.Kind.STOP) + cutover_unplanned(lane)
        return missing + lane.held_by("window", "freeze", "uat", "person", "engine", "limit")

    def retry_unmet(self, lane: Lane) -> list[Unmet]:
        missing = super().retry_unmet(lane)
        if not lane.approved(Approval.Gate.SIGN_OFF):
            missing.append(
                Unmet("The source differs from what was signed: the owner must look again.", "gate.sign_off")
            )
        return missing

    def plan(self, lane: Lane) -> list[Plan]:
        parameters = service_parameters(lane.migration)
        return [
            Plan(
                "compare_services",
                "Compare the source's services with what was signed",
                {**parameters, "signed": signed_record(lane)},
            ),
            probe_plan(lane, "source", "Ask the source before the stop"),
            Plan(
                "stop_services",
                "Stop the services in order, prove it, block restarts",
                parameters,
                undo={
                    "operation": "start_services",
                    "title": "Start the services exactly as recorded",
                    "parameters": parameters,
                },
                reversible=Action.Reversible.UNTIL,
            ),
        ]


def cutover_unplanned(lane: Lane) -> list[Unmet]:
    """What step 6 will need and the plan does not have: found now, and not with the source switched off."""
    migration, missing = lane.migration, []
    taking_over = migration.profile is not None and migration.profile.addressing == Profile.Addressing.TAKE_OVER
    if not migration.new_address:
        if not taking_over:
            missing.append(Unmet("No address in production is planned: enter it in the plan.", "plan.address"))
        elif not lane.on_process_host and not _source_prefix_known(migration):
            missing.append(
                Unmet(
                    "The source's address with its prefix was not seen: check the server, or enter it in the plan.",
                    "plan.address",
                )
            )
    if migration.dns_name and migration.name_server_id is None:
        missing.append(Unmet(f"{migration.dns_name} is to change, but no name server is chosen.", "plan.dns"))
    elif migration.dns_name and not migration.new_address:
        missing.append(Unmet(f"{migration.dns_name} is to change, but no address is planned for it.", "plan.dns"))
    return missing


def _source_prefix_known(migration: Migration) -> bool:
    return any(
        str(entry.get("address", "")).split("/")[0] == migration.source.address
        and "/" in str(entry.get("cidr") or entry.get("address"))
        for entry in migration.source.facts.get("addresses", [])
    )


def signed_record(lane: Lane) -> dict[str, Any]:
    """Fingerprints of this source in what the owner signed."""
    approval = lane.approvals.get(Approval.Gate.SIGN_OFF)
    subject = approval.subject if approval else {}
    server = subject.get("servers", {}).get(str(lane.migration.pk), {})
    return {"services": server.get("services", ""), "machine": server.get("machine", {})}
