"""Defects: who does what, what a blocking one holds, and that a rejection raises its own in the same transaction."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from migrationhub.audit.models import AuditEvent
from projects import break_glass, decisions, defects, planning, waiting, workflow
from projects.defects import Draft
from projects.errors import Conflict, Forbidden, NotReady
from projects.forms.defects import assignees
from projects.lanes import lane_of
from projects.models import Approval, ChecklistItem, Decision, Defect, Membership, Migration, StandIn, Step
from projects.readers import may_see
from projects.steps import MODULES
from tests import factories

pytestmark = pytest.mark.django_db
K, Role, State = Step.Kind, Membership.Role, Defect.State


@pytest.fixture
def migration() -> Migration:
    made = factories.make_migration(steps=False)
    workflow.plan_steps(made)
    ChecklistItem.objects.filter(step__migration=made, step__kind=K.UAT).update(state="done")
    return made


@pytest.fixture
def people(migration: Migration) -> dict[str, Any]:
    project = migration.project
    return {
        "lead": project.memberships.get(role="lead").user,
        "operator": factories.make_member(project, Role.OPERATOR),
        "manager": factories.make_member(project, Role.MANAGER),
        "owner": migration.application.owner,
        "other owner": factories.make_member(project, Role.OWNER),
        "outsider": factories.make_user(),
    }


def draft(migration: Migration, kind: str = K.UAT, **over: Any) -> Draft:
    return Draft(**{"step_id": migration.steps.get(kind=kind).pk, "title": "Orders are missing", **over})


def found(migration: Migration, user: Any, **over: Any) -> Defect:
    return defects.raise_defect(draft(migration, **over), user=user)


def unmet(migration: Migration) -> list[str]:
    return [each.text for each in MODULES[K.STOP].unmet(lane_of(migration)) if "Defect" in each.text]


@pytest.mark.parametrize(
    ("who", "may"),
    [("owner", True), ("lead", True), ("operator", True), ("manager", False), ("other owner", False)],
)
def test_who_raises(migration, people, who: str, may: bool) -> None:
    if may:
        assert found(migration, people[who]).number == 1
        return
    with pytest.raises(Forbidden):
        found(migration, people[who])
    assert not Defect.objects.exists()


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({"title": "  "}, "say in one line"),
        ({"title": "x" * 201}, "at most 200"),
        ({"severity": "awful"}, "expected blocking, major or minor"),
        ({"kind": K.STOP}, "acceptance testing or final validation"),
    ],
)
def test_what_is_not_a_defect_is_refused_in_words(migration, people, over, words: str) -> None:
    with pytest.raises(NotReady, match=words):
        found(migration, people["owner"], **over)


def test_an_assignee_is_a_member(migration, people) -> None:
    with pytest.raises(NotReady, match="not a member"):
        found(migration, people["owner"], assignee=people["outsider"])


def test_a_blocking_one_holds_sign_off_stop_and_declaration_until_verified(migration, people) -> None:
    approval = factories.make_asked(migration.wave, migration.application)
    lanes = [lane_of(migration)]
    assert decisions.approve_unmet(approval, lanes) == []
    defect = found(migration, people["owner"])
    for state in (State.OPEN, State.IN_WORK, State.MENDED):
        Defect.objects.filter(pk=defect.pk).update(state=state)
        lane = lane_of(migration)
        assert "blocking" in decisions.approve_unmet(approval, [lane])[0]
        assert unmet(migration)
        factories.make_attempt(lane.steps[K.VALIDATION]) if state == State.OPEN else None
        assert any("blocking" in words for words in workflow.completion_unmet(lane_of(migration)))
    for state in (State.VERIFIED, State.REJECTED):
        Defect.objects.filter(pk=defect.pk).update(state=state)
        assert decisions.approve_unmet(approval, [lane_of(migration)]) == [] and not unmet(migration)


@pytest.mark.parametrize("severity", ["major", "minor"])
def test_others_hold_nothing(migration, people, severity: str) -> None:
    found(migration, people["owner"], severity=severity)
    assert not unmet(migration)


def test_it_holds_every_server_of_its_application_and_none_of_another(migration, people) -> None:
    shared = {"project": migration.project, "wave": migration.wave, "profile": migration.profile, "steps": False}
    beside = factories.make_migration(application=migration.application, **shared)
    other = factories.make_migration(**shared)
    for each in (beside, other):
        workflow.plan_steps(each)
    found(migration, people["owner"])
    assert unmet(beside) and not unmet(other)


@pytest.mark.parametrize("where", ["wave", "application"])
def test_it_goes_where_its_server_is_planned(migration, people, where: str) -> None:
    """It holds there, and not what stays behind; what is settled goes along, as it may be opened again."""
    shared = {"project": migration.project, "application": migration.application, "wave": migration.wave}
    beside = factories.make_migration(**shared, profile=migration.profile, steps=False)
    workflow.plan_steps(beside)
    defect, settled = found(migration, people["owner"]), found(migration, people["owner"], title="Slow")
    defects.move(settled.pk, user=people["lead"], to=State.REJECTED, reason="as before")
    make = {"wave": factories.make_wave, "application": factories.make_application}
    elsewhere = make[where](migration.project)
    moved = planning.plan_server(migration=migration, values={where: elsewhere}, user=people["lead"])
    assert len(unmet(moved)) == 1 and not unmet(beside)
    asked = factories.make_asked(moved.wave, moved.application)
    with pytest.raises(NotReady, match="Orders are missing is blocking"):
        decisions.decide(asked.pk, user=moved.application.owner, verdict="approve", comment="", digest=asked.digest)
    defect.refresh_from_db()
    assert (defect.wave, defect.application) == (moved.wave, moved.application)
    event = AuditEvent.objects.get(verb="defect.follow", object_id=str(defect.pk))
    assert (event.actor, event.before[where], event.after[where]) == (
        people["lead"],
        str(getattr(beside, where)),
        str(elsewhere),
    )
    defects.move(settled.pk, user=people["lead"], to=State.OPEN, reason="it came back")
    assert len(unmet(moved)) == 2 and not unmet(beside)


def test_it_waits_for_a_server_that_is_in_no_wave(migration, people) -> None:
    found(migration, people["owner"])
    planning.remove_from_wave(migration=migration, user=people["lead"])
    migration.refresh_from_db()
    moved = planning.plan_server(
        migration=migration, values={"wave": factories.make_wave(migration.project)}, user=people["lead"]
    )
    assert unmet(moved)


def test_it_is_not_left_behind_where_the_server_is_planned_in_the_same_moment(migration, people, monkeypatch) -> None:
    real, elsewhere = defects.take_number, factories.make_wave(migration.project)

    def number(project: int) -> int:
        planning.plan_server(migration=migration, values={"wave": elsewhere}, user=people["lead"])
        return real(project)

    monkeypatch.setattr(defects, "take_number", number)
    with pytest.raises(Conflict, match="was planned elsewhere a moment ago"):
        found(migration, people["owner"])
    assert not Defect.objects.exists()


def test_the_way_of_a_defect(migration, people) -> None:
    defect = found(migration, people["owner"])
    defects.move(defect.pk, user=people["operator"], to=State.IN_WORK)
    with pytest.raises(NotReady, match="say why it is mended"):
        defects.move(defect.pk, user=people["operator"], to=State.MENDED)
    defects.move(defect.pk, user=people["operator"], to=State.MENDED, reason="index rebuilt")
    with pytest.raises(Forbidden, match="does not verify it"):
        defects.move(defect.pk, user=people["operator"], to=State.VERIFIED)
    defects.move(defect.pk, user=people["owner"], to=State.VERIFIED)
    with pytest.raises(NotReady, match="opened again"):
        defects.move(defect.pk, user=people["owner"], to=State.OPEN)
    defects.move(defect.pk, user=people["owner"], to=State.OPEN, reason="it came back")
    verbs = list(AuditEvent.objects.filter(verb__startswith="defect.").order_by("pk").values_list("verb", flat=True))
    assert verbs == ["defect.raise", "defect.in_work", "defect.mended", "defect.verified", "defect.open"]


def test_every_transition_is_allowed_or_a_conflict(migration, people) -> None:
    defect = found(migration, people["owner"])
    for before, after in product(State.values, State.values):
        Defect.objects.filter(pk=defect.pk).update(state=before, mended_by=None)
        if after in defects.TRANSITIONS[before]:
            assert defects.move(defect.pk, user=people["lead"], to=after, reason="so").state == after
        else:
            with pytest.raises(Conflict):
                defects.move(defect.pk, user=people["lead"], to=after, reason="so")


@pytest.mark.parametrize(
    ("to", "may"),
    [
        (State.IN_WORK, {"lead", "operator", "owner"}),
        (State.MENDED, {"lead", "operator", "owner"}),
        (State.REJECTED, {"lead", "owner"}),
    ],
)
def test_who_may_take_it_on(migration, people, to: str, may: set[str]) -> None:
    for who, user in people.items():
        defect = found(migration, people["owner"], title=who)
        if who in may:
            defects.move(defect.pk, user=user, to=to, reason="so")
        else:
            with pytest.raises(Forbidden):
                defects.move(defect.pk, user=user, to=to, reason="so")


def test_to_call_a_blocking_one_less_takes_somebody_concerned_and_a_reason(migration, people) -> None:
    defect = found(migration, people["owner"])
    with pytest.raises(Forbidden, match="called less by a lead"):
        defects.change(defect.pk, user=people["operator"], severity="minor", assignee=None, reason="it is small")
    with pytest.raises(NotReady, match="does not block any more"):
        defects.change(defect.pk, user=people["lead"], severity="minor", assignee=None)
    defects.change(defect.pk, user=people["lead"], severity="minor", assignee=people["operator"], reason="agreed")
    assert not unmet(migration)
    event = AuditEvent.objects.get(verb="defect.change")
    assert (event.before["severity"], event.after["severity"], event.why) == ("blocking", "minor", "agreed")


def test_a_press_on_an_old_page_is_a_conflict(migration, people) -> None:
    defect = found(migration, people["owner"])
    defects.move(defect.pk, user=people["operator"], to=State.IN_WORK)
    with pytest.raises(Conflict, match="is in work now"):
        defects.move(defect.pk, user=people["lead"], to=State.REJECTED, reason="no", seen="open")
    with pytest.raises(Conflict):
        defects.change(defect.pk, user=people["lead"], severity="minor", assignee=None, reason="x", seen=1)


# -- with a rejection -----------------------------------------------------------------------------------------


def reject(migration: Migration, drafts: list[Draft]) -> Decision:
    approval = migration.wave.approvals.first() or factories.make_asked(migration.wave, migration.application)
    return decisions.decide(
        approval.pk,
        user=migration.application.owner,
        verdict="reject",
        comment="it does not work",
        digest=approval.digest,
        found=drafts,
    )


def test_a_rejection_raises_its_defects_in_the_same_transaction(migration, people) -> None:
    decision = reject(migration, [draft(migration), draft(migration, title="Slow", severity="minor")])
    assert [(each.title, each.number) for each in decision.defects.order_by("number")] == [
        ("Orders are missing", 1),
        ("Slow", 2),
    ]
    texts = [item.text for item in waiting.waits_for_me(people["operator"])]
    assert "Defect 1: Orders are missing" in texts


def test_where_one_is_wrong_nothing_of_the_rejection_stays(migration) -> None:
    with pytest.raises(NotReady, match="acceptance testing or final validation"):
        reject(migration, [draft(migration), draft(migration, kind=K.STOP)])
    assert not Defect.objects.exists() and not Decision.objects.exists()
    assert Approval.objects.get().state == Approval.State.REQUESTED


@pytest.mark.parametrize("where", ["application", "wave", "project"])
def test_a_rejection_raises_nothing_elsewhere_and_says_nothing_of_what_is_there(migration, where: str) -> None:
    """A step that there is and one that there is not are refused in the same words."""
    own = {"project": migration.project, "profile": migration.profile}
    places = {
        "application": {**own, "wave": migration.wave},
        "wave": {**own, "application": migration.application, "wave": factories.make_wave(migration.project)},
        "project": {},
    }
    elsewhere = factories.make_migration(source=factories.make_server("secret-bank-db"), **places[where])
    said = set()
    for step in (elsewhere.steps.get(kind=K.UAT).pk, elsewhere.steps.get(kind=K.STOP).pk, 10**9):
        with pytest.raises(NotReady, match="choose a server of") as refused:
            reject(migration, [Draft(step, "Orders are missing")])
        said |= set(refused.value.unmet)
    assert len(said) == 1 and "secret-bank-db" not in said.pop()
    assert not Defect.objects.exists() and not Decision.objects.exists()


def test_a_rejection_that_is_sent_twice_raises_its_defects_once(migration) -> None:
    reject(migration, [draft(migration, title=" Orders\r\nare  missing ")])
    with pytest.raises(Conflict, match="You raised it already: Defect 1: Orders are missing"):
        reject(migration, [draft(migration)])
    assert (Defect.objects.count(), Decision.objects.count()) == (1, 1)
    Defect.objects.update(state=State.REJECTED)
    reject(migration, [draft(migration)])
    assert Defect.objects.count() == 2, "what was settled may come back"


# -- break-glass ----------------------------------------------------------------------------------------------


def test_break_glass_lets_pass_what_was_open_then_and_nothing_that_came_later(migration, people) -> None:
    found(migration, people["owner"])
    break_glass.pass_step(migration.steps.get(kind=K.STOP).pk, user=people["lead"], reason="the contract ends tonight")
    assert not unmet(migration)
    found(migration, people["owner"], title="Another")
    assert len(unmet(migration)) == 1


# -- who may see it ---------------------------------------------------------------------------------------------


def test_it_is_offered_to_everybody_who_may_see_the_application_and_to_nobody_else(migration, people) -> None:
    application, wave = migration.application, migration.wave
    everybody = dict(people)
    for name, days in (("stand-in", 1), ("former stand-in", -1)):
        everybody[name] = factories.make_member(migration.project, Role.OWNER)
        StandIn.objects.create(
            application=application,
            owner=people["owner"],
            person=everybody[name],
            by=people["lead"],
            starts_at=factories.hours(-48),
            ends_at=factories.hours(24 * days),
            why="away",
        )
    everybody["heir"] = factories.make_member(migration.project, Role.OWNER)
    over = {"delegated_to": everybody["heir"], "delegated_by": people["owner"]}
    factories.make_approval(wave, application, digest="x", **over)
    everybody["gone"] = factories.make_member(migration.project, Role.OPERATOR, factories.make_user(is_active=False))
    seeing = {"lead", "operator", "manager", "owner", "stand-in", "heir"}
    offered = set(assignees(application, wave.pk))
    assert {name for name, user in everybody.items() if user in offered} == seeing
    assert {name for name, user in everybody.items() if may_see(application, wave.pk, user)} == seeing
    for name, user in everybody.items():
        if name in seeing:
            assert found(migration, people["lead"], assignee=user, title=name).assignee == user
            continue
        with pytest.raises(NotReady, match=f"assignee={user}: (may not see {application}|not a member)"):
            found(migration, people["lead"], assignee=user)


def test_it_is_not_given_to_the_owner_of_another_application_later_either(migration, people) -> None:
    defect = found(migration, people["owner"])
    with pytest.raises(NotReady, match=r"may not see .* Choose a lead"):
        defects.change(defect.pk, user=people["lead"], severity="blocking", assignee=people["other owner"])


def waits(user: Any) -> list[str]:
    return [item.text for item in waiting.waits_for_me(user) if "Defect" in item.text]


@pytest.mark.parametrize("ended", [False, True])
def test_one_whose_assignee_may_not_see_it_any_more_waits_for_whoever_runs_the_migration(
    migration, people, ended: bool
) -> None:
    defect = found(migration, people["owner"], assignee=people["operator"])
    assert waits(people["operator"]) and not waits(people["lead"])
    Membership.objects.filter(user=people["operator"]).update(role=Role.OWNER)
    if ended:
        Migration.objects.filter(pk=migration.pk).update(state=Migration.State.COMPLETE)
    assert waits(people["lead"]) == [str(defect)]


def test_a_mended_one_whose_raiser_left_waits_for_a_lead(migration, people) -> None:
    defect = found(migration, people["operator"])
    Defect.objects.filter(pk=defect.pk).update(state=State.MENDED, mended_by=people["owner"])
    assert waits(people["operator"]) and not waits(people["lead"])
    Membership.objects.filter(user=people["operator"]).delete()
    assert waits(people["lead"]) == [str(defect)]


def test_one_that_its_raiser_mended_waits_for_the_owner_and_a_lead(migration, people) -> None:
    defect = found(migration, people["operator"])
    defects.move(defect.pk, user=people["operator"], to=State.MENDED, reason="index rebuilt")
    assert waits(people["owner"]) == waits(people["lead"]) == [str(defect)]
    assert not any(waits(people[who]) for who in ("operator", "manager", "other owner"))
