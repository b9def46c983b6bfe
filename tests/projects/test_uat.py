"""A test that is open: who ends it, extends it, breaks it off; and what the owner reads."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from migrationhub.audit.models import AuditEvent
from projects import uat, workflow
from projects.errors import Conflict, Forbidden, NotReady
from projects.lanes import lane_of
from projects.models import Hold, Migration, Step
from projects.steps import MODULES
from projects.views.contexts.live import tag_of
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def migration() -> Migration:
    made = factories.make_migration(steps=False)
    workflow.plan_steps(made)
    Step.objects.filter(migration=made, kind=Step.Kind.INITIAL).update(state=Step.State.DONE)
    return made


def owner_of(migration: Migration) -> Any:
    assert migration.application is not None
    return migration.application.owner


def lead_of(migration: Migration) -> Any:
    return migration.project.memberships.get(role="lead").user


def at(migration: Migration) -> tuple[int, int]:
    return migration.wave_id or 0, migration.application_id or 0


def delta_waits_for(migration: Migration) -> list[str]:
    return [each.code for each in MODULES[Step.Kind.DELTA].unmet(lane_of(migration))]


def test_an_extended_test_goes_on_holding_deltas_and_one_of_two_wins(migration: Migration) -> None:
    owner, until = owner_of(migration), timezone.now() + timedelta(hours=1)
    hold = uat.open_uat(*at(migration), user=owner, until=until)
    uat.extend(*at(migration), user=owner, until=until + timedelta(hours=2))
    hold.refresh_from_db()
    assert hold.until == until + timedelta(hours=2)
    assert "hold.uat" in delta_waits_for(migration)
    assert AuditEvent.objects.get(verb="uat.extend").before["until"] == until.isoformat()
    with pytest.raises(NotReady, match="that is over"):
        uat.extend(*at(migration), user=owner, until=timezone.now() - timedelta(minutes=1))


def test_an_extended_end_reaches_a_page_that_is_open(migration: Migration, client: Client) -> None:
    owner = owner_of(migration)
    uat.open_uat(*at(migration), user=owner, until=timezone.now() + timedelta(hours=1))
    shown = tag_of(Migration.objects.filter(pk=migration.pk))
    client.force_login(owner)
    uat.extend(*at(migration), user=owner, until=timezone.now() + timedelta(hours=9))
    polled = client.get(
        reverse("acceptance", args=at(migration)), {"region": "live", "v": shown}, headers={"HX-Request": "true"}
    )
    assert polled.status_code == 200, "204: nothing changed"


def test_no_test_opens_on_a_cutover_that_begins_in_the_same_moment(
    migration: Migration, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = uat.uat_unmet

    def unmet(lanes: list[Any]) -> list[str]:
        missing = real(lanes)
        workflow.launch(lane_of(migration), Step.Kind.STOP, user=lead_of(migration))
        return missing

    monkeypatch.setattr(uat, "uat_unmet", unmet)
    with pytest.raises(Conflict, match="was changed a moment ago"):
        uat.open_uat(*at(migration), user=owner_of(migration))
    assert not Hold.objects.exists()


def test_an_end_that_is_over_does_not_end_the_test(migration: Migration, client: Client) -> None:
    owner = owner_of(migration)
    hold = uat.open_uat(*at(migration), user=owner, until=timezone.now() + timedelta(hours=1))
    Hold.objects.filter(pk=hold.pk).update(until=timezone.now() - timedelta(minutes=5))
    assert "hold.uat" in delta_waits_for(migration)
    client.force_login(owner)
    page = client.get(reverse("acceptance", args=at(migration))).text
    assert "and is still open" in page
    assert "Extend it or end it." in page


def test_somebody_elses_test_is_broken_off_by_a_lead_alone_and_the_owner_reads_why(
    migration: Migration, client: Client
) -> None:
    owner, lead = owner_of(migration), lead_of(migration)
    operator = factories.make_member(migration.project, "operator")
    uat.open_uat(*at(migration), user=owner)
    for who in (lead, operator):
        with pytest.raises(Forbidden, match="A lead may break it off, with a reason"):
            uat.end(*at(migration), user=who)
    with pytest.raises(Forbidden):
        uat.break_off(*at(migration), user=operator, why="hurry")
    with pytest.raises(NotReady, match="say why"):
        uat.break_off(*at(migration), user=lead, why=" ")
    client.force_login(lead)
    assert 'id="act-uat-break"' in client.get(reverse("acceptance", args=at(migration))).text
    client.post(reverse("uat-break", args=at(migration)), {"why": "the window moved"})
    assert AuditEvent.objects.get(verb="hold.release").why == "the window moved"
    assert "hold.uat" not in delta_waits_for(migration)
    client.force_login(owner)
    page = client.get(reverse("acceptance", args=at(migration))).text
    assert "The test was broken off" in page
    assert "the window moved" in page
    with pytest.raises(Conflict):
        uat.extend(*at(migration), user=owner, until=None)


def test_a_new_test_makes_the_broken_one_past(migration: Migration, client: Client) -> None:
    owner = owner_of(migration)
    uat.open_uat(*at(migration), user=owner)
    uat.break_off(*at(migration), user=lead_of(migration), why="the window moved")
    uat.open_uat(*at(migration), user=owner)
    uat.end(*at(migration), user=owner)
    client.force_login(owner)
    assert "broken off" not in client.get(reverse("acceptance", args=at(migration))).text


def test_a_manager_neither_extends_nor_ends(migration: Migration, client: Client) -> None:
    uat.open_uat(*at(migration), user=owner_of(migration))
    client.force_login(factories.make_member(migration.project, "manager"))
    for name in ("uat-extend", "uat-end", "uat-break"):
        assert client.post(reverse(name, args=at(migration)), {"why": "x"}).status_code == 403
    assert Hold.objects.get().released_at is None
