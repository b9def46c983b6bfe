"""Files as evidence: what is taken and what is not, who may, and that nothing is left of what was refused."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from migrationhub.audit.models import AuditEvent
from migrationhub.lib.findings import Problem
from projects import attachments, checklists, workflow
from projects.errors import Conflict, Forbidden, NotReady
from projects.models import Attachment, ChecklistItem, Migration, Step
from projects.models.attachment import storage
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(32)


@pytest.fixture
def shelf(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    settings.ATTACHMENTS_DIR = tmp_path / "kept"
    monkeypatch.setattr(Attachment._meta.get_field("file"), "storage", storage())
    return tmp_path / "kept"


@pytest.fixture
def migration(shelf: Path) -> Migration:
    made = factories.make_migration(steps=False)
    workflow.plan_steps(made)
    return made


@pytest.fixture
def item(migration: Migration) -> ChecklistItem:
    return ChecklistItem.objects.get(step__migration=migration, step__kind=Step.Kind.UAT, key="data")


def owner_of(migration: Migration) -> Any:
    assert migration.application is not None
    return migration.application.owner


def kept_files(shelf: Path) -> list[Path]:
    return [path for path in shelf.rglob("*") if path.is_file()] if shelf.exists() else []


def test_a_file_is_kept_under_a_name_of_our_own_with_its_digest(item: ChecklistItem, shelf: Path) -> None:
    owner = owner_of(item.step.migration)
    made = attachments.keep(factories.make_upload("../../etc/order list\u202egnp.png", PNG), on=item, user=owner)
    assert made.name == "order listgnp.png"
    (path,) = kept_files(shelf)
    assert path.name != made.name
    assert path.read_bytes() == PNG
    assert path.stat().st_mode & 0o077 == 0
    assert made.sha256 == hashlib.sha256(PNG).hexdigest()
    event = AuditEvent.objects.get(verb="attachment.keep")
    assert (event.actor, event.after["sha256"]) == (owner, made.sha256)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("run.html", b"<script>", "file=run.html: expected one of png"),
        ("picture.svg", b"<svg/>", "file=picture.svg: expected one of png"),
        ("noending", b"x", "file=noending: expected one of png"),
        ("empty.txt", b"", "file=empty.txt: it is empty."),
        ("page.png", b"<html>", "its content is not what its name says (image/png)"),
        ("binary.txt", b"a\0b", "its content is not what its name says (text/plain)"),
        ("large.txt", b"x" * 2000, "file=large.txt: 2.0\xa0KB, expected at most 1.0\xa0KB."),
    ],
)
def test_what_is_not_taken(
    item: ChecklistItem, shelf: Path, settings: Any, name: str, content: bytes, said: str
) -> None:
    settings.ATTACHMENT_BYTES = 1024
    with pytest.raises(NotReady) as refused:
        attachments.keep(factories.make_upload(name, content), on=item, user=owner_of(item.step.migration))
    assert said in refused.value.text
    assert not kept_files(shelf)
    assert not Attachment.objects.exists()


def test_the_project_has_room_for_so_much(item: ChecklistItem, settings: Any) -> None:
    owner, settings.ATTACHMENTS_BYTES = owner_of(item.step.migration), 20
    first = attachments.keep(factories.make_upload(), on=item, user=owner)
    with pytest.raises(NotReady, match="The files of this project have"):
        attachments.keep(factories.make_upload(), on=item, user=owner)
    attachments.withdraw(first, user=owner)
    attachments.keep(factories.make_upload(), on=item, user=owner)


def test_two_files_at_once_take_no_more_room_than_there_is(
    item: ChecklistItem, shelf: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, settings.ATTACHMENTS_BYTES = owner_of(item.step.migration), 20
    real = attachments._checked

    def checked(*args: Any) -> Any:
        found = real(*args)
        monkeypatch.setattr(attachments, "_checked", real)
        attachments.keep(factories.make_upload(), on=item, user=owner)
        return found

    monkeypatch.setattr(attachments, "_checked", checked)
    with pytest.raises(NotReady, match="The files of this project have"):
        attachments.keep(factories.make_upload(), on=item, user=owner)
    assert Attachment.objects.count() == len(kept_files(shelf)) == 1


def test_a_full_disk_is_said_and_leaves_no_row(item: ChecklistItem, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **more: Any) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Attachment._meta.get_field("file").storage, "_save", full)
    with pytest.raises(Problem, match="the hub's disk is full"):
        attachments.keep(factories.make_upload(), on=item, user=owner_of(item.step.migration))
    assert not Attachment.objects.exists()


def test_a_row_that_cannot_be_written_leaves_no_file(
    item: ChecklistItem, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attachments, "record", lambda *a, **b: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        attachments.keep(factories.make_upload(), on=item, user=owner_of(item.step.migration))
    assert not kept_files(shelf)
    assert not Attachment.objects.exists()


def test_who_attaches_is_who_answers(item: ChecklistItem) -> None:
    project = item.step.migration.project
    for who in (project.memberships.get(role="lead").user, factories.make_member(project, "manager")):
        with pytest.raises(Forbidden):
            attachments.keep(factories.make_upload(), on=item, user=who)


def test_evidence_that_is_asked_for_may_be_a_file(item: ChecklistItem) -> None:
    ChecklistItem.objects.filter(pk=item.pk).update(evidence=True)
    owner = owner_of(item.step.migration)
    with pytest.raises(NotReady, match="or attach a file"):
        checklists.tick(item.pk, user=owner, state="done")
    file = attachments.keep(factories.make_upload(), on=item, user=owner)
    checklists.tick(item.pk, user=owner, state="done")
    item.refresh_from_db()
    file.item = item
    with pytest.raises(NotReady, match="was answered with this file"):
        attachments.withdraw(file, user=owner)
    checklists.tick(item.pk, user=owner, state="open")
    file.item.refresh_from_db()
    attachments.withdraw(file, user=owner)
    with pytest.raises(NotReady):
        checklists.tick(item.pk, user=owner, state="done")


def test_no_answer_stands_on_a_file_that_was_taken_back_in_the_same_moment(
    item: ChecklistItem, monkeypatch: pytest.MonkeyPatch
) -> None:
    ChecklistItem.objects.filter(pk=item.pk).update(evidence=True)
    owner, real = owner_of(item.step.migration), checklists._check_answer
    file = attachments.keep(factories.make_upload(), on=item, user=owner)

    def checked(*args: Any) -> None:
        real(*args)
        attachments.withdraw(file, user=owner)

    with monkeypatch.context() as patch:
        patch.setattr(checklists, "_check_answer", checked)
        with pytest.raises(NotReady, match="or attach a file"):
            checklists.tick(item.pk, user=owner, state="done")
    item.refresh_from_db()
    assert item.state == "open"
    file = attachments.keep(factories.make_upload(), on=item, user=owner)
    checklists.tick(item.pk, user=owner, state="done")
    with pytest.raises(NotReady, match="was answered with this file"):
        attachments.withdraw(file, user=owner)  # `file.item` was read while it was open


def test_taken_back_its_content_is_gone_and_its_row_tells_of_it(item: ChecklistItem, shelf: Path) -> None:
    owner = owner_of(item.step.migration)
    file = attachments.keep(factories.make_upload(), on=item, user=owner)
    with pytest.raises(Forbidden):
        attachments.withdraw(file, user=factories.make_member(file.project, "operator"))
    attachments.withdraw(file, user=owner)
    assert not kept_files(shelf)
    file.refresh_from_db()
    assert file.withdrawn_by == owner
    with pytest.raises(Conflict):
        attachments.withdraw(file, user=owner)


def test_a_step_that_is_done_keeps_its_evidence(item: ChecklistItem) -> None:
    owner = owner_of(item.step.migration)
    Step.objects.filter(pk=item.step_id).update(state=Step.State.DONE)
    item.step.refresh_from_db()
    with pytest.raises(Conflict, match="its evidence is not changed any more"):
        attachments.keep(factories.make_upload(), on=item, user=owner)


def test_over_the_pages(item: ChecklistItem, client: Client, settings: Any) -> None:
    """Attached, offered for saving under its name and never drawn, refused beyond the limit before it is read."""
    settings.ATTACHMENT_BYTES = 100_000
    client.force_login(owner_of(item.step.migration))
    address = reverse("item-attach", args=[item.pk])
    assert client.post(address, {"file": factories.make_upload("a “b”.txt", b"seen\n")}).status_code == 303
    file = Attachment.objects.get()
    answer = client.get(reverse("attachment", args=[file.pk]))
    assert b"".join(answer.streaming_content) == b"seen\n"  # type: ignore[attr-defined]
    assert answer["Content-Disposition"].startswith("attachment; filename")
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Content-Security-Policy"] == "sandbox; default-src 'none'"
    migration = item.step.migration
    assert (
        f'href="/attachments/{file.pk}/"'
        in client.get(reverse("acceptance", args=[migration.wave_id, migration.application_id])).text
    )
    assert client.post(address, {"file": factories.make_upload("b.txt", b"x" * 300_000)}).status_code == 413
    assert client.post(address, {}, follow=True).text.count("file: none was chosen.") == 1
    assert Attachment.objects.count() == 1
