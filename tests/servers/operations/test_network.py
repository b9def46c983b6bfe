"""The move of a target that is stopped halfway, not reached, tried again or taken back: nothing is done twice."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from projects.models import Migration
from servers.models import HostKey, Placement, Run, Server
from servers.operations.base import Job, Operation
from servers.operations.guest_address import GuestAddress
from servers.operations.network import REACH_PATIENCE, Network, NetworkBack
from servers.operations.undo_files import DEAF, UndoGuestAddress
from servers.platforms.base import Instance, Nic
from servers.progress import Progress, State
from servers.remote import guest_address, power
from servers.remote.base import Endpoint, Result, Unreachable
from servers.remote.file_changes import Record
from tests import factories

pytestmark = pytest.mark.django_db
CLONE, NEW = "10.66.0.9", "10.20.0.9"


class OneMachine:
    """A platform with one instance, and what answers where. The address set in the guest counts from a start on."""

    def __init__(self) -> None:
        self.power, self.network, self.told = "on", "66", CLONE
        self.guest = self.next_start = CLONE
        self.acts: list[str] = []
        self.busy = False  # a request was taken and is not done yet
        self.there = True
        self.sshd = True
        self.hears = True  # the guest does what it is asked
        self.synced = 0

    def get(self, external_id: str) -> Instance | None:
        return Instance(external_id, "vm", "running", self.power) if self.there else None

    def observe_power(self, key: str, external_id: str, power: str, memo: dict[str, Any]) -> Progress:
        if self.busy:
            return Progress()
        if self.power == power:
            return Progress(state=State.SUCCEEDED, target_power=power)
        return Progress(next_act="power")

    def advance_power(self, key: str, external_id: str, power: str, memo: dict[str, Any]) -> tuple[Any, Progress]:
        if self.power == power:
            return memo, self.observe_power(key, external_id, power, memo)
        self.acts.append(power)
        self.power = power
        if power == "on":
            self.guest = self.next_start
        return {"asked_at": 1.0}, Progress()

    def observe_connect(self, key: str, external_id: str, nics: tuple[Nic, ...], memo: dict[str, Any]) -> Progress:
        if self.busy:
            return Progress()
        if (nics[0].network_id, nics[0].address) == (self.network, self.told):
            nic = {"network_id": self.network, "address": self.told}
            return Progress(state=State.SUCCEEDED, target_power=self.power, result={"nics": [nic]})
        return Progress(next_act="resize")

    def advance_connect(self, key: str, external_id: str, nics: tuple[Nic, ...], memo: Any) -> tuple[Any, Progress]:
        progress = self.observe_connect(key, external_id, nics, memo)
        if progress.ended:
            return memo, progress
        self.acts.append("resize")
        self.network, self.told = nics[0].network_id, nics[0].address
        return {"asked_at": 1.0}, Progress()

    def observe_execute(self, key: str, external_id: str, script: str, memo: Any) -> Progress:
        return Progress(next_act="execute")

    def advance_execute(self, key: str, external_id: str, script: str, memo: Any) -> tuple[Any, Progress]:
        assert "guest-address/undo.sh" in script
        self.acts.append("execute")
        self.next_start = CLONE
        return {}, Progress(state=State.SUCCEEDED, result={"rc": 0, "out": "", "err": ""})

    def connect(self, endpoint: Endpoint) -> Any:
        """It answers only where network and guest agree."""
        fits = (self.network, self.guest) in (("66", CLONE), ("20", NEW))
        if self.power != "on" or not fits or endpoint.address != self.guest or not self.sshd:
            raise Unreachable(f"{endpoint.address} does not answer.", code="ssh.unreachable", lasting=False)
        return Shell(self, endpoint)


class Shell:
    def __init__(self, machine: OneMachine, endpoint: Endpoint) -> None:
        self.machine, self.endpoint = machine, endpoint

    def run(self, command: Any, **_: Any) -> Result:
        if "undo.sh" in str(command):
            self.machine.next_start = CLONE
        if "sync" in command:
            self.machine.synced += 1
        if "poweroff" in command:
            self.machine.acts.append("guest off")
            if self.machine.hears:
                self.machine.power = "off"
        return Result(0, b"boot-1", b"")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> OneMachine:
    made = OneMachine()
    for module in ("network", "whereabouts", "undo_files"):
        monkeypatch.setattr(f"servers.operations.{module}.client_of", lambda server: made)

    def apply(connection: Shell, wanted: Any) -> Record:
        made.next_start = wanted.address.split("/")[0]
        return Record("guest-address", ())

    monkeypatch.setattr(guest_address, "plan", lambda connection, wanted: [])
    monkeypatch.setattr(guest_address, "apply", apply)
    monkeypatch.setattr(guest_address, "verify_file", lambda connection, wanted: [])
    return made


@pytest.fixture
def migration(machine: OneMachine) -> Migration:
    made = factories.make_migration(steps=False)
    target = factories.make_target(made, address=CLONE, power="on")
    Placement.objects.filter(server=target).update(external_id="7")
    return made


class Work:
    """One run after the other, as the controller and a worker would."""

    def __init__(self, machine: OneMachine, migration: Migration) -> None:
        self.machine, self.migration = machine, migration
        self.number = 0

    def run(self, name: str, attempt: int = 1, number: int = 1, **more: Any) -> Run:
        self.number += 1
        address = {"address": f"{NEW}/24", "gateway": "", "resolvers": [], "take_over": False}
        both = {"source": self.migration.source_id, "target": self.migration.target_id}
        parameters = {**both, **(address if "undo" not in name and "back" not in name else {}), "network": "20", **more}
        return factories.make_run(name, work_key=f"m1.6.{attempt}.{name}", number=number, parameters=parameters)

    def drive(
        self, operation: Operation, run: Run, *, stop: Callable[[Run], bool] = lambda run: False, passes: int = 30
    ) -> Progress:
        """Look and act until it ends; `stop`: a person asks to stop once this is true of the run."""
        cancelling = False
        for _ in range(passes):
            cancelling = cancelling or stop(run)
            job = Job(run, self.machine.connect, dict(run.memo), cancel=cancelling)
            progress = operation.observe(job)
            if progress.next_act or cancelling:
                run.memo, progress = operation.confirm_cancel(job) if cancelling else operation.advance(job)
                run.save()
            if progress.ended:
                run.state, run.finished_at = progress.state.value, timezone.now()
                run.result, run.code, run.reason = progress.result, progress.code, progress.reason
                run.save()
                operation.finish(run, progress)
                return progress
        pytest.fail(f"still at it: {run.memo}")


@pytest.fixture
def work(machine: OneMachine, migration: Migration) -> Work:
    return Work(machine, migration)


def at(stage: str) -> Callable[[Run], bool]:
    return lambda run: run.memo.get("stage") == stage


def late(run: Run) -> None:
    """As if the patience for reaching it were over."""
    run.memo = {**run.memo, "since": timezone.now().timestamp() - REACH_PATIENCE - 1}
    run.save()


def unreached(work: Work, number: int = 1) -> Run:
    """A move that ends on the production network without an answer: its sshd does not run."""
    work.drive(GuestAddress(), work.run("guest_address"))
    work.machine.sshd = False
    run = work.run("network", number=number)
    for _ in range(12):
        if run.memo.get("stage") == "reach":
            break
        run.memo, _progress = Network().advance(Job(run, work.machine.connect, dict(run.memo)))
        run.save()
    late(run)
    progress = work.drive(Network(), run)
    assert (progress.state, progress.code) == (State.FAILED, "network.unreached")
    return run


@pytest.mark.parametrize(
    ("stage", "words"),
    [("connect", "switched off, still on the migration network"), ("up", "its interface is on the production network")],
)
def test_a_move_that_was_stopped_halfway_goes_on_when_it_is_started_again(
    work: Work, machine: OneMachine, migration: Migration, stage: str, words: str
) -> None:
    work.drive(GuestAddress(), work.run("guest_address"))
    progress = work.drive(Network(), work.run("network"), stop=at(stage))
    assert (
        progress.state == State.CANCELLED and words in progress.reason and "Take cutover events back" in progress.reason
    )
    assert migration.target is not None
    assert Server.objects.get(pk=migration.target.pk).power == Server.Power.OFF, "the page does not call it on"

    again = work.drive(GuestAddress(), work.run("guest_address", attempt=2))
    assert again.state == State.SUCCEEDED and "by an earlier try" in again.reason
    assert work.drive(Network(), work.run("network", attempt=2)).state == State.SUCCEEDED
    assert machine.acts == ["guest off", "resize", "on"] and machine.synced == 1
    assert Server.objects.get(pk=migration.target.pk).address == NEW


def test_what_was_asked_of_the_platform_ends_before_the_stop_is_confirmed(work: Work, machine: OneMachine) -> None:
    work.drive(GuestAddress(), work.run("guest_address"))
    run = work.run("network")
    while run.memo.get("connect") != {"asked_at": 1.0}:
        run.memo, _ = Network().advance(Job(run, machine.connect, dict(run.memo)))
    machine.busy = True
    memo, progress = Network().confirm_cancel(Job(run, machine.connect, dict(run.memo), cancel=True))
    assert progress.state == State.RUNNING and memo["stage"] == "connect"
    machine.busy = False
    memo, progress = Network().confirm_cancel(Job(run, machine.connect, dict(memo), cancel=True))
    assert progress.state == State.CANCELLED and memo["nics"] == [{"network_id": "20", "address": NEW}]


def test_another_address_is_not_taken_for_set_because_the_target_is_off(work: Work, machine: OneMachine) -> None:
    work.drive(GuestAddress(), work.run("guest_address"))
    work.drive(Network(), work.run("network"), stop=at("connect"))
    run = work.run("guest_address", attempt=2, address="10.20.0.77/24")
    progress = work.drive(GuestAddress(), run)
    assert progress.state == State.FAILED and "switched off" in progress.reason
    assert "take the cutover events back" in progress.reason
    machine.power, machine.sshd = "on", False  # it may only be a moment
    with pytest.raises(Unreachable):
        GuestAddress().advance(Job(work.run("guest_address", attempt=3), machine.connect))


def test_a_retry_only_tries_to_reach_it_again(work: Work, machine: OneMachine) -> None:
    first = unreached(work)
    assert "Retry tries to reach it again without moving" in first.reason and "Take cutover events back" in first.reason
    before = list(machine.acts)
    machine.sshd = True  # mended on the console
    progress = work.drive(Network(), work.run("network", number=2))
    assert progress.state == State.SUCCEEDED and machine.acts == before == ["off", "resize", "on"]


def test_a_retry_switches_on_what_was_switched_off_on_the_console(work: Work, machine: OneMachine) -> None:
    unreached(work)
    machine.power, machine.sshd = "off", True
    assert work.drive(Network(), work.run("network", number=2)).state == State.SUCCEEDED
    assert machine.acts == ["off", "resize", "on", "on"]


def test_what_was_written_since_needs_a_start(work: Work, machine: OneMachine) -> None:
    """With another gateway the guest must start again, although the interface is where it belongs."""
    unreached(work)
    machine.sshd = True
    run = work.run("network", attempt=2, gateway="10.20.0.1")
    assert work.drive(Network(), run).state == State.SUCCEEDED
    assert machine.acts == ["off", "resize", "on", "guest off", "on"]


def test_what_is_not_reached_is_taken_back_through_the_platform(
    work: Work, machine: OneMachine, migration: Migration
) -> None:
    run = unreached(work)
    undo = work.run("undo_guest_address", of=["m1.6.1.guest_address"])
    undo.memo = {"since": timezone.now().timestamp() - DEAF - 1}
    assert work.drive(UndoGuestAddress(), undo).state == State.SUCCEEDED and machine.acts[-1] == "execute"
    machine.sshd = True
    progress = work.drive(NetworkBack(), work.run("network_back", network="66", of=[run.work_key]))
    assert progress.state == State.SUCCEEDED, progress.reason
    assert machine.acts == ["off", "resize", "on", "execute", "guest off", "resize", "on"]
    assert migration.target is not None and Server.objects.get(pk=migration.target.pk).address == CLONE


def test_a_target_that_was_left_off_is_switched_on_for_the_way_back(work: Work, machine: OneMachine) -> None:
    """Nothing was moved yet, but the guest would start with an address that its network does not have."""
    work.drive(GuestAddress(), work.run("guest_address"))
    stopped = work.run("network")
    work.drive(Network(), stopped, stop=at("connect"))
    undo = work.run("undo_guest_address", of=["m1.6.1.guest_address"])
    run_until_deaf(work, undo)
    assert work.drive(UndoGuestAddress(), undo).state == State.SUCCEEDED
    progress = work.drive(NetworkBack(), work.run("network_back", network="66", of=[stopped.work_key]))
    assert progress.state == State.SUCCEEDED and machine.guest == CLONE
    assert machine.acts == ["guest off", "on", "execute", "off", "on"]


def run_until_deaf(work: Work, undo: Run) -> None:
    for _ in range(4):
        undo.memo, _progress = UndoGuestAddress().advance(Job(undo, work.machine.connect, dict(undo.memo)))
    assert "since" in undo.memo
    undo.memo = {**undo.memo, "since": undo.memo["since"] - DEAF - 1}
    undo.save()


def test_after_the_way_back_the_next_move_is_a_whole_one(work: Work, machine: OneMachine) -> None:
    work.drive(GuestAddress(), work.run("guest_address"))
    first = work.run("network")
    work.drive(Network(), first)
    work.drive(UndoGuestAddress(), work.run("undo_guest_address", of=["x"]))
    work.drive(NetworkBack(), work.run("network_back", network="66", of=[first.work_key]))
    machine.acts.clear()
    assert work.drive(GuestAddress(), work.run("guest_address", attempt=2)).state == State.SUCCEEDED
    assert work.drive(Network(), work.run("network", attempt=2)).state == State.SUCCEEDED
    assert machine.acts == ["guest off", "resize", "on"]


def test_a_console_is_named_once_and_then_believed_with_a_word_that_nobody_saw_it(
    work: Work, machine: OneMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    unreached(work)
    broken = Progress(state=State.FAILED, reason="The guest has no agent.", code="execute.failed")
    monkeypatch.setattr(machine, "advance_execute", lambda *args: ({}, broken))
    memo = {"since": timezone.now().timestamp() - DEAF - 1}
    first = work.run("undo_guest_address", of=["x"])
    first.memo = dict(memo)
    progress = work.drive(UndoGuestAddress(), first)
    assert progress.state == State.FAILED and "sh /var/lib/migrationhub/guest-address/undo.sh" in progress.reason
    second = work.run("undo_guest_address", number=2, of=["x"])
    second.memo = dict(memo)
    progress = work.drive(UndoGuestAddress(), second)
    assert progress.state == State.SUCCEEDED and "nobody sees" in progress.reason


def test_the_sources_keys_are_expected_again_after_the_way_back(
    work: Work, machine: OneMachine, migration: Migration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power, "absent", lambda *args, **more: power.AbsenceProof(True, "It is gone."))
    work.drive(GuestAddress(), work.run("guest_address", take_over=True))
    move = work.run("network", take_over=True)
    work.drive(Network(), move)
    key = HostKey.objects.get(server=migration.source)
    assert key.state == HostKey.State.RETIRED
    older = HostKey.objects.create(
        server=migration.source,
        key_type="ssh-rsa",
        public="BBBB",
        fingerprint="SHA256:old",
        state=HostKey.State.RETIRED,
        decided_at=timezone.now() - timedelta(days=1),
    )
    work.drive(UndoGuestAddress(), work.run("undo_guest_address", of=["x"]))
    work.drive(NetworkBack(), work.run("network_back", network="66", of=[move.work_key], take_over=True))
    key.refresh_from_db()
    older.refresh_from_db()
    assert (key.state, older.state) == (HostKey.State.ACCEPTED, HostKey.State.RETIRED)
