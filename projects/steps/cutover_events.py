"""Step 6: the target gets its production address, network and name. Joins with other applications wait here."""

from __future__ import annotations

from dataclasses import replace

from projects.models import Action, Migration, Step, StepAttempt

from .base import Item, Lane, Plan, StepModule, Unmet, before, busy
from .moving import address_parameters, guest_address_title, machines, probe_plan, profile_of, take_identity_plans

IN_HAND = (Action.State.RUNNING, Action.State.FAILED)


class CutoverEvents(StepModule):
    kind = Step.Kind.CUTOVER
    automatic = True
    again_by_itself = False
    items = (
        Item("address", "The target has its production address", operation="guest_address"),
        Item("network", "The target is on the production network", operation="network"),
        Item("dns", "The DNS record points to the target", operation="dns"),
        Item("answers", "The target answers in production", operation="probe:target", required=False),
        Item(
            "firewall",
            "Firewall rules and load balancers know the new address",
            "Rules, pools and allow lists that name the old address, on both ends of each connection. *Not applicable* "
            "where the address was taken over.",
            required=False,
        ),
        Item(
            "cmdb",
            "The inventory (CMDB) names the new server",
            "Platform, address, size and owner; the old entry becomes *being retired*, not *retired*.",
            required=False,
        ),
    )
    operations = {
        "guest_address": "Address inside the guest",
        "network": "Move to the production network",
        "prove_identity": "Identity taken over from the source",
        "dns": "Change of the DNS record",
        "probe:target": "Probes of the target in production",
    }

    def conditions(self, lane: Lane) -> list[Unmet]:
        missing = before(lane, Step.Kind.FINAL)
        for other in lane.awaited:
            if not name_proven(other):
                missing.append(
                    Unmet(
                        f"Waits for {other.migration.source.name} ({other.migration.application}): "
                        f"its {'DNS record' if other.migration.dns_name else 'cutover'} is not proven yet.",
                        "join",
                    )
                )
        return missing + busy(lane, Step.Kind.CUTOVER) + lane.held_by("person", "engine", "limit")

    def plan(self, lane: Lane) -> list[Plan]:
        migration = lane.migration
        both = machines(migration)
        address = address_parameters(migration)
        take, prove = take_identity_plans(lane)
        return [
            Plan(
                "guest_address",
                guest_address_title(migration),
                {**both, **address},
                undo={
                    "operation": "undo_guest_address",
                    "title": "Give the target its old address back",
                    "parameters": both,
                },
                not_applicable="A process host has no network configuration of its own."
                if lane.on_process_host
                else "",
            ),
            *take,
            Plan(
                "network",
                "Move it to the production network and reach it there",
                {
                    **both,
                    **address,
                    "network": profile_of(migration).production_network_id,
                    "parts": list(profile_of(migration).identity),
                },
                undo={
                    "operation": "network_back",
                    "title": "Move it back to the migration network and reach it there",
                    "parameters": {
                        **both,
                        "network": profile_of(migration).migration_network_id,
                        "take_over": address["take_over"],
                    },
                },
            ),
            dns_plan(migration, [action.work_key for action in begun(lane).get("dns", [])]),
            # From the move on, beside the DNS change: the first answer in production ends the downtime.
            replace(
                probe_plan(lane, "target", "Ask the target in production", until_seconds=300, must_pass=True),
                after="network",
            ),
            *prove,
        ]

    def way_back(self, lane: Lane) -> list[Plan]:
        """What takes back all tries at once: first the name, then what is inside the guest while it can be reached,
        then the move, whose start makes it count."""
        tried, plans = begun(lane), []
        for operation in ("dns", "take_identity", "guest_address", "network"):
            if actions := tried.get(operation):
                undo = actions[-1].undo
                of = [action.work_key for action in actions]
                plans.append(Plan(undo["operation"], undo["title"], {**undo["parameters"], "of": of}))
        return plans


def begun(lane: Lane) -> dict[str, list[Action]]:
    """What was begun and not taken back and has a way back, by operation, oldest first."""
    found: dict[str, list[Action]] = {}
    for attempt in lane.attempts.get(lane.steps[Step.Kind.CUTOVER].pk, []):
        if attempt.mode == StepAttempt.Mode.REAL and attempt.undone_by_id is None:
            for action in attempt.actions.all():
                if action.undo and (action.finished_at or action.state in IN_HAND):
                    found.setdefault(action.operation, []).append(action)
    return found


def dns_plan(migration: Migration, earlier: list[str]) -> Plan:
    """`earlier`: the work of earlier tries; what they left is not taken for the record from before."""
    return Plan(
        "dns",
        f"Change the DNS record {migration.dns_name}".strip(),
        {
            **machines(migration),
            "name_server": migration.name_server_id,
            "name": migration.dns_name,
            "address": migration.new_address,
            "ttl": migration.dns_ttl,
            "earlier": earlier,
        },
        undo={
            "operation": "undo_dns",
            "title": f"Bring the old record of {migration.dns_name} back",
            "parameters": machines(migration),
        },
        reversible=Action.Reversible.YES,
        not_applicable="" if migration.dns_name and migration.name_server_id else "No DNS change is planned.",
    )


def name_proven(lane: Lane) -> bool:
    """Whether this lane's DNS record is proven; without one, whether its cutover events are done.

    Once they are being taken back nothing is: the name is about to point to the source again, which is off.
    """
    undo = lane.last_attempt(Step.Kind.CUTOVER, StepAttempt.Mode.ROLLBACK)
    undone = (Step.State.UNDOING, Step.State.UNDONE)
    if lane.state(Step.Kind.CUTOVER) in undone or (undo is not None and undo.is_open):
        return False
    if lane.over(Step.Kind.CUTOVER):
        return True
    attempt = lane.last_attempt(Step.Kind.CUTOVER)
    return (
        attempt is not None
        and attempt.undone_by_id is None
        and any(action.operation == "dns" and action.state == Action.State.DONE for action in attempt.actions.all())
    )
