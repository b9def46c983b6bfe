"""A sync whose target is gone: a person gives it up, and it is lost only after everybody was asked."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from migrationhub.lib.findings import Problem
from projects.models import Migration
from servers import lease, runs, work
from servers.models import Lease, Run, RunEvent, Server
from servers.platforms.base import Instance, PlatformProblem
from servers.progress import Progress, State
from servers.remote.base import Unreachable
from servers.remote.ssh import Pool
from tests import factories

pytestmark = pytest.mark.django_db
NO_ANSWER = Unreachable("10.66.0.9 port 2299: no answer.", "Check it.", code="ssh.unreachable", lasting=False)


class Sides:
    """What platform, target and source answer."""

    def __init__(self) -> None:
        self.instance: Instance | Problem | None = None
        self.cancel: Progress | Problem = NO_ANSWER
        self.source: str | Problem = "Nothing of this sync runs on shop-db any more, and its key is gone."
        self.asked: list[str] = []

    def instance_of(self, job: Any) -> Instance | None:
        self.asked.append("platform")
        if isinstance(self.instance, Problem):
            raise self.instance
        return self.instance

    def observe(self, job: Any, memo: Any) -> Progress:
        raise NO_ANSWER

    def advance(self, job: Any, memo: Any) -> tuple[Any, Progress]:
        assert job.cancel
        if isinstance(self.cancel, Problem):
            raise self.cancel
        return memo, self.cancel

    def abandon(self, job: Any) -> str:
        self.asked.append("source")
        if isinstance(self.source, Problem):
            raise self.source
        return self.source


@pytest.fixture
def sides(monkeypatch: pytest.MonkeyPatch) -> Sides:
    made = Sides()
    monkeypatch.setattr("servers.operations.sync.mover", lambda name: made)
    monkeypatch.setattr("servers.operations.sync.instance_of", made.instance_of)
    return made


@pytest.fixture
def migration(db: None) -> Migration:
    return factories.make_migration(steps=False, target=True)


@pytest.fixture
def run(migration: Migration) -> Run:
    parameters: dict[str, Any] = {
        "source": migration.source_id,
        "target": migration.target_id,
        "kind": "delta",
        "mover": "rsync",
        "migration_key": "m1",
        "scope": "system",
        "paths": [],
        "exclusions": [],
        "freeze": {"method": "none", "options": {}},
        "proof": "full",
        "bandwidth": 0,
        "services": [],
    }
    since = timezone.now() - timedelta(minutes=5)
    return factories.make_run(
        "sync",
        parameters=parameters,
        memo={"done": ["prepare", "receive", "start"], "token": "t"},
        contact_lost_since=since,
        check_at=since,
    )


def go_on(run: Run) -> Run:
    """One look and the act that it names, as controller and worker do."""
    Lease.objects.all().delete()
    epoch = lease.hold("test", None)
    assert epoch is not None
    Run.objects.filter(pk=run.pk).update(check_at=timezone.now(), epoch=epoch)
    found = Run.objects.get(pk=run.pk)
    act = work.look(found, Pool())
    if act and runs.begin_act(found, epoch, act):
        claimed = runs.claim_act(found.pk, epoch)
        assert claimed is not None
        work.act(claimed, Pool())
    return Run.objects.get(pk=run.pk)


def test_without_a_person_it_stays_open_and_asks_on(run: Run, sides: Sides) -> None:
    after = go_on(run)
    assert after.state == Run.State.RUNNING and after.contact_lost_since == run.contact_lost_since


def test_a_stop_alone_cannot_end_it(run: Run, sides: Sides) -> None:
    assert runs.cancel(run.pk)
    assert go_on(run).state == Run.State.CANCELLING


@pytest.mark.parametrize(
    ("instance", "words", "power"),
    [
        (None, "knows no instance of", "unknown"),
        (Instance("7", "vm", "stopped", "off"), "is off, but it does not answer", "off"),
        (Instance("7", "vm", "running", "on"), "is on, but it does not answer", "on"),
    ],
)
def test_given_up_it_is_lost_once_platform_and_source_were_asked(
    run: Run, sides: Sides, migration: Migration, instance: Instance | None, words: str, power: str
) -> None:
    sides.instance = instance
    assert migration.target is not None
    before = Server.objects.get(pk=migration.target.pk)
    assert runs.give_up(run.pk, "The datastore burnt down")
    after = go_on(run)
    assert after.state == Run.State.LOST and sides.asked == ["platform", "source"]
    assert "Given up: The datastore burnt down." in after.reason and words in after.reason
    assert "Nothing of this sync runs on shop-db" in after.reason
    target = Server.objects.get(pk=migration.target.pk)
    assert (target.generation, target.power) == (before.generation + 1, power), "the next sync compares everything"
    gone = [finding["code"] for finding in target.findings]
    assert gone == (["target.gone"] if instance is None else [])
    assert ("makes a new clone" in after.reason) == (instance is None)
    assert RunEvent.objects.filter(run=run, text__contains="Given up by a person").exists()


def test_where_both_sides_answer_after_all_it_is_stopped_in_order(run: Run, sides: Sides) -> None:
    sides.cancel = Progress(state=State.CANCELLED, reason="Stopped on request.")
    assert runs.give_up(run.pk, "It takes too long")
    assert go_on(run).state == Run.State.CANCELLED and sides.asked == []


def test_with_the_target_gone_a_source_that_does_not_answer_keeps_nothing_open(run: Run, sides: Sides) -> None:
    sides.source = NO_ANSWER
    assert runs.give_up(run.pk, "Both are gone")
    after = go_on(run)
    assert after.state == Run.State.LOST and "ends by itself" in after.reason


@pytest.mark.parametrize("what", ["neither machine", "no platform", "a platform that refuses"])
def test_it_stays_open_while_nobody_can_say_that_the_copy_ended(run: Run, sides: Sides, what: str) -> None:
    """On: the copy may go on between two machines that do not answer us."""
    if what == "neither machine":
        sides.instance, sides.source = Instance("7", "vm", "running", "on"), NO_ANSWER
    elif what == "no platform":
        sides.instance = PlatformProblem("VME cannot be reached.", "Check it.", lasting=False)
    else:
        sides.instance = PlatformProblem("VME refuses the log-in.", "Check it.", code="platform.login")
    assert runs.give_up(run.pk, "It does not answer")
    for number in (1, 2):
        after = go_on(run)
        assert after.acts == number
        assert after.state == Run.State.CANCELLING and "cannot be given up yet" in after.reason
    sides.instance, sides.source = None, "It ended."
    assert go_on(run).state == Run.State.LOST, "and ends as soon as somebody can"


@pytest.mark.parametrize("over", [{"contact_lost_since": None}, {"state": Run.State.FAILED}, {"give_up_reason": "x"}])
def test_what_is_in_contact_or_over_is_not_given_up(run: Run, over: dict[str, Any]) -> None:
    if "state" in over:
        over |= {"finished_at": timezone.now()}
    Run.objects.filter(pk=run.pk).update(**over)
    assert not runs.give_up(run.pk, "why not")
