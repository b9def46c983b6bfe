"""Plan a server into a wave, and say how it is looked at. Who may do it is the view's question (`access.PLAN`)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from migrationhub.audit.record import record
from migrationhub.lib.findings import Problem
from projects import defects, workflow
from projects.errors import Conflict
from projects.models import Hold, Migration, Step, StepAttempt, Wave
from servers.models import Change, Probe

from .planning_base import NOT_BEGUN, begun, given_up, told, write
from .planning_waves import PLACE

FIXED_AT_STOP = ("application", "wave", "profile", "services")
FIXED_AT_CUTOVER = ("new_address", "gateway", "resolvers", "name_server", "dns_name", "dns_ttl")
FIELDS = (*FIXED_AT_STOP, *FIXED_AT_CUTOVER, "delta_every_minutes")
LABELS = {"new_address": "address", "dns_name": "DNS name", "dns_ttl": "TTL", "name_server": "name server"}
BACK = {
    Step.Kind.STOP: "Go back with “Abort and restart services” first.",
    Step.Kind.CUTOVER: "Give the try up on the server's page first; then change it and start the step again.",
}
__all__ = ["NOT_BEGUN", "begun", "plan_server", "remove_from_wave", "remove_probe", "save_probe"]


@transaction.atomic
def plan_server(*, migration: Migration, values: dict[str, Any], user: User) -> Migration:
    """Write the plan of one server (`FIELDS`) and make its seven steps.

    Raises `Problem` for what can no longer change, `Conflict` where something was decided in the meantime.
    """
    seen = Migration.objects.select_related("wave", "profile", "application", "source", "name_server").get(
        pk=migration.pk
    )
    changed = [name for name in FIELDS if name in values and getattr(seen, name) != values[name]]
    _refuse_late(seen, changed, values)
    if {"wave", "application"} & set(changed):
        _refuse_under_test(seen)
    before = told(seen, changed)
    new = {name: values[name] for name in changed}
    if "delta_every_minutes" in new:
        every = new["delta_every_minutes"]
        new["next_delta_at"] = timezone.now() + timedelta(minutes=every) if every else None
    waves = {wave.pk for wave in (seen.wave, values.get("wave", seen.wave)) if wave}
    _update(seen, new)
    if not seen.steps.exists():
        workflow.plan_steps(seen)
    if {"wave", "application"} & set(changed):
        defects.follow(seen, user=user)
    if changed:
        Wave.objects.filter(pk__in=waves).update(version=F("version") + 1)
        record("migration.plan", seen, actor=user, project_id=seen.project_id, before=before, after=told(seen, changed))
        Change.bump()
    return seen


def _update(seen: Migration, new: dict[str, Any]) -> None:
    """On the version that was decided on, never on a later one."""
    changed = Migration.objects.filter(pk=seen.pk, version=seen.version, state=Migration.State.OPEN).update(
        **new, version=F("version") + 1
    )
    if not changed:
        raise Conflict(f"{seen} has changed in the meantime.", "Look at its page again; nothing was saved.")
    for name, value in new.items():
        setattr(seen, name, value)
    seen.version += 1


def _refuse_late(seen: Migration, changed: list[str], values: dict[str, Any]) -> None:
    if seen.state != Migration.State.OPEN:
        raise Problem(f"The migration of {seen} is {seen.get_state_display().lower()}.", "Nothing is left to plan.")
    for names, kind in ((FIXED_AT_STOP, Step.Kind.STOP), (FIXED_AT_CUTOVER, Step.Kind.CUTOVER)):
        late = [LABELS.get(name, name) for name in changed if name in names]
        if late and begun(seen, kind) and not (kind == Step.Kind.CUTOVER and given_up(seen, kind)):
            raise Problem(
                f"{Step.Kind(kind).label} of {seen} has begun: {', '.join(late)} cannot change any more.",
                BACK[kind],
                code="plan.late",
            )
    profile = values.get("profile")
    if "profile" in changed and seen.target_id and seen.profile and profile:
        other = [name for name in PLACE if getattr(seen.profile, name) != getattr(profile, name)]
        if other:
            words = ", ".join(PLACE[name] for name in other)
            raise Problem(
                f"The target of {seen} was made with profile {seen.profile}; {profile} differs in {words}.",
                "Choose a profile with the same place on the platform.",
                code="plan.placed",
            )


def _refuse_under_test(seen: Migration) -> None:
    """A test reserves the clones of its application in its wave: one that left it could be synced under the tester, or
    while it goes back to its snapshot."""
    tests = Hold.objects.filter(
        kind=Hold.Kind.UAT, wave=seen.wave_id, application=seen.application_id, released_at=None
    )
    if seen.target_id and seen.wave_id and seen.application_id and tests.exists():
        raise Problem(
            f"The acceptance test of {seen.application} is open: {seen} stays in {seen.wave} for {seen.application}.",
            "End the test first.",
            code="plan.test",
        )


@transaction.atomic
def remove_from_wave(*, migration: Migration, user: User) -> None:
    """Take a server out of its wave; what was copied stays. Only before services were stopped."""
    seen = Migration.objects.select_related("wave", "source").get(pk=migration.pk)
    if seen.wave is None:
        raise Problem(f"{seen} is in no wave.", "Plan it into one.", code="plan.wave")
    if begun(seen, Step.Kind.STOP):
        raise Problem(
            f"Stop services of {seen} has begun: it stays in {seen.wave}.",
            "Go back with “Abort and restart services” first.",
            code="plan.late",
        )
    running = StepAttempt.objects.filter(step__migration=seen, state__in=StepAttempt.OPEN).select_related("step")
    for attempt in running:
        raise Problem(
            f"{attempt.step.get_kind_display()} of {seen} is running.",
            "Wait until it ends, or cancel it first.",
            code="plan.running",
        )
    _refuse_under_test(seen)
    wave = seen.wave
    _update(seen, {"wave": None, "next_delta_at": None, "delta_every_minutes": 0})
    Wave.objects.filter(pk=wave.pk).update(version=F("version") + 1)
    record("migration.unplan", seen, actor=user, project_id=seen.project_id, before={"wave": str(wave)})
    Change.bump()


@transaction.atomic
def save_probe(*, migration: Migration, probe: Probe | None = None, values: dict[str, Any], user: User) -> Probe:
    """A probe of the source; the set of probes is part of what is signed, so the version moves."""
    found = probe or Probe(server=migration.source)
    verb = "probe.change" if found.pk else "probe.create"
    write(found, values, user=user, verb=verb, project=migration.project)
    _bump(migration)
    return found


@transaction.atomic
def remove_probe(*, migration: Migration, probe: Probe, user: User) -> None:
    if probe.results.exists():
        raise Problem(
            f"Probe {probe} has results, which are evidence: it stays.",
            "Take all its places away instead, so that it is not asked again.",
            code="probe.evidence",
        )
    record(
        "probe.remove",
        probe,
        actor=user,
        project_id=migration.project_id,
        before={"kind": probe.kind, "parameters": probe.parameters, "places": probe.places},
    )
    probe.delete()
    _bump(migration)
    Change.bump()


def _bump(migration: Migration) -> None:
    Migration.objects.filter(pk=migration.pk).update(version=F("version") + 1)
    if migration.wave_id:
        Wave.objects.filter(pk=migration.wave_id).update(version=F("version") + 1)
