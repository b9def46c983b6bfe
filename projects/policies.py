"""Who answers a gate, how many of them, and for how long they are asked: per project, with defaults."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone

from migrationhub.audit.record import record
from projects.errors import Conflict, NotReady
from projects.models import Approval, ApprovalPolicy, Membership, Project
from servers.models import Change

Role = Membership.Role
Gate = Approval.Gate
FIELDS = ("roles", "needed", "runner_may", "expires_hours", "remind_hours")
# The planning lead may give the go even if they pressed a button; the sign-off is never given by who ran it.
DEFAULTS: dict[str, dict[str, Any]] = {
    Gate.SIGN_OFF: {"roles": [Role.OWNER.value], "needed": 1, "runner_may": False, "remind_hours": 24},
    Gate.GO: {"roles": [Role.LEAD.value], "needed": 1, "runner_may": True, "remind_hours": 24},
}


def policy_of(project_id: int, gate: str) -> ApprovalPolicy:
    """What the project has set, or an unsaved row with the defaults."""
    stored = ApprovalPolicy.objects.filter(project=project_id, gate=gate).first()
    return stored or ApprovalPolicy(project_id=project_id, gate=gate, **DEFAULTS[gate])


def policies_of(project: Project) -> list[ApprovalPolicy]:
    """One for each gate, in the order of the gates."""
    stored = {policy.gate: policy for policy in ApprovalPolicy.objects.filter(project=project)}
    return [stored.get(gate) or ApprovalPolicy(project=project, gate=gate, **DEFAULTS[gate]) for gate in Gate.values]


def asked(policy: ApprovalPolicy, now: datetime, by: User | None = None) -> dict[str, Any]:
    """The fields of an approval that is asked for now; `by`: the person who asks, None where the system does."""
    return {
        "requested_by": by,
        "roles": list(policy.roles),
        "needed": policy.needed,
        "runner_may": policy.runner_may,
        "requested_at": now,
        "expires_at": now + timedelta(hours=policy.expires_hours) if policy.expires_hours else None,
        "remind_at": now + timedelta(hours=policy.remind_hours) if policy.remind_hours else None,
    }


def roles_of(approval: Approval) -> list[str]:
    """Roles that may answer; requests older than policies have the gate's default."""
    return list(approval.roles) or list(DEFAULTS[approval.gate]["roles"])


def runner_may(approval: Approval) -> bool:
    """Whether whoever started a step of these servers may answer; requests older than policies have the default."""
    return approval.runner_may if approval.roles else bool(DEFAULTS[approval.gate]["runner_may"])


def save(*, project: Project, gate: str, values: dict[str, Any], seen: str, user: User) -> ApprovalPolicy:
    """Change a gate's policy (`FIELDS`). Open requests follow it at once; what was answered stands. Other hours begin
    with the change: nothing is over, or reminded again, by hours that were not set when it was asked.

    `seen`: `mark` of the policy that the page showed. Raises NotReady, Conflict.
    """
    policy = policy_of(project.pk, gate)
    if mark(policy) != seen:
        raise Conflict("Somebody changed this policy since the page was drawn.", "Look at what is there now.")
    _check(project, gate, values)
    before = {name: getattr(policy, name) for name in FIELDS}
    with transaction.atomic():
        _store(policy, before, values)
        open_ones = Approval.objects.filter(wave__project=project, gate=gate).exclude(state__in=Approval.OPENS)
        who = {name: values[name] for name in ("roles", "needed", "runner_may")}
        open_ones.update(**who, version=F("version") + 1)
        running, now = open_ones.filter(state__in=Approval.ASKED).exclude(digest=""), timezone.now()
        for name, moment in (("expires_hours", "expires_at"), ("remind_hours", "remind_at")):
            if values[name] != before[name]:
                running.update(**{moment: now + timedelta(hours=values[name]) if values[name] else None})
        record("policy.change", policy, actor=user, project_id=project.pk, before=before, after=dict(values))
        Change.bump()
    return policy


def _store(policy: ApprovalPolicy, before: dict[str, Any], values: dict[str, Any]) -> None:
    """Only over what was read: of two that save at once the second looks again."""
    for name in FIELDS:
        setattr(policy, name, values[name])
    try:
        with transaction.atomic():
            if policy.pk is None:
                policy.save()
                return
    except IntegrityError:
        raise Conflict("Somebody set this policy a moment ago.", "Look at what is there now.") from None
    read = ApprovalPolicy.objects.filter(pk=policy.pk, **before)
    if not read.update(**{name: values[name] for name in FIELDS}):
        raise Conflict("Somebody changed this policy a moment ago.", "Look at what is there now.")


def mark(policy: ApprovalPolicy) -> str:
    """What a page was drawn for."""
    return "|".join(str(getattr(policy, name)) for name in FIELDS)


def _check(project: Project, gate: str, values: dict[str, Any]) -> None:
    roles, needed, missing = values["roles"], values["needed"], []
    if not roles:
        missing.append("roles: nobody could answer; choose at least one role.")
    if gate == Gate.SIGN_OFF and Role.OWNER not in roles:
        missing.append("roles: the sign-off is the application owner's; others can only sign besides.")
    if gate == Gate.SIGN_OFF and values["runner_may"]:
        missing.append("runner_may: whoever runs the migration never signs what it made.")
    if gate == Gate.GO and Role.OWNER in roles:
        missing.append("roles: application owners sign the test; the go is for roles of the project.")
    if needed < 1:
        missing.append(f"needed={needed}: expected at least one person.")
    people = project.memberships.filter(role__in=[role for role in roles if role != Role.OWNER]).count()
    people += Role.OWNER in roles  # of one application there is one owner
    if roles and needed > people:
        missing.append(f"needed={needed}: only {people} of the project's members could answer. Add members first.")
    expires, remind = values["expires_hours"], values["remind_hours"]
    if expires and remind and remind >= expires:
        missing.append(f"remind_hours={remind}: a reminder after the request has expired ({expires} h) helps nobody.")
    if missing:
        raise NotReady(missing)
