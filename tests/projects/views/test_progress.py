"""Progress and its CSV: counts of what is over, and a file that a spreadsheet opens without harm."""

from __future__ import annotations

import csv
import io

from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from projects.models import Hold, Migration, Step
from projects.views.contexts.progress import HEADER
from tests import factories

from .conftest import House


def page(house: House, who: str = "lead") -> str:
    return house.client(who).get(reverse("progress", args=[house.project.slug])).content.decode()


def rows(house: House, who: str = "lead") -> list[dict[str, str]]:
    response = house.client(who).get(reverse("progress-csv", args=[house.project.slug]))
    assert response["Content-Type"].startswith("text/csv")
    assert response["Content-Disposition"] == f'attachment; filename="{house.project.slug}.csv"'
    return list(csv.DictReader(io.StringIO(response.content.decode())))


def test_counts_are_of_what_is_over_and_skipped_is_not_done(house: House) -> None:
    now = timezone.now()
    Migration.objects.filter(pk=house.migration.pk).update(state="complete", completed_at=now, declared_at=now)
    Step.objects.filter(migration=house.migration).update(state="done", started_at=now)
    Step.objects.filter(migration=house.foreign).update(state="skipped", started_at=now)
    factories.make_migration(project=house.project, state="cancelled")
    text = page(house)
    assert "1 of 3" in text
    assert "1 under way, 1 cancelled" in text
    first = text.split("1 Initial migration", 1)[1].split("</tr>", 1)[0]
    assert "1 of 2" in first  # of those that are not cancelled
    assert "1 skipped" in first


def test_what_blocks_is_named_with_its_reason(house: House) -> None:
    Step.objects.filter(migration=house.migration, kind=Step.Kind.STOP).update(state="attention", reason="cron runs.")
    Hold.objects.create(kind=Hold.Kind.PERSON, project=house.project, why="audit week", by=house.lead)
    blocks = page(house).split('id="blocks"', 1)[1]
    assert "cron runs." in blocks
    assert "audit week" in blocks


def test_out_of_contact_is_unknown_not_running(house: House) -> None:
    step = house.migration.steps.get(kind=Step.Kind.INITIAL)
    Step.objects.filter(pk=step.pk).update(state="running", started_at=timezone.now())
    action = factories.make_action(factories.make_attempt(step), state="running")
    run = factories.make_run(action=action)
    assert rows(house)[1]["step state"] == "Running"
    type(run).objects.filter(pk=run.pk).update(contact_lost_since=timezone.now())
    assert rows(house)[1]["step state"] == "Unknown"
    assert "1</b> unknown" in page(house)


def test_an_owner_sees_no_hold_of_another_application(house: House) -> None:
    uat = {"kind": Hold.Kind.UAT, "project": house.project, "wave": house.wave}
    Hold.objects.create(application=house.other, why="ledger is tested", **uat)
    Hold.objects.create(application=house.application, why="shop is tested", **uat)
    text = page(house, "owner")
    assert "shop is tested" in text
    assert "ledger is tested" not in text


def test_csv_has_a_row_for_each_server_that_one_may_see(house: House) -> None:
    now = timezone.now()
    Step.objects.filter(migration=house.migration, kind=Step.Kind.INITIAL).update(state="done", started_at=now)
    found = rows(house)
    assert list(found[0]) == HEADER
    assert [row["server"] for row in found] == ["ledger-01", "shop-db"]
    assert found[1]["Initial migration"] == "done"
    assert found[1]["began"]
    assert [row["server"] for row in rows(house, "owner")] == ["shop-db"]


def test_csv_writes_formulas_as_text(house: House) -> None:
    for number, reason in enumerate(("=1+1", "+1", "-1", "@x", "\tx"), 1):
        Step.objects.filter(migration=house.migration, position=number).update(reason="")
        Step.objects.filter(migration=house.migration, position=1).update(state="attention", reason=reason)
        assert rows(house)[1]["why"] == f"'{reason}"


def test_an_empty_project_says_what_a_wave_is(house: House) -> None:
    project = factories.make_project("Empty", lead=house.lead)
    text = house.client("lead").get(reverse("progress", args=[project.slug])).content.decode()
    assert "0 of 0" in text
    assert "No wave yet" in text


def test_queries_do_not_grow_with_the_project(house: House) -> None:
    client = house.client("lead")
    page(house)
    with CaptureQueriesContext(connection) as few:
        client.get(reverse("progress", args=[house.project.slug]))
    for _ in range(10):
        factories.make_migration(project=house.project, wave=house.wave)
    with CaptureQueriesContext(connection) as many:
        client.get(reverse("progress", args=[house.project.slug]))
    assert len(many) == len(few)
    assert len(many) <= 14


def test_a_spreadsheet_runs_nothing_of_the_csv(house: House) -> None:
    house.application.name = "=HYPERLINK(A1)"
    house.application.save()
    text = house.client("lead").get(reverse("progress-csv", args=[house.project.slug])).content.decode()
    assert "'=HYPERLINK(A1)" in text and ",=HYPERLINK" not in text
