"""Pages of checklists, approvals, break-glass and defects: who sees them, what is pressed, and what is loud."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse

from projects import checklists, policies, workflow
from projects.models import Approval, BreakGlass, ChecklistItem, Decision, Defect, Membership, Step
from projects.views import defects as defect_views
from tests import factories

from .conftest import House

pytestmark = pytest.mark.whole

K = Step.Kind
HTMX = {"HX-Request": "true"}


@pytest.fixture
def planned(house: House) -> House:
    """The owner's server with real checklists; everything but people's words is there."""
    house.migration.steps.all().delete()
    workflow.plan_steps(house.migration)
    ChecklistItem.objects.filter(step__migration=house.migration, step__kind=K.UAT).update(state="done")
    return house


@pytest.fixture
def sign_off(planned: House) -> Approval:
    return factories.make_asked(planned.wave, planned.application)


def text(house: House, who: str, name: str, *args: Any, query: str = "") -> str:
    response = house.client(who).get(reverse(name, args=args) + query)
    assert response.status_code == 200, (name, response.status_code)
    return response.content.decode()


def post(house: House, who: str, name: str, *args: Any, **fields: Any) -> Any:
    return house.client(who).post(reverse(name, args=args), fields, follow=True)


# -- the editor of templates ----------------------------------------------------------------------------------


def revision(house: House, kind: str = K.STOP) -> str:
    return checklists.mark(checklists.newest(house.project)[kind])


def test_an_item_is_added_changed_moved_and_removed_by_plain_forms(house: House) -> None:
    slug = house.project.slug
    fields = {"title": "Tell the <bank>", "instruction": "**Call** them.", "role": "lead", "holds": "start"}
    said = post(house, "lead", "checklist-item-new", slug, K.STOP, **fields, revision=revision(house)).content.decode()
    assert "Tell the &lt;bank&gt;" in said and "<strong>Call</strong>" in said
    move = ("checklist-item-move", slug, K.STOP, "tell-the-bank")
    said = post(house, "lead", *move, way="up", revision=revision(house)).content.decode()
    assert "is number 3 of 4 now" in said
    assert 'id="up-tell-the-bank" aria-label="Move “Tell the &lt;bank&gt;” up" autofocus' in said
    fields |= {"title": "Tell the bank", "required": "on"}
    post(house, "lead", "checklist-item", slug, K.STOP, "tell-the-bank", **fields, revision=revision(house))
    line = checklists.newest(house.project)[K.STOP].items.get(key="tell-the-bank")
    assert (line.title, line.required, line.position) == ("Tell the bank", True, 3)
    post(house, "lead", "checklist-item-remove", slug, K.STOP, "tell-the-bank", revision=revision(house))
    assert not checklists.newest(house.project)[K.STOP].items.filter(key="tell-the-bank").exists()


def test_a_move_to_the_top_keeps_the_focus_on_a_button_that_can_be_pressed(house: House) -> None:
    slug = house.project.slug
    key = checklists.newest(house.project)[K.STOP].items.all()[1].key
    said = post(house, "lead", "checklist-item-move", slug, K.STOP, key, way="up", revision=revision(house))
    page = said.content.decode()
    assert f'id="down-{key}"' in page and page.split(f'id="down-{key}"')[1].split(">")[0].endswith("autofocus")


def test_an_old_page_says_so_and_changes_nothing(house: House) -> None:
    slug, old = house.project.slug, revision(house)
    post(house, "lead", "checklist-item-remove", slug, K.STOP, "stopped", revision=old)
    said = post(house, "lead", "checklist-item-remove", slug, K.STOP, "users-told", revision=old).content.decode()
    assert "since the page was drawn" in said
    assert checklists.newest(house.project)[K.STOP].items.filter(key="users-told").exists()


def test_the_form_says_what_is_wrong_and_keeps_what_was_typed(house: House) -> None:
    fields = {"title": "", "instruction": "kept words", "role": "lead", "holds": "end", "revision": revision(house)}
    said = post(house, "lead", "checklist-item-new", house.project.slug, K.STOP, **fields).content.decode()
    assert "What is to be done is empty." in said and "kept words" in said
    fields |= {"title": "x", "operation": "stop_services", "holds": "start"}
    said = post(house, "lead", "checklist-item-new", house.project.slug, K.STOP, **fields).content.decode()
    assert "cannot hold its start" in said


def test_a_list_says_which_version_it_was_made_from(planned: House) -> None:
    seen = revision(planned, K.INITIAL)
    post(planned, "lead", "checklist-item-remove", planned.project.slug, K.INITIAL, "smoke", revision=seen)
    assert "Made from version 1; version 2 is newer" in text(planned, "operator", "migration", planned.migration.pk)


@pytest.mark.parametrize("who", ["operator", "manager"])
def test_who_does_not_plan_reads_the_templates_without_buttons(house: House, who: str) -> None:
    page = text(house, who, "checklist", house.project.slug, K.STOP)
    assert "Monitoring of the source is paused" in page and "/move/" not in page


# -- answers on the server's page -----------------------------------------------------------------------------


def test_an_answer_with_evidence(planned: House) -> None:
    step = planned.migration.steps.get(kind=K.INITIAL)
    item = factories.make_item(step, "Backup is paused", evidence=True)
    page = text(planned, "operator", "migration", planned.migration.pk)
    assert "evidence needed" in page
    said = post(planned, "operator", "checklist-tick", item.pk, state="done", seen="open").content.decode()
    assert "asks for evidence" in said
    post(planned, "operator", "checklist-tick", item.pk, state="done", seen="open", link="https://t.example/1")
    assert "https://t.example/1" in text(planned, "operator", "migration", planned.migration.pk)


# -- approvals ------------------------------------------------------------------------------------------------


def test_the_list_tells_what_waits_for_whom(planned: House, sign_off: Approval) -> None:
    slug = planned.project.slug
    for who, number in (("owner", 1), ("lead", 0), ("manager", 0)):
        assert f"Waits for me ({number})" in text(planned, who, "approvals", slug), who
    assert "Shop: sign-off" in text(planned, "owner", "approvals", slug, query="?show=mine")
    assert "Nothing waits for you" in text(planned, "lead", "approvals", slug, query="?show=mine")


def test_an_owner_sees_only_their_own(planned: House, sign_off: Approval) -> None:
    foreign = factories.make_approval(planned.wave, planned.other)
    assert "Ledger" not in text(planned, "owner", "approvals", planned.project.slug, query="?show=all")
    for name in ("approval", "approval-ask", "approval-delegate", "approval-pass"):
        address = reverse(name, args=[foreign.pk])
        call = planned.client("owner").get if name == "approval" else planned.client("owner").post
        assert call(address, headers=HTMX).status_code == 404, name


def test_a_rejection_with_defects_in_one_press(planned: House, sign_off: Approval) -> None:
    step = planned.migration.steps.get(kind=K.UAT)
    said = post(
        planned,
        "owner",
        "approval-decide",
        sign_off.pk,
        digest=sign_off.digest,
        verdict="reject",
        comment="no",
        defect_title=["Orders are missing", "", "Slow"],
        defect_severity=["blocking", "minor", "minor"],
        defect_step=[step.pk] * 3,
        next=reverse("approval", args=[sign_off.pk]),
    ).content.decode()
    assert [(each.title, each.severity) for each in Defect.objects.order_by("number")] == [
        ("Orders are missing", "blocking"),
        ("Slow", "minor"),
    ]
    assert "Defect 1: Orders are missing" in said
    page = text(planned, "operator", "wave-board", planned.wave.pk)
    assert "Defect 1: Orders are missing" in page


def test_what_blocks_is_counted_and_comes_first_however_old_it_is(
    planned: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(defect_views, "PAGE", 2)
    step = planned.migration.steps.get(kind=K.UAT)
    factories.make_defect(step, "Orders are missing")
    for title in ("Slow", "Ugly", "Loud"):
        factories.make_defect(step, title, severity="minor")
    factories.make_defect(step, "Was blocking", state="verified")
    page = text(planned, "lead", "defects", planned.project.slug)
    assert "<b>1 blocking</b>: it holds" in page and "Nothing blocks" not in page
    assert page.index("1: Orders are missing") < page.index("4: Loud") and "3: Ugly" not in page
    assert "The first 2 are shown." in page


@pytest.mark.parametrize("step", ["", "x", "999999"])
def test_a_defect_without_a_place_rejects_nothing(planned: House, sign_off: Approval, step: str) -> None:
    fields = {"digest": sign_off.digest, "verdict": "reject", "comment": "no", "defect_step": step}
    said = post(planned, "owner", "approval-decide", sign_off.pk, **fields, defect_title="Orders").content.decode()
    assert "Nothing was done." in said and not Decision.objects.exists() and not Defect.objects.exists()


def test_handing_over_shows_whose_answer_it_is(planned: House, sign_off: Approval) -> None:
    heir = factories.make_member(planned.project, Membership.Role.OWNER, factories.make_user("anna", first_name="Anna"))
    post(planned, "owner", "approval-delegate", sign_off.pk, to=heir.pk)
    planned.anna = heir
    said = post(
        planned,
        "anna",
        "approval-decide",
        sign_off.pk,
        digest=sign_off.digest,
        verdict="approve",
        next=reverse("approval", args=[sign_off.pk]),
    ).content.decode()
    assert "Anna for olga" in said


def test_a_policy_is_changed_by_a_lead_alone(planned: House, sign_off: Approval) -> None:
    factories.make_member(planned.project, Membership.Role.LEAD)
    slug = planned.project.slug
    fields = {"roles": ["lead"], "needed": "2", "expires_hours": "48", "remind_hours": "24"}
    seen = policies.mark(policies.policy_of(planned.project.pk, "go"))
    assert planned.client("operator").post(reverse("approval-policy", args=[slug, "go"]), fields).status_code == 403
    said = post(planned, "lead", "approval-policy", slug, "go", **fields, revision=seen).content.decode()
    assert "2 different people" in said and "48 hours without an answer" in said
    said = post(planned, "lead", "approval-policy", slug, "go", **{**fields, "needed": "9"}, revision=seen)
    assert "Somebody changed this policy" in said.content.decode()


# -- break-glass ----------------------------------------------------------------------------------------------


def smash(house: House, approval: Approval, **over: Any) -> Any:
    fields = {"digest": approval.digest, "reason": "The contract ends tonight.", "understood": "1"} | over
    return post(house, "lead", "approval-pass", approval.pk, **fields)


def test_it_takes_a_reason_and_a_tick(planned: House, sign_off: Approval) -> None:
    assert "answer for it" in smash(planned, sign_off, understood="").content.decode()
    assert "stands in every report" in smash(planned, sign_off, reason="now").content.decode()
    assert not BreakGlass.objects.exists()


def test_it_is_loud_on_every_page_and_in_the_report_until_and_after_the_second_word(
    planned: House, sign_off: Approval
) -> None:
    smash(planned, sign_off)
    made = BreakGlass.objects.get()
    pages = {
        "wave-board": [planned.wave.pk],
        "migration": [planned.migration.pk],
        "acceptance": [planned.wave.pk, planned.application.pk],
        "progress": [planned.project.slug],
        "approvals": [planned.project.slug],
        "approval": [sign_off.pk],
    }
    for name, args in pages.items():
        for who in ("lead", "owner", "manager"):
            page = text(planned, who, name, *args)
            assert "A second person has not looked at it yet." in page and "The contract ends tonight." in page, name
    assert "The contract ends tonight. (waits for a second person)" in text(
        planned, "manager", "progress-csv", planned.project.slug
    )
    assert "Break-glass of Shop" in text(planned, "owner", "overview")
    assert "Break-glass of Shop" not in text(planned, "lead", "overview")
    said = post(planned, "owner", "break-glass-confirm", made.pk, answer="not_in_order", comment="I was there.")
    assert "lets nothing pass any more" in said.content.decode()
    for name, args in pages.items():
        assert "I was there." in text(planned, "manager", name, *args), name


def test_who_may_not_confirm_changes_nothing(planned: House, sign_off: Approval) -> None:
    smash(planned, sign_off)
    made = BreakGlass.objects.get()
    for who in ("lead", "operator", "manager"):
        post(planned, who, "break-glass-confirm", made.pk, answer="in_order")
    assert planned.client("outsider").post(reverse("break-glass-confirm", args=[made.pk])).status_code == 404
    made.refresh_from_db()
    assert made.state == "unconfirmed"


def test_a_step_is_passed_from_the_servers_page(planned: House) -> None:
    step = planned.migration.steps.get(kind=K.INITIAL)
    item = factories.make_item(step, "Ask the auditor", holds="start")
    assert "Break-glass: initial migration" in text(planned, "lead", "migration", planned.migration.pk)
    assert "Break-glass: initial" not in text(planned, "operator", "migration", planned.migration.pk)
    assert planned.client("operator").post(reverse("step-pass", args=[step.pk])).status_code == 403
    post(planned, "lead", "step-pass", step.pk, reason="The contract ends tonight.", understood="1")
    assert BreakGlass.objects.get().items == [item.pk]


# -- defects --------------------------------------------------------------------------------------------------


def test_a_defect_from_the_raise_to_the_verification(planned: House) -> None:
    both = (planned.wave.pk, planned.application.pk)
    step = planned.migration.steps.get(kind=K.UAT)
    fields = {"title": "Orders <are> missing", "severity": "blocking", "step": step.pk, "description": "since May"}
    said = post(planned, "owner", "defect-new", *both, **fields).content.decode()
    assert "Orders &lt;are&gt; missing" in said
    defect = Defect.objects.get()
    page = text(planned, "operator", "defect", defect.pk)
    assert "Take it into work" in page and "since May" in page
    post(planned, "operator", "defect-move", defect.pk, to="mended", reason="done", seen_state="open")
    assert "Verified: it works" not in text(planned, "operator", "defect", defect.pk)
    post(planned, "owner", "defect-move", defect.pk, to="verified", seen_state="mended")
    assert "No defect is open." in text(planned, "manager", "defects", planned.project.slug)
    assert "Orders &lt;are&gt; missing" in text(planned, "manager", "defects", planned.project.slug, query="?show=all")


def test_nobody_sees_defects_of_an_application_that_is_not_theirs(planned: House) -> None:
    foreign = factories.make_defect(planned.foreign.steps.get(kind=K.UAT), "Secret fault")
    assert "Secret fault" not in text(planned, "owner", "defects", planned.project.slug, query="?show=all")
    assert "Secret fault" in text(planned, "manager", "defects", planned.project.slug)
    client = planned.client("owner")
    assert client.get(reverse("defect", args=[foreign.pk])).status_code == 404
    assert client.post(reverse("defect-move", args=[foreign.pk]), {"to": "rejected"}).status_code == 404
    assert client.get(reverse("defect-new", args=[planned.wave.pk, planned.other.pk])).status_code == 404


def test_a_defect_is_given_to_members_alone(planned: House) -> None:
    defect = factories.make_defect(planned.migration.steps.get(kind=K.UAT))
    fields = {"severity": "blocking", "seen_version": 1}
    said = post(planned, "lead", "defect-change", defect.pk, **fields, assignee=planned.outsider.pk).content.decode()
    assert "not a member" in said
    post(planned, "lead", "defect-change", defect.pk, **fields, assignee=planned.operator.pk)
    defect.refresh_from_db()
    assert defect.assignee == planned.operator
