"""What an approval is bound to: a digest over what was decided on, and the difference in words when it changes."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from projects.models import Approval, Step
from projects.steps.base import Lane
from servers.models import ProbeResult, ServiceRecord

PROFILE_FIELDS = (
    "scope",
    "paths",
    "exclusions",
    "consistency",
    "proof",
    "addressing",
    "plan_id",
    "production_network_id",
)
WORDS = {
    "services": "recorded services of the source",
    "machine": "packages, units, ports or /etc of the source",
    "evidence": "results of the probes",
    "checklist": "checklist",
    "profile": "profile",
    "target": "target",
    "plan": "address, name or order of services",
    "probes": "set of probes",
}


def subject_of(lanes: list[Lane]) -> dict[str, Any]:
    """What the owner's sign-off is about. A delta that moves data alone changes nothing here."""
    return {"servers": {str(lane.migration.pk): _server(lane) for lane in lanes}}


def _server(lane: Lane) -> dict[str, Any]:
    migration = lane.migration
    record = ServiceRecord.objects.filter(server=migration.source_id).order_by("-pk").first()
    profile = migration.profile
    return {
        "name": migration.source.name,
        "profile": {name: getattr(profile, name) for name in PROFILE_FIELDS} if profile else {},
        "target": migration.target_id,
        "plan": {
            "address": migration.new_address,
            "dns": migration.dns_name,
            "services": migration.services,
        },
        "checklist": [
            [item.key, item.state] for item in lane.checklist.get(lane.steps[Step.Kind.UAT].pk, []) if item.required
        ],
        "services": record.fingerprint if record else "",
        "machine": record.machine if record else {},
        "probes": [[probe.name, probe.kind, probe.parameters, probe.places] for probe in migration.source.probes.all()],
        "evidence": _evidence(lane),
    }


def _evidence(lane: Lane) -> list[Any]:
    """What the probes of the acceptance test said: name, place, passed. Not what a later delta's said."""
    attempt = lane.last_attempt(Step.Kind.UAT)
    if attempt is None:
        return []
    keys = [action.work_key for action in attempt.actions.all()]
    results = ProbeResult.objects.filter(run__work_key__in=keys).select_related("probe").order_by("pk")
    return sorted({(result.probe.name, result.place): result.passed for result in results}.items())


def go_subject(lanes: list[Lane], sign_off: Approval | None) -> dict[str, Any]:
    """What the lead's go is about: the signed state and what will happen in which order."""
    return {
        "sign_off": sign_off.digest if sign_off else "",
        "servers": {
            str(lane.migration.pk): {
                "name": lane.migration.source.name,
                "plan": {"services": lane.migration.services, "address": lane.migration.new_address},
            }
            for lane in lanes
        },
    }


def digest(subject: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(subject, sort_keys=True, default=str).encode()).hexdigest()


def now(lanes: list[Lane]) -> str:
    """The digest of what a sign-off would be about at this moment."""
    return digest(sign_off_subject([lane for lane in lanes if lane.migration.state == "open"]))


def settled(lane: Lane) -> bool:
    """Its services are being stopped or were, on what was signed: its part of the decisions stands as it was made."""
    attempt = lane.open_attempt(Step.Kind.STOP)
    if attempt is None:
        return lane.over(Step.Kind.STOP)
    return not any(a.operation == "compare_services" and a.state == "failed" for a in attempt.actions.all())


def sign_off_subject(lanes: list[Lane]) -> dict[str, Any]:
    """What is to be signed now. A server in mid-cutover keeps the part that was signed; the others are as they are."""
    subject = plain(subject_of(lanes))
    approval = lanes[0].approvals.get(Approval.Gate.SIGN_OFF) if lanes else None
    signed = approval.subject.get("servers", {}) if approval else {}
    for lane in lanes:
        key = str(lane.migration.pk)
        if settled(lane) and key in signed:
            subject["servers"][key] = signed[key]
    return subject


def plain(subject: dict[str, Any]) -> dict[str, Any]:
    """As it comes back from a JSON column, so that two subjects can be compared."""
    return dict(json.loads(json.dumps(subject, default=str)))


def difference(signed: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What changed, in words, server by server."""
    words = []
    before, after = signed.get("servers", {}), now.get("servers", {})
    for pk in sorted({*before, *after}):
        name = (after.get(pk) or before.get(pk) or {}).get("name", pk)
        if pk not in before:
            words.append(f"{name} came in.")
        elif pk not in after:
            words.append(f"{name} was taken out.")
        else:
            words += [
                f"{name}: {WORDS.get(key, key)} changed."
                for key in sorted({*before[pk], *after[pk]})
                if before[pk].get(key) != after[pk].get(key)
            ]
    if signed.get("sign_off", "") != now.get("sign_off", ""):
        words.append("The owner's sign-off is another one.")
    return words
