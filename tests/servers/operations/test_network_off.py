"""The move asks the guest to go down before its platform, and takes no address from a source that runs."""

from __future__ import annotations

import pytest
from django.utils import timezone

from projects.models import Migration
from servers.models import Run
from servers.operations import guest_off
from servers.operations.base import Job
from servers.operations.guest_address import GuestAddress
from servers.operations.network import Network, NetworkBack
from servers.operations.undo_files import UndoGuestAddress
from servers.progress import State
from servers.remote import power
from servers.remote.base import Endpoint
from tests.servers.operations.test_network import OneMachine, Work, at, machine, migration, work

__all__ = ["machine", "migration", "work"]
pytestmark = pytest.mark.django_db


def asked(work: Work, machine: OneMachine) -> Run:
    """A move whose guest was asked to shut down, and is at it."""
    machine.hears = False
    run = work.run("network")
    for _ in range(2):
        run.memo, _progress = Network().advance(Job(run, machine.connect, dict(run.memo)))
    assert machine.acts == ["guest off"] and machine.synced == 1
    return run


def test_a_platform_that_does_not_answer_leaves_the_stop_open(work: Work, machine: OneMachine) -> None:
    run = asked(work, machine)
    run.memo["guest"]["asked_at"] -= guest_off.LIMIT
    while run.memo.get("down") != {"asked_at": 1.0}:
        run.memo, _ = Network().advance(Job(run, machine.connect, dict(run.memo)))
    machine.busy = True
    assert Network().confirm_cancel(Job(run, machine.connect, dict(run.memo)))[1].state == State.RUNNING


def test_a_guest_that_goes_down_is_given_its_time_and_then_its_platform_stops_it(
    work: Work, machine: OneMachine
) -> None:
    run = asked(work, machine)
    look = Network().observe(Job(run, machine.connect, dict(run.memo)))
    assert look.next_act is None and machine.acts == ["guest off"]
    assert Network().confirm_cancel(Job(run, machine.connect, dict(run.memo)))[1].state == State.RUNNING
    run.memo["guest"]["asked_at"] -= guest_off.LIMIT
    assert work.drive(Network(), run, stop=at("connect")).state == State.CANCELLED
    assert machine.acts == ["guest off", "off"]


def test_a_platform_that_has_not_heard_of_it_is_asked_once_nothing_answers(
    work: Work, machine: OneMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, gone = asked(work, machine), [False, True]
    monkeypatch.setattr(guest_off.power, "absent", lambda *args, **more: power.AbsenceProof(gone.pop(0), "Looked."))
    run.memo["guest"]["asked_at"] -= guest_off.LATE + 1
    work.drive(Network(), run, stop=at("connect"))
    assert machine.acts == ["guest off", "off"] and gone == []


def test_a_worker_that_ended_with_the_order_is_not_followed_by_the_plug(work: Work, machine: OneMachine) -> None:
    run = work.run("network")
    run.memo, _ = Network().advance(Job(run, machine.connect, dict(run.memo)))
    run.memo["interrupted_at"] = timezone.now().timestamp()
    machine.sshd = False  # it is going down
    run.memo, _ = Network().advance(Job(run, machine.connect, dict(run.memo)))
    assert Network().observe(Job(run, machine.connect, dict(run.memo))).next_act is None and machine.acts == []
    machine.power, machine.sshd = "off", True
    work.drive(Network(), run, stop=at("up"))
    assert machine.acts == ["resize"]


def test_a_guest_is_not_asked_while_its_platform_does_not_answer(work: Work, machine: OneMachine) -> None:
    """It would be down for as long as the platform is away."""
    machine.busy = True
    run = work.run("network")
    for _ in range(3):
        run.memo, _progress = Network().advance(Job(run, machine.connect, dict(run.memo)))
    assert machine.acts == []


class Source:
    """What answers at the source's address."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.on, self.looks = False, 0
        monkeypatch.setattr("servers.remote.power.absent", self.look)

    def look(self, endpoint: Endpoint, ports: list[int], *, seconds: float) -> power.AbsenceProof:
        self.looks += 1
        return power.AbsenceProof(not self.on, "Port 22 answers." if self.on else "It is gone.", heard=self.on)


def test_an_address_is_not_taken_over_from_a_source_that_was_switched_on_again(
    work: Work, machine: OneMachine, migration: Migration, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source(monkeypatch)
    source.on = True
    work.drive(GuestAddress(), work.run("guest_address", take_over=True))
    progress = work.drive(Network(), work.run("network", take_over=True))
    assert (progress.state, progress.code, machine.acts) == (State.FAILED, "network.source_on", [])
    name, address = migration.source.name, migration.source.address
    assert f"{name} answers again at {address}: Port 22 answers." in progress.reason
    assert "switch it off at its console, then retry" in progress.reason
    source.on = False
    move = work.run("network", number=2, take_over=True)
    assert work.drive(Network(), move).state == State.SUCCEEDED
    source.looks = 0
    work.drive(UndoGuestAddress(), work.run("undo_guest_address", of=["x"]))
    work.drive(NetworkBack(), work.run("network_back", network="66", of=[move.work_key], take_over=True))
    assert source.looks == 0, "nothing is taken over on the way back"


def test_the_target_that_was_moved_before_is_not_taken_for_its_source(
    work: Work, machine: OneMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source(monkeypatch)
    work.drive(GuestAddress(), work.run("guest_address", take_over=True))
    assert work.drive(Network(), work.run("network", take_over=True)).state == State.SUCCEEDED
    source.on = True  # the target, at its address
    again = work.run("network", attempt=2, gateway="10.20.0.1", take_over=True)
    assert work.drive(Network(), again).state == State.SUCCEEDED


def test_a_target_that_was_left_off_is_not_switched_on_beside_its_source(
    work: Work, machine: OneMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source(monkeypatch)
    work.drive(GuestAddress(), work.run("guest_address", take_over=True))
    work.drive(Network(), work.run("network", take_over=True), stop=at("up"))
    source.on = True
    progress = work.drive(Network(), work.run("network", attempt=2, take_over=True))
    assert progress.code == "network.source_on" and machine.power == "off"
