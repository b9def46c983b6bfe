"""Who may give a run up and when, in words; and what becomes of its step."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from migrationhub.audit.models import AuditEvent
from projects import giving_up, workflow
from projects.errors import NotReady
from projects.models import Action, Approval, Migration, Step
from servers import runs
from servers.models import Run, Server
from servers.operations.base import Job
from servers.operations.base import done as done_words
from servers.operations.whereabouts import TARGET_GONE
from servers.progress import Progress, State
from tests import factories
from tests.engine import Engine
from tests.world import start

pytestmark = [pytest.mark.django_db, pytest.mark.whole]


@pytest.fixture
def migration(db: None) -> Migration:
    return factories.make_migration(states={"initial_migration": "done", "delta_migrations": "running"}, target=True)


@pytest.fixture
def run(migration: Migration) -> Run:
    attempt = factories.make_attempt(migration.steps.get(kind=Step.Kind.DELTA))
    action = factories.make_action(attempt, "sync", state=Action.State.RUNNING)
    return factories.make_run("sync", action=action, contact_lost_since=timezone.now() - timedelta(minutes=5))


def login(migration: Migration, role: str) -> Client:
    client = Client()
    client.force_login(factories.make_member(migration.project, role))
    return client


def test_the_page_offers_it_and_the_reason_is_kept(migration: Migration, run: Run) -> None:
    operator = login(migration, "operator")
    page = reverse("migration", args=[migration.pk])
    assert "Give this run up" in operator.get(page).content.decode()
    said = operator.post(reverse("run-give-up", args=[run.pk]), {"why": "  "}, follow=True).content.decode()
    assert "The reason is empty" in said
    said = operator.post(reverse("run-give-up", args=[run.pk]), {"why": "Deleted in VME"}, follow=True).content.decode()
    assert "is given up" in said and "Give this run up…" not in said
    run.refresh_from_db()
    assert (run.state, run.give_up_reason) == (Run.State.CANCELLING, "Deleted in VME")
    event = AuditEvent.objects.get(verb="run.give_up")
    assert event.why == "Deleted in VME" and event.actor is not None
    again = operator.post(reverse("run-give-up", args=[run.pk]), {"why": "twice"}, follow=True).content.decode()
    assert "was given up already" in again
    run.refresh_from_db()
    assert run.give_up_reason == "Deleted in VME"


@pytest.mark.parametrize(("role", "status"), [("manager", 403), ("owner", 404)])
def test_those_who_do_not_run_it_do_not_give_it_up(migration: Migration, run: Run, role: str, status: int) -> None:
    client = login(migration, role)
    assert client.post(reverse("run-give-up", args=[run.pk]), {"why": "x"}).status_code == status
    run.refresh_from_db()
    assert run.give_up_reason == ""


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({"contact_lost_since": None}, "is in contact with its machines"),
        ({"contact_lost_since": timezone.now() + timedelta(days=1)}, "only be a moment"),
        ({"operation": "shutdown"}, "ends by itself"),
        ({"state": Run.State.LOST, "finished_at": timezone.now()}, "is over: lost"),
    ],
)
def test_why_not_is_said(migration: Migration, run: Run, over: dict[str, Any], words: str) -> None:
    Run.objects.filter(pk=run.pk).update(**over)
    run.refresh_from_db()
    assert words in " ".join(giving_up.unmet(run))
    with pytest.raises(NotReady, match=words):
        giving_up.give_up(run, migration.project, user=factories.make_user(), why="because")
    assert (
        "Give this run up…"
        not in login(migration, "operator").get(reverse("migration", args=[migration.pk])).content.decode()
    )


def test_the_act_that_follows_a_lost_run_is_a_new_one(migration: Migration, run: Run) -> None:
    assert runs.give_up(run.pk, "gone")
    Run.objects.filter(pk=run.pk).update(state=Run.State.LOST, finished_at=timezone.now())
    again = runs.request(run.work_key, "sync", title="Sync", parameters={})
    assert (again.number, again.give_up_reason) == (2, "")


def lost_clone(engine: Engine, migration: Migration) -> Step:
    """The delta that runs is given up, because the clone was deleted on the platform."""
    gone = Progress(state=State.LOST, reason="Given up.", code="sync.given_up", result={"target_gone": True})

    def lose(job: Job) -> Progress:
        findings = [{"code": TARGET_GONE, "level": "blocking", "text": "Its instance is gone.", "act": ""}]
        Server.objects.filter(pk=job.parameters["target"]).update(findings=findings, generation=2)
        return gone

    engine.script["sync"] = [lose]
    start(migration, Step.Kind.DELTA)
    engine.settle()
    return migration.steps.get(kind=Step.Kind.DELTA)


def test_a_clone_that_is_gone_is_made_anew_and_looked_at_anew(engine: Engine) -> None:
    done = dict.fromkeys(("initial_migration", "acceptance_testing"), "done")
    migration = factories.make_migration(states={**done, "delta_migrations": "ready"}, target=True)
    assert migration.wave is not None and migration.application is not None and migration.target is not None
    factories.make_attempt(migration.steps.get(kind=Step.Kind.UAT), state="done")
    asked = factories.make_asked(migration.wave, migration.application)
    Approval.objects.filter(pk=asked.pk).update(state=Approval.State.APPROVED)
    delta = lost_clone(engine, migration)
    initial = migration.steps.get(kind=Step.Kind.INITIAL)
    assert (delta.state, initial.state) == (Step.State.ATTENTION, Step.State.DONE), "the try is still open"
    lead = migration.project.memberships.get(role="lead").user
    workflow.cancel_step(delta.pk, user=lead, seen_attempt=1)
    engine.settle()
    initial.refresh_from_db()
    assert initial.state == Step.State.READY
    assert AuditEvent.objects.filter(verb="clone.gone").count() == 1
    asked.refresh_from_db()
    assert asked.state != Approval.State.APPROVED, "another content was signed"

    def make(job: Job) -> Progress:
        Server.objects.filter(pk=job.parameters["target"]).update(findings=[])
        return done_words("It runs.")

    engine.script["provision"] = [make]
    start(migration, Step.Kind.INITIAL)
    engine.settle()
    initial.refresh_from_db()
    assert initial.state == Step.State.DONE and initial.attempts.count() == 1


def test_with_services_stopped_a_clone_that_is_gone_starts_nothing_anew(engine: Engine) -> None:
    migration = factories.make_migration(
        states=dict.fromkeys(("initial_migration", "acceptance_testing", "stop_services"), "done"), target=True
    )
    Server.objects.filter(pk=migration.target_id or 0).update(findings=[{"code": TARGET_GONE, "level": "blocking"}])
    engine.step()
    assert migration.steps.get(kind=Step.Kind.INITIAL).state == Step.State.DONE
