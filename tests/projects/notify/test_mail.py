"""E-mail through a real SMTP server: what it says, and what becomes of it whatever the server does."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone

from migrationhub.audit.models import AuditEvent
from migrationhub.audit.record import record
from migrationhub.lib.mail import mailer
from projects.errors import Conflict
from projects.models import Message, Notice, NoticeSettings, Step
from projects.notify import dealing, mail, passes, sending

from .conftest import Team, moment
from .receivers import Mailbox

pytestmark = pytest.mark.django_db
Deliver = Callable[..., list[Message]]
FAR = 10 * 86400  # seconds: past every pause


@pytest.fixture
def one(team: Team, box: Mailbox) -> Team:
    """One change that the lead alone hears of."""
    NoticeSettings.objects.create(user=team.operator, project=team.project, kinds=[])
    step = team.migration.steps.get(kind=Step.Kind.INITIAL)
    record("step.attention", step, project_id=team.project.pk, why="<b>full</b> & over\nsecond line")
    return team


def point_at(settings: Any, port: int, security: str = "none", timeout: float = 5) -> None:
    settings.MAILERS = {"default": mailer("127.0.0.1", port, security=security, user="", password="")}
    settings.MAILERS["default"]["OPTIONS"]["timeout"] = timeout


def test_what_a_mail_says(one: Team, box: Mailbox, deliver: Deliver) -> None:
    (message,) = deliver()
    assert message.state == Message.State.SENT and message.sent_at is not None
    (found,) = box.mails
    assert str(found["Subject"]).strip() == "[migrationhub] Basel exit: Initial migration of shop-db needs attention"
    assert found["Message-ID"] == f"<{message.uuid}@localhost>"
    assert found["Auto-Submitted"] == "auto-generated"
    plain = found.get_body(("plain",)).get_content()  # type: ignore[union-attr]
    html = found.get_body(("html",)).get_content()  # type: ignore[union-attr]
    link = f"https://hub.example/migrations/{one.migration.pk}/"
    assert link in plain and "<b>full</b> & over" in plain
    assert f'<a href="{link}">' in html and "&lt;b&gt;full&lt;/b&gt; &amp; over<br>second line" in html
    assert "https://hub.example/accounts/notifications/" in plain
    assert "(Europe/Zurich)" in plain


def test_the_hour_in_a_mail_is_that_of_the_zone_beside_it(one: Team, box: Mailbox, deliver: Deliver) -> None:
    deliver()
    at = timezone.localtime(Notice.objects.get().at, ZoneInfo("Europe/Zurich"))
    (found,) = box.mails
    for form in ("plain", "html"):
        body = found.get_body((form,)).get_content()  # type: ignore[union-attr]
        assert f"{at:%H:%M} (Europe/Zurich)" in body


def test_a_name_with_a_line_break_adds_no_header(one: Team, box: Mailbox, deliver: Deliver) -> None:
    type(one.project).objects.filter(pk=one.project.pk).update(name="Basel\nBcc: eve@example.com")
    deliver()
    (found,) = box.mails
    assert found["Bcc"] is None
    assert box.to == ["lea@example.com"]


def test_without_a_site_address_there_is_no_link(one: Team, box: Mailbox, deliver: Deliver, settings: Any) -> None:
    settings.SITE_URL = ""
    deliver()
    assert "http" not in box.mails[0].get_body(("plain",)).get_content()  # type: ignore[union-attr]


def test_a_server_that_is_down_is_tried_again(one: Team, box: Mailbox, deliver: Deliver, settings: Any) -> None:
    point_at(settings, 1)
    (message,) = deliver(45)
    assert (message.state, message.tries) == (Message.State.WAITING, 1)
    assert "refused" in message.reason
    assert timedelta(seconds=50) < message.due_at - timezone.now() < timedelta(seconds=61)
    point_at(settings, box.port)
    (message,) = deliver(FAR)
    assert (message.state, message.tries, message.reason) == (Message.State.SENT, 2, "")
    assert len(box.mails) == 1


def test_it_is_given_up_at_last_and_says_why(one: Team, box: Mailbox, deliver: Deliver, settings: Any) -> None:
    point_at(settings, 1)
    (message,) = deliver(FAR)
    assert (message.state, message.tries) == (Message.State.FAILED, len(sending.PAUSES) + 1)
    assert "refused" in message.reason


@pytest.mark.parametrize(("said", "state"), [("451 later", "waiting"), ("554 spam", "failed")])
def test_what_the_server_says_to_the_text(one: Team, box: Mailbox, deliver: Deliver, said: str, state: str) -> None:
    box.answer = said
    (message,) = deliver(45)
    assert message.state == state
    assert f"The mail server said: {said}" in message.reason
    assert box.mails == []


def test_an_address_that_there_is_not(one: Team, box: Mailbox, deliver: Deliver) -> None:
    box.rcpt = "550 no such user"
    (message,) = deliver(FAR)
    assert (message.state, message.tries) == (Message.State.FAILED, 1)
    assert message.reason == "The address was refused: 550 no such user"


def test_an_answer_that_never_came_is_not_asked_for_twice(one: Team, box: Mailbox, deliver: Deliver) -> None:
    box.hang = True
    (message,) = deliver(FAR)
    assert message.state == Message.State.UNKNOWN
    assert "had the text and gave no answer" in message.reason
    deliver(FAR)
    assert len(box.mails) == 1, "it did arrive: once"


def test_a_server_that_is_too_slow_with_its_answer(one: Team, box: Mailbox, deliver: Deliver, settings: Any) -> None:
    point_at(settings, box.port, timeout=3)
    box.slow = 30
    (message,) = deliver(FAR)
    assert message.state == Message.State.UNKNOWN
    assert len(box.mails) == 1


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_server_without_tls_gets_nothing(
    one: Team, box: Mailbox, deliver: Deliver, settings: Any, security: str
) -> None:
    point_at(settings, box.port, security, timeout=2)
    (message,) = deliver(45)
    assert message.state == Message.State.WAITING
    assert "STARTTLS" in message.reason or "SSL" in message.reason or "timed out" in message.reason
    assert box.mails == []


@pytest.mark.filterwarnings("ignore:This process")  # the child only talks to the server
def test_killed_while_it_sends(one: Team, box: Mailbox) -> None:
    """A worker dies with the text at the server: it arrived, and nothing sends it again."""
    dealing.deal(timezone.now())
    Message.objects.update(state=Message.State.QUEUED)
    message = sending.claim(Message.objects.get().pk)
    assert message is not None
    built, box.slow = mail.built(message), 30
    child = os.fork()
    if child == 0:
        try:
            mail.hand_over(built)
        finally:
            os._exit(0)
    deadline = time.monotonic() + 30
    while not box.mails and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    passes.advance(timezone.now())
    assert Message.objects.get().state == Message.State.SENDING
    passes.advance(moment(sending.LOST.total_seconds() + 5))
    message.refresh_from_db()
    assert message.state == Message.State.UNKNOWN and "may have arrived" in message.reason
    assert sending.claim(message.pk) is None
    assert len(box.mails) == 1


def test_a_task_that_was_lost_before_it_began_is_sent(one: Team, box: Mailbox, deliver: Deliver) -> None:
    dealing.deal(timezone.now())
    Message.objects.update(state=Message.State.QUEUED, changed_at=timezone.now())
    passes.advance(moment(10))
    assert Message.objects.get().state == Message.State.QUEUED, "it may be on its way"
    sending.recover(moment(sending.LOST.total_seconds() + 5))
    assert deliver()[0].state == Message.State.SENT
    assert len(box.mails) == 1


def test_the_same_task_twice_sends_once(one: Team, box: Mailbox) -> None:
    dealing.deal(timezone.now())
    Message.objects.update(state=Message.State.QUEUED)
    for _ in range(2):
        sending.send(Message.objects.get().pk)
    assert len(box.mails) == 1


def test_few_are_under_way_at_a_time(team: Team, box: Mailbox, settings: Any) -> None:
    for n in range(5):
        due = {"due_at": moment(-1), "uuid": f"00000000-0000-0000-0000-00000000000{n}"}
        Message.objects.create(project=team.project, user=team.lead, to="lea@example.com", **due)
    for workers, most in ((1, 1), (4, 2), (40, 2)):
        settings.WORKERS = workers
        Message.objects.update(state=Message.State.WAITING)
        for _ in range(3):
            sending.queue(timezone.now())
        assert Message.objects.filter(state=Message.State.QUEUED).count() == most


def test_the_task_is_on_its_way_once_it_is_committed(
    one: Team, box: Mailbox, django_capture_on_commit_callbacks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks: list[tuple[Any, ...]] = []
    monkeypatch.setattr("projects.tasks.async_task", lambda *args, **_: tasks.append(args))
    dealing.deal(timezone.now())
    with django_capture_on_commit_callbacks(execute=True):
        sending.queue(moment(60))
        assert tasks == []
    assert tasks == [("projects.notify.sending.send", Message.objects.get().pk)]


def test_what_may_have_arrived_is_sent_again_as_it_was(one: Team, box: Mailbox, deliver: Deliver) -> None:
    """Under the same name; a change that came meanwhile has a mail of its own, which nobody takes for the same."""
    deliver()
    message = Message.objects.get()
    Message.objects.update(state=Message.State.UNKNOWN)
    sending.send_again(message, user=one.lead)
    record("step.attention", one.migration.steps.get(kind=Step.Kind.DELTA), project_id=one.project.pk, why="new")
    deliver()
    names = [mail["Message-ID"] for mail in box.mails]
    assert names[0] == names[1] != names[2]
    assert [mail["Subject"] for mail in box.mails[:2]] == [box.mails[0]["Subject"]] * 2
    assert "Delta migrations" in str(box.mails[2]["Subject"])


def test_by_hand_it_is_sent_again(one: Team, box: Mailbox, deliver: Deliver) -> None:
    box.answer = "554 spam"
    (message,) = deliver()
    box.answer = "250 OK"
    sending.send_again(message, user=one.lead)
    assert deliver()[0].state == Message.State.SENT
    assert AuditEvent.objects.filter(verb="message.again").count() == 1
    with pytest.raises(Conflict, match="not one that could be sent again"):
        sending.send_again(message, user=one.lead)
    assert len(box.mails) == 1
