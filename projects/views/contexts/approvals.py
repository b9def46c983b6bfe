"""What the pages of approvals draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import User
from django.utils import timezone

from projects import approvals, break_glass, decisions, policies
from projects import digest as digests
from projects.access import PLAN, RUN, Role, is_handed_over, receivers, role_in
from projects.forms.defects import ROWS, members_of, places
from projects.lanes import application_lanes, lanes_for
from projects.models import Approval, Defect, Migration, Project
from projects.steps.base import Lane

from .gates import NOTHING_ASKED, SIGNS, decided_by, passes_of

SHOW = ("mine", "open", "all")
ROLES = {Role.OWNER: "the owner", Role.LEAD: "leads", Role.OPERATOR: "operators", Role.MANAGER: "managers"}


@dataclass
class Line:
    """One approval in the list."""

    approval: Approval
    sign: str
    word: str
    signatures: list[Any]
    left: str
    mine: bool
    servers: int
    handed: bool


def who(approval: Approval) -> str:
    """Who is asked, in words: “2 of leads”, “the owner”."""
    names = " or ".join(ROLES[Role(role)] for role in policies.roles_of(approval))
    return f"{approval.needed} of {names}" if approval.needed > 1 else names


def state_of(approval: Approval) -> tuple[str, str]:
    """Sign and word; a request whose time is over is expired, whether or not the controller has noticed."""
    if not approval.digest:
        return NOTHING_ASKED
    if approvals.expired(approval, timezone.now()):
        return SIGNS[Approval.State.EXPIRED], Approval.State.EXPIRED.label
    return SIGNS[Approval.State(approval.state)], approval.get_state_display()


def approval_list(project: Project, user: User, show: str) -> dict[str, Any]:
    """The approvals that this person may see. The number of queries does not grow with them."""
    show = show if show in SHOW else "open"
    visible = Migration.objects.visible_to(user).filter(project=project)
    migrations = visible.filter(application__isnull=False, wave__isnull=False)
    groups: dict[tuple[int, int], list[Lane]] = {}
    for lane in lanes_for(migrations.exclude(state=Migration.State.CANCELLED)):
        groups.setdefault((lane.migration.wave_id or 0, lane.migration.application_id or 0), []).append(lane)
    role = role_in(project, user)
    lines = []
    for lanes in groups.values():
        for gate in Approval.Gate.values:
            if gate in lanes[0].approvals:
                lines.append(_line(lanes[0].approvals[gate], lanes, user, role))
    mine = [line for line in lines if line.mine]
    still = [line for line in lines if not line.approval.is_open]
    shown = {"mine": mine, "open": still, "all": lines}[show]
    return {
        "lines": sorted(shown, key=lambda line: (not line.mine, line.approval.is_open, -line.approval.pk)),
        "show": show,
        "counts": {"mine": len(mine), "open": len(still), "all": len(lines)},
        "passes": passes_of([lanes[0] for lanes in groups.values()]),
        "role": role,
    }


def _line(approval: Approval, lanes: list[Lane], user: User, role: str | None) -> Line:
    sign, word = state_of(approval)
    mine = not approvals.expired(approval, timezone.now()) and approvals.waits_for(approval, user, role)
    left, handed = approvals.left_words(approval), is_handed_over(approval)
    return Line(approval, sign, word, approvals.signatures(approval), left, mine, len(lanes), handed)


def approval_page(approval: Approval, user: User) -> dict[str, Any]:
    """Everything that one approval is about, and what this person may do with it."""
    project, application = approval.wave.project, approval.application
    lanes = application_lanes(approval.wave_id, application)
    role = role_in(project, user)
    if lanes and approval.gate in lanes[0].approvals:
        loaded = lanes[0].approvals[approval.gate]  # with its decisions and their people
        loaded.delegated_by, loaded.requested_by = approval.delegated_by, approval.requested_by
        loaded.application, loaded.wave = application, approval.wave
        approval = loaded
    sign, word = state_of(approval)
    history = list(approval.decisions.all())
    last = history[0] if history else None
    late = approvals.expired(approval, timezone.now())
    asked = bool(lanes) and not approval.is_open and bool(approval.digest)
    may = asked and not late and approvals.may_answer(approval, user, role)
    own = approval.gate == Approval.Gate.GO or application.owner_id == user.pk
    handed = is_handed_over(approval)
    may_delegate = may and own and not handed
    fit = receivers(approval.gate)
    heirs = members_of(project.pk).filter(memberships__role__in=fit, memberships__project=project)
    heirs = heirs.exclude(pk__in=[user.pk, approval.requested_by_id or 0])  # who asked for it does not answer
    answered = approval.state in (Approval.State.REJECTED, Approval.State.MORE_TIME) or bool(approvals.words(approval))
    changed = last is not None and last.digest != approval.digest
    return {
        "approval": approval,
        "application": application,
        "wave": approval.wave,
        "lanes": lanes,
        "sign_of": sign,
        "word": word,
        "who": who(approval),
        "signatures": [(each, decided_by(each)) for each in approvals.signatures(approval)],
        "left": approvals.left_words(approval),
        "history": [(each, decided_by(each)) for each in history],
        "changes": digests.difference(last.subject, approval.subject) if last and changed else [],
        "may_answer": may,
        "missing": decisions.approve_unmet(approval, lanes, user, role) if lanes else [],
        "is_sign_off": approval.gate == Approval.Gate.SIGN_OFF,
        "places": places(approval.wave, application) if may else [],
        "rows": range(ROWS),
        "severities": Defect.Severity.choices,
        "heirs": heirs if may_delegate else (),
        "may_delegate": may_delegate,
        "handed": handed,
        "may_ask": role in RUN and asked and (late or answered),
        "never": break_glass.never_passed(approval, lanes) if role in PLAN and lanes else [],
        "may_break": role in PLAN and bool(lanes) and not approval.is_open,
        "passes": [each for each in lanes[0].passes if each.approval_id == approval.pk] if lanes else [],
        "defects": lanes[0].defects if lanes else [],
    }
