"""The only place in `projects` that knows django-q2: a message is put on its way, in a short task of its own."""

from __future__ import annotations

from functools import partial

from django.db import transaction
from django_q.tasks import async_task


def enqueue_message(message_id: int) -> None:
    """Once the row that says so is committed."""
    name = f"notice {message_id}"
    transaction.on_commit(partial(async_task, "projects.notify.sending.send", message_id, task_name=name))
