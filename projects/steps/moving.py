"""What the steps that move data have in common: the parameters of `servers` operations, made from the plan."""

from __future__ import annotations

from typing import Any

from migrationhub.lib.findings import Problem
from projects.models import Action, Migration, Profile
from servers.models import Probe

from .base import Lane, Plan


def profile_of(migration: Migration) -> Profile:
    if migration.profile is None:
        raise Problem(f"{migration} has no profile.", "Plan it with a profile.", code="plan.profile")
    return migration.profile


def machines(migration: Migration) -> dict[str, Any]:
    return {"source": migration.source_id, "target": migration.target_id}


def sync_parameters(migration: Migration, kind: str) -> dict[str, Any]:
    profile = profile_of(migration)
    options = dict(profile.consistency_options)
    method = profile.consistency
    if kind == "final":
        method, options = Profile.Consistency.NONE, {}  # the services are stopped
    elif method == Profile.Consistency.STOP:
        options["services"] = list(migration.services)
    return {
        **machines(migration),
        "kind": kind,
        "mover": profile.mover,
        "migration_key": f"m{migration.pk}",
        "scope": profile.scope,
        "paths": list(profile.paths),
        "exclusions": list(profile.exclusions),
        "freeze": {"method": method, "options": options},
        "proof": profile.proof,
        "bandwidth": profile.bandwidth,
        "services": list(migration.services),
    }


def sync_plan(lane: Lane, kind: str, title: str) -> Plan:
    return Plan("sync", title, sync_parameters(lane.migration, kind))


def probe_plan(lane: Lane, place: str, title: str, *, until_seconds: int = 0, must_pass: bool = False) -> Plan:
    """Ask the server's probes at one place; `until_seconds`: again every 2 s until all pass or the time is over."""
    migration = lane.migration
    has = any(place in probe.places for probe in migration.source.probes.all())
    return Plan(
        "probe",
        title,
        {
            "owner": migration.source_id,
            "machine": migration.source_id if place == Probe.Place.SOURCE else migration.target_id,
            "place": place,
            "until_seconds": until_seconds,
            "must_pass": must_pass,
        },
        not_applicable="" if has else "No probe is set for this place.",
    )


def address_parameters(migration: Migration) -> dict[str, Any]:
    """The production address, and who sets it inside the guest."""
    profile = profile_of(migration)
    return {
        "address": migration.new_address,
        "gateway": migration.gateway,
        "resolvers": list(migration.resolvers),
        "take_over": profile.addressing == Profile.Addressing.TAKE_OVER,
        "by_hand": profile.guest_address == Profile.GuestAddress.BY_HAND,
    }


def guest_address_title(migration: Migration) -> str:
    address = migration.new_address or "the production address"
    if address_parameters(migration)["by_hand"]:
        return f"Look whether {address} is set by hand inside the guest for its next start"
    return f"Set {address} inside the guest for its next start"


def check_cutover_plan(lane: Lane) -> Plan:
    """Read only: what step 6 would fail on with the source off."""
    migration = lane.migration
    name = migration.dns_name if migration.name_server_id and migration.new_address else ""
    return Plan(
        "check_cutover",
        "Check address and DNS record of the cutover events",
        {
            **machines(migration),
            **address_parameters(migration),
            "name_server": migration.name_server_id,
            "name": name,
            "ttl": migration.dns_ttl,
        },
        not_applicable="" if name or not lane.on_process_host else "Neither address nor DNS record is to change.",
    )


NO_IDENTITY = "A process host has no identity of its own to take over."


def identity_parameters(migration: Migration) -> dict[str, Any]:
    return {**machines(migration), "parts": list(profile_of(migration).identity)}


def stage_identity_plan(lane: Lane) -> list[Plan]:
    """Nothing where nothing of the identity is taken over."""
    parameters = identity_parameters(lane.migration)
    if not parameters["parts"]:
        return []
    undo = {
        "operation": "drop_identity",
        "title": "Forget the source's identity on the target",
        "parameters": parameters,
    }
    title = f"Keep the source's {identity_words(lane.migration)} on the target for the cutover"
    not_applicable = NO_IDENTITY if lane.on_process_host else ""
    return [Plan("stage_identity", title, parameters, undo, Action.Reversible.UNTIL, not_applicable)]


def take_identity_plans(lane: Lane) -> tuple[list[Plan], list[Plan]]:
    """Before the move: written for the next start. After it: proven."""
    parameters = identity_parameters(lane.migration)
    if not parameters["parts"]:
        return [], []
    words = identity_words(lane.migration)
    not_applicable = NO_IDENTITY if lane.on_process_host else ""
    undo = {
        "operation": "undo_identity",
        "title": "Give the target its own identity back",
        "parameters": parameters,
    }
    take = Plan("take_identity", f"Take over the source's {words}", parameters, undo, not_applicable=not_applicable)
    title = f"Prove that the target shows the source's {words}"
    return [take], [Plan("prove_identity", title, parameters, not_applicable=not_applicable, after="network")]


def identity_words(migration: Migration) -> str:
    """ "SSH host keys, machine id and host name", as far as it is chosen; "" where nothing is."""
    chosen = profile_of(migration).identity
    words = [
        label if value == Profile.Identity.HOST_KEYS else label.lower()
        for value, label in Profile.Identity.choices
        if value in chosen
    ]
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else ""


def cutover_words(migration: Migration) -> str:
    """What becomes of address, name and identity at cutover, in one sentence; "" where it is not planned yet."""
    profile, address = migration.profile, migration.new_address.split("/")[0]
    taking_over = profile is not None and profile.addressing == Profile.Addressing.TAKE_OVER
    parts = []
    if taking_over:
        parts.append("takes over the source's address")
    elif address:
        parts.append(f"gets the address {address}")
    if migration.dns_name:
        parts.append(f"is found by the name {migration.dns_name}")
    if profile is not None and profile.identity:
        parts.append(f"takes over the source's {identity_words(migration)}")
    return f"At cutover it {', '.join(parts)}." if parts else ""


def service_parameters(migration: Migration) -> dict[str, Any]:
    return {"server": migration.source_id, "services": list(migration.services)}
