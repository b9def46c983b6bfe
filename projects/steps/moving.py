"""What the steps that move data have in common: the parameters of `servers` operations, made from the plan."""

from __future__ import annotations

from typing import Any

from migrationhub.lib.findings import Problem
from projects.models import Migration, Profile
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


def service_parameters(migration: Migration) -> dict[str, Any]:
    return {"server": migration.source_id, "services": list(migration.services)}
