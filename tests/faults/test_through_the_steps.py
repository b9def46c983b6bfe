"""Faults met by the steps of one migration: the page says what happened and what to do, its button retries."""

from __future__ import annotations

import html
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from migrationhub.lab.vme.store import effective, repeated_keys
from projects.models import Action, Migration, Profile, Step
from servers.models import Credential, HostKey, Run
from servers.remote import access
from servers.remote.hostkeys import fingerprint
from tests.faults.conftest import accept, key_of
from tests.fixtures_lab import ProcessHost, ProcessLab
from tests.lab.vme.test_real_hosts import Served
from tests.world import Hub, plan_migration, served, start

__all__ = ["served"]
pytestmark = [pytest.mark.lab, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("trap_commands")]
K, S = Step.Kind, Step.State
OTHER_PRIVATE, _ = access.new_key_pair("another")


class Walk:
    """A migration whose lead looks at its page, mends what it says, and presses retry there."""

    def __init__(self, migration: Migration) -> None:
        self.migration, self.hub, self.client = migration, Hub(), Client()
        lead = migration.project.memberships.get(role="lead").user
        self.client.force_login(lead, "django.contrib.auth.backends.ModelBackend")
        self.page = reverse("migration", args=[migration.pk])

    def until(self, kind: str, state: str, seconds: float = 90) -> Step:
        """Passes of the controller until the step is in that state."""
        deadline = time.monotonic() + seconds
        while (step := self.migration.steps.get(kind=kind)).state != state:
            now = f"{step.state}: {step.reason} {[*Run.objects.values_list('operation', 'state', 'reason')]}"
            assert step.state != S.ATTENTION and time.monotonic() < deadline, now
            self.hub.step()
            time.sleep(0.05)
        return step

    def told(self, kind: str, operation: str, words: str) -> None:
        """The step needs attention, says exactly these words on the page, and nothing of it is green."""
        step = self.until(kind, S.ATTENTION)
        attempt = step.attempts.latest("number")
        action = attempt.actions.get(state=Action.State.FAILED)
        run = Run.objects.filter(work_key=action.work_key).latest("number")
        assert (action.operation, run.state) == (operation, Run.State.FAILED), run.reason
        assert step.reason == action.reason == run.reason == words
        assert not attempt.actions.filter(position__gt=action.position).exclude(
            state__in=(Action.State.PLANNED, Action.State.NOT_APPLICABLE)
        )
        text = html.unescape(self.client.get(self.page).content.decode())
        assert words in text and reverse("step-retry", args=[step.pk]) in text
        assert words in html.unescape(self.client.get(reverse("run", args=[run.pk])).content.decode())

    def retry(self, kind: str) -> None:
        step = self.migration.steps.get(kind=kind)
        seen = {"seen_attempt": step.attempts.latest("number").number}
        assert self.client.post(reverse("step-retry", args=[step.pk]), seen).status_code == 303
        assert self.migration.steps.get(kind=kind).state == S.RUNNING


@pytest.fixture
def source(process_host: Callable[..., ProcessHost]) -> ProcessHost:
    host = process_host("faulty")
    host.execute("mkdir -p srv/data; for n in 1 2 3; do head -c 1M /dev/urandom >srv/data/$n; done")
    return host


@pytest.fixture
def walk(process_lab: ProcessLab, source: ProcessHost, served: Served) -> Walk:
    migration = plan_migration(process_lab, source, served, profile={"paths": ["srv/data"]})
    accept(migration.source, key_of(source.endpoint))
    type(migration.profile.platform).objects.update(checked_at=migration.wave.created_at)
    return Walk(migration)


def test_every_fault_of_two_steps_is_told_on_the_page_and_retried_there(
    walk: Walk, source: ProcessHost, served: Served, process_lab: ProcessLab
) -> None:
    migration, there = walk.migration, source.endpoint
    credentials = Credential.objects.filter(server=migration.source)
    profiles = Profile.objects.filter(pk=migration.profile_id)
    production = migration.profile.production_network_id
    migration_network = migration.profile.migration_network_id

    credentials.update(secret=OTHER_PRIVATE)
    profiles.update(migration_network_id=production)
    no_rsync = source.write("sbin/traps/rsync", "#!/bin/sh\nexit 127\n", 0o755)
    start(migration, K.INITIAL)
    walk.told(
        K.INITIAL,
        "facts",
        f"{source.name} ({there.address} port {there.port}): the private key of {there.username} was refused. Correct"
        " user name or credential; on the machine look at ~/.ssh/authorized_keys and sshd's log. Then retry.",
    )
    credentials.update(secret=there.private_key)
    walk.retry(K.INITIAL)
    walk.told(
        K.INITIAL,
        "platform_fit",
        "The migration network and the production network are the same: the clone would not be isolated. Choose a"
        " network of its own for migrations.",
    )
    profiles.update(migration_network_id=migration_network)
    walk.retry(K.INITIAL)
    walk.told(K.INITIAL, "preflight", f"{source.name} has no rsync. Install rsync there.")
    no_rsync.unlink()
    walk.retry(K.INITIAL)
    walk.until(K.INITIAL, S.DONE)

    migration.source.host_keys.update(state=HostKey.State.RETIRED)
    start(migration, K.DELTA)
    walk.told(
        K.DELTA,
        "sync",
        f"{source.name} ({there.address} port {there.port}): no host key is accepted yet; the machine shows ssh-ed25519"
        f" {fingerprint(key_of(there).split()[1])}. Compare the fingerprint with the machine's own (ssh-keygen -lf"
        " /etc/ssh/ssh_host_*_key.pub) and accept the key.",
    )
    accept(migration.source, key_of(there))
    walk.retry(K.DELTA)
    walk.until(K.DELTA, S.READY)
    nothing_twice(walk, served)


def nothing_twice(walk: Walk, served: Served) -> Any:
    journal = served.directory / "journal.jsonl"
    assert [entry["act"] for entry in effective(journal)].count("create") == 1 and repeated_keys(journal) == []
    tries = Run.objects.filter(work_key__startswith=f"m{walk.migration.pk}.", number=2)
    assert sorted(tries.values_list("operation", flat=True)) == ["facts", "platform_fit", "preflight", "sync"]
