"""Set up who is told: a project's mode, its webhooks, what a person wants to hear. Each write is recorded."""

from __future__ import annotations

import secrets
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction

from migrationhub.audit.record import record
from projects.errors import NotReady
from projects.models import Message, NoticeKind, NoticeSettings, Project, ProjectNotices, Webhook
from projects.notify import people, webhooks

Mode = ProjectNotices.Mode
HOOK = ("name", "format", "host", "kinds", "is_on")  # what the audit trail tells of one


def mode_of(project: Project) -> ProjectNotices:
    """As stored; not saved where nobody changed it yet."""
    found = ProjectNotices.objects.filter(project=project).select_related("tester").first()
    return found or ProjectNotices(project=project)


def set_mode(*, project: Project, mode: str, user: User) -> None:
    """`test` sends everything to this person alone. What still waits is kept back where it does not fit any more."""
    if mode not in Mode.values:
        raise NotReady([f"mode={mode}: expected live, test or off."])
    before = mode_of(project).mode
    with transaction.atomic():
        ProjectNotices.objects.update_or_create(
            project=project, defaults={"mode": mode, "tester": user if mode == Mode.TEST else None}
        )
        record(
            "notices.mode", project, actor=user, project_id=project.pk, before={"mode": before}, after={"mode": mode}
        )


def settings_of(user: User, project: Project, role: str) -> NoticeSettings:
    """What somebody chose, or what holds until they do; then it is not saved."""
    found = NoticeSettings.objects.filter(user=user, project=project).first()
    return found or NoticeSettings(user=user, project=project, kinds=people.default_kinds(role))


def choose(chosen: NoticeSettings, *, kinds: list[str], quiet_from: int | None, quiet_until: int | None) -> None:
    """A person's own choice: theirs to make, in nobody's trail."""
    missing = [f"kinds={kind}: there is no such kind." for kind in kinds if kind not in NoticeKind.values]
    if (quiet_from is None) != (quiet_until is None):
        missing.append("Quiet hours: give both, or leave both empty.")
    elif quiet_from is not None and quiet_from == quiet_until:
        missing.append("Quiet hours: the same hour twice is no time at all, or all day; give two hours.")
    if missing:
        raise NotReady(missing)
    NoticeSettings.objects.update_or_create(
        user=chosen.user,
        project=chosen.project,
        defaults={"kinds": kinds, "quiet_from": quiet_from, "quiet_until": quiet_until},
    )


def save_webhook(*, project: Project, webhook: Webhook | None, values: dict[str, Any], user: User) -> str:
    """Make or change one. `values`: name, format, kinds, is_on, url and secret, empty: as they are.

    The secret that signs, where a new one was made: it is shown once.
    """
    row = webhook or Webhook(project=project, made_by=user)
    before = {name: getattr(row, name) for name in HOOK} if row.pk else {}
    row.name, row.format, row.kinds, row.is_on = (values[name] for name in ("name", "format", "kinds", "is_on"))
    if values["url"]:
        row.host = webhooks.host_of(values["url"])
        row.url = values["url"]
    elif not row.pk:
        raise NotReady(["url: say where it is posted to."])
    made = ""
    signed = row.format == Webhook.Format.GENERIC
    if signed and (values["new_secret"] or before.get("format") != row.format):
        made = row.secret = secrets.token_urlsafe(32)
    elif not signed:
        row.secret = ""
    with transaction.atomic():
        row.save()
        after = {name: getattr(row, name) for name in HOOK}
        after |= {"new_url": bool(values["url"]), "new_secret": bool(made)}
        verb = "webhook.change" if before else "webhook.create"
        record(verb, row, actor=user, project_id=project.pk, before=before, after=after)
    return made


def remove_webhook(webhook: Webhook, *, user: User) -> None:
    """What was sent to it stays in the log."""
    with transaction.atomic():
        told = {name: getattr(webhook, name) for name in HOOK}
        record("webhook.remove", webhook, actor=user, project_id=webhook.project_id, before=told)
        webhook.delete()


def log_of(project: Project, state: str = "") -> Any:
    """What was sent of a project, newest first."""
    found = Message.objects.filter(project=project)
    if state in Message.State.values:
        found = found.filter(state=state)
    return found.select_related("user", "wave").prefetch_related("parts__notice")
