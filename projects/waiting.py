"""What waits for a person, over all their projects: what only they, or somebody in their role, can do next."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from django.contrib.auth.models import AnonymousUser, User
from django.urls import reverse

from projects import approvals, break_glass, checklists, defects, uat, uat_runs, workflow
from projects.access import PLAN, RUN, is_handed_to, may_sign, signs_for
from projects.lanes import lanes_for
from projects.models import (
    Action,
    Application,
    Approval,
    BreakGlass,
    ChecklistItem,
    Defect,
    Hold,
    Holds,
    ItemRole,
    Membership,
    Migration,
    Step,
)
from projects.steps.base import Lane, open_items
from projects.waiting_entry import Waiting, defect_waits, second_look
from servers.models import Run

Person = User | AnonymousUser
SOON = timedelta(hours=24)  # an answer that runs out within it is urgent
PLACE = ("project", "wave", "application__owner")


def waits_for_me(user: Person, roles: dict[int, str] | None = None) -> list[Waiting]:
    """Urgent things first, then what is to be decided, to be done, and tests that are open; the oldest first in each.

    The number of queries does not grow with what is there. `roles`: the user's, by project, where they are known.
    """
    if isinstance(user, AnonymousUser) or not user.pk:
        return []
    if roles is None:
        roles = dict(Membership.objects.filter(user_id=user.pk).values_list("project_id", "role"))
    migrations = Migration.objects.visible_to(user).filter(state=Migration.State.OPEN, steps__isnull=False).distinct()
    lanes = lanes_for(migrations)
    groups: dict[tuple[int, int], list[Lane]] = {}
    waiting: list[Waiting] = []
    backs = uat_runs.failed_backs(lanes)
    for lane in lanes:
        role = roles.get(lane.migration.project_id)
        waiting += _placed(lane, _lane_waits(lane, role, user))
        if role in RUN and lane.migration.pk in backs:
            waiting += _placed(lane, _not_back(lane, backs[lane.migration.pk]))
        if lane.migration.wave_id and lane.migration.application_id:
            groups.setdefault((lane.migration.wave_id, lane.migration.application_id), []).append(lane)
    unsettled, lost = defects.unsettled_in(roles)
    for group in groups.values():
        role = roles.get(group[0].migration.project_id)
        waiting += _placed(group[0], _application_waits(group, role, user, lost))
    waiting += _left_over(roles, set(groups), user, unsettled, lost)
    return sorted(_merged(waiting), key=_rank)


def _rank(item: Waiting) -> tuple[bool, int, float]:
    since = item.since.timestamp() if item.since else float("inf")
    return not item.urgent, ("decide", "do", "open").index(item.kind), since


def _merged(waiting: list[Waiting]) -> list[Waiting]:
    """Servers whose items are answered on one page are one thing; since the first of them."""
    groups: dict[tuple[str, str], list[Waiting]] = {}
    for item in waiting:
        if item.together:
            groups.setdefault((item.url, item.together), []).append(item)
    made = [item for item in waiting if not item.together]
    for (_, title), items in groups.items():
        first = min(items, key=_rank)
        if len(items) > 1:
            titles = dict.fromkeys(each for item in items for each in item.detail.split(LIST))
            first = replace(first, text=f"{title} of {len(items)} servers", detail=LIST.join(titles))
        made.append(first)
    return made


LIST = " · "  # between titles of items, which may hold commas themselves


def _placed(lane: Lane, found: list[Waiting]) -> list[Waiting]:
    wave, project = lane.migration.wave, lane.migration.project
    where = f"{wave}, {project}" if wave else str(project)
    return [replace(item, where=where, zone=wave.time_zone if wave else project.time_zone) for item in found]


def _left_over(
    roles: dict[int, str], under_way: set[tuple[int, int]], user: User, unsettled: list[Defect], lost: set[int]
) -> list[Waiting]:
    """Of applications with nothing under way any more: passes that wait for a second person, and unsettled defects."""
    found: list[Waiting] = []
    passes = BreakGlass.objects.filter(project__in=roles, state=BreakGlass.State.UNCONFIRMED)
    rows: list[BreakGlass | Defect] = [*passes.select_related(*PLACE), *unsettled]
    for each in rows:
        if (each.wave_id, each.application_id) in under_way:
            continue
        made, role = None, roles[each.project_id]
        if isinstance(each, BreakGlass) and break_glass.may_confirm(each, user, role):
            made = second_look(each, _absent(each.application, user))
        elif isinstance(each, Defect) and defects.waits_for(each, user, role, lost):
            made = defect_waits(each)
        if made:
            found.append(replace(made, where=f"{each.wave}, {each.project}", zone=each.wave.time_zone))
    return found


# -- one server -----------------------------------------------------------------------------------------------


def _lane_waits(lane: Lane, role: str | None, user: User) -> list[Waiting]:
    migration, found = lane.migration, []
    page = reverse("migration", args=[migration.pk])
    for kind in Step.ORDER:
        step = lane.steps[kind]
        if step.state == Step.State.ATTENTION and role in RUN:
            title = f"{migration.source.name}: {step.get_kind_display()} failed"
            since = _failed_at(lane, kind)
            made = Waiting(title, step.reason, page, "Look", since, urgent=True, state="failed", word="Needs attention")
            found.append(made)
        found += _items_wait(lane, kind, role, user)
    if role in RUN:
        found += _not_isolated(lane)
    if role in PLAN and lane.open_attempt(Step.Kind.VALIDATION) and not workflow.completion_unmet(lane):
        title = f"{migration.source.name} can be declared complete"
        since = _last_done(lane, Step.Kind.VALIDATION)
        found.append(Waiting(title, _probe_words(lane), page, "Declare", since, kind="decide", word="Yours to decide"))
    return found


def _not_isolated(lane: Lane) -> list[Waiting]:
    """A test is open on a clone that may reach production."""
    migration = lane.migration
    if lane.uat_hold is None or not migration.wave_id or not migration.application_id:
        return []
    page = reverse("acceptance", args=[migration.wave_id, migration.application_id])
    title = f"{migration.source.name}: its clone is not proven isolated, and is being tested"
    return [
        Waiting(title, item.note, page, "Look", item.at, urgent=True, state="failed", word="Needs attention")
        for item in uat_runs.proof_items(lane)
        if item.state == ChecklistItem.State.FAILED
    ]


def _not_back(lane: Lane, run: Run) -> list[Waiting]:
    """The end of a test waits for a clone that could not be put back; until then no update runs."""
    migration = lane.migration
    page = reverse("acceptance", args=[migration.wave_id, migration.application_id])
    title = f"{migration.source.name}: its clone could not be put back to its snapshot"
    at = run.finished_at
    return [Waiting(title, run.reason, page, "Look", at, urgent=True, state="failed", word="Needs attention")]


def _items_wait(lane: Lane, kind: str, role: str | None, user: User) -> list[Waiting]:
    """The open items of one step that this person answers, as one thing."""
    migration, step = lane.migration, lane.steps[kind]
    owns = approvals.answers_for(lane, user)
    mine = [item for item in due_items(lane, kind) if checklists.may_answer(item, role, owns=owns)]
    if not mine:
        return []
    where = reverse("migration", args=[migration.pk])
    absent, together, name = None, "", step.get_kind_display().lower()
    if mine[0].role == ItemRole.OWNER and migration.application is not None:
        absent = _absent(migration.application, user)
        if migration.wave_id:
            where = reverse("acceptance", args=[migration.wave_id, migration.application_id])
            together = f"{migration.application}: checklist of {name}"
    title = f"{migration.source.name}: checklist of {name}"
    detail = LIST.join(item.title for item in mine)
    return [Waiting(title, detail, where, "Open", _due_since(lane, kind), on_behalf_of=absent, together=together)]


def due_items(lane: Lane, kind: str) -> list[ChecklistItem]:
    """Open required items that people are to answer now: of a step under way, and those before one that is next."""
    step = lane.steps[kind]
    if lane.open_attempt(kind) is not None and step.state == Step.State.RUNNING:
        return [item for item in open_items(lane, kind) if not item.automatic]
    earlier = Step.ORDER[: Step.ORDER.index(Step.Kind(kind))]
    is_next = step.state in workflow.STARTABLE and all(lane.over(each) or each == Step.Kind.DELTA for each in earlier)
    return [item for item in open_items(lane, kind, Holds.START) if not item.automatic] if is_next else []


def _due_since(lane: Lane, kind: str) -> datetime | None:
    """Since when the step is under way, or since when it is next."""
    attempt = lane.open_attempt(kind)
    if attempt is not None:
        return attempt.started_at
    earlier = Step.ORDER[: Step.ORDER.index(Step.Kind(kind))]
    return max((step.finished_at for each in earlier if (step := lane.steps[each]).finished_at), default=None)


def _failed_at(lane: Lane, kind: str) -> datetime | None:
    attempt = lane.open_attempt(kind)
    if attempt is None:
        return lane.steps[kind].started_at
    failed = [each.finished_at for each in attempt.actions.all() if each.state == Action.State.FAILED]
    return max((moment for moment in failed if moment), default=attempt.started_at)


def _last_done(lane: Lane, kind: str) -> datetime | None:
    attempt = lane.open_attempt(kind)
    if attempt is None:
        return None
    return max((each.finished_at for each in attempt.actions.all() if each.finished_at), default=attempt.started_at)


def _probe_words(lane: Lane) -> str:
    """What final validation has seen: nothing asked is not the same as passed."""
    attempt = lane.open_attempt(Step.Kind.VALIDATION)
    asked = [action for action in (attempt.actions.all() if attempt else ()) if action.operation == "probe"]
    if asked and all(action.state == Action.State.DONE for action in asked):
        return "All probes passed."
    return "No probe asked it in production: nothing but people has seen that it works."


# -- one application in its wave ------------------------------------------------------------------------------


def _application_waits(lanes: list[Lane], role: str | None, user: User, lost: set[int]) -> list[Waiting]:
    application, wave = lanes[0].migration.application, lanes[0].migration.wave
    if application is None or wave is None:
        return []
    absent = _absent(application, user)
    return [
        *_answers_wait(lanes, role, user),
        *_test_waits(lanes, role, user),
        *(second_look(each, absent) for each in lanes[0].passes if break_glass.may_confirm(each, user, role)),
        *(defect_waits(each) for each in lanes[0].defects if defects.waits_for(each, user, role, lost)),
    ]


def _absent(application: Application, user: User) -> User | None:
    """Whose right it is, where the user stands in for somebody."""
    owner = signs_for(application, user)
    return owner if owner is not None and owner.pk != user.pk else None


def _answers_wait(lanes: list[Lane], role: str | None, user: User) -> list[Waiting]:
    """Sign-off and go that this person may answer and has not answered with a yes, and those to be asked again."""
    found = []
    for gate in (Approval.Gate.SIGN_OFF, Approval.Gate.GO):
        approval = lanes[0].approvals.get(gate)
        if approval is None:
            continue
        if approvals.expired(approval, lanes[0].now):
            if role in RUN:
                found.append(_expired(approval))
            continue
        if approvals.waits_for(approval, user, role):
            found.append(_answer(approval, lanes[0], user))
    return found


def _answer(approval: Approval, lane: Lane, user: User) -> Waiting:
    sign_off, application = approval.gate == Approval.Gate.SIGN_OFF, approval.application
    detail = ", ".join(filter(None, (approval.get_state_display(), approvals.left_words(approval))))
    if not sign_off and approval.state == Approval.State.REQUESTED:
        detail = "Every server is tested and signed; services are stopped after your go."
    handed = is_handed_to(approval, user)
    absent = _absent(application, user) if sign_off else None
    if handed and absent is None:
        detail = f"Handed over to you. {detail}"
        absent = application.owner if sign_off else None
    url = reverse("approval", args=[approval.pk])
    if sign_off and may_sign(application, user):
        url = reverse("acceptance", args=[approval.wave_id, application.pk])
    stale = approval.state == Approval.State.STALE
    return Waiting(
        f"{'Sign-off of' if sign_off else 'Go for'} {application}",
        detail,
        url,
        "Look and answer" if sign_off else "Decide",
        approval.requested_at,
        approval.expires_at,
        urgent=_is_near(approval, lane),
        kind="decide",
        state="relook" if stale else "ready",
        word="Needs another look" if stale else "Yours to decide",
        on_behalf_of=absent,
    )


def _is_near(approval: Approval, lane: Lane) -> bool:
    """The answer runs out soon, or the wave's window is open and everything waits for it."""
    wave = lane.migration.wave
    in_window = wave is not None and wave.starts_at is not None and wave.starts_at <= lane.now
    in_window = in_window and (wave is None or wave.ends_at is None or lane.now < wave.ends_at)
    return in_window or (approval.expires_at is not None and approval.expires_at - lane.now < SOON)


def _expired(approval: Approval) -> Waiting:
    name = "Sign-off of" if approval.gate == Approval.Gate.SIGN_OFF else "Go for"
    return Waiting(
        f"{name} {approval.application} expired without an answer",
        "No answer is never a yes: ask again.",
        reverse("approval", args=[approval.pk]),
        "Ask again",
        approval.expires_at or approval.requested_at,
        state="held",
        word="Expired",
    )


def _test_waits(lanes: list[Lane], role: str | None, user: User) -> list[Waiting]:
    """An open test: for whoever ends it, and, once its promised end is over, for those whose deltas wait."""
    application, wave = lanes[0].migration.application, lanes[0].migration.wave
    hold = next((lane.uat_hold for lane in lanes if lane.uat_hold), None)
    if hold is None or application is None or wave is None:
        return []
    late, mine = uat.overdue(hold, lanes[0].now), uat.may_end(hold, application, user)
    if not (mine or (late and role in RUN)):
        return []
    own = hold.by_id == user.pk
    return [
        Waiting(
            f"The test of {application} is overdue" if late else f"The test of {application} is open",
            _test_words(hold, late, mine),
            reverse("acceptance", args=[wave.pk, application.pk]),
            "Look",
            hold.until if late else hold.since,
            None if late else hold.until,
            urgent=late,
            kind="open",
            state="held" if late else "running",
            word="Overdue" if late else "Under way",
            on_behalf_of=None if own else _absent(application, user),
        )
    ]


def _test_words(hold: Hold, late: bool, mine: bool) -> str:
    if hold.back_at is not None:
        return "It ends once the copies are back at their snapshots; no update runs before. Look how far they are."
    if late:
        act = "End it or extend it." if mine else "Ask for its end, extend it, or let a lead break it off."
        return f"No update runs while it is open. {act}"
    return "No update runs while it is open. End it when you are done."
