"""Keep a file as evidence, hand it out, take it back."""

from __future__ import annotations

import errno
import hashlib
import logging
import re
import unicodedata
import uuid
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.db.models import F, Sum
from django.template.defaultfilters import filesizeformat
from django.utils import timezone

from migrationhub.audit.record import record
from migrationhub.lib.findings import Problem
from projects import checklists
from projects.access import RUN, answers_for, may_sign, role_in
from projects.errors import Conflict, Forbidden, NotReady
from projects.models import Attachment, ChecklistItem, Defect, Migration, Project, Step
from servers.models import Change

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kind:
    """A type of file that is taken: what it is served as, and what its content begins with (empty: text)."""

    content_type: str
    begins: tuple[bytes, ...] = ()


_ZIP = (b"PK\x03\x04",)
_OFFICE = "application/vnd.openxmlformats-officedocument."
KINDS = {
    "png": Kind("image/png", (b"\x89PNG\r\n\x1a\n",)),
    "jpg": Kind("image/jpeg", (b"\xff\xd8\xff",)),
    "jpeg": Kind("image/jpeg", (b"\xff\xd8\xff",)),
    "gif": Kind("image/gif", (b"GIF87a", b"GIF89a")),
    "webp": Kind("image/webp", (b"RIFF",)),
    "heic": Kind("image/heic", (b"\x00\x00\x00",)),
    "pdf": Kind("application/pdf", (b"%PDF-",)),
    "txt": Kind("text/plain; charset=utf-8"),
    "log": Kind("text/plain; charset=utf-8"),
    "csv": Kind("text/csv; charset=utf-8"),
    "docx": Kind(_OFFICE + "wordprocessingml.document", _ZIP),
    "xlsx": Kind(_OFFICE + "spreadsheetml.sheet", _ZIP),
    "odt": Kind("application/vnd.oasis.opendocument.text", _ZIP),
    "ods": Kind("application/vnd.oasis.opendocument.spreadsheet", _ZIP),
    "zip": Kind("application/zip", _ZIP),
}
ACCEPT = ",".join(f".{ending}" for ending in KINDS)


def clean_name(name: str) -> str:
    """The name as it is shown and offered for saving: no path, no control or direction characters, at most 120."""
    last = re.split(r"[\\/]", name)[-1]
    plain = "".join(c for c in unicodedata.normalize("NFC", last) if unicodedata.category(c)[0] != "C").strip(" .")
    stem, ending = PurePath(plain).stem, PurePath(plain).suffix
    return f"{stem[: 120 - len(ending)]}{ending}"


def ending_of(name: str) -> str:
    return PurePath(name).suffix[1:].lower()


def keep(upload: UploadedFile[Any] | None, *, on: ChecklistItem | Defect, user: User) -> Attachment:
    """Attach a file. Raises NotReady, Forbidden or Conflict in words; nothing is left of a file that is refused."""
    _check_may_attach(on, user)
    name, size = _checked(upload, on)
    assert upload is not None  # `_checked` refuses none
    digest = hashlib.sha256()
    for chunk in upload.chunks():
        digest.update(chunk)
    field = Attachment._meta.get_field("file")
    try:
        kept = field.storage.save(f"{uuid.uuid4().hex}.{ending_of(name)}", upload)
    except OSError as problem:
        raise _not_written(problem, name) from problem
    try:
        with transaction.atomic():
            # Asked again: another file may have come while this one did; whoever comes now waits.
            Project.objects.filter(pk=_project_id(on)).update(slug=F("slug"))
            _check_room(_project_id(on), size)
            made = Attachment.objects.create(
                project_id=_project_id(on),
                item=on if isinstance(on, ChecklistItem) else None,
                defect=on if isinstance(on, Defect) else None,
                name=name,
                file=kept,
                size=size,
                sha256=digest.hexdigest(),
                by=user,
            )
            _touch(on)
            record(
                "attachment.keep",
                made,
                actor=user,
                project_id=made.project_id,
                after={"on": str(on), "size": size, "sha256": made.sha256},
            )
    except BaseException:
        field.storage.delete(kept)
        raise
    return made


def withdraw(attachment: Attachment, *, user: User) -> None:
    """Take a file back: by who attached it or a lead, as long as nothing was decided with it."""
    on = attachment.item or attachment.defect
    if on is None or not may_withdraw(attachment, user):
        raise Forbidden("A file is taken back by whoever attached it, or by a lead.", "Ask one of them.")
    _check_open(on)
    with transaction.atomic():
        if attachment.item is not None:
            _check_unanswered(attachment.item)
        if (
            not Attachment.objects.standing()
            .filter(pk=attachment.pk)
            .update(withdrawn_by=user, withdrawn_at=timezone.now())
        ):
            raise Conflict(f"“{attachment}” was taken back already.", "Look at what is there now.")
        _touch(on)
        record("attachment.withdraw", attachment, actor=user, project_id=attachment.project_id, before={"on": str(on)})
        # The content goes when the row has gone for good, and not before.
        transaction.on_commit(lambda: attachment.file.storage.delete(str(attachment.file.name)))


def _check_unanswered(item: ChecklistItem) -> None:
    """The row is ours from here on: whoever answers in this moment finds the file taken back."""
    if not ChecklistItem.objects.filter(pk=item.pk).exclude(state__in=item.CLOSED).update(position=F("position")):
        raise NotReady([f"“{item}” was answered with this file."], "Open the item again first.")


def may_withdraw(attachment: Attachment, user: User) -> bool:
    return attachment.by_id == user.pk or role_in(attachment.project, user) == "lead"


def may_attach(on: ChecklistItem | Defect, user: User) -> bool:
    """Whoever answers the item; on a defect: who runs the migration, the owner, and who raised it."""
    if isinstance(on, Defect):
        return role_in(on.project, user) in RUN or may_sign(on.application, user) or on.raised_by_id == user.pk
    migration = on.step.migration
    return checklists.may_answer(on, role_in(migration.project, user), owns=answers_for(migration, user))


def _check_may_attach(on: ChecklistItem | Defect, user: User) -> None:
    if not may_attach(on, user):
        raise Forbidden(f"Files are attached to “{on}” by whoever answers for it.", "Ask one of them.")
    _check_open(on)


def _check_open(on: ChecklistItem | Defect) -> None:
    if isinstance(on, ChecklistItem) and on.step.state in (Step.State.DONE, Step.State.SKIPPED):
        raise Conflict(f"“{on.step}” is done: its evidence is not changed any more.", "Look at what is there now.")
    if isinstance(on, Defect) and on.is_settled:
        raise Conflict(f"“{on}” is settled: its evidence is not changed any more.", "Open it again first.")


def _checked(upload: UploadedFile[Any] | None, on: ChecklistItem | Defect) -> tuple[str, int]:
    """Name and size. Raises NotReady with what is wrong with the file."""
    if upload is None or not upload.name:
        raise NotReady(["file: none was chosen."], "Choose a file, then press “Attach”.")
    name, size = clean_name(upload.name), upload.size or 0
    kind = KINDS.get(ending_of(name))
    if kind is None:
        raise NotReady([f"file={name[:60]}: expected one of {', '.join(KINDS)}."], "Send another kind through a link.")
    if not size:
        raise NotReady([f"file={name}: it is empty."])
    if size > settings.ATTACHMENT_BYTES:
        most = filesizeformat(settings.ATTACHMENT_BYTES)
        raise NotReady([f"file={name}: {filesizeformat(size)}, expected at most {most}."], "Send it through a link.")
    upload.seek(0)
    head = upload.read(4096)
    upload.seek(0)
    fits = head.startswith(kind.begins) if kind.begins else b"\0" not in head
    if not fits:
        raise NotReady([f"file={name}: its content is not what its name says ({kind.content_type.split(';')[0]})."])
    _check_room(_project_id(on), size)
    return name, size


def _check_room(project_id: int, size: int) -> None:
    used = Attachment.objects.standing().filter(project=project_id).aggregate(all=Sum("size"))["all"] or 0
    if used + size > settings.ATTACHMENTS_BYTES:
        most = filesizeformat(settings.ATTACHMENTS_BYTES)
        raise NotReady([f"The files of this project have {filesizeformat(used)} of {most}."], "Take some back first.")


def _not_written(problem: OSError, name: str) -> Problem:
    log.error("an attachment could not be written: %s", problem)
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        return Problem(f"“{name}” was not kept: the hub's disk is full.", "Tell whoever runs migrationhub; then again.")
    return Problem(f"“{name}” was not kept: {problem.strerror}.", "Tell whoever runs migrationhub; then again.")


def _project_id(on: ChecklistItem | Defect) -> int:
    return on.project_id if isinstance(on, Defect) else on.step.migration.project_id


def _touch(on: ChecklistItem | Defect) -> None:
    """Pages show it, and what is decided on the checklist looks at it."""
    step = on.step
    Migration.objects.filter(pk=step.migration_id).update(version=F("version") + 1)
    Change.bump()
