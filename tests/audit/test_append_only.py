"""What was recorded stays: refused by the model, and by the database to whoever goes round the model."""

from __future__ import annotations

import pytest
from django.core.management.color import no_style
from django.db import DatabaseError, connection, models, transaction
from django.test import Client, RequestFactory, override_settings

from migrationhub.audit.middleware import client_address
from migrationhub.audit.models import AuditEvent
from migrationhub.audit.record import origin, record
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def event(db: None) -> AuditEvent:
    return record("test.kept", factories.make_user("anna"), why="because")


REFUSED = {
    "update": lambda rows, event: rows.update(why="x"),
    "delete": lambda rows, event: rows.delete(),
    "bulk_update": lambda rows, event: rows.bulk_update([event], ["why"]),
    "bulk_create": lambda rows, event: rows.bulk_create([event], ignore_conflicts=True),
    "update_or_create": lambda rows, event: rows.update_or_create(pk=event.pk, defaults={"why": "x"}),
    "save": lambda rows, event: event.save(),
    "delete one": lambda rows, event: event.delete(),
    "base manager": lambda rows, event: AuditEvent._base_manager.update(why="x"),
}


@pytest.mark.parametrize("way", REFUSED)
def test_the_model_refuses(event: AuditEvent, way: str) -> None:
    event.why = "changed"
    with pytest.raises(TypeError, match="never changed"):
        REFUSED[way](AuditEvent.objects.filter(pk=event.pk), event)
    assert AuditEvent.objects.get(pk=event.pk).why == "because"


STATEMENTS = [
    "UPDATE audit_auditevent SET why = 'x'",
    "DELETE FROM audit_auditevent",
    "REPLACE INTO audit_auditevent SELECT * FROM audit_auditevent"
    if connection.vendor == "sqlite"
    else "TRUNCATE audit_auditevent CASCADE",  # notices refer to it: without the word PostgreSQL refuses anyhow
]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_the_database_refuses(event: AuditEvent, statement: str) -> None:
    connection.check_constraints()  # else PostgreSQL refuses to truncate for what is still to be checked
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)
    # Django's own ways round the model's manager end there too.
    plain: models.QuerySet[AuditEvent] = models.QuerySet(AuditEvent)
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        plain.update(why="x")
    assert AuditEvent.objects.get(pk=event.pk).why == "because"


def test_an_act_that_fails_leaves_no_event(db: None) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        record("test.undone", factories.make_user())
        _ = 1 / 0
    assert not AuditEvent.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_tests_that_commit_are_emptied_and_the_triggers_stand_again() -> None:
    record("test.committed", factories.make_user())
    with connection.cursor() as cursor:
        tables = ["audit_auditevent"]
        connection.ops.execute_sql_flush(connection.ops.sql_flush(no_style(), tables, allow_cascade=True))
        cursor.execute("SELECT count(*) FROM audit_auditevent")
        assert cursor.fetchone() == (0,)
    record("test.committed", factories.make_user())
    with pytest.raises(DatabaseError, match="append-only"), connection.cursor() as cursor:
        cursor.execute("DELETE FROM audit_auditevent")


ADDRESSES = [
    # behind, REMOTE_ADDR, X-Forwarded-For, what is believed
    (False, "192.0.2.9", None, "192.0.2.9"),
    (False, "192.0.2.9", "203.0.113.1", "192.0.2.9"),  # whoever sends the header without a proxy invents it
    (True, "127.0.0.1", "203.0.113.1", "203.0.113.1"),
    (True, "127.0.0.1", "10.0.0.1, 203.0.113.1", "203.0.113.1"),  # the browser wrote the first, our proxy the last
    (True, "127.0.0.1", "10.0.0.1, [2001:db8::7]:443", "2001:db8::7"),
    (True, "127.0.0.1", None, "127.0.0.1"),
    (True, "127.0.0.1", "<script>", ""),
    (False, "", None, ""),
]


@pytest.mark.parametrize(("behind", "remote", "forwarded", "believed"), ADDRESSES)
def test_the_address_is_believed_from_our_proxy_alone(
    behind: bool, remote: str, forwarded: str | None, believed: str
) -> None:
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    request = RequestFactory().get("/", REMOTE_ADDR=remote, headers=headers)
    with override_settings(BEHIND_PROXY=behind):
        assert client_address(request) == believed


def test_a_press_is_recorded_with_its_address(db: None) -> None:
    staff = factories.make_user("sam", is_staff=True)
    client = Client(REMOTE_ADDR="198.51.100.4")
    client.force_login(staff, "django.contrib.auth.backends.ModelBackend")
    client.post("/projects/new/", {"name": "Basel exit", "slug": "basel", "time_zone": "UTC"})
    event = AuditEvent.objects.get(verb="project.create")
    assert (event.actor, event.address) == (staff, "198.51.100.4")
    assert origin.get() == ""
    assert record("test.background", staff).address == ""
