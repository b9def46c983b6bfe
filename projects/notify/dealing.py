"""From a change to messages: who hears of it, in which mail or post, from when on.

Everything that one receiver is to hear of one wave goes into the message of theirs that still waits; only where none
does is a new one begun. A message waits for `NOTICE_GROUP` seconds for more.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.auth.models import User
from django.db import InterfaceError, OperationalError, transaction

from projects.models import Message, Notice, Part, Project, ProjectNotices, Webhook

from . import words
from .people import People, Receiver, tester_of

log = logging.getLogger(__name__)
AT_ONCE = 50  # changes dealt in one pass of the controller
Mode = ProjectNotices.Mode
NO_SERVER = "No mail server is set (SMTP_HOST)."
NO_ADDRESS = "No e-mail address is stored for this account."


def deal(now: datetime) -> int:
    """Deal the oldest changes; how many. One that cannot be dealt keeps no other from it, and is not tried again."""
    found = Notice.objects.filter(dealt_at=None).select_related("event__actor", "project__notices_mode__tester")
    projects: dict[int, Dealer] = {}
    notices = list(found[:AT_ONCE])
    for notice in notices:
        dealer = projects.get(notice.project_id) or Dealer(notice.project, now)
        projects[notice.project_id] = dealer
        try:
            dealer.deal(notice)
        except (InterfaceError, OperationalError):
            raise  # the database is away: later
        except Exception:
            log.exception("What to tell of %s could not be found.", notice.key)
            Notice.objects.filter(pk=notice.pk).update(dealt_at=now)
    return len(notices)


class Dealer:
    """Deals one project's changes of one pass."""

    def __init__(self, project: Project, now: datetime) -> None:
        self.project, self.now = project, now
        self.mode: ProjectNotices | None = getattr(project, "notices_mode", None)
        self.tester = tester_of(self.mode)
        self.people = People(project)
        self.webhooks = list(Webhook.objects.filter(project=project, is_on=True).defer("url", "secret"))

    def deal(self, notice: Notice) -> None:
        """In one transaction: the change is dealt, and who hears of it has a message. Whoever comes second does
        nothing."""
        with transaction.atomic():
            if not Notice.objects.filter(pk=notice.pk, dealt_at=None).update(dealt_at=self.now):
                return
            told = words.of(notice.event) if notice.event else []
            for each in told:
                self._tell(notice, each)

    def _tell(self, notice: Notice, told: words.Told) -> None:
        wave, application = told.place
        said = {
            "kind": told.kind,
            "title": told.title[:300],
            "text": told.text,
            "path": told.path,
            "wave": wave,
            "application": application,
        }
        if told.key:
            notice, made = Notice.objects.get_or_create(
                key=told.key,
                defaults={
                    "project": self.project,
                    "event": notice.event,
                    "at": notice.at,
                    "dealt_at": self.now,
                    **said,
                },
            )
            if not made:
                return
        else:
            Notice.objects.filter(pk=notice.pk).update(**said)
            for name, value in said.items():
                setattr(notice, name, value)
        if self.mode is not None and self.mode.mode == Mode.OFF:
            return
        hear = self.people.hear(told.audience, application, told.kind, wave)
        if self.mode is not None and self.mode.mode == Mode.TEST:
            if self.tester is not None:
                self._to_person(notice, Receiver(self.tester, "", []), meant_for=hear)
            return
        for receiver in hear:
            self._to_person(notice, receiver)
        for webhook in self.webhooks:
            if told.kind in webhook.kinds:
                self._to_webhook(notice, webhook)

    def _to_person(self, notice: Notice, receiver: Receiver, *, meant_for: Sequence[Receiver] | None = None) -> None:
        user = receiver.user
        due = receiver.due(self.now + timedelta(seconds=settings.NOTICE_GROUP), self.project)
        message = _open_message(notice, user=user, is_test=meant_for is not None)
        if message is None:
            why = "" if settings.MAIL_SENT else NO_SERVER
            message = self._new(notice, due, user.email, why or ("" if user.email else NO_ADDRESS), user=user)
            if meant_for is not None:
                Message.objects.filter(pk=message.pk).update(is_test=True)
        names = [_name(each.user) for each in meant_for or ()]
        Part.objects.create(message=message, notice=notice, user=user, meant_for=names)

    def _to_webhook(self, notice: Notice, webhook: Webhook) -> None:
        message = _open_message(notice, webhook=webhook)
        if message is None:
            due = self.now + timedelta(seconds=settings.NOTICE_GROUP)
            message = self._new(notice, due, f"{webhook.name} ({webhook.host})"[:300], "", webhook=webhook)
        Part.objects.create(message=message, notice=notice, webhook=webhook)

    def _new(
        self,
        notice: Notice,
        due: datetime,
        to: str,
        kept_back: str,
        *,
        user: User | None = None,
        webhook: Webhook | None = None,
    ) -> Message:
        """`kept_back`: why it is not sent at all; it stands in the log all the same."""
        return Message.objects.create(
            project=self.project,
            wave=notice.wave,
            user=user,
            webhook=webhook,
            to=to,
            due_at=due,
            uuid=uuid.uuid4(),
            state=Message.State.DROPPED if kept_back else Message.State.WAITING,
            reason=kept_back,
        )


def _open_message(
    notice: Notice, *, user: User | None = None, webhook: Webhook | None = None, is_test: bool = False
) -> Message | None:
    """The receiver's message about this wave that nobody has begun to send; locked until the transaction ends."""
    still = Message.objects.filter(project=notice.project_id, wave=notice.wave, user=user, webhook=webhook)
    message = still.filter(state=Message.State.WAITING, tries=0, is_test=is_test).first()
    if message is None:
        return None
    mine = Message.objects.filter(pk=message.pk, state=Message.State.WAITING, tries=0)
    return message if mine.update(state=Message.State.WAITING) else None


def _name(user: User) -> str:
    return user.get_full_name() or user.get_username()
