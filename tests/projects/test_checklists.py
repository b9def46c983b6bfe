"""Checklists: templates with versions, the lists made from them, evidence, and what an open item holds."""

from __future__ import annotations

import re
from typing import Any

import pytest

from migrationhub.audit.models import AuditEvent
from projects import attempts, checklists, workflow
from projects.errors import Conflict, Forbidden, NotReady
from projects.lanes import lane_of
from projects.markdown import rendered
from projects.models import ChecklistItem, ChecklistTemplate, Holds, ItemRole, Membership, Migration, Step, StepAttempt
from projects.steps import MODULES
from projects.steps.base import open_items
from servers.models import Run
from tests import factories

pytestmark = pytest.mark.django_db
K = Step.Kind
VALUES = {
    "title": "Batch jobs are paused",
    "instruction": "",
    "role": "operator",
    "holds": "start",
    "required": True,
    "evidence": False,
    "operation": "",
}


@pytest.fixture
def project() -> Any:
    return factories.make_project()


@pytest.fixture
def lead(project: Any) -> Any:
    return project.memberships.get(role="lead").user


def planned(project: Any) -> Migration:
    made = factories.make_migration(project=project, steps=False)
    workflow.plan_steps(made)
    return made


def template(project: Any, kind: str = K.STOP) -> ChecklistTemplate:
    return checklists.newest(project)[kind]


def add(project: Any, lead: Any, **over: Any) -> str:
    """Add an item to the template of the stop; its key."""
    now = template(project)
    checklists.save_item(template=now, key="", values=VALUES | over, seen=checklists.mark(now), user=lead)
    return template(project).items.last().key


def keys(migration: Migration, kind: str = K.STOP) -> list[str]:
    return list(migration.steps.get(kind=kind).checklist.values_list("key", flat=True))


# -- templates and versions -----------------------------------------------------------------------------------


def test_the_default_templates_carry_rivermeadows_thirteen_tasks(project) -> None:
    titles = " | ".join(item.title for each in checklists.newest(project).values() for item in each.items.all())
    for words in (
        "Monitoring of the source is paused",
        "Services on the source are stopped",
        "both sides are equal",
        "source is shut down",
        "network card is disconnected",
        "on the production network",
        "has its production address",
        "Users can work with it",
        "CMDB",
        "Backup of the new server",
        "Disaster recovery",
        "Monitoring looks at the new server",
        "marked for removal",
    ):
        assert words in titles, words


def test_every_automatic_item_of_the_defaults_names_something_its_step_really_does() -> None:
    for module in MODULES.values():
        for item in module.items:
            assert not item.operation or item.operation in module.operations, item


def test_an_unused_version_is_changed_in_place_and_a_used_one_never(project, lead) -> None:
    add(project, lead)
    assert template(project).version == 1
    first = planned(project)
    before = keys(first)
    add(project, lead, title="Another")
    assert template(project).version == 2 and keys(first) == before
    add(project, lead, title="And another")
    assert template(project).version == 2, "nothing was made from version 2 yet"
    second = planned(project)
    assert len(keys(second)) == len(before) + 2
    assert first.steps.get(kind=K.STOP).template.version == 1
    assert checklists.newer_version(first.steps.get(kind=K.STOP), checklists.newest(project)) == 2
    assert checklists.newer_version(second.steps.get(kind=K.STOP), checklists.newest(project)) is None


def test_a_used_version_keeps_its_own_items_when_one_is_changed_moved_or_removed(project, lead) -> None:
    planned(project)
    old = template(project)
    was = list(old.items.values_list("key", "title", "position"))
    for act in (
        lambda now, seen: checklists.save_item(template=now, key="stopped", values=VALUES, seen=seen, user=lead),
        lambda now, seen: checklists.move_item(template=now, key="stopped", up=True, seen=seen, user=lead),
        lambda now, seen: checklists.remove_item(template=now, key="stopped", seen=seen, user=lead),
    ):
        act(template(project), checklists.mark(template(project)))
    assert list(ChecklistTemplate.objects.get(pk=old.pk).items.values_list("key", "title", "position")) == was
    assert "stopped" not in template(project).items.values_list("key", flat=True)


def test_moving_at_the_ends_moves_nothing_and_places_stay_whole(project, lead) -> None:
    now = template(project, K.UAT)
    first = now.items.first().key
    assert checklists.move_item(template=now, key=first, up=True, seen=checklists.mark(now), user=lead)[0] == 1
    now = template(project, K.UAT)
    place, size = checklists.move_item(template=now, key=first, up=False, seen=checklists.mark(now), user=lead)
    assert (place, size) == (2, now.items.count())
    assert list(template(project, K.UAT).items.values_list("position", flat=True)) == list(range(1, size + 1))


def test_an_old_page_changes_nothing(project, lead) -> None:
    old = template(project)
    seen = checklists.mark(old)
    add(project, lead)
    with pytest.raises(Conflict, match="since the page was drawn"):
        checklists.remove_item(template=template(project), key="stopped", seen=seen, user=lead)
    with pytest.raises(Conflict, match="since the page was drawn"):  # read before the other wrote
        checklists.remove_item(template=old, key="stopped", seen=seen, user=lead)
    assert template(project).items.filter(key="stopped").exists()


def test_a_plan_made_while_the_template_is_changed_takes_one_or_the_other(project, lead, monkeypatch) -> None:
    read = checklists.newest(project)
    add(project, lead)
    monkeypatch.setattr(checklists, "newest", lambda _: read)
    with pytest.raises(Conflict, match="changed a moment ago"):
        planned(project)
    assert not Step.objects.exists(), "nothing of it was made"


def test_changes_are_in_the_audit_trail(project, lead) -> None:
    key = add(project, lead)
    event = AuditEvent.objects.get(verb="template.item")
    assert (event.actor, event.after["title"], event.after["key"]) == (lead, "Batch jobs are paused", key)


# -- what an open item holds ----------------------------------------------------------------------------------


def test_an_item_may_hold_the_start_in_words_until_it_is_answered(project, lead) -> None:
    key = add(project, lead, role=ItemRole.LEAD)
    migration = planned(project)
    item = migration.steps.get(kind=K.STOP).checklist.get(key=key)
    texts = [each.text for each in MODULES[K.STOP].unmet(lane_of(migration))]
    assert "“Batch jobs are paused” is open on the checklist (lead)." in texts
    checklists.tick(item.pk, user=lead, state="done")
    assert not [each for each in MODULES[K.STOP].unmet(lane_of(migration)) if "Batch jobs" in each.text]


def test_an_item_that_holds_the_end_does_not_hold_the_start(project, lead) -> None:
    add(project, lead, holds=Holds.END)
    lane = lane_of(planned(project))
    assert not [each for each in MODULES[K.STOP].unmet(lane) if "Batch jobs" in each.text]
    assert "Batch jobs are paused" in MODULES[K.STOP].unfinished(lane)


def test_the_list_of_the_deltas_holds_the_stop_and_no_delta(project, lead) -> None:
    now = template(project, K.DELTA)
    checklists.save_item(
        template=now, key="ttl", values=VALUES | {"title": "TTL", "holds": "end"}, seen=checklists.mark(now), user=lead
    )
    lane = lane_of(planned(project))
    assert not MODULES[K.DELTA].unfinished(lane)
    assert any("“TTL”" in each.text for each in MODULES[K.STOP].unmet(lane))


def test_what_was_taken_back_is_to_be_done_again(project) -> None:
    migration = planned(project)
    step = migration.steps.get(kind=K.STOP)
    step.checklist.update(state="done", by=factories.make_user())
    checklists.reopen(step, "taken back")
    assert set(step.checklist.values_list("state", "note", "by")) == {("open", "taken back", None)}


def test_an_automatic_item_ticks_itself_and_links_to_its_run(project) -> None:
    migration = planned(project)
    step = migration.steps.get(kind=K.STOP)
    attempt = factories.make_attempt(step)
    action = factories.make_action(attempt, "stop_services", state="running")
    run = factories.make_run("stop_services", action=action, state=Run.State.SUCCEEDED, reason="All stopped.")
    lane = lane_of(migration)
    attempts.advance(lane, {action.work_key: run})
    item = step.checklist.get(key="stopped")
    assert (item.state, item.run, item.note) == ("done", run, "All stopped.")
    assert StepAttempt.objects.get(pk=attempt.pk).state == "done"


# -- answers --------------------------------------------------------------------------------------------------


@pytest.fixture
def item(project) -> ChecklistItem:
    return factories.make_item(planned(project).steps.get(kind=K.STOP), "Backup is paused", evidence=True)


def test_evidence_is_a_note_or_a_link(item, lead) -> None:
    with pytest.raises(NotReady, match="asks for evidence"):
        checklists.tick(item.pk, user=lead, state="done", note="  ")
    with pytest.raises(NotReady, match="begins with https"):
        checklists.tick(item.pk, user=lead, state="done", link="javascript:alert(1)")
    checklists.tick(item.pk, user=lead, state="done", link="https://tickets.example/7")
    item.refresh_from_db()
    assert (item.state, item.link, item.by) == ("done", "https://tickets.example/7", lead)


def test_a_cancelled_migration_is_answered_no_more(item, lead) -> None:
    Migration.objects.update(state=Migration.State.CANCELLED)
    with pytest.raises(Conflict, match="is cancelled"):
        checklists.tick(item.pk, user=lead, state="failed", note="after the end")
    item.refresh_from_db()
    assert item.state == "open"


def test_not_applicable_needs_a_reason(item, lead) -> None:
    with pytest.raises(NotReady, match="why it does not apply"):
        checklists.tick(item.pk, user=lead, state="not_applicable")
    checklists.tick(item.pk, user=lead, state="not_applicable", note="no backup at all")
    assert not open_items(lane_of(item.step.migration), K.STOP, Holds.START)


def test_an_answer_on_an_old_page_is_a_conflict_and_says_what_is_now(item, lead) -> None:
    checklists.tick(item.pk, user=lead, state="failed", note="broken")
    with pytest.raises(Conflict, match="answered in the meantime: failed"):
        checklists.tick(item.pk, user=lead, state="done", note="fine", seen="open")
    item.refresh_from_db()
    assert item.note == "broken"


@pytest.mark.parametrize(
    ("role", "who", "may"),
    [
        ("lead", "lead", True),
        ("lead", "operator", False),
        ("operator", "operator", True),
        ("operator", "manager", False),
        ("owner", "lead", False),
        ("owner", "owner", True),
    ],
)
def test_who_answers_what(project, lead, item, role: str, who: str, may: bool) -> None:
    ChecklistItem.objects.filter(pk=item.pk).update(role=role)
    application = item.step.migration.application
    user = {"lead": lead, "owner": application.owner}.get(who) or factories.make_member(project, Membership.Role(who))
    if may:
        checklists.tick(item.pk, user=user, state="done", note="seen")
    else:
        with pytest.raises(Forbidden):
            checklists.tick(item.pk, user=user, state="done", note="seen")


# -- instructions ---------------------------------------------------------------------------------------------


def test_instructions_are_markdown_without_anything_that_acts() -> None:
    html = rendered("Do **this**:\n\n- one\n- [two](https://example.com)\n\n`code`")
    assert "<strong>this</strong>" in html and "<li>one</li>" in html and 'href="https://example.com"' in html


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        '<img src=x onerror="alert(1)">',
        "[x](javascript:alert(1))",
        "![x](https://evil.example/pixel.png)",
        "[x](data:text/html,<b>)",
        '<a href="https://x" onclick="alert(1)">x</a>',
    ],
)
def test_nothing_in_an_instruction_can_act(text: str) -> None:
    html = rendered(text)
    tags = re.findall(r"<[^>]*>", html)  # what is left of the text is text
    assert not [tag for tag in tags if re.search(r"script|img|data:|onclick", tag)], html
