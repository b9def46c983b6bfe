"""Handing messages over: a few at a time, again with growing pauses, never twice.

A message goes WAITING → QUEUED (a task is on its way) → SENDING (a worker has it) → SENT, FAILED or UNKNOWN, each by
one conditional UPDATE. A worker that dies with a message in its hands leaves it SENDING: it may have arrived, so it is
not sent again but shown as such; a lead may send it again by hand.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from functools import partial

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from migrationhub.audit.record import record
from migrationhub.lib.findings import Problem
from projects.errors import Conflict
from projects.models import Membership, Message, ProjectNotices
from projects.tasks import enqueue_message
from servers.away import written

from . import mail, people, webhooks
from .compose import parts_of
from .outcomes import NotSent, Unclear

log = logging.getLogger(__name__)
State = Message.State
Mode = ProjectNotices.Mode
# Minutes before the second, third … try; after the last pause the next failure is the end.
PAUSES = (1, 5, 15, 60, 240)
LOST = timedelta(minutes=6)  # longer than a task may take


def queue(now: datetime) -> None:
    """Put what is due on its way. Never so many that the acts of migrations wait for a free worker."""
    most = max(1, min(2, settings.WORKERS // 2))
    free = most - Message.objects.filter(state__in=Message.UNDER_WAY).count()
    if free <= 0:
        return
    due = Message.objects.filter(state=State.WAITING, due_at__lte=now).order_by("due_at", "pk")
    for pk in due.values_list("pk", flat=True)[:free]:
        with transaction.atomic():
            if Message.objects.filter(pk=pk, state=State.WAITING).update(state=State.QUEUED, changed_at=now):
                enqueue_message(pk)


def recover(now: datetime) -> None:
    """What no worker took goes back; what a worker had when it died is not known."""
    late = Message.objects.filter(changed_at__lt=now - LOST)
    late.filter(state=State.QUEUED).update(state=State.WAITING, changed_at=now)
    why = "The process that sent it ended in the middle: it may have arrived, so it is not sent again by itself."
    late.filter(state=State.SENDING).update(state=State.UNKNOWN, changed_at=now, reason=why)


def send(message_id: int) -> None:
    """Worker side. A second delivery of the same task finds nothing to claim."""
    message = claim(message_id)
    if message is None:
        return
    kept_back = _kept_back(message)
    if kept_back:
        _settle(message, State.DROPPED, kept_back)
        return
    try:
        hand_over = prepared(message)
    except Problem as problem:
        _settle(message, State.FAILED, f"{problem.text} {problem.act}".strip())
        return
    except Exception as error:
        log.exception("Message %s cannot be made.", message.pk)  # no other try would help
        _settle(message, State.FAILED, f"It could not be made ({type(error).__name__}): see the log of the server.")
        return
    try:
        hand_over()
    except NotSent as error:
        _again(message, error)
    except Unclear as error:
        _settle(message, State.UNKNOWN, error.reason)
    except Exception as error:
        log.exception("What came of message %s is not known.", message.pk)
        _settle(message, State.UNKNOWN, f"It may have arrived: sending ended with {type(error).__name__}.")
    else:
        _settle(message, State.SENT, "", sent_at=timezone.now())


def claim(message_id: int) -> Message | None:
    """Only one worker gets it."""
    taken = Message.objects.filter(pk=message_id, state=State.QUEUED).update(
        state=State.SENDING, tries=F("tries") + 1, changed_at=timezone.now()
    )
    related = ("project__notices_mode", "wave", "user", "webhook")
    return Message.objects.select_related(*related).get(pk=message_id) if taken else None


def prepared(message: Message) -> partial[None]:
    """Everything that can be done before the network."""
    if message.webhook is not None:
        return partial(webhooks.hand_over, webhooks.built(message, message.webhook))
    return partial(mail.hand_over, mail.built(message))


def _kept_back(message: Message) -> str:
    """Why it must not be sent any more; things may have changed since it was begun."""
    mode: ProjectNotices | None = getattr(message.project, "notices_mode", None)
    if mode is not None and mode.mode == Mode.OFF:
        return "The project's notifications were switched off before it was sent."
    if mode is not None and mode.mode == Mode.TEST and not message.is_test:
        return "The project's notifications were set to test before it was sent."
    if message.user is None:
        if message.webhook is None or not message.webhook.is_on:
            return "The webhook was removed or switched off before it was sent."
        return ""
    if not message.user.is_active or not Membership.objects.filter(project=message.project, user=message.user).exists():
        return f"{message.user} was no member any more when it was to be sent."
    if message.is_test and not people.leads(message.project_id, message.user_id):
        return f"{message.user} did not lead the project any more when it was to be sent."
    if not parts_of(message):
        return f"{message.user} could not see any more what it is about when it was to be sent."
    if not message.user.email:
        return "The account had no e-mail address any more when it was to be sent."
    message.to = message.user.email
    return ""


def _again(message: Message, error: NotSent) -> None:
    if not error.again or message.tries > len(PAUSES):
        _settle(message, State.FAILED, error.reason)
        return
    due = timezone.now() + timedelta(minutes=PAUSES[message.tries - 1])
    _settle(message, State.WAITING, error.reason, due_at=due)


def _settle(message: Message, state: str, reason: str, **fields: datetime) -> None:
    """What came of it, as soon as the database can be written."""
    mine = Message.objects.filter(pk=message.pk, state=State.SENDING, tries=message.tries)
    changed = {"state": state, "reason": reason, "to": message.to, "changed_at": timezone.now(), **fields}
    written(lambda: mine.update(**changed))


def send_again(message: Message, *, user: User) -> None:
    """By hand: what failed, or may not have arrived. Its tries begin anew, at one that counts as made: no new change
    joins it, as whoever has the message already takes it for the same."""
    with transaction.atomic():
        changed = Message.objects.filter(pk=message.pk, state__in=(State.FAILED, State.UNKNOWN)).update(
            state=State.WAITING, tries=1, due_at=timezone.now(), changed_at=timezone.now(), reason=""
        )
        if not changed:
            raise Conflict("This message is not one that could be sent again any more.", "Look at the list.")
        record("message.again", message, actor=user, project_id=message.project_id, before={"state": message.state})
