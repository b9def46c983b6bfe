"""The whole way in real processes: an act, the controller, a worker, the mail server; and a worker that is killed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from migrationhub.audit.record import record
from projects.models import Message, Step
from projects.notify import sending
from tests import factories as make
from tests.hub_processes import HubProcesses, hub_processes, until

from .receivers import Mailbox, mail_server

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif("sqlite" not in settings.DATABASES["default"]["ENGINE"], reason="opens the hub's SQLite file"),
]


@pytest.fixture
def box() -> Iterator[Mailbox]:
    with mail_server() as made:
        yield made


@pytest.fixture
def hub(
    box: Mailbox, tmp_path: Path, django_db_blocker: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[HubProcesses]:
    """It sends through `box`, two seconds after the first change."""
    said = {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(box.port), "SMTP_SECURITY": "none", "NOTICE_GROUP": "2"}
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    with django_db_blocker.unblock(), hub_processes(tmp_path) as made:
        made.start_up()
        yield made


def test_one_mail_for_a_wave_and_none_twice_when_the_worker_dies(hub: HubProcesses, box: Mailbox) -> None:
    lead = make.make_user("lea", email="lea@example.com")
    project = make.make_project("Basel exit", lead=lead)
    wave = make.make_wave(project)
    steps = [make.make_migration(project=project, wave=wave).steps.get(kind=Step.Kind.INITIAL) for _ in range(3)]

    def happen() -> None:
        for step in steps:
            record("step.attention", step, project_id=project.pk, why="The disk is full.")

    happen()
    until(lambda: Message.objects.filter(state="sent").exists(), 60, hub.words)
    assert [str(mail["Subject"]).strip() for mail in box.mails] == [f"[migrationhub] Basel exit: {wave}: 3 changes"]

    box.slow = 600  # the text is at the server, and its answer never comes
    happen()
    until(lambda: len(box.mails) == 2, 60, hub.words)
    before = hub.pid("qcluster")
    assert hub.kill_group("qcluster") > 1
    until(lambda: hub.pid("qcluster") not in (0, before), 60, hub.words)
    box.slow = 0
    time.sleep(4)  # passes of the controller, with workers that could send
    second = Message.objects.get(state="sending")
    Message.objects.filter(pk=second.pk).update(changed_at=timezone.now() - sending.LOST)
    until(lambda: Message.objects.filter(state="unknown").exists(), 60, hub.words)
    happen()  # what comes later is sent: a message that is not known holds nothing up
    until(lambda: Message.objects.filter(state="sent").count() == 2, 60, hub.words)
    ids = [mail["Message-ID"] for mail in box.mails]
    assert len(ids) == 3 and len(set(ids)) == 3
