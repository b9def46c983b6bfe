"""Webhooks against a real HTTP server: signed, never redirected, never twice, and never with the address in a log."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from migrationhub.audit.models import AuditEvent
from migrationhub.audit.record import record
from migrationhub.lib.findings import Problem
from projects import planning_notices as verbs
from projects.models import Message, NoticeKind, Step, Webhook
from projects.notify import webhooks

from .conftest import Team
from .receivers import Mailbox, Posts

pytestmark = pytest.mark.django_db
Deliver = Callable[..., list[Message]]
FAR = 10 * 86400  # seconds: past every pause


def hook(team: Team, url: str, format: str = "generic") -> str:
    """A webhook; its secret."""
    values = {"name": f"team {format}", "format": format, "url": url, "kinds": NoticeKind.values, "is_on": True}
    return verbs.save_webhook(
        project=team.project, webhook=None, values={**values, "new_secret": False}, user=team.lead
    )


def happen(team: Team, why: str = "The disk is full.") -> None:
    step = team.migration.steps.get(kind=Step.Kind.INITIAL)
    record("step.attention", step, project_id=team.project.pk, why=why)


def posted(messages: list[Message]) -> Message:
    (found,) = [message for message in messages if message.user_id is None]
    return found


def test_signed_over_the_raw_body(team: Team, web: Posts, deliver: Deliver, settings: Any) -> None:
    settings.SITE_URL = "https://hub.example"
    secret = hook(team, web.url)
    happen(team)
    message = posted(deliver())
    assert message.state == Message.State.SENT
    ((path, headers, body),) = web.found
    assert path == "/services/T0/geheim"
    stamp = headers["X-Migrationhub-Timestamp"]
    expected = hmac.new(secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    assert headers["X-Migrationhub-Signature"] == f"sha256={expected}"
    assert headers["X-Migrationhub-Delivery"] == str(message.uuid)
    said = json.loads(body)
    assert (said["project"], said["wave"]) == ("Basel exit", str(team.wave))
    (change,) = said["changes"]
    assert (change["kind"], change["text"]) == ("attention", "The disk is full.")
    assert change["url"] == f"https://hub.example/migrations/{team.migration.pk}/"


def test_slack_is_told_in_its_own_form_and_calls_nobody(
    team: Team, web: Posts, deliver: Deliver, settings: Any
) -> None:
    settings.SITE_URL = "https://hub.example"
    assert hook(team, web.url, "slack") == ""
    happen(team, "<!channel> & co")
    deliver()
    ((_, headers, body),) = web.found
    text = json.loads(body)["text"]
    link = f"<https://hub.example/migrations/{team.migration.pk}/|Initial migration of shop-db needs attention>"
    assert link in text and "&lt;!channel&gt; &amp; co" in text
    assert "X-Migrationhub-Signature" not in headers


def test_slack_gets_no_more_than_it_takes_and_says_so(team: Team, web: Posts, deliver: Deliver) -> None:
    hook(team, web.url, "slack")
    for number in range(50):
        happen(team, f"{number} " + "<" * 500)
    deliver()
    ((_, _, body),) = web.found
    text = json.loads(body)["text"]
    assert 37_000 < len(text) < 40_000
    whole = text.count("• ")
    assert text.endswith(f"\n… and {50 - whole} more changes: see the pages.") and f"\n{whole - 1} &lt;" in text


def test_several_changes_are_one_post(team: Team, web: Posts, deliver: Deliver) -> None:
    hook(team, web.url)
    for _ in range(3):
        happen(team)
    deliver()
    ((_, _, body),) = web.found
    assert len(json.loads(body)["changes"]) == 3


def test_only_what_it_is_for(team: Team, web: Posts, deliver: Deliver) -> None:
    hook(team, web.url)
    Webhook.objects.update(kinds=["wave"])
    happen(team)
    deliver()
    assert web.found == []


def test_a_fault_of_the_server_is_tried_again_under_the_same_name(team: Team, web: Posts, deliver: Deliver) -> None:
    hook(team, web.url)
    happen(team)
    web.status = 503
    message = posted(deliver(45))
    assert (message.state, message.reason) == (Message.State.WAITING, "It answered 503.")
    web.status = 204
    assert posted(deliver(FAR)).state == Message.State.SENT
    assert len({headers["X-Migrationhub-Delivery"] for _, headers, _ in web.found}) == 1
    assert len(web.found) == 2


def test_a_redirect_is_not_followed(team: Team, web: Posts, deliver: Deliver) -> None:
    hook(team, web.url)
    happen(team)
    web.status, web.location = 307, f"http://127.0.0.1:{web.server_port}/elsewhere"
    message = posted(deliver(FAR))
    assert (message.state, message.tries) == (Message.State.FAILED, 1)
    assert "redirect" in message.reason
    assert [path for path, _, _ in web.found] == ["/services/T0/geheim"]


def test_what_is_refused_is_not_tried_again(team: Team, web: Posts, deliver: Deliver) -> None:
    hook(team, web.url)
    happen(team)
    web.status = 404
    message = posted(deliver(FAR))
    assert (message.state, message.tries, message.reason) == (Message.State.FAILED, 1, "It answered 404.")


@pytest.mark.parametrize("how", ["slow", "cut"])
def test_what_may_have_arrived_is_not_posted_twice(
    team: Team, web: Posts, deliver: Deliver, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(webhooks, "TIMEOUT", (2, 0.3))
    web.wait, web.cut = (0.8, False) if how == "slow" else (0.0, True)
    hook(team, web.url)
    happen(team)
    message = posted(deliver(FAR))
    assert message.state == Message.State.UNKNOWN
    assert "It was posted" in message.reason
    deliver(FAR)
    assert len(web.found) == 1


def test_nothing_listens_and_nothing_of_the_address_is_told(
    team: Team, web: Posts, deliver: Deliver, caplog: pytest.LogCaptureFixture
) -> None:
    hook(team, "http://127.0.0.1:1/services/T0/geheim")
    happen(team)
    with caplog.at_level(logging.INFO):
        message = posted(deliver(45))
    assert (message.state, message.reason) == (Message.State.WAITING, "No connection: Connection refused")
    assert "geheim" not in caplog.text


def test_a_server_that_speaks_no_tls(team: Team, web: Posts, deliver: Deliver) -> None:
    hook(team, web.url.replace("http:", "https:"))
    happen(team)
    message = posted(deliver(45))
    assert message.state == Message.State.WAITING
    assert message.reason.startswith("TLS: ")
    assert "geheim" not in message.reason
    assert web.found == []


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("ftp://hooks.example/x", "no address of a webhook"),
        ("hooks.example/x", "no address of a webhook"),
        ("https://", "no address of a webhook"),
        ("https://h:port/", "no address of a webhook"),
        ("https://.x/", "no address of a webhook"),
        ("https://hooks..example/", "no address of a webhook"),
        (f"https://{'h' * 254}/", "no address of a webhook"),
        ("https://me:pw@hooks.example/x", "user name or password"),
        ("http://hooks.example/x", "without TLS"),
    ],
)
def test_where_nothing_is_posted_to(url: str, word: str) -> None:
    with pytest.raises(Problem, match=word):
        webhooks.host_of(url)


def test_the_longest_name_and_host_keep_nobody_from_being_told(team: Team, deliver: Deliver) -> None:
    hook(team, f"https://{'.'.join(['h' * 63] * 3 + ['h' * 61])}/")  # 253 characters
    Webhook.objects.update(name="n" * 100)
    happen(team)
    deliver(0)
    to = Message.objects.get(user=None).to
    assert to.startswith("n" * 100) and len(to) <= (Message._meta.get_field("to").max_length or 0)


def test_without_tls_only_where_the_host_is_named(team: Team, web: Posts, deliver: Deliver, settings: Any) -> None:
    hook(team, web.url)
    happen(team)
    settings.WEBHOOK_HTTP_HOSTS = []
    message = posted(deliver(FAR))
    assert message.state == Message.State.FAILED and "without TLS" in message.reason
    assert web.found == []


def test_address_and_secret_are_kept_encrypted_and_told_nowhere(team: Team, web: Posts) -> None:
    secret = hook(team, web.url)
    with connection.cursor() as cursor:
        cursor.execute("SELECT url, secret FROM projects_webhook")
        stored = str(cursor.fetchall())
    told = str(list(AuditEvent.objects.values()))
    for text in (stored, told, repr(Webhook.objects.get()), str(webhooks.Post(web.url, b"", {}))):
        assert "geheim" not in text and secret not in text
    row = Webhook.objects.get()
    assert (row.url, row.secret, row.host) == (web.url, secret, "127.0.0.1")


def test_what_is_not_entered_anew_is_kept(team: Team, web: Posts) -> None:
    secret = hook(team, web.url)
    row = Webhook.objects.get()
    values = {"name": "other", "format": "generic", "url": "", "kinds": ["wave"], "is_on": False, "new_secret": False}
    assert verbs.save_webhook(project=team.project, webhook=row, values=values, user=team.lead) == ""
    row = Webhook.objects.get()
    assert (row.url, row.secret, row.name, row.is_on) == (web.url, secret, "other", False)
    row = Webhook.objects.get()
    new = verbs.save_webhook(project=team.project, webhook=row, values={**values, "new_secret": True}, user=team.lead)
    assert new and new != secret and Webhook.objects.get().secret == new


def test_one_that_was_removed_gets_nothing_more(team: Team, web: Posts, deliver: Deliver) -> None:
    hook(team, web.url)
    happen(team)
    deliver(0)
    verbs.remove_webhook(Webhook.objects.get(), user=team.lead)
    message = posted(deliver())
    assert message.state == Message.State.DROPPED and "removed or switched off" in message.reason
    assert web.found == []


def test_a_rehearsal_posts_nothing(team: Team, web: Posts, box: Mailbox, deliver: Deliver) -> None:
    hook(team, web.url)
    verbs.set_mode(project=team.project, mode="test", user=team.lead)
    happen(team)
    deliver()
    assert web.found == []
    assert box.to == ["lea@example.com"]


def test_a_webhook_that_fails_keeps_no_mail_back(team: Team, web: Posts, box: Mailbox, deliver: Deliver) -> None:
    web.status = 500
    hook(team, web.url)
    happen(team)
    deliver()
    assert sorted(box.to) == ["lea@example.com", "omar@example.com"]
