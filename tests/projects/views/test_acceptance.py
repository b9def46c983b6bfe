"""The owner's page: plain words, the tests, and exactly one answer that only the owner may give."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from projects.models import Application, Approval, Decision, Hold, Membership, Migration, Step, Wave
from servers.models import SyncPoint
from tests import factories

from .conftest import House


def address(house: House) -> str:
    return reverse("acceptance", args=[house.wave.pk, house.application.pk])


def page(house: House, who: str = "owner") -> str:
    response = house.client(who).get(address(house))
    assert response.status_code == 200
    return response.content.decode()


@pytest.fixture
def asked(house: House) -> Approval:
    """The test is open, the evidence is taken, the owner is asked."""
    Hold.objects.create(kind=Hold.Kind.UAT, project=house.project, wave=house.wave, application=house.application)
    for kind, state in ((Step.Kind.INITIAL, "done"), (Step.Kind.UAT, "running")):
        Step.objects.filter(migration=house.migration, kind=kind).update(state=state, started_at=timezone.now())
    return factories.make_asked(house.wave, house.application)


def test_before_anything_is_asked(house: House) -> None:
    text = page(house)
    assert "There is nothing to test yet" in text
    assert "Nothing was copied yet" in text
    assert 'name="verdict"' not in text


def test_what_was_copied_in_plain_words(house: House, asked: Approval) -> None:
    Application.objects.filter(pk=house.application.pk).update(access_note="Open http://clone.\nLog in as <test>.")
    step = house.migration.steps.get(kind=Step.Kind.UAT)
    old = factories.make_sync(house.migration)
    SyncPoint.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(hours=1))
    factories.make_attempt(step, started_at=timezone.now() - timedelta(minutes=30))
    factories.make_sync(
        house.migration, consistency="live", discarded_count=3, facts={"config_changed": ["/etc/hosts", "/etc/motd"]}
    )
    text = page(house)
    assert "Copied while it was in use: parts may not fit together." in text
    assert "Tested at sync 1; 1 since; 2 configuration files changed." in text
    assert "took away 3 changes made on the clone" in text
    assert "Log in as &lt;test&gt;." in text
    assert "Please test the copy and answer" in text


def test_only_the_owner_gets_the_answer_form(house: House, asked: Approval) -> None:
    assert page(house).count('name="verdict"') == 3
    for who in ("lead", "operator", "manager"):
        text = page(house, who)
        assert 'name="verdict"' not in text, who
        assert "Only olga may answer." in text, who


def test_approve_is_grey_while_a_test_is_open(house: House, asked: Approval) -> None:
    step = house.migration.steps.get(kind=Step.Kind.UAT)
    item = factories.make_item(step, "You can log in", role="owner")
    text = page(house)
    assert "1 test above is not answered" in text
    assert 'value="approve"' not in text
    assert 'value="reject"' in text
    type(item).objects.filter(pk=item.pk).update(state="done")
    assert 'value="approve"' in page(house)


def test_the_answer_is_bound_to_what_was_shown(house: House, asked: Approval) -> None:
    assert f'name="digest" value="{asked.digest}"' in page(house)
    client, url = house.client("owner"), reverse("approval-decide", args=[asked.pk])
    Approval.objects.filter(pk=asked.pk).update(digest="f" * 64)
    response = client.post(url, {"verdict": "approve", "comment": "", "digest": asked.digest}, follow=True)
    assert response.redirect_chain == [(address(house), 303)]
    assert "has changed since the page was drawn" in response.content.decode()
    assert not Decision.objects.exists()


@pytest.mark.parametrize(
    ("verdict", "state"), [("approve", "approved"), ("reject", "rejected"), ("more_time", "more_time")]
)
def test_the_owner_answers(house: House, asked: Approval, verdict: str, state: str) -> None:
    url = reverse("approval-decide", args=[asked.pk])
    fields = {"verdict": verdict, "comment": "I looked at it.", "digest": asked.digest}
    response = house.client("owner").post(url, fields, follow=True)
    asked.refresh_from_db()
    assert asked.state == state
    assert "I looked at it." in response.content.decode()


def test_the_title_names_whose_answer_stands_and_not_the_last_one(house: House, asked: Approval) -> None:
    Approval.objects.filter(pk=asked.pk).update(needed=2, roles=["owner", "lead"])
    url, fields = reverse("approval-decide", args=[asked.pk]), {"digest": asked.digest}
    house.client("lead").post(url, {**fields, "verdict": "reject", "comment": "The shop is slow."})
    house.client("owner").post(url, {**fields, "verdict": "approve", "comment": ""})
    asked.refresh_from_db()
    assert asked.state == "rejected"
    text = page(house)
    assert "<h1>Lea Adler said no</h1>" in text and "The shop is slow." in text
    leads = Membership.objects.filter(user=house.lead)
    leads.update(role="manager")
    assert "<h1>Lea Adler said no</h1>" in page(house), "it stands, though it holds nobody's yes any more"
    leads.update(role="lead")
    house.client("lead").post(url, {**fields, "verdict": "approve", "comment": ""})
    assert "Lea Adler said yes" in page(house)


@pytest.mark.parametrize("who", ["lead", "operator", "manager"])
def test_nobody_signs_for_the_owner(house: House, asked: Approval, who: str) -> None:
    url = reverse("approval-decide", args=[asked.pk])
    response = house.client(who).post(url, {"verdict": "approve", "digest": asked.digest}, follow=True)
    assert "owner&#x27;s alone" in response.content.decode()
    assert not Decision.objects.exists()


def test_a_no_needs_a_word(house: House, asked: Approval) -> None:
    url = reverse("approval-decide", args=[asked.pk])
    response = house.client("owner").post(url, {"verdict": "reject", "digest": asked.digest}, follow=True)
    assert "say what is wrong" in response.content.decode()
    assert not Decision.objects.exists()


def test_what_changed_since_the_answer_is_listed(house: House, asked: Approval) -> None:
    pk = str(house.migration.pk)
    Decision.objects.create(
        approval=asked,
        user=house.owner,
        verdict="approve",
        digest=asked.digest,
        subject={"servers": {pk: {"name": "shop-db", "services": "a"}}},
    )
    Approval.objects.filter(pk=asked.pk).update(
        digest="e" * 64, state="stale", subject={"servers": {pk: {"name": "shop-db", "services": "b"}}}
    )
    text = page(house)
    assert "Please look at the copy again" in text
    assert "shop-db: recorded services of the source changed." in text
    assert "You said yes" not in text


def test_the_test_is_opened_until_a_local_time(house: House) -> None:
    Step.objects.filter(migration=house.migration, kind=Step.Kind.INITIAL).update(state="done")
    type(house.wave).objects.filter(pk=house.wave.pk).update(time_zone="Europe/Zurich")
    url = reverse("uat-open", args=[house.wave.pk, house.application.pk])
    assert 'name="until"' in page(house, "operator")
    bad = house.client("operator").post(url, {"until": "tomorrow"}, follow=True)
    assert "until=tomorrow: expected a date and time" in bad.content.decode()
    assert not Hold.objects.exists()
    year = timezone.now().year + 1
    house.client("operator").post(url, {"until": f"{year}-07-01T22:00"})
    hold = Hold.objects.get()
    assert hold.until is not None
    assert hold.until.isoformat() == f"{year}-07-01T20:00:00+00:00"


def test_the_end_of_a_test_is_a_time_that_there_is(house: House) -> None:
    """The nights in which Zurich changes its clocks: one leaves 02:30 out, the other has it twice."""
    zone, year = ZoneInfo("Europe/Zurich"), timezone.now().year + 1
    Wave.objects.filter(pk=house.wave.pk).update(time_zone=zone.key)
    Step.objects.filter(migration=house.migration, kind=Step.Kind.INITIAL).update(state="done")
    spring, autumn = (max(day for day in range(25, 32) if date(year, month, day).weekday() == 6) for month in (3, 10))
    url, operator = reverse("uat-open", args=[house.wave.pk, house.application.pk]), house.client("operator")
    said = operator.post(url, {"until": f"{year}-03-{spring}T02:30"}, follow=True).content.decode()
    assert "until: " in said and "02:30 does not exist in Europe/Zurich" in said
    assert not Hold.objects.exists()
    operator.post(url, {"until": f"{year}-10-{autumn}T02:30"})
    assert Hold.objects.get().until == datetime(year, 10, autumn, 1, 30, tzinfo=UTC), "the second 02:30"


def test_an_application_of_another_project_is_not_found(house: House) -> None:
    elsewhere = factories.make_application(factories.make_project(lead=house.lead))
    url = reverse("acceptance", args=[house.wave.pk, elsewhere.pk])
    assert house.client("lead").get(url).status_code == 404


def test_an_answer_after_the_last_server_left_the_wave_is_refused_in_words(house: House, asked: Approval) -> None:
    Migration.objects.filter(pk=house.migration.pk).update(wave=None)
    answer = {"verdict": "approve", "digest": asked.digest}
    said = house.client("owner").post(reverse("approval-decide", args=[asked.pk]), answer, follow=True)
    assert said.status_code == 200
    assert "Nothing was done. No server of Shop is in Wave 1: first any more." in said.content.decode()


def test_queries_do_not_grow_with_the_servers(house: House, asked: Approval) -> None:
    client = house.client("owner")
    client.get(address(house))
    with CaptureQueriesContext(connection) as few:
        client.get(address(house))
    for _ in range(5):
        planned = {"application": house.application, "wave": house.wave, "profile": house.migration.profile}
        migration = factories.make_migration(project=house.project, target=True, **planned)
        factories.make_sync(migration)
        factories.make_probe_result(factories.make_probe(migration.source), "clone")
    with CaptureQueriesContext(connection) as many:
        client.get(address(house))
    assert len(many) <= len(few) + 2


@pytest.mark.parametrize(
    ("verdict", "state", "words"),
    [("approve", "approved", "said yes"), ("reject", "rejected", "said no"), ("more_time", "more_time", "asked for")],
)
def test_what_a_stand_in_said_is_told_with_both_names(
    house: House, asked: Approval, verdict: str, state: str, words: str
) -> None:
    eva = factories.make_member(house.project, "owner", factories.make_user("eva", first_name="Eva"))
    Decision.objects.create(
        approval=asked, user=eva, on_behalf_of=house.owner, verdict=verdict, digest=asked.digest, comment="Looks right."
    )
    Approval.objects.filter(pk=asked.pk).update(state=state)
    text = page(house, "owner")
    assert f"<h1>Eva for olga {words}" in text
    assert "<h1>You" not in text
    assert text.count("Eva for olga") >= 2, "beside the answer too"
    assert "Eva for olga" in page(house, "lead")
