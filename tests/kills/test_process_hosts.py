"""Whole migrations of process hosts, killed and cancelled in their seven steps, on one hub of real processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from django.conf import settings

from migrationhub.lab.demo.verification import PROCESS_LEFT_OUT
from migrationhub.lab.verify import compare_trees
from migrationhub.lab.vme.store import effective, repeated_keys
from projects.models import Migration
from servers.models import Credential, RunEvent, SyncPoint
from servers.movers.rsync.layout import safe
from tests.kills.evidence import platform_is_at, was_asked_to_go_down
from tests.kills.journey import K, S, Strike
from tests.kills.process_journey import SERVICE_NAMES, ProcessJourney, begin, hub, served
from tests.lab.vme.test_real_hosts import Served

__all__ = ["begin", "hub", "served"]
pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif("sqlite" not in settings.DATABASES["default"]["ENGINE"], reason="opens the hub's SQLite file"),
]


def acts_of(journey: ProcessJourney, served: Served) -> Counter[str]:
    """What the appliance did to the target, each as often as it was done."""
    journey.migration.refresh_from_db()
    assert journey.migration.target is not None
    instance = journey.migration.target.placement.external_id
    entries = effective(served.directory / "journal.jsonl")
    return Counter(entry["act"] for entry in entries if str(entry["instance"]) == instance)


@pytest.mark.full
def test_killed_in_the_later_steps(begin: Callable[[str], ProcessJourney], served: Served) -> None:
    """One kill in each; the first step has its own (tests/test_processes.py), and all three kills are tried in each
    step of a Debian host (tests/kills/test_debian_hosts.py)."""
    journey = begin("victim")
    journey.write("data", 1)
    journey.start(K.INITIAL)
    journey.wait_for_step(K.INITIAL, seconds=240)
    journey.start(K.DELTA)
    Strike("both", "sync", "receive")(journey)
    journey.wait_for_step(K.DELTA, S.READY, 240)
    journey.open_test()
    Strike("worker", "probe", "")(journey)
    journey.sign()
    journey.write("late", 12)
    journey.give_the_go()
    Strike("both", "stop_services", "stop slow", lambda journey: "STOPPING" in journey.services())(journey)
    Strike("controller", "sync", None, lambda journey: journey.copying())(journey)
    journey.wait(lambda: was_asked_to_go_down(journey), 240, "the source was asked to go down")
    Strike("both", "network", None, platform_is_at("resize"))(journey)
    journey.wait_for_step(K.CUTOVER, seconds=240)
    journey.tick(K.VALIDATION, journey.lead)
    journey.declare()
    Strike("worker", "remove_access", "")(journey)
    journey.wait_for_step(K.VALIDATION, seconds=240)

    root = journey.lab.backend.root(journey.clone)
    verdict = compare_trees(journey.host.root, root, ("srv", "etc/supervisor.d"), PROCESS_LEFT_OUT)
    assert verdict.ok, str(verdict)
    acts = acts_of(journey, served)
    assert (acts["create"], acts["resize"], repeated_keys(served.directory / "journal.jsonl")) == (1, 1, [])
    assert set(journey.runs.values_list("state", "number")) == {("succeeded", 1)}, "no try was given up"
    points = SyncPoint.objects.filter(source=journey.migration.source)
    assert Counter(points.values_list("kind", flat=True)) == {"initial": 1, "delta": 1, "final": 1}
    assert {*journey.jobs} <= {safe(run.key) for run in journey.runs.filter(operation="sync")}, journey.jobs
    cut = RunEvent.objects.filter(run__in=journey.runs, text__contains="The worker ended in the middle")
    assert cut.count() >= 4, list(cut.values_list("text", flat=True))
    journey.nothing_stuck()


@pytest.mark.full
def test_cancelled_in_each_of_the_seven_steps(begin: Callable[[str], ProcessJourney], served: Served) -> None:
    """The button of the page is pressed while the step's work runs; then the step is started again, to success."""
    journey = begin("stopper")
    for part in (initial, delta, acceptance, stop, final, cutover, validation):
        part(journey)
    journal = served.directory / "journal.jsonl"
    assert (acts_of(journey, served)["create"], acts_of(journey, served)["resize"]) == (1, 1)
    assert repeated_keys(journal) == []
    journey.nothing_stuck()


def initial(journey: ProcessJourney) -> None:
    journey.write("large", 10)
    journey.start(K.INITIAL)
    journey.wait(lambda: platform_is_at("create")(journey), 240, "the instance is being made")
    journey.cancel(K.INITIAL)
    journey.cancelled(K.INITIAL)

    journey.start(K.INITIAL)
    journey.wait(journey.copying, 240, "bytes move")
    journey.cancel(K.INITIAL)
    attempt = journey.cancelled(K.INITIAL)
    assert attempt.actions.get(operation="provision").state == "done", "the instance of before was taken"
    assert journey.run_of("sync").state == "cancelled"
    journey.nothing_of_the_copy_is_left()
    assert journey.running(journey.source) >= {*SERVICE_NAMES}
    journey.start(K.INITIAL)
    journey.wait_for_step(K.INITIAL, seconds=240)


def delta(journey: ProcessJourney) -> None:
    journey.write("later", 10)
    journey.start(K.DELTA)
    journey.wait(journey.copying, 240, "bytes move")
    journey.cancel(K.DELTA)
    journey.cancelled(K.DELTA)
    journey.nothing_of_the_copy_is_left()
    journey.start(K.DELTA)
    journey.wait_for_step(K.DELTA, S.READY, 240)
    journey.wait(journey.services_run_on_the_clone, 120, "the copy is whole, so it is in use again")
    root = journey.lab.backend.root(journey.clone)
    assert (root / "srv/later").read_bytes() == (journey.host.root / "srv/later").read_bytes()


def acceptance(journey: ProcessJourney) -> None:
    journey.open_test()
    journey.wait(lambda: journey.in_hand("probe"), 240, "the source is being asked")
    journey.cancel(K.UAT)
    attempt = journey.cancelled(K.UAT)
    assert attempt.actions.get(operation="record_services").state == "done"
    journey.start(K.UAT)
    journey.sign()


def stop(journey: ProcessJourney) -> None:
    journey.write("late", 10)
    journey.give_the_go()
    journey.wait(lambda: journey.in_hand("stop_services", "stop slow"), 240, "a service is being stopped")
    journey.cancel(K.STOP)
    journey.cancelled(K.STOP)
    # The act that cannot be cut was finished; the page says what is down, and how it comes back.
    assert journey.running(journey.source) & {*SERVICE_NAMES} == {"second"}
    reason = journey.step(K.STOP).reason
    assert reason == (
        "Cancelled, with 1 of 2 stopped (in this order: slow, second); these stay stopped."
        " Start the step again, or press “Abort and restart services”."
    )

    journey.start(K.STOP)
    journey.wait_for_step(K.STOP, seconds=240)
    assert journey.running(journey.source) & {*SERVICE_NAMES} == set()


def final(journey: ProcessJourney) -> None:
    journey.wait(journey.copying, 240, "bytes move")
    journey.cancel(K.FINAL)
    journey.cancelled(K.FINAL)
    assert journey.rsyncs() == [] and [*(journey.host.root / "run/migrationhub").glob("*/key")] == []
    # Taken back: everything runs exactly as it was recorded before anything was stopped.
    journey.press("migration-abort", journey.migration.pk, why="a try")
    journey.wait(lambda: journey.state(K.FINAL) == journey.state(K.STOP) == S.UNDONE, 240, "both are undone")
    assert journey.running(journey.source) >= {*SERVICE_NAMES}
    assert [*journey.host.root.glob("etc/supervisor.d/zz-*")] == []

    journey.write("later still", 10)
    journey.give_the_go()
    journey.wait(journey.copying, 240, "bytes move again")
    journey.cancel(K.FINAL)
    journey.cancelled(K.FINAL)
    journey.start(K.FINAL)
    journey.wait(lambda: was_asked_to_go_down(journey), 240, "the source was asked to go down")
    assert "cannot be stopped" in journey.refused(K.FINAL)
    journey.wait_for_step(K.FINAL, S.DONE, 240)
    assert journey.lab.backend.power(journey.source) == "off"
    assert SyncPoint.objects.filter(source=journey.migration.source, kind="final").count() == 1


def cutover(journey: ProcessJourney) -> None:
    journey.wait(lambda: journey.in_hand("probe"), 240, "the target is being asked")
    journey.cancel(K.CUTOVER)
    journey.cancelled(K.CUTOVER)
    journey.start(K.CUTOVER)
    journey.wait_for_step(K.CUTOVER, seconds=240)


def validation(journey: ProcessJourney) -> None:
    journey.wait(lambda: journey.in_hand("probe"), 240, "the target is being asked once more")
    journey.cancel(K.VALIDATION)
    journey.cancelled(K.VALIDATION)
    journey.start(K.VALIDATION)
    journey.tick(K.VALIDATION, journey.lead)
    journey.declare()
    journey.wait(lambda: journey.in_hand("remove_access"), 240, "our access is being removed")
    assert "not left halfway" in journey.refused(K.VALIDATION)
    journey.wait_for_step(K.VALIDATION, seconds=240)
    journey.migration.refresh_from_db()
    assert journey.migration.state == Migration.State.COMPLETE
    assert not Credential.objects.filter(server=journey.migration.target).exclude(secret="").exists()
