"""One identity, one running machine; and rows that say whose keys they are."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from django.utils import timezone

from migrationhub.lib.findings import Finding, Level, Problem
from projects.models import Migration
from servers.models import HostKey, Run, Server
from servers.operations.access import RemoveAccess
from servers.operations.base import Job
from servers.operations.check import HostCheck
from servers.operations.identity import SHOW_PATIENCE, ProveIdentity, StageIdentity, TakeIdentity, keys_move
from servers.operations.undo_files import UndoIdentity
from servers.progress import Progress, State
from servers.remote import hostkeys
from servers.remote.base import Result
from servers.remote.file_changes import Record
from servers.remote.identity import Identity
from tests import factories

pytestmark = pytest.mark.django_db
PUBLIC = base64.b64encode(b"\0\0\0\x0bssh-ed25519 of the source").decode()
MARK = hostkeys.fingerprint(PUBLIC)
KEY = "/etc/ssh/ssh_host_ed25519_key"
FOUND = Identity({KEY: b"PRIVATE", f"{KEY}.pub": f"ssh-ed25519 {PUBLIC} root@old".encode()}, "0" * 32, "shop-db")
PARTS = ["host_keys", "machine_id", "host_name"]


class Target:
    """What is on the target: what was kept there, and whether it is in place."""

    def __init__(self) -> None:
        self.kept: Identity | None = FOUND
        self.in_place = False
        self.source_is_off = True
        self.asked_for_the_source = 0
        self.shows = [Finding(Level.READY, "identity.proven", "It shows it.")]

    def absent(self, *args: Any, **named: Any) -> Any:
        self.asked_for_the_source += 1
        text = "shop-db is gone" if self.source_is_off else "shop-db is there: port 22 answers as an SSH server."
        return type("Proof", (), {"absent": self.source_is_off, "text": text})()

    def verify(self, connection: Any, found: Identity) -> list[Finding]:
        level = Level.READY if self.in_place else Level.BLOCKING
        return [Finding(level, "identity.differs", "It is not the source's.", "Again.")]

    def apply(self, connection: Any, found: Identity) -> Record:
        self.in_place = True
        return Record("identity", ())

    def stage(self, connection: Any, found: Identity) -> None:
        self.kept = found

    def staged(self, connection: Any) -> Identity:
        if self.kept is None:
            raise Problem("It holds no identity of its source.", "Bring it there.", code="identity.not_staged")
        return self.kept


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> Target:
    made = Target()
    for name in ("verify", "apply", "stage", "staged"):
        monkeypatch.setattr(f"servers.operations.identity.identity.{name}", getattr(made, name))
    monkeypatch.setattr("servers.operations.identity.identity.capture", lambda connection, choice: FOUND)
    monkeypatch.setattr("servers.operations.identity.identity.prove", lambda *args, **named: made.shows)
    monkeypatch.setattr("servers.remote.power.absent", made.absent)
    return made


@pytest.fixture
def migration(db: None) -> Migration:
    made = factories.make_migration(steps=False, target=True)
    HostKey.objects.filter(server=made.source).update(public=PUBLIC, fingerprint=MARK)
    HostKey.objects.filter(server=made.target).update(origin="creation")
    return made


class Shell:
    endpoint = type("E", (), {"name": "shop-db"})()

    def run(self, *args: Any, **named: Any) -> Result:
        return Result(0, b"", b"")


def job(migration: Migration, name: str, memo: dict[str, Any] | None = None) -> Job:
    parameters = {"source": migration.source_id, "target": migration.target_id, "parts": PARTS}
    return Job(factories.make_run(name, parameters=parameters), lambda endpoint: Shell(), memo or {})  # type: ignore[arg-type,return-value]


def states(server: Server | None) -> set[str]:
    return set(HostKey.objects.filter(server=server).values_list("state", flat=True))


def test_two_running_machines_never_get_one_identity(there: Target, migration: Migration) -> None:
    there.source_is_off = False
    _, progress = TakeIdentity().advance(job(migration, "take_identity"))
    assert (progress.state, progress.code) == (State.FAILED, "identity.source_on") and not there.in_place
    assert "switch the source off, then retry" in progress.reason
    there.source_is_off = True
    _, progress = TakeIdentity().advance(job(migration, "take_identity"))
    assert progress.state == State.SUCCEEDED and there.in_place


def test_what_is_in_place_is_not_taken_for_a_source_that_is_on(there: Target, migration: Migration) -> None:
    """After the move the target itself may answer at the source's address."""
    there.in_place, there.source_is_off = True, False
    _, progress = TakeIdentity().advance(job(migration, "take_identity"))
    assert progress.state == State.SUCCEEDED and there.asked_for_the_source == 0


def test_without_what_was_kept_nothing_is_put_in_place(there: Target, migration: Migration) -> None:
    there.kept = None
    with pytest.raises(Problem, match="holds no identity"):
        TakeIdentity().advance(job(migration, "take_identity"))
    assert not there.in_place


def test_the_hub_keeps_public_keys_only(there: Target, migration: Migration) -> None:
    there.kept = None
    told = []
    for work in (StageIdentity(), TakeIdentity(), ProveIdentity()):
        memo, progress = work.advance(job(migration, work.name))
        assert progress.state == State.SUCCEEDED
        told.append(json.dumps([memo, progress.result, progress.reason, progress.log]))
    text = " ".join(told)
    assert PUBLIC in text
    assert "PRIVATE" not in text and base64.b64encode(b"PRIVATE").decode() not in text and "0" * 32 not in text


def test_it_is_waited_for_that_its_sshd_shows_the_keys_then_said_what_is_wrong(
    there: Target, migration: Migration
) -> None:
    there.shows = [Finding(Level.BLOCKING, "identity.host_key", "It shows another key.", "Restart its SSH server.")]
    memo, progress = ProveIdentity().advance(job(migration, "prove_identity"))
    assert progress.state == State.RUNNING
    memo["since"] -= SHOW_PATIENCE + 1
    _, progress = ProveIdentity().advance(job(migration, "prove_identity", memo))
    assert progress.state == State.FAILED and progress.reason == "It shows another key. Restart its SSH server."


def proven(migration: Migration) -> None:
    run = job(migration, "prove_identity").run
    progress = Progress(state=State.SUCCEEDED, result={"public_keys": [f"ssh-ed25519 {PUBLIC}"]})
    ProveIdentity().finish(run, progress)


def test_the_keys_are_the_targets_own_and_our_access_keeps_its_own(there: Target, migration: Migration) -> None:
    target = migration.target
    assert target is not None
    proven(migration)
    assert states(migration.source) == {HostKey.State.MOVED}
    target = Server.objects.prefetch_related("host_keys").get(pk=target.pk)
    assert target.accepted_keys(22) == (f"ssh-ed25519 {PUBLIC}",)
    assert target.endpoint().host_keys == ("ssh-ed25519 AAAA",), "by our access another key is an attack, as ever"
    assert target.endpoint(port=22).host_keys == (f"ssh-ed25519 {PUBLIC}",)
    run = factories.make_run("remove_access", parameters={"target": target.pk})
    RemoveAccess().finish(run, Progress(state=State.SUCCEEDED))
    target = Server.objects.prefetch_related("host_keys").get(pk=target.pk)
    assert target.accepted_keys(2299) == () and target.accepted_keys(22) == (f"ssh-ed25519 {PUBLIC}",)


def test_after_the_undo_they_are_the_sources_again(there: Target, migration: Migration) -> None:
    offered = HostKey.objects.create(server=migration.source, key_type="ssh-rsa", public="B", fingerprint="SHA256:b")
    proven(migration)
    run = job(migration, "undo_identity").run
    UndoIdentity().finish(run, Progress(state=State.FAILED))
    assert HostKey.State.MOVED in states(migration.source), "nothing was brought back"
    UndoIdentity().finish(run, Progress(state=State.SUCCEEDED))
    offered.refresh_from_db()
    assert offered.state == HostKey.State.OFFERED, "nobody has accepted it"
    assert states(migration.source) == {HostKey.State.ACCEPTED, HostKey.State.OFFERED}
    assert HostKey.objects.get(server=migration.target, origin="identity").state == HostKey.State.RETIRED


def test_the_old_servers_check_knows_who_answers(migration: Migration, monkeypatch: pytest.MonkeyPatch) -> None:
    assert migration.target is not None
    keys_move(migration.source, migration.target, [f"ssh-ed25519 {PUBLIC}"])
    found = [hostkeys.FoundKey("ssh-ed25519", PUBLIC, MARK)]
    monkeypatch.setattr("servers.operations.check.hostkeys.scan", lambda *args, **named: found)
    run = factories.make_run("host_check", parameters={"server": migration.source_id}, created_at=timezone.now())
    _, progress = HostCheck().advance(Job(run, lambda endpoint: pytest.fail("it must not log in")))
    assert [finding["code"] for finding in progress.result["findings"]] == ["hostkey.moved"]
    assert "the new server" in progress.reason and "changed" not in progress.reason
    HostCheck().finish(run, progress)
    assert states(migration.source) == {HostKey.State.MOVED}
    assert Run.objects.filter(pk=run.pk).exists()
