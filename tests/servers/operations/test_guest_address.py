"""An address that a person sets inside the guest: it is looked for, never written, and asked back by name."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from projects.models import Migration
from servers.models import Placement, Run
from servers.operations.base import Job, Operation
from servers.operations.guest_address import GuestAddress
from servers.operations.undo_files import DEAF, UndoGuestAddress
from servers.platforms.base import Instance
from servers.progress import Progress, State
from servers.remote.base import Endpoint, Result, Unreachable
from tests import factories

pytestmark = pytest.mark.django_db
NEW = "10.0.0.9"
NETPLAN = "/etc/netplan/50-cloud-init.yaml"


class Guest:
    """A guest whose network is configured by netplan; `named`: whether a file of it names the new address."""

    def __init__(self) -> None:
        self.endpoint = Endpoint("shop-db-vme", "10.66.0.9")
        self.named, self.answers, self.power = False, True, "on"
        self.commands: list[str] = []

    def connect(self, endpoint: Endpoint) -> Any:
        if not self.answers:
            raise Unreachable("It does not answer.", "Look at it.", code="ssh.unreachable", lasting=False)
        return self

    def get(self, external_id: str) -> Instance:
        return Instance(external_id, "vm", "running", self.power)

    def run(self, command: Any, **_: Any) -> Result:
        self.commands.append(str(command))
        if "grep" in command:
            return Result(0, f"{NETPLAN}\n".encode(), b"") if self.named else Result(1, b"", b"")
        if "section netplan" in command:
            return Result(0, f"\n== netplan\n{NETPLAN}\n\n== end\n".encode(), b"")
        return Result(0, b"", b"")

    def put(self, *args: Any, **named: Any) -> None:
        pytest.fail("nothing is written")


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch) -> Guest:
    made = Guest()
    for module in ("whereabouts", "undo_files"):
        monkeypatch.setattr(f"servers.operations.{module}.client_of", lambda server: made)
    return made


@pytest.fixture
def migration(guest: Guest) -> Migration:
    made = factories.make_migration(steps=False)
    target = factories.make_target(made, address="10.66.0.9", power="on")
    Placement.objects.filter(server=target).update(external_id="7")
    return made


class Tries:
    """One try after the other at the same work."""

    def __init__(self, guest: Guest, migration: Migration) -> None:
        self.guest, self.both = guest, {"source": migration.source_id, "target": migration.target_id}

    def take(self, operation: Operation, **parameters: Any) -> Progress:
        key = f"m1.6.1.1.{operation.name}"
        number = 1 + Run.objects.filter(work_key=key).count()
        run = factories.make_run(
            operation.name, work_key=key, number=number, parameters={**self.both, **parameters}, memo={"since": -DEAF}
        )
        _, progress = operation.advance(Job(run, self.guest.connect, dict(run.memo)))
        run.state, run.finished_at, run.code = progress.state.value, timezone.now(), progress.code
        run.result = progress.result
        run.save()
        return progress

    def set(self, **more: Any) -> Progress:
        planned = {"address": f"{NEW}/24", "gateway": "10.0.0.1", "resolvers": ["10.0.0.53"], "take_over": False}
        return self.take(GuestAddress(), **planned, **{"by_hand": True, **more})

    def undo(self) -> Progress:
        return self.take(UndoGuestAddress(), of=["m1.6.1.1.guest_address"])


@pytest.fixture
def tries(guest: Guest, migration: Migration) -> Tries:
    return Tries(guest, migration)


def test_what_was_refused_goes_on_once_it_is_set_and_said_to_be_set_by_hand(tries: Tries, guest: Guest) -> None:
    refused = tries.set(by_hand=False)
    assert refused.state == State.FAILED and "choose “Set by hand” as guest address" in refused.reason
    guest.named = True
    progress = tries.set()
    assert progress.state == State.SUCCEEDED
    assert progress.reason == (
        f"Not set by migrationhub: the profile says that it is set by hand. {NETPLAN} names {NEW}. The move proves it."
    )


def test_what_nobody_has_set_is_asked_for_once_and_then_believed(tries: Tries) -> None:
    asked = tries.set()
    assert (asked.state, asked.code) == (State.FAILED, "guest_address.not_set_by_hand")
    for words in (f"{NEW}/24, gateway 10.0.0.1, resolvers 10.0.0.53", NETPLAN, "Retry once it is set"):
        assert words in asked.reason
    progress = tries.set()
    assert progress.state == State.SUCCEEDED and "whoever retried was told so" in progress.reason


def test_a_refusal_of_before_is_no_question_that_was_answered(tries: Tries) -> None:
    tries.set(by_hand=False)
    assert tries.set().state == State.FAILED


def test_an_address_that_is_at_work_already_is_no_dead_end(tries: Tries, guest: Guest) -> None:
    """Whoever wrote it made it count at once: the guest has left the migration network."""
    guest.answers = False
    with pytest.raises(Unreachable) as caught:
        tries.set()
    assert f"If {NEW} is at work in it already, retry" in caught.value.act
    Run.objects.update(state=Run.State.FAILED, finished_at=timezone.now())  # its patience was over
    assert tries.set().state == State.SUCCEEDED


def test_a_guest_that_is_off_is_not_called_written_by_us_afterwards(tries: Tries, guest: Guest) -> None:
    guest.answers, guest.power = False, "off"
    progress = tries.set()
    assert progress.state == State.SUCCEEDED and "nobody looked" in progress.reason
    assert tries.set(by_hand=False).code == "target.off"


def test_the_way_back_asks_for_the_old_address_and_writes_nothing(tries: Tries, guest: Guest) -> None:
    guest.named = True
    tries.set()
    asked = tries.undo()
    assert (asked.state, asked.code) == (State.FAILED, "undo.by_hand")
    assert f"{NEW} was set by hand" in asked.reason and "Bring 10.66.0.9 back" in asked.reason
    assert "Taken on trust" in tries.undo().reason
    guest.named = False
    assert "No file" in tries.undo().reason


def test_a_way_back_without_a_connection_asks_too(tries: Tries, guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    tries.set()
    guest.answers = False
    run = factories.make_run(
        "undo_guest_address", parameters={**tries.both, "of": ["m1.6.1.1.guest_address"]}, memo={"stage": "execute"}
    )
    for state in (State.SUCCEEDED, State.FAILED):
        monkeypatch.setattr(
            guest, "advance_execute", lambda *args, state=state: ({}, Progress(state=state)), raising=False
        )
        _, progress = UndoGuestAddress().advance(Job(run, guest.connect, dict(run.memo)))
        assert progress.code == "undo.by_hand" and "on its console" in progress.reason


def test_what_migrationhub_set_is_brought_back_as_before(tries: Tries, guest: Guest) -> None:
    factories.make_run("guest_address", work_key="m1.6.1.1.guest_address", parameters={**tries.both, "by_hand": False})
    assert tries.undo().reason == UndoGuestAddress.words
    assert any("guest-address/undo.sh" in command for command in guest.commands)
