"""Step 6: the target gets its production address, network and name. Joins with other applications wait here."""

from __future__ import annotations

from dataclasses import replace

from projects.models import Action, Migration, Step

from .base import Item, Lane, Plan, StepModule, Unmet, before, busy
from .moving import machines, probe_plan, profile_of


class CutoverEvents(StepModule):
    kind = Step.Kind.CUTOVER
    automatic = True
    items = (Item("cmdb", "The inventory (CMDB) names the new server", role="operator", required=False),)

    def unmet(self, lane: Lane) -> list[Unmet]:
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
        taking_over = profile_of(migration).addressing == "take_over"
        address = {
            "address": migration.new_address,
            "gateway": migration.gateway,
            "resolvers": list(migration.resolvers),
            "take_over": taking_over,
        }
        return [
            Plan(
                "guest_address",
                f"Set {migration.new_address or 'the production address'} inside the guest for its next start",
                {**both, **address},
                reversible=Action.Reversible.UNTIL,
                not_applicable="A process host has no network configuration of its own."
                if lane.on_process_host
                else "",
            ),
            Plan(
                "network",
                "Move it to the production network and reach it there",
                {**both, **address, "network": profile_of(migration).production_network_id},
                reversible=Action.Reversible.NO,
            ),
            dns_plan(migration),
            # From the move on, beside the DNS change: the first answer in production ends the downtime.
            replace(
                probe_plan(lane, "target", "Ask the target in production", until_seconds=300, must_pass=True),
                after="network",
            ),
        ]


def dns_plan(migration: Migration) -> Plan:
    return Plan(
        "dns",
        f"Change the DNS record {migration.dns_name}".strip(),
        {
            **machines(migration),
            "name_server": migration.name_server_id,
            "name": migration.dns_name,
            "address": migration.new_address,
            "ttl": migration.dns_ttl,
        },
        reversible=Action.Reversible.YES,
        not_applicable="" if migration.dns_name and migration.name_server_id else "No DNS change is planned.",
    )


def name_proven(lane: Lane) -> bool:
    """Whether this lane's DNS record is proven; without one, whether its cutover events are done."""
    if lane.over(Step.Kind.CUTOVER):
        return True
    attempt = lane.last_attempt(Step.Kind.CUTOVER)
    return attempt is not None and any(
        action.operation == "dns" and action.state == Action.State.DONE for action in attempt.actions.all()
    )
