"""Several lists in one query come back as the rows that they are."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from migrationhub.lib import together
from projects.models import Action, Project, StepAttempt
from servers.models import Credential, ProbeResult, Run, SyncPoint
from tests import factories

pytestmark = pytest.mark.django_db


def same(one, other) -> None:
    for field in one._meta.concrete_fields:
        assert getattr(one, field.attname) == getattr(other, field.attname), field
        assert type(getattr(one, field.attname)) is type(getattr(other, field.attname)), field


def test_rows_come_back_as_from_their_own_queries() -> None:
    migration = factories.make_migration(target=True)
    attempt = factories.make_attempt(migration.steps.get(position=1))
    factories.make_action(attempt, parameters={"a": ["text", 1, None, {"ü": "“"}]}, reason="it's\na reason")
    sync = factories.make_sync(migration, facts={"config_changed": ["/etc/x"]}, seconds=1.25)
    probe = factories.make_probe(migration.source)
    for passed in (True, False, None):
        factories.make_probe_result(probe, "clone", passed)
    lists = {
        "runs": Run.objects.all(),
        "syncs": SyncPoint.objects.filter(pk=sync.pk),
        "results": ProbeResult.objects.all(),
        "attempts": StepAttempt.objects.all(),
        "actions": Action.objects.all(),
        "none": Project.objects.filter(name="there is no such project"),
    }
    together.fetch(**lists)  # Django asks once what the database can do
    with CaptureQueriesContext(connection) as queries:
        found = together.fetch(**lists)
    assert len(queries) == 1
    for name, rows in lists.items():
        expected = {row.pk: row for row in rows}
        assert {row.pk for row in found[name]} == set(expected), name
        for row in found[name]:
            assert type(row) is type(expected[row.pk])
            same(row, expected[row.pk])


def test_one_list_alone_and_a_limit_by_keys() -> None:
    project = factories.make_project()
    for n in range(3):
        factories.make_wave(project, starts_at=timezone.now() + timedelta(hours=n))
    newest = project.waves.order_by("-number").values("pk")[:2]
    found = together.fetch(waves=project.waves.filter(pk__in=newest))
    assert sorted(wave.number for wave in found["waves"]) == [2, 3]


def test_columns_that_were_left_out_stay_out() -> None:
    factories.make_user("olga", first_name="Olga", log_in=True)
    [user] = together.fetch(users=User.objects.only("id", "username"))["users"]
    assert "password" in user.get_deferred_fields()
    assert user.username == "olga"


def test_a_secret_is_not_carried_and_that_is_said() -> None:
    factories.make_credential()
    with pytest.raises(TypeError, match="secret"):
        together.fetch(credentials=Credential.objects.all())
    [found] = together.fetch(c=Credential.objects.defer("secret", "passphrase", "become_password"))["c"]
    assert found.username == "root"


def test_a_reverse_relation_is_filled_without_a_query() -> None:
    server = factories.make_server()
    keys = list(server.host_keys.all())
    together.prefilled(server, "host_keys", keys)
    with CaptureQueriesContext(connection) as queries:
        assert list(server.host_keys.all()) == keys
        assert [key.fingerprint for key in server.host_keys.all()] == [keys[0].fingerprint]
    assert not queries.captured_queries
