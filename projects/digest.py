"""What an approval is bound to: a digest over what was decided on, and the difference in words when it changes."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from django.db.models import Exists, OuterRef

from projects.models import Approval, ChecklistItem, Migration, Step
from projects.steps.base import Lane
from servers.models import NameServer, ProbeResult, ServiceRecord

# Not who sets the guest's address: the server gets the same one, and whoever finds out during a cutover that it must
# be set by hand would else need the owner once more.
PROFILE_FIELDS = (
    "scope",
    "paths",
    "exclusions",
    "consistency",
    "proof",
    "addressing",
    "identity",
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
    "plan": "address, gateway, resolvers, DNS or order of services",
    "probes": "set of probes",
}


def subject_of(lanes: list[Lane]) -> dict[str, Any]:
    """What the owner's sign-off is about. A delta that moves data alone changes nothing here."""
    records, evidence = _records(lanes), _evidence(lanes)
    return {
        "servers": {
            str(lane.migration.pk): _server(
                lane, records.get(lane.migration.source_id), evidence.get(lane.migration.pk, [])
            )
            for lane in lanes
        }
    }


def _records(lanes: list[Lane]) -> dict[int, ServiceRecord]:
    """The newest record of each source: one query."""
    sources = [lane.migration.source_id for lane in lanes]
    newer = ServiceRecord.objects.filter(server=OuterRef("server"), pk__gt=OuterRef("pk"))
    return {each.server_id: each for each in ServiceRecord.objects.filter(~Exists(newer), server__in=sources)}


def _server(lane: Lane, record: ServiceRecord | None, evidence: list[Any]) -> dict[str, Any]:
    migration = lane.migration
    profile = migration.profile
    return {
        "name": migration.source.name,
        "profile": {name: getattr(profile, name) for name in PROFILE_FIELDS} if profile else {},
        "target": _target(migration),
        "plan": _plan(migration),
        "checklist": [_answer(item) for item in lane.checklist.get(lane.steps[Step.Kind.UAT].pk, []) if item.required],
        "services": record.fingerprint if record else "",
        "machine": record.machine if record else {},
        "probes": [[probe.name, probe.kind, probe.parameters, probe.places] for probe in migration.source.probes.all()],
        "evidence": evidence,
    }


def _answer(item: ChecklistItem) -> list[str]:
    """What was answered, and with which evidence in words; the words of what ticks itself are those of its last run."""
    said = [] if item.automatic else [item.note, item.link]
    return [item.key, item.state, *(said if any(said) else [])]


def _plan(migration: Migration) -> dict[str, Any]:
    """What cutover events will set, and in which order services stop."""
    return {
        "address": migration.new_address,
        "gateway": migration.gateway,
        "resolvers": migration.resolvers,
        "dns": migration.dns_name,
        "name_server": _name_server(migration.name_server),
        "dns_ttl": migration.dns_ttl,
        "services": migration.services,
    }


def _name_server(server: NameServer | None) -> Any:
    """Where the name is changed, not only by which row: what is decided on is what will be asked and in which zone."""
    return server and [server.pk, server.address, server.port, server.zone]


def _target(migration: Migration) -> Any:
    """Which machine was tested; from the second generation on also which content: that of another one is not.

    Going back to a snapshot brings no other content: what was signed was there when the test began.
    """
    target = migration.target
    if target is None or target.generation - target.reverts <= 1:
        return migration.target_id
    return [target.pk, target.generation - target.reverts]


def _evidence(lanes: list[Lane]) -> dict[int, list[Any]]:
    """By migration what the probes of its acceptance test said: name, place, passed. Not what a later delta's said."""
    tests = {lane.migration.pk: lane.last_attempt(Step.Kind.UAT) for lane in lanes}
    whose = {action.work_key: pk for pk, test in tests.items() if test for action in test.actions.all()}
    said: dict[int, dict[tuple[str, str], bool | None]] = {}
    results = ProbeResult.objects.filter(run__work_key__in=list(whose)).select_related("probe", "run").order_by("pk")
    for result in results if whose else ():
        said.setdefault(whose[result.run.work_key], {})[result.probe.name, result.place] = result.passed
    return {pk: sorted(answers.items()) for pk, answers in said.items()}


def go_subject(lanes: list[Lane], sign_off: Approval | None) -> dict[str, Any]:
    """What the lead's go is about: the signed state and what will happen in which order."""
    return {
        "sign_off": sign_off.digest if sign_off else "",
        "servers": {
            str(lane.migration.pk): {
                "name": lane.migration.source.name,
                "plan": _plan(lane.migration),
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
