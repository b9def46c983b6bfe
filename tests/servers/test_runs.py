"""The ledger: allowed moves, one open run a piece of work, fencing by epoch, work that is found again."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from django.db import IntegrityError, OperationalError, transaction
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st

from migrationhub.lib.findings import Problem
from servers import lease, runs, tasks, work
from servers.models import Change, Lease, Run
from servers.models.run import ENDED, OPEN
from servers.operations.base import done, failed
from servers.progress import Progress, State
from servers.targets import new_target
from tests import factories
from tests.engine import Engine

pytestmark = pytest.mark.django_db


def make(state: str = "running", **over) -> Run:
    return factories.make_run("scripted", state=state, check_at=timezone.now(), **over)


def test_the_table_names_every_state() -> None:
    assert set(runs.TRANSITIONS) == set(Run.State.values) == {*OPEN, *ENDED}
    assert all(not runs.TRANSITIONS[state] for state in ENDED), "what has ended stays as it ended"


@pytest.mark.parametrize(("before", "after"), list(itertools.product(Run.State.values, ENDED)))
def test_every_end_only_from_where_the_table_says(engine: Engine, before: str, after: str) -> None:
    run = make(before)
    stored = runs.after_look(run, Progress(state=State(after), reason="So it ended."))
    run.refresh_from_db()
    assert stored == (after in runs.TRANSITIONS[before])
    assert run.state == (after if stored else before)
    assert (run.finished_at is not None) == (run.state in ENDED)


def test_a_second_request_adopts_the_open_run() -> None:
    first = runs.request("m1.1", "scripted", title="Copy", parameters={})
    assert runs.request("m1.1", "scripted", title="Copy", parameters={}) == first
    with pytest.raises(IntegrityError), transaction.atomic():
        Run.objects.create(work_key="m1.1", number=2, operation="scripted", title="Copy")


def test_a_retry_is_a_new_row(engine: Engine) -> None:
    first = runs.request("m1.1", "scripted", title="Copy", parameters={})
    Run.objects.filter(pk=first.pk).update(state="failed", finished_at=timezone.now())
    second = runs.request("m1.1", "scripted", title="Copy", parameters={})
    assert (second.number, second.key, first.key) == (2, "m1.1.2", "m1.1.1")


def test_the_limit_keeps_the_rest_queued(engine: Engine, settings) -> None:
    settings.RUN_LIMIT = 2
    for number in range(3):
        runs.request(f"m{number}", "scripted", title="Copy", parameters={})
    runs.promote(engine.epoch)
    assert list(Run.objects.order_by("pk").values_list("state", flat=True)) == ["running", "running", "queued"]


def claimable(engine: Engine) -> Run:
    run = make()
    assert runs.begin_act(run, engine.epoch, "copy")
    return run


def test_an_act_is_claimed_once(engine: Engine) -> None:
    run = claimable(engine)
    assert runs.claim_act(run.pk, engine.epoch) is not None
    assert runs.claim_act(run.pk, engine.epoch) is None, "a second delivery finds nothing to claim"


def test_a_paused_controller_is_fenced_off(engine: Engine) -> None:
    run = claimable(engine)
    old = engine.epoch
    Lease.objects.update(until=timezone.now() - timedelta(hours=1))
    new = lease.hold("another", None)
    assert new == old + 1
    assert runs.claim_act(run.pk, old) is None
    assert lease.hold("test", old) is None, "woken up, it holds nothing any more"
    assert runs.recover(new) == [run.pk], "the new controller takes the act back"


def test_a_result_that_comes_after_a_takeover_is_not_stored(engine: Engine) -> None:
    run = claimable(engine)
    claimed = runs.claim_act(run.pk, engine.epoch)
    assert claimed is not None
    Run.objects.filter(pk=run.pk).update(epoch=engine.epoch + 1, act_started_at=None, act_worker="")
    assert not runs.after_act(claimed, {"done": True}, done("Done."))
    run.refresh_from_db()
    assert (run.state, run.memo) == ("running", {})


def test_a_killed_workers_act_is_taken_back(engine: Engine) -> None:
    run = claimable(engine)
    runs.claim_act(run.pk, engine.epoch)
    assert runs.recover(engine.epoch) == [], "this worker lives"
    host = runs.worker_name().split(":")[0]
    Run.objects.filter(pk=run.pk).update(act_worker=f"{host}:999999:1")
    assert runs.recover(engine.epoch) == [run.pk]
    run.refresh_from_db()
    assert run.act_enqueued_at is None and run.state == "running"
    assert run.events.filter(text__contains="ended in the middle").exists()


def test_a_lost_message_is_sent_again(engine: Engine) -> None:
    run = claimable(engine)
    assert runs.recover(engine.epoch) == []
    Run.objects.filter(pk=run.pk).update(act_enqueued_at=timezone.now() - timedelta(seconds=20))
    assert runs.recover(engine.epoch) == [run.pk]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**12), st.integers(0, 10**7)), min_size=1, max_size=5))
def test_bytes_and_files_never_run_backwards(reports: list[tuple[int, int]]) -> None:
    with transaction.atomic():
        run = make()
        seen = (0, 0)
        for bytes_done, files_done in reports:
            run.refresh_from_db()
            runs.after_look(run, Progress(bytes_done=bytes_done, files_done=files_done))
            run.refresh_from_db()
            assert run.bytes_done >= seen[0] and run.files_done >= seen[1]
            seen = (run.bytes_done, run.files_done)
        transaction.set_rollback(True)


def test_no_contact_keeps_the_run_open_and_says_since_when(engine: Engine, monkeypatch) -> None:
    run = make()
    problem = Problem("shop-db does not answer.", "Look at the network.", code="unreachable", lasting=False)
    runs.contact_lost(run, problem, held=False)
    run.refresh_from_db()
    since = run.contact_lost_since
    assert run.state == "running" and since is not None and "does not answer" in run.reason
    runs.contact_lost(run, problem, held=False)
    run.refresh_from_db()
    assert run.contact_lost_since == since
    assert run.events.count() == 1, "one event, not one for each look"
    runs.after_look(run, Progress())
    run.refresh_from_db()
    assert run.contact_lost_since is None


def test_a_fault_of_the_hub_itself_is_told_without_its_details(engine: Engine) -> None:
    def broken(job):
        raise ValueError("the password is hunter2")

    engine.script["scripted"] = [broken]
    run = make()
    engine.settle()
    run.refresh_from_db()
    assert run.state == "failed" and "ValueError" in run.reason and "hunter2" not in run.reason


def test_cancelling_a_queued_run_ends_it_at_once() -> None:
    run = runs.request("m1", "scripted", title="Copy", parameters={})
    assert runs.cancel(run.pk)
    run.refresh_from_db()
    assert run.state == "cancelled"
    assert not runs.cancel(run.pk), "once is enough"


def test_cancelling_a_running_run_is_confirmed_by_its_operation(engine: Engine) -> None:
    run = make()
    runs.cancel(run.pk)
    run.refresh_from_db()
    assert run.state == "cancelling"
    engine.settle()
    run.refresh_from_db()
    assert run.state == "cancelled" and engine.done_work == []


def test_what_has_ended_is_not_looked_at(engine: Engine) -> None:
    run = make("failed")
    assert not list(runs.due(timezone.now()))
    assert not runs.begin_act(run, engine.epoch, "copy")


def test_every_end_wakes_the_controller(engine: Engine) -> None:
    run = make()
    before = Change.current()
    runs.after_look(run, failed("No."))
    assert Change.current() > before


def test_the_epoch_grows_only_at_a_takeover(db) -> None:
    first = lease.hold("a", None)
    assert lease.hold("a", first) == first
    assert lease.hold("b", None) is None
    lease.release("a", first)
    assert lease.hold("b", None) == (first or 0) + 1


def test_look_and_act_share_one_path(engine: Engine) -> None:
    run = make()
    assert work.look(run, engine.pool) == "scripted"


def test_a_look_that_took_long_does_not_cover_a_newer_one(engine: Engine) -> None:
    run = make()
    slow = Run.objects.get(pk=run.pk)
    assert runs.after_look(run, Progress(phase="copying", bytes_done=10))
    assert not runs.after_look(slow, Progress(phase="preparing", bytes_done=5))
    assert not runs.begin_act(slow, engine.epoch, "prepare"), "the act that was due then is not due now"
    runs.contact_lost(slow, Problem("No answer.", lasting=False), held=False)
    run.refresh_from_db()
    assert (run.phase, run.bytes_done, run.contact_lost_since) == ("copying", 10, None)


def test_a_controller_without_the_lease_neither_promotes_nor_begins(engine: Engine) -> None:
    queued = runs.request("m1", "scripted", title="Copy", parameters={})
    run = make()
    Lease.objects.update(epoch=engine.epoch + 1)
    assert runs.promote(engine.epoch) == [] and not runs.begin_act(run, engine.epoch, "copy")
    queued.refresh_from_db()
    assert queued.state == "queued"


def test_an_outcome_that_cannot_be_stored_does_not_stay_in_the_workers_hand(engine: Engine, monkeypatch) -> None:
    """The worker's process lives on: nobody else could tell that it is at something else."""
    run = claimable(engine)

    def broken(run: Run, memo: dict, progress: Progress, **_) -> bool:
        raise OperationalError("database is locked")

    monkeypatch.setattr(runs, "after_act", broken)
    tasks.carry_out(run.pk, engine.epoch)
    run.refresh_from_db()
    assert run.act_enqueued_at is None and runs.INTERRUPTED in run.memo and run.check_at > timezone.now()


def test_rows_that_an_operation_cannot_write_fail_its_run(engine: Engine, monkeypatch) -> None:
    run = claimable(engine)

    class Broken(type(engine.operation("scripted"))):  # type: ignore[misc]
        def finish(self, run: Run, progress: Progress) -> None:
            raise KeyError("secret")

    made = Broken("scripted", engine.script, engine.done_work)
    for module in ("servers.work", "servers.operations"):
        monkeypatch.setattr(f"{module}.operation", lambda name: made)
    tasks.carry_out(run.pk, engine.epoch)
    run.refresh_from_db()
    assert run.state == "failed" and "KeyError" in run.reason and "secret" not in run.reason


def test_an_act_is_over_after_its_time_even_if_its_worker_lives(engine: Engine) -> None:
    run = claimable(engine)
    runs.claim_act(run.pk, engine.epoch)
    Run.objects.filter(pk=run.pk).update(act_started_at=timezone.now() - timedelta(seconds=runs.ACT_LIMIT + 1))
    assert runs.recover(engine.epoch) == [run.pk]


def test_a_fault_of_ours_does_not_end_work_that_goes_on(engine: Engine, monkeypatch) -> None:
    """A retry would start a second copy beside the one that still runs."""
    run = make()
    monkeypatch.setattr(type(engine.operation("scripted")), "goes_on", lambda self, job: True)
    monkeypatch.setattr(
        type(engine.operation("scripted")),
        "observe",
        lambda self, job: (_ for _ in ()).throw(Problem("The source shows another host key.", "Look.", code="key")),
    )
    assert work.look(run, engine.pool) == ""
    run.refresh_from_db()
    assert run.state == "running" and run.contact_lost_since and "another host key" in run.reason


def test_what_no_database_takes_is_left_out_of_what_is_stored(engine: Engine, monkeypatch) -> None:
    """PostgreSQL takes a NUL in no text and no JSON; a machine's output may have one."""
    said = "dd: \0 bytes"
    engine.script["scripted"] = [
        Problem(said, lasting=False),
        Progress(reason=said, log=(said,), result={"out": [said], said: 1}, check_after=0),
        Progress(state=State.FAILED, reason=said),
    ]
    monkeypatch.setattr(type(engine.operation("scripted")), "patience", 60)
    run = make()
    for _ in range(3):
        Run.objects.filter(pk=run.pk).update(check_at=timezone.now())
        engine.step()
        run.refresh_from_db()
        assert run.reason == "dd: \N{REPLACEMENT CHARACTER} bytes"
    assert run.state == "failed" and "\0" not in f"{run.result}{[*run.events.all()]}"


def test_words_of_any_length_fit_their_columns(engine: Engine) -> None:
    """PostgreSQL refuses what is too long for its column; SQLite takes it."""
    run = make()
    assert runs.after_look(run, Progress(phase="waiting for " + "a" * 100, raw="b" * 100, code="c" * 100))
    run.refresh_from_db()
    run.clean_fields(exclude=["memo", "result", "parameters"])
    platform = factories.make_platform(name="p" * 100)
    target = new_target(factories.make_server("s" * 63), platform)
    assert target.credential is not None
    target.credential.clean_fields(exclude=["secret"])


def test_a_memo_that_cannot_be_stored_ends_its_run(engine: Engine, monkeypatch) -> None:
    """Stored again and again it would keep the run open for ever, without a reason."""
    run = claimable(engine)
    Run.objects.filter(pk=run.pk).update(memo={"asked": 1})
    monkeypatch.setattr(
        type(engine.operation("scripted")), "advance", lambda self, job: ({"made": object()}, done("Done."))
    )
    tasks.carry_out(run.pk, engine.epoch)
    run.refresh_from_db()
    assert run.state == "failed" and "TypeError" in run.reason and run.memo == {"asked": 1}


def test_what_a_cutover_waits_for_does_not_wait_behind_copies(engine: Engine, settings) -> None:
    settings.RUN_LIMIT = 2
    for number in range(3):
        runs.request(f"m{number}", "scripted", title="Copy", parameters={})
    assert len(runs.promote(engine.epoch)) == 2
    undo = runs.request("undo", "scripted", title="Start the services", parameters={runs.AT_ONCE: True})
    assert runs.promote(engine.epoch) == [undo.pk], "the limit is for those that can wait"
    assert runs.promote(engine.epoch) == []
