"""Approvals: who may answer, what their words come to, and asking again, handing over, expiring."""

from __future__ import annotations

from datetime import datetime

from django.contrib.auth.models import AnonymousUser, User
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from migrationhub.audit.record import record
from projects import policies
from projects.access import RUN, handed_over, is_handed_over, is_handed_to, may_sign, receivers, role_in, signs_for
from projects.errors import Conflict, Forbidden, NotReady
from projects.models import Approval, Decision, Membership, Wave
from projects.steps.base import Lane
from servers.models import Change

Gate = Approval.Gate
State = Approval.State
Verdict = Decision.Verdict
Role = Membership.Role
ASKED = Approval.ASKED
UNASKED = "There is nothing to let go yet: the go is asked for once the sign-off is valid and the test is over."


# -- who may answer -------------------------------------------------------------------------------------------


def right_of(approval: Approval, user: User) -> User | None:
    """In whose right the user answers: None for their own. Raises Forbidden with the reason where they may not."""
    if approval.requested_by_id == user.pk:
        raise Forbidden("Nobody approves their own request.", "Ask somebody else.")
    return _signer(approval, user) if approval.gate == Gate.SIGN_OFF else _let_go(approval, user)


def _signer(approval: Approval, user: User) -> User | None:
    application, project = approval.application, approval.wave.project
    role = role_in(project, user)
    owner = signs_for(application, user) or handed_over(approval, user)
    if owner is not None or application.owner_id == user.pk:
        if role != Role.OWNER or ran_it(approval, user.pk):
            raise Forbidden(
                "The sign-off is given in the role of an application owner, by somebody who did not run the migration.",
                f"A lead can make somebody else the owner of {application}.",
            )
        return None if application.owner_id == user.pk else owner
    if entitled(approval, user.pk, role):
        if ran_it(approval, user.pk):
            raise Forbidden("Whoever ran the migration does not sign what it made.", "Ask somebody else to sign.")
        return None
    raise Forbidden(
        f"The sign-off of {application} is its owner's alone ({application.owner or 'nobody is named yet'}).",
        "Ask the owner; nobody signs for them.",
    )


def _let_go(approval: Approval, user: User) -> User | None:
    roles, role = policies.roles_of(approval), role_in(approval.wave.project, user)
    giver = handed_over(approval, user)
    if role not in roles and giver is None:
        words = " or ".join(f"a {Role(each).name.lower()}" for each in roles)
        raise Forbidden(f"The go is given by {words} of the project.", "Ask one of them.")
    if not may_speak(approval, user.pk, role):
        raise Forbidden(
            f"Whoever started a step of the servers of {approval.application} does not give the go.",
            "Ask somebody else.",
        )
    return None if role in roles else giver


def entitled(approval: Approval, person: int, role: str | None) -> bool:
    """Whether somebody has a right of their own to answer: the owner as such, others by their role."""
    if approval.gate == Gate.SIGN_OFF and approval.application.owner_id == person:
        return role == Role.OWNER
    return role in set(policies.roles_of(approval)) - {Role.OWNER.value}


def ran_it(approval: Approval, person: int) -> bool:
    """Somebody who started or retried a step of the application's servers, in whatever wave."""
    return person in approval.runners.of(approval.application_id)


def may_speak(approval: Approval, person: int, role: str | None) -> bool:
    """Whoever ran it says yes only where the policy allows that, and in their own right."""
    by_right = policies.runner_may(approval) and entitled(approval, person, role)
    return by_right or not ran_it(approval, person)


def may_answer(approval: Approval, user: User, role: str | None) -> bool:
    """As `right_of`, from what a page has loaded already: which buttons to draw. Asked again when one is pressed."""
    if approval.requested_by_id == user.pk:
        return False
    for_owner = approval.gate == Gate.SIGN_OFF and signs_for(approval.application, user) is not None
    has_right = for_owner or entitled(approval, user.pk, role) or is_handed_to(approval, user)
    return has_right and may_speak(approval, user.pk, role)


def principal_of(approval: Approval, user: User, role: str | None) -> int:
    """Whose word it would be: of somebody absent, of who handed it over, or their own."""
    if approval.gate == Gate.SIGN_OFF:
        owner = signs_for(approval.application, user)
        if owner is not None:
            return owner.pk
    if not entitled(approval, user.pk, role) and approval.delegated_by_id and is_handed_to(approval, user):
        return approval.delegated_by_id
    return user.pk


def yes_unmet(approval: Approval, user: User, role: str | None) -> str:
    """Why a yes of this person would add nothing to what was said, in words; empty where it would."""
    person = principal_of(approval, user, role)
    said = words(approval)
    mine = said.get(person)
    if mine is not None and mine.verdict == Verdict.APPROVE:
        stands = outcome(approval, {each: decision.verdict for each, decision in said.items()})
        # Fewer may be needed than when it was said, or a no may count no more: said once more, it is enough.
        enough = stands == State.APPROVED
        return "" if enough else f"{mine.user} said yes already: {_what_is_left(approval, stands)}."
    no = _own_no(approval, person) if person != user.pk else None
    if no is not None:
        label = no.get_verdict_display().lower()
        return f"{no.user} answered in person: {label}. In their place nobody says yes until it is requested again."
    return ""


def _what_is_left(approval: Approval, stands: str) -> str:
    if stands != State.REQUESTED:
        return "the no of somebody else stands"
    if len(signatures(approval)) < approval.needed:
        return f"{left_words(approval)}, of different people"
    return "the owner's own is needed besides"


def _own_no(approval: Approval, person: int) -> Decision | None:
    """What somebody said last themselves, where that is no yes; what they handed over after it is in other hands."""
    for decision in approval.decisions.all():  # newest first
        if decision.user_id == person and decision.on_behalf_of_id is None and _is_about_now(approval, decision):
            later = approval.delegated_by_id == person and approval.delegated_at and approval.delegated_at > decision.at
            return None if later or decision.verdict == Verdict.APPROVE else decision
    return None


def waits_for(approval: Approval, user: User, role: str | None) -> bool:
    """Whether an answer is asked for that this person may give and has not given."""
    asked = bool(approval.digest) and not approval.is_open
    return asked and may_answer(approval, user, role) and not yes_unmet(approval, user, role)


def answers_for(lane: Lane, user: User | AnonymousUser) -> bool:
    """As `access.answers_for`, from what a page has loaded already."""
    application, sign_off = lane.migration.application, lane.approvals.get(Gate.SIGN_OFF)
    if application is None or not user.pk:
        return False
    return may_sign(application, user) or (sign_off is not None and is_handed_to(sign_off, user))


# -- what was said --------------------------------------------------------------------------------------------


def principal(decision: Decision) -> int:
    """Who said it; what somebody said for another is the other's word: the two count once."""
    return decision.on_behalf_of_id or decision.user_id


def words(approval: Approval) -> dict[int, Decision]:
    """Each person's last word about what is to be decided now, since it was asked for.

    What let it pass stays as it was given; else only those count who may still answer.
    """
    found: dict[int, Decision] = {}
    for decision in approval.decisions.all():  # newest first
        if _is_about_now(approval, decision):
            found.setdefault(principal(decision), decision)
    return {who: each for who, each in found.items() if approval.is_open or _still_counts(approval, each)}


def _is_about_now(approval: Approval, decision: Decision) -> bool:
    return decision.digest == approval.digest and decision.at >= approval.requested_at


def _still_counts(approval: Approval, decision: Decision) -> bool:
    """Whoever's right it was has it still; who has run it since says no, and not yes."""
    who, by, roles = principal(decision), decision.user_id, approval.roles_now
    if not entitled(approval, who, roles.get(who)):
        return False
    return decision.verdict != Verdict.APPROVE or may_speak(approval, by, roles.get(by))


def signatures(approval: Approval) -> list[Decision]:
    """The yeses that count now, oldest first."""
    yes = [each for each in words(approval).values() if each.verdict == Verdict.APPROVE]
    return sorted(yes, key=lambda decision: decision.pk)


def outcome(approval: Approval, said: dict[int, str]) -> str:
    """The state that verdicts by person come to: any no is a no, and too few yeses are none."""
    verdicts = set(said.values())
    if Verdict.REJECT in verdicts:
        return State.REJECTED
    if Verdict.MORE_TIME in verdicts:
        return State.MORE_TIME
    owner = approval.application.owner_id
    enough = len(said) >= approval.needed and (approval.gate != Gate.SIGN_OFF or owner in said)
    return State.APPROVED if enough else State.REQUESTED


def left_words(approval: Approval) -> str:
    """How many signatures are there and how many are needed; empty where one is enough."""
    if approval.needed <= 1:
        return ""
    return f"{len(signatures(approval))} of {approval.needed} signatures"


# -- asking, handing over, expiring ---------------------------------------------------------------------------


def ask_again(approval_id: int, *, user: User, comment: str = "") -> None:
    """Put the question anew: what was said so far counts no more, and the asker does not answer."""
    approval = _get(approval_id)
    if role_in(approval.wave.project, user) not in RUN:
        raise Forbidden("Whoever runs the migration asks again.", "Ask an operator or a lead.")
    if approval.is_open:
        raise NotReady([f"{approval} is {approval.get_state_display().lower()}: there is nothing to ask."])
    if not approval.digest:
        raise NotReady([UNASKED])
    if approval.state == State.REQUESTED and not words(approval):
        raise NotReady([f"{approval} is asked for already, and nobody has answered yet."])
    now = timezone.now()
    fields = policies.asked(policies.policy_of(approval.wave.project_id, approval.gate), now, by=user)
    with transaction.atomic():
        _update(
            approval,
            state=State.REQUESTED,
            delegated_to=None,
            delegated_by=None,
            delegated_at=None,
            **fields,
        )
        record(
            "approval.request",
            approval,
            actor=user,
            project_id=approval.wave.project_id,
            why=comment,
            before={"state": approval.state},
            after={"digest": approval.digest},
        )


def delegate(approval_id: int, *, user: User, to: User, comment: str = "") -> None:
    """Hand one's answer over to a named member, once. The two count as one person; both are shown."""
    approval = _get(approval_id)
    if approval.is_open:
        raise NotReady([f"{approval} is {approval.get_state_display().lower()}: there is nothing to hand over."])
    if expired(approval, timezone.now()):
        raise NotReady(["The time to answer is over: ask whoever runs it to request it again, then hand it over."])
    right_of(approval, user)
    if approval.gate == Gate.SIGN_OFF and approval.application.owner_id != user.pk:
        raise Forbidden("Only the owner hands the sign-off over.", "Ask the owner, or a lead for a stand-in.")
    role = role_in(approval.wave.project, to)
    fit = receivers(approval.gate)
    missing = []
    if to.pk == user.pk:
        missing.append("to: that is yourself.")
    elif role is None:
        missing.append(f"to={to}: not a member of {approval.wave.project}.")
    elif role not in fit:
        missing.append(f"to={to}: as {Role(role).name.lower()} they may not answer this; choose {_named(fit)}.")
    elif approval.requested_by_id == to.pk:
        missing.append(f"to={to}: asked for it, and nobody approves their own request.")
    elif ran_it(approval, to.pk):
        missing.append(f"to={to}: started a step of these servers, and does not answer for what they ran.")
    if is_handed_over(approval):
        missing.append(f"It was handed to {approval.delegated_to} already; it is handed over once.")
    if missing:
        raise NotReady(missing)
    with transaction.atomic():
        _update(approval, delegated_to=to, delegated_by=user, delegated_at=timezone.now())
        record(
            "approval.delegate",
            approval,
            actor=user,
            project_id=approval.wave.project_id,
            why=comment,
            after={"to": to.get_username()},
        )


def _named(roles: tuple[str, ...]) -> str:
    return " or ".join(f"an {Role(each).name.lower()}" if each != Role.LEAD else "a lead" for each in roles)


def expired(approval: Approval, now: datetime) -> bool:
    """Nobody answered in time, whether or not the controller has noticed yet."""
    late = approval.expires_at is not None and approval.expires_at <= now
    return approval.state == State.EXPIRED or (approval.state in ASKED and late)


def expire(approval: Approval, now: datetime, project_id: int) -> None:
    """Close a request whose time is over: not answered is not approved."""
    if approval.state == State.EXPIRED or not expired(approval, now):
        return
    with transaction.atomic():
        if store(approval, state=State.EXPIRED):
            record("approval.expire", approval, project_id=project_id, before={"state": approval.state})
            Change.bump()


def _get(approval_id: int) -> Approval:
    return Approval.objects.select_related("application__owner", "wave__project", "delegated_to").get(pk=approval_id)


def _update(approval: Approval, **fields: object) -> None:
    """As `store`; a Conflict where something changed."""
    if not store(approval, **fields):
        raise Conflict("Somebody else answered, or what it is about changed, a moment ago.", "Look again.")
    Change.bump()


def store(approval: Approval, **fields: object) -> bool:
    """On the version that was read, inside the caller's transaction; the wave's decisions see that it changed.

    The wave's row is taken first, as by whoever decides: two that took them in another order would wait for each other.
    """
    wave = Wave.objects.filter(pk=approval.wave_id)
    wave.update(version=F("version"))  # taken, not changed
    if not Approval.objects.filter(pk=approval.pk, version=approval.version).update(**fields, version=F("version") + 1):
        return False
    wave.update(version=F("version") + 1)
    return True
