"""A newer version of a template taken into a list that is worked on: new items, and nothing else changes."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from migrationhub.audit.models import AuditEvent
from projects import approvals, checklists, list_versions, workflow
from projects.errors import Conflict, Forbidden, NotReady
from projects.lanes import lane_of
from projects.models import Approval, ChecklistItem, Migration, Step
from tests import factories

pytestmark = pytest.mark.django_db
K = Step.Kind
NEW = {
    "title": "Batch jobs are paused",
    "instruction": "All **three**.",
    "role": "operator",
    "holds": "start",
    "required": True,
    "evidence": False,
    "operation": "",
}


@pytest.fixture
def migration() -> Migration:
    made = factories.make_migration(steps=False)
    workflow.plan_steps(made)
    return made


@pytest.fixture
def lead(migration: Migration) -> User:
    return migration.project.memberships.get(role="lead").user


def template(migration: Migration, kind: str = K.STOP) -> Any:
    return checklists.newest(migration.project)[kind]


def write(migration: Migration, lead: User, kind: str = K.STOP, key: str = "", **over: Any) -> None:
    now = template(migration, kind)
    checklists.save_item(template=now, key=key, values=NEW | over, seen=checklists.mark(now), user=lead)


def stop(migration: Migration, kind: str = K.STOP) -> Step:
    return Step.objects.select_related("migration__project", "template").get(migration=migration, kind=kind)


def take(migration: Migration, user: User, kind: str = K.STOP) -> list[str]:
    mark = checklists.mark(template(migration, kind))
    return [line.title for line in list_versions.take(stop(migration, kind).pk, user=user, seen=mark)]


def test_only_new_items_are_added_and_no_answer_and_no_text_changes(migration, lead) -> None:
    step = stop(migration)
    step.checklist.filter(key="users-told").update(state="done", note="Told on Monday.", by=lead)
    before = list(step.checklist.order_by("pk").values())
    write(migration, lead)
    write(migration, lead, key="users-told", title="Users are told twice", instruction="By mail too.")
    now = template(migration)
    checklists.remove_item(template=now, key="pause-monitoring", seen=checklists.mark(now), user=lead)
    found = list_versions.difference(stop(migration))
    assert [line.title for line in found.added] == ["Batch jobs are paused"]
    assert [each.item.key for each in found.changed] == ["users-told"]
    assert {name for name, *_ in found.changed[0].fields} >= {"title", "instruction"}
    assert [item.key for item in found.gone] == ["pause-monitoring"]
    assert take(migration, lead) == ["Batch jobs are paused"]
    step = stop(migration)
    assert list(step.checklist.exclude(key="batch-jobs-are-paused").order_by("pk").values()) == before
    added = step.checklist.last()
    assert (added.title, added.state, added.by) == ("Batch jobs are paused", "open", None)
    assert step.template == template(migration) and step.template.used
    assert "“Batch jobs are paused” is open" in " ".join(
        item.text for item in workflow.MODULES[K.STOP].unmet(lane_of(migration))
    )


def test_it_is_in_the_trail_with_what_was_added(migration, lead) -> None:
    write(migration, lead)
    take(migration, lead)
    event = AuditEvent.objects.get(verb="checklist.version")
    assert (event.actor, event.before, event.project_id) == (lead, {"version": 1}, migration.project_id)
    assert event.after == {"version": 2, "added": ["Batch jobs are paused"], "left_out": []}


def test_an_item_that_would_never_tick_itself_is_left_out_of_a_step_under_way(migration, lead) -> None:
    write(migration, lead, operation="stop_services", title="Proven")
    factories.make_attempt(stop(migration), state="attention")
    found = list_versions.difference(stop(migration))
    assert [line.title for line in found.left_out] == ["Proven"] and not found.added
    assert take(migration, lead) == []
    assert stop(migration).template.version == 2
    assert not ChecklistItem.objects.filter(title="Proven").exists()


def test_a_version_that_changed_since_the_page_was_drawn_is_not_taken(migration, lead) -> None:
    write(migration, lead)
    seen = checklists.mark(template(migration))
    write(migration, lead, title="Another")
    with pytest.raises(Conflict, match="since the page was drawn"):
        list_versions.take(stop(migration).pk, user=lead, seen=seen)
    assert not stop(migration).checklist.filter(title="Batch jobs are paused").exists()


def test_twice_adds_nothing_twice(migration, lead) -> None:
    write(migration, lead)
    take(migration, lead)
    with pytest.raises(NotReady, match="version 2 already"):
        take(migration, lead)
    assert stop(migration).checklist.filter(title="Batch jobs are paused").count() == 1


def test_a_step_that_is_over_and_a_closed_migration_take_nothing(migration, lead) -> None:
    write(migration, lead)
    Step.objects.filter(pk=stop(migration).pk).update(state="done")
    with pytest.raises(NotReady, match="not changed any more"):
        take(migration, lead)
    Step.objects.filter(pk=stop(migration).pk).update(state="waiting")
    Migration.objects.filter(pk=migration.pk).update(state="cancelled")
    with pytest.raises(NotReady, match="is cancelled"):
        take(migration, lead)
    assert stop(migration).template.version == 1


def test_only_a_lead_takes_it(migration, lead) -> None:
    write(migration, lead)
    for role in ("operator", "manager", "owner"):
        with pytest.raises(Forbidden):
            take(migration, factories.make_member(migration.project, role))


def test_a_sign_off_needs_another_look_when_its_list_grows(migration, lead) -> None:
    Step.objects.filter(migration=migration, kind=K.UAT).update(state="running")
    factories.make_attempt(stop(migration, K.UAT))
    ChecklistItem.objects.filter(step__migration=migration, step__kind=K.UAT).update(state="done")
    approval = factories.make_asked(migration.wave, migration.application)
    Approval.objects.filter(pk=approval.pk).update(state="approved")
    write(migration, lead, K.UAT, role="owner", holds="end")
    take(migration, lead, K.UAT)
    approval.refresh_from_db()
    assert approval.state == Approval.State.STALE
    assert not approvals.signatures(approval)


def test_the_page_shows_what_would_be_added_and_the_button_adds_it(migration, lead) -> None:
    client = Client()
    client.force_login(lead, "django.contrib.auth.backends.ModelBackend")
    page = reverse("step-checklist", args=[stop(migration).pk])
    assert "of the newest version already" in client.get(page).content.decode()
    write(migration, lead)
    write(migration, lead, key="users-told", title="Users are told twice")
    Step.objects.filter(pk=stop(migration).pk).update(started_at=factories.hours(-1))
    assert page in client.get(reverse("migration", args=[migration.pk])).content.decode()
    text = client.get(page).content.decode()
    assert "Add 1 item" in text and "All <strong>three</strong>." in text and "Users are told twice" in text
    seen = checklists.mark(template(migration))
    answer = client.post(page, {"revision": seen}, follow=True)
    assert "has the new items" in answer.content.decode()
    assert stop(migration).checklist.filter(title="Batch jobs are paused").exists()
    assert page not in client.get(reverse("migration", args=[migration.pk])).content.decode()
