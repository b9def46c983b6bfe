"""Step 4: the cutover begins. Services on the source are stopped in order and proven stopped."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from projects.models import Action, Approval, Holds, ItemRole, Migration, Profile, Step

from .base import Item, Lane, Plan, StepModule, Unmet, before, busy, defects_unmet, open_items
from .moving import check_cutover_plan, probe_plan, service_parameters, stage_identity_plan


class StopServices(StepModule):
    kind = Step.Kind.STOP
    automatic = True
    items = (
        Item(
            "users-told",
            "Users know that the service stops now",
            "Say when it stops, how long it is expected to take, and where they hear that it is back.",
            role=ItemRole.LEAD,
            required=False,
            holds=Holds.START,
        ),
        Item(
            "pause-monitoring",
            "Monitoring of the source is paused",
            "Set a maintenance window for the source and for everything that depends on it, longer than the window of "
            "the wave. Else people are called for a server that is stopped on purpose.",
            required=False,
            holds=Holds.START,
        ),
        Item("stopped", "Services on the source are stopped, and stay stopped", operation="stop_services"),
    )
    operations = {
        "compare_services": "Comparison with what was signed",
        "probe:source": "Probes on the source before the stop",
        "check_cutover": "Check of address and DNS record of the cutover events",
        "stop_services": "Stop of the services",
    }

    def conditions(self, lane: Lane) -> list[Unmet]:
        missing = before(lane, Step.Kind.INITIAL, Step.Kind.UAT)
        if not lane.approved(Approval.Gate.SIGN_OFF):
            missing.append(Unmet("The owner has not signed what is there now.", "gate.sign_off"))
        if not lane.approved(Approval.Gate.GO):
            missing.append(Unmet("The lead has not given the go.", "gate.go"))
        missing += defects_unmet(lane) + [
            Unmet(f"“{item.title}” is open on the checklist of the delta migrations.", "gate.checklist")
            for item in open_items(lane, Step.Kind.DELTA)
        ]
        missing += busy(lane, Step.Kind.DELTA, Step.Kind.STOP) + cutover_unplanned(lane)
        return missing + lane.held_by("window", "freeze", "uat", "person", "engine", "limit")

    def retry_unmet(self, lane: Lane) -> list[Unmet]:
        missing = super().retry_unmet(lane) + not_cut_unmet(lane)
        if not lane.approved(Approval.Gate.SIGN_OFF):
            missing.append(
                Unmet("The source differs from what was signed: the owner must look again.", "gate.sign_off")
            )
        return missing

    def act_unmet(self, lane: Lane, operation: str) -> list[Unmet]:
        missing = super().act_unmet(lane, operation)
        return missing + not_cut_unmet(lane) if operation == "stop_services" else missing

    def plan(self, lane: Lane) -> list[Plan]:
        parameters = service_parameters(lane.migration)
        known = stopped_before(lane)
        asked = probe_plan(lane, "source", "Ask the source before the stop")
        plans = [
            Plan(
                "compare_services",
                "Compare the source's services with what was signed",
                {**parameters, "signed": signed_record(lane)},
                not_applicable=known,
            ),
            replace(asked, not_applicable=known or asked.not_applicable),
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
        # Before the stop: whatever fails here costs no downtime, and the source can still be asked.
        plans[-1:-1] = [check_cutover_plan(lane), *stage_identity_plan(lane)]
        return plans


def stopped_before(lane: Lane) -> str:
    """Why the source is not compared once more: an earlier try, which was cancelled, has stopped something of it.

    A record of now would tell of stopped services, and taking the cutover back would restore exactly that.
    """
    attempt = lane.begun_in(Step.Kind.STOP, "stop_services")
    return f"Attempt {attempt.number} did it, and services of the source are stopped since." if attempt else ""


def not_cut_unmet(lane: Lane) -> list[Unmet]:
    """What keeps production from being stopped, as long as nothing of it was: the step began when nothing did, but it
    may have waited for people since, for hours or days."""
    if lane.begun_in(Step.Kind.STOP, "stop_services"):
        return []
    return defects_unmet(lane) + lane.held_by("window", "freeze", "uat", "engine", "limit")


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
