"""A project with people who have addresses, a mail server of its own, and a hand to drive what the controller does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from migrationhub.lib.mail import mailer
from projects.models import Application, Membership, Message, Migration, Project, Wave
from projects.notify import passes, sending
from tests import factories as make

from .receivers import Mailbox, Posts, mail_server, web_server


@dataclass
class Team:
    project: Project
    lead: User
    operator: User
    manager: User
    owner: User
    application: Application
    wave: Wave
    migration: Migration


@pytest.fixture
def team(db: None) -> Team:
    def person(name: str) -> User:
        return make.make_user(name, email=f"{name}@example.com", first_name=name.title())

    lead = person("lea")
    project = make.make_project("Basel exit", lead=lead, time_zone="Europe/Zurich")
    operator = make.make_member(project, Membership.Role.OPERATOR, person("omar"))
    manager = make.make_member(project, Membership.Role.MANAGER, person("mia"))
    owner = person("olga")
    application = make.make_application(project, "Shop", owner=owner)
    wave = make.make_wave(project, name="first")
    migration = make.make_migration(
        project=project, application=application, wave=wave, source=make.make_server("shop-db")
    )
    return Team(project, lead, operator, manager, owner, application, wave, migration)


@pytest.fixture(scope="module")
def _mailbox() -> Iterator[Mailbox]:
    with mail_server() as box:
        yield box


@pytest.fixture
def box(_mailbox: Mailbox, settings: Any) -> Mailbox:
    """The mail server, empty and friendly; mail leaves through it as it does outside of tests."""
    port = _mailbox.port
    _mailbox.__init__()  # type: ignore[misc]
    _mailbox.port = port
    settings.MAIL_SENT = True
    settings.MAILERS = {"default": mailer("127.0.0.1", port, security="none", user="", password="")}
    settings.SITE_URL = "https://hub.example"
    return _mailbox


@pytest.fixture
def web(settings: Any) -> Iterator[Posts]:
    settings.WEBHOOK_HTTP_HOSTS = ["127.0.0.1"]
    with web_server() as server:
        yield server


def moment(seconds: float = 0) -> datetime:
    return timezone.now() + timedelta(seconds=seconds)


@pytest.fixture
def deliver(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Message]]:
    """Passes of the controller at a time, and the tasks that it starts; the messages afterwards, oldest first."""
    tasks: list[int] = []
    monkeypatch.setattr("projects.tasks.async_task", lambda name, pk, **_: tasks.append(pk))

    def go(seconds: float = 60) -> list[Message]:
        for _ in range(30):
            passes.advance(moment())
            passes.advance(moment(seconds))
            queued = Message.objects.filter(state=Message.State.QUEUED).order_by("pk")
            if not queued:
                break
            for message in queued:
                sending.send(message.pk)
        return list(Message.objects.order_by("pk"))

    return go
