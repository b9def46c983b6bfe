"""Step 6 taken back, and the source's identity on its way through steps 4 and 6, with scripted operations."""

from __future__ import annotations

from html import unescape
from typing import Any

import pytest
from django.db.models import F
from django.test import Client
from django.urls import reverse

from migrationhub.audit.models import AuditEvent
from projects import abort, workflow
from projects.errors import Conflict, NotReady
from projects.lanes import lane_of
from projects.models import Action, Migration, Step, StepAttempt
from projects.steps import MODULES
from servers.models import NameServer, Run
from servers.operations.base import failed
from servers.progress import Progress, State
from tests import factories
from tests.engine import Engine
from tests.projects.test_workflow import signed_and_go, start, state

pytestmark = pytest.mark.whole

K, S = Step.Kind, Step.State
BEFORE = (K.INITIAL, K.DELTA, K.UAT, K.STOP, K.FINAL)
UNREACHED = failed("It does not answer at 10.0.1.9.", "network.unreached")


def planned_migration(**over: Any) -> Migration:
    project = factories.make_project()
    profile = factories.make_profile(project, identity=["host_keys", "host_name"])
    key = factories.make_credential(kind="tsig")
    server = NameServer.objects.create(name="ns", address="192.0.2.53", zone="shop.lab", credential=key)
    made = factories.make_migration(
        profile=profile, services=["orders"], name_server=server, dns_name="db.shop.lab", **over
    )
    factories.make_probe(made.source, places=["target"])
    return made


@pytest.fixture
def migration(db: None) -> Migration:
    """Its source is off; the cutover events are next and start by themselves."""
    return planned_migration(states=dict.fromkeys(BEFORE, "done"), target=True)


@pytest.fixture
def whole(db: None) -> Migration:
    """Planned, and nothing was begun."""
    made = planned_migration(steps=False)
    workflow.plan_steps(made)
    return made


@pytest.fixture
def lead(migration: Migration) -> Any:
    return lead_of(migration)


def lead_of(migration: Migration) -> Any:
    return migration.project.memberships.get(role="lead").user


def operations(engine: Engine, since: int = 0) -> list[str]:
    """What was done, in order, by name of the operation."""
    return [key.split(".")[-2] for key in engine.done_work[since:]]


def planned(migration: Migration, kind: str) -> list[tuple[str, str]]:
    actions = Action.objects.filter(attempt__step__migration=migration, attempt__step__kind=kind, attempt__mode="real")
    return [(action.operation, action.state) for action in actions]


def test_the_identity_is_kept_before_the_stop_taken_before_the_move_and_proven_after_it(
    engine: Engine, whole: Migration
) -> None:
    signed_and_go(engine, whole, lead_of(whole))
    engine.settle()
    assert state(whole, K.CUTOVER) == S.DONE
    done = operations(engine)
    order = ["stage_identity", "stop_services", "shutdown", "take_identity", "network", "prove_identity"]
    assert [name for name in done if name in order] == order
    titles = Action.objects.filter(operation__endswith="_identity").values_list("title", flat=True)
    assert any("SSH host keys and host name" in title for title in titles)


def test_where_it_does_not_apply_it_says_why_and_where_it_is_not_chosen_it_is_not_there(
    engine: Engine, migration: Migration, lead: Any
) -> None:
    migration.source.manager = "supervisord"
    migration.source.save()
    lane = lane_of(migration)
    for kind, names in ((K.STOP, ["stage_identity"]), (K.CUTOVER, ["take_identity", "prove_identity"])):
        plans = {plan.operation: plan for plan in MODULES[kind].plan(lane)}
        assert all("no identity of its own" in plans[name].not_applicable for name in names)
    assert lane.migration.profile is not None
    lane.migration.profile.identity = []
    for kind in (K.STOP, K.CUTOVER):
        assert not [plan for plan in MODULES[kind].plan(lane) if "identity" in plan.operation]


def test_an_abort_forgets_the_identity_on_the_target(engine: Engine, whole: Migration) -> None:
    signed_and_go(engine, whole, lead_of(whole))
    engine.script["block_services"] = [failed("It cannot be blocked.", "services.block")]
    engine.settle()
    since = len(engine.done_work)
    workflow.abort_cutover(whole.pk, user=lead_of(whole), why="not tonight")
    engine.settle()
    assert operations(engine, since) == ["unblock_services", "start_services", "drop_identity"]
    assert state(whole, K.STOP) == S.UNDONE


def unreached(engine: Engine, migration: Migration, lead: Any) -> None:
    engine.script["network"] = [UNREACHED]
    engine.settle()
    assert state(migration, K.CUTOVER) == S.ATTENTION


def test_a_move_that_was_not_reached_is_taken_back_and_started_again_by_a_person(
    engine: Engine, migration: Migration, lead: Any
) -> None:
    unreached(engine, migration, lead)
    since = len(engine.done_work)
    abort.take_back(migration.pk, user=lead, why="wrong gateway")
    engine.settle()
    assert operations(engine, since) == ["undo_identity", "undo_guest_address", "network_back"]
    step = migration.steps.get(kind=K.CUTOVER)
    assert step.state == S.UNDONE and "source is off" in step.reason
    assert [attempt.state for attempt in step.attempts.filter(mode="real")] == [StepAttempt.State.UNDONE]
    undo = step.attempts.get(mode="rollback")
    moves = [action.work_key for action in Action.objects.filter(operation="network")]
    assert undo.actions.get(operation="network_back").parameters["of"] == moves
    assert undo.actions.get(operation="network_back").parameters["network"] == "1", "the migration network"
    events = AuditEvent.objects.filter(verb__startswith="cutover.").order_by("pk").values_list("verb", "why")
    assert list(events) == [("cutover.take_back", "wrong gateway"), ("cutover.moved_back", "")]

    engine.settle()
    assert state(migration, K.CUTOVER) == S.UNDONE, "it does not start again by itself"
    assert state(migration, K.FINAL) == S.DONE, "the source stays off"
    start(migration, K.CUTOVER, lead)
    engine.settle()
    assert state(migration, K.CUTOVER) == S.DONE


def test_the_name_comes_back_first(engine: Engine, migration: Migration, lead: Any) -> None:
    engine.script["prove_identity"] = [failed("It shows another key.", "identity.host_key")]
    engine.settle()
    since = len(engine.done_work)
    abort.take_back(migration.pk, user=lead, why="")
    engine.settle()
    assert operations(engine, since) == ["undo_dns", "undo_identity", "undo_guest_address", "network_back"]


def test_a_name_corrected_between_two_tries_is_known_to_the_second_and_both_come_back(
    engine: Engine, migration: Migration, lead: Any
) -> None:
    Migration.objects.filter(pk=migration.pk).update(dns_name="bd.shop.lab")
    engine.script["prove_identity"] = [failed("It shows another key.", "identity.host_key")] * 2
    engine.settle()
    step = migration.steps.get(kind=K.CUTOVER)
    workflow.cancel_step(step.pk, user=lead, seen_attempt=1)
    engine.settle()
    Migration.objects.filter(pk=migration.pk).update(dns_name="db.shop.lab", version=F("version") + 1)
    start(migration, K.CUTOVER, lead)
    engine.settle()
    first, second = Run.objects.filter(operation="dns").order_by("pk")
    assert (first.parameters["name"], first.parameters["earlier"]) == ("bd.shop.lab", [])
    assert (second.parameters["name"], second.parameters["earlier"]) == ("db.shop.lab", [first.work_key])

    abort.take_back(migration.pk, user=lead, why="")
    engine.settle()
    undo = Run.objects.get(operation="undo_dns")
    assert undo.parameters["of"] == [first.work_key, second.work_key]
    start(migration, K.CUTOVER, lead)
    engine.settle()
    third = Run.objects.filter(operation="dns").latest("pk")
    assert third.parameters["earlier"] == [], "what was taken back left nothing"


def waiting_for(migration: Migration) -> Migration:
    """Another application's server whose cutover events wait for this one's record and for nothing else."""
    other = factories.make_migration(
        project=migration.project,
        wave=migration.wave,
        profile=migration.profile,
        states=dict.fromkeys(BEFORE, "done"),
        target=True,
    )
    assert other.application is not None and migration.application is not None
    other.application.waits_for.add(migration.application)
    return other


def test_a_join_goes_on_once_the_record_is_proven(engine: Engine, migration: Migration) -> None:
    other = waiting_for(migration)
    engine.script["prove_identity"] = [failed("It shows another key.", "identity.host_key")]
    engine.settle()
    assert state(migration, K.CUTOVER) == S.ATTENTION, "its record is changed and proven all the same"
    assert state(other, K.CUTOVER) == S.DONE


@pytest.mark.parametrize("undo", ["as it should", "fails half-way"])
def test_a_join_does_not_go_on_after_a_record_that_was_taken_back(
    engine: Engine, migration: Migration, lead: Any, undo: str
) -> None:
    engine.script["prove_identity"] = [failed("It shows another key.", "identity.host_key")]
    engine.settle()
    if undo == "fails half-way":
        engine.script["network_back"] = [failed("The platform is down.", "vme.down")]
    abort.take_back(migration.pk, user=lead, why="wrong key")
    other = waiting_for(migration)  # planned only now: it sees all states of the take-back, its beginning included
    engine.settle()
    assert state(migration, K.CUTOVER) == (S.ATTENTION if undo == "fails half-way" else S.UNDONE)
    step = other.steps.get(kind=K.CUTOVER)
    assert step.state == S.WAITING and "not proven yet" in step.reason

    if undo == "fails half-way":
        workflow.retry_step(migration.steps.get(kind=K.CUTOVER).pk, user=lead, seen_attempt=2)
        engine.settle()
    start(migration, K.CUTOVER, lead)
    engine.settle()
    assert state(other, K.CUTOVER) == S.DONE, "the record is changed and proven anew"


def test_what_was_never_begun_is_not_taken_back(engine: Engine, migration: Migration, lead: Any) -> None:
    engine.script["take_identity"] = [failed("The source is on again.", "identity.source_on")]
    engine.settle()
    step = migration.steps.get(kind=K.CUTOVER)
    workflow.cancel_step(step.pk, user=lead, seen_attempt=1)
    engine.settle()
    assert ("network", "cancelled") in planned(migration, K.CUTOVER)
    since = len(engine.done_work)
    abort.take_back(migration.pk, user=lead, why="the source is on")
    engine.settle()
    assert operations(engine, since) == ["undo_identity", "undo_guest_address"]


def test_a_way_back_that_fails_is_retried_not_begun_twice(engine: Engine, migration: Migration, lead: Any) -> None:
    unreached(engine, migration, lead)
    engine.script["undo_guest_address"] = [failed("Run this on its console.", "undo.console")]
    abort.take_back(migration.pk, user=lead, why="")
    engine.settle()
    step = migration.steps.get(kind=K.CUTOVER)
    assert step.state == S.ATTENTION
    with pytest.raises(NotReady, match="taken back already"):
        abort.take_back(migration.pk, user=lead, why="again")
    attempt = step.attempts.get(mode="rollback")
    with pytest.raises(NotReady, match="not left halfway"):
        workflow.cancel_step(step.pk, user=lead, seen_attempt=attempt.number)
    workflow.retry_step(step.pk, user=lead, seen_attempt=attempt.number)
    engine.settle()
    assert state(migration, K.CUTOVER) == S.UNDONE
    assert step.attempts.filter(mode="rollback").count() == 1


@pytest.mark.parametrize(
    ("found", "words"),
    [("running", "stop them first"), ("done", "neither failed nor were stopped"), ("cancelled", "Nothing was done")],
)
def test_when_there_is_nothing_to_take_back_it_says_why(db: None, found: str, words: str) -> None:
    migration = factories.make_migration(states={K.CUTOVER: found})
    assert words in " ".join(abort.take_back_unmet(lane_of(migration)))
    lead = migration.project.memberships.get(role="lead").user
    with pytest.raises(NotReady, match=words):
        abort.take_back(migration.pk, user=lead, why="")


def test_two_people_take_back_once(
    engine: Engine, migration: Migration, lead: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    unreached(engine, migration, lead)
    seen = lane_of(migration)
    abort.take_back(migration.pk, user=lead, why="")
    monkeypatch.setattr(abort, "lane_of", lambda migration: seen)  # what the other one's request had read
    with pytest.raises(Conflict, match="a moment ago"):
        abort.take_back(migration.pk, user=lead, why="")


def test_the_page_says_by_what_each_part_is_taken_back(
    engine: Engine, migration: Migration, lead: Any, client: Client
) -> None:
    engine.script["guest_address"] = [failed("It has two network cards.", "guest_address.interfaces")]
    engine.settle()
    client.force_login(lead)
    shown = client.get(reverse("migration", args=[migration.pk])).content.decode()
    for words in (
        "Reversible: give the target its own identity back.",
        "Reversible: move it back to the migration network and reach it there.",
        "Reversible: bring the old record of db.shop.lab back.",
    ):
        assert words in shown


def test_the_page_offers_it_with_its_words_and_only_to_those_who_run(
    engine: Engine, migration: Migration, lead: Any, client: Client
) -> None:
    unreached(engine, migration, lead)
    client.force_login(lead)
    shown = client.get(reverse("migration", args=[migration.pk])).content.decode()
    assert "Take cutover events back" in shown and "moves to the migration network" in shown
    assert "Take over the source" in shown, "the parts of step 6 name it"
    manager = factories.make_member(migration.project, "manager")
    other = Client()
    other.force_login(manager)
    url = reverse("migration-take-back", args=[migration.pk])
    assert other.post(url, {"why": "x"}).status_code == 403
    assert "Take cutover events back" not in other.get(reverse("migration", args=[migration.pk])).content.decode()
    assert client.post(url, {"why": "wrong gateway"}).status_code == 303
    engine.settle()
    assert state(migration, K.CUTOVER) == S.UNDONE
    shown = client.get(reverse("migration", args=[migration.pk])).content.decode()
    assert "Start cutover events" in shown


def test_the_owner_reads_what_becomes_of_the_server(migration: Migration, client: Client) -> None:
    assert migration.application is not None and migration.application.owner is not None
    client.force_login(migration.application.owner)
    url = reverse("acceptance", args=[migration.wave_id, migration.application_id])
    address = migration.new_address.split("/")[0]
    shown = unescape(client.get(url).content.decode())
    assert f"At cutover it gets the address {address}, is found by the name db.shop.lab, takes over" in shown
    assert "takes over the source's SSH host keys and host name." in shown


def test_a_stopped_move_says_on_the_page_where_the_target_is(engine: Engine, migration: Migration, lead: Any) -> None:
    words = "Stopped. The target is switched off, still on the migration network."
    engine.script["network"] = [Progress(state=State.CANCELLED, reason=words)]
    engine.settle()
    workflow.cancel_step(migration.steps.get(kind=K.CUTOVER).pk, user=lead, seen_attempt=1)
    engine.settle()
    step = migration.steps.get(kind=K.CUTOVER)
    assert step.state == S.CANCELLED
    assert step.reason == "Cancelled. The target is switched off, still on the migration network."
