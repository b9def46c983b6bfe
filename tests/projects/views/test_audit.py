"""The audit trail's page: filtered by what there is, searched, paged, as CSV, within twelve queries."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from html import unescape
from io import StringIO
from typing import Any

import pytest
import time_machine
from django.test import Client
from django.urls import reverse

from migrationhub.audit.models import AuditEvent
from migrationhub.audit.record import record
from migrationhub.lib.sheets import cell
from projects import trail
from projects.trail import HEADER
from servers.models import HostKey
from tests import factories

from .conftest import House

pytestmark = pytest.mark.django_db


def shown(client: Client, address: str, **query: Any) -> str:
    response = client.get(address, query)
    assert response.status_code == 200
    return unescape(response.content.decode())


def body(page: str) -> str:
    """The rows, without the filter's lists of values."""
    return page.split("<tbody", 1)[1] if "<tbody" in page else ""


@pytest.fixture
def address(house: House) -> str:
    """The project's trail, with three events of different days."""
    pk = house.project.pk
    with time_machine.travel(datetime(2026, 11, 20, 22, 30, tzinfo=UTC), tick=False):
        record("hold.add", house.migration, actor=house.operator, project_id=pk, why="backup first")
    with time_machine.travel(datetime(2026, 11, 22, 12, 0, tzinfo=UTC), tick=False):
        record(
            "server.change",
            house.migration.source,
            actor=house.lead,
            project_id=pk,
            before={"address": "10.0.0.1"},
            after={"address": "10.0.0.2"},
        )
        record("step.done", house.migration, project_id=pk)
    record("hold.add", house.foreign, actor=house.lead, project_id=pk + 1, why="elsewhere")
    return reverse("audit", args=[house.project.slug])


def test_it_says_who_what_on_what_why_and_what_changed(house: House, address: str) -> None:
    page = body(shown(house.client("manager"), address))
    for words in ("omar", "hold: add", "backup first", "shop-db", "<del>10.0.0.1</del>", "<ins>10.0.0.2</ins>"):
        assert words in page
    assert page.index("server: change") < page.index("hold: add")
    assert "elsewhere" not in page


FILTERS = [
    ({"who": "omar"}, ["hold: add"]),
    ({"what": "server.change"}, ["server: change"]),
    ({"kind": "projects.migration"}, ["step is done", "hold: add"]),
    ({"q": "backup"}, ["hold: add"]),
    ({"q": "10.0.0.2"}, ["server: change"]),  # what is said within before and after too
    ({"q": "shop backup"}, ["hold: add"]),
    ({"since": "2026-11-21"}, ["step is done", "server: change"]),
    ({"until": "2026-11-20"}, ["hold: add"]),
    ({"who": "omar", "since": "2026-11-21"}, []),
    ({"who": "system"}, ["step is done"]),
]
WORDS = ("step is done", "server: change", "hold: add")


@pytest.mark.parametrize(("query", "left"), FILTERS)
def test_it_is_filtered(house: House, address: str, query: dict[str, str], left: list[str]) -> None:
    page = shown(house.client("lead"), address, **query)
    assert [word for word in WORDS if word in body(page)] == left
    assert (f"{len(left)} event" in page) or not left
    assert left or "Nothing fits this filter." in page


@pytest.mark.parametrize("word", ["Zürich", "züri", "„Basel“", 'a"b', "c\\d", "Δ"])
def test_what_changed_is_found_in_any_script(house: House, address: str, word: str) -> None:
    for before, after in (({"name": word}, {}), ({}, {"names": [f"x{word}"]})):
        record("hold.add", house.migration, project_id=house.project.pk, before=before, after=after)
    assert "2 events" in shown(house.client("lead"), address, q=word.title() if word == "züri" else word)


def test_days_are_days_in_the_projects_zone(house: House, address: str) -> None:
    house.project.time_zone = "Europe/Zurich"  # 23:30 there: still the 20th; in Tokyo it is the 21st
    house.project.save()
    assert "hold: add" in body(shown(house.client("lead"), address, until="2026-11-20"))
    house.project.time_zone = "Asia/Tokyo"
    house.project.save()
    assert "hold: add" not in body(shown(house.client("lead"), address, until="2026-11-20"))


def test_a_day_that_is_none_is_told(house: House, address: str) -> None:
    page = shown(house.client("lead"), address, since="tomorrow", until="2026-02-31")
    assert "From “tomorrow” is no day of 2000 to 2999." in page and "To “2026-02-31” is no day of 2000" in page


def test_values_are_offered_from_the_whole_trail_not_from_the_page(house: House, address: str) -> None:
    for number in range(60):
        record("many.times", house.migration, actor=house.lead, project_id=house.project.pk, why=f"n{number}")
    page = shown(house.client("lead"), address)
    assert "hold: add" not in body(page)
    assert '<option value="hold.add">hold: add</option>' in page
    assert '<option value="omar">omar</option>' in page


def test_it_is_paged_and_keeps_the_filter(house: House, address: str) -> None:
    for number in range(60):
        record("many.times", house.migration, actor=house.lead, project_id=house.project.pk, why=f"n{number}.")
    first = shown(house.client("lead"), address, what="many.times")
    assert "page 1 of 2" in first and "n59." in first and "n9." not in first
    assert 'href="?what=many.times&page=2"' in first
    assert "n9." in shown(house.client("lead"), address, what="many.times", page="2")
    assert "page 2 of 2" in shown(house.client("lead"), address, what="many.times", page="99999")
    assert "page 1 of 2" in shown(house.client("lead"), address, what="many.times", page="x")


def test_it_takes_twelve_queries_at_most_whatever_its_size(
    house: House, address: str, django_assert_max_num_queries: Any
) -> None:
    client = house.client("lead")
    for number in range(300):
        record(f"verb.{number}", house.migration, actor=house.lead, project_id=house.project.pk)
    with django_assert_max_num_queries(12):
        shown(client, address, q="shop")


def csv_rows(client: Client, address: str, **query: str) -> list[list[str]]:
    response = client.get(address, query)
    assert response["Content-Type"].startswith("text/csv")
    assert "attachment" in response["Content-Disposition"]
    return list(csv.reader(StringIO(b"".join(response.streaming_content).decode())))  # type: ignore[attr-defined]


def test_the_csv_has_what_the_filter_leaves(house: House, address: str) -> None:
    header, *rows = csv_rows(house.client("manager"), reverse("audit-csv", args=[house.project.slug]), what="hold.add")
    assert header == HEADER
    assert [(row[1], row[2], row[4], row[5], row[7]) for row in rows] == [
        ("omar", "hold.add", "shop-db", "Basel exit", "backup first")
    ]


def test_a_csv_that_is_cut_says_so(house: House, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url, lead = reverse("audit-csv", args=[house.project.slug]), house.client("lead")
    monkeypatch.setattr(trail, "MOST", 3)
    assert [row[2] for row in csv_rows(lead, url)] == ["what", "step.done", "server.change", "hold.add"]
    monkeypatch.setattr(trail, "MOST", 2)
    *_, last = csv_rows(lead, url)
    assert (len(last), last[2]) == (len(HEADER), "cut")
    assert last[7].startswith("Only the newest 2 events are in this file.")


@pytest.mark.parametrize("evil", ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_spreadsheet_runs_nothing_of_it(house: House, address: str, evil: str) -> None:
    record("hold.add", house.migration, actor=house.lead, project_id=house.project.pk, why=evil)
    rows = csv_rows(house.client("lead"), reverse("audit-csv", args=[house.project.slug]))
    assert rows[1][7] == f"'{evil}"


def test_numbers_stay_numbers() -> None:
    assert [cell(value) for value in (-3.5, "-12", "+", None, "a=b")] == ["-3.5", "-12", "'+", "", "a=b"]


def test_the_trail_of_everything_is_for_staff(house: House, address: str) -> None:
    house.client("outsider").post(reverse("account_login"), {"login": "root", "password": "x"})
    Client(REMOTE_ADDR="198.51.100.7").post(reverse("account_login"), {"login": "root", "password": "x"})
    everything = reverse("audit-all")
    assert house.client("lead").get(everything).status_code == 403
    assert house.client("lead").get(reverse("audit-all-csv")).status_code == 403
    house.outsider.is_staff = True
    house.outsider.save()
    page = body(shown(house.client("outsider"), everything))
    assert "“root”" in page and "not logged in" in page and "from 198.51.100.7" in page and "elsewhere" in page
    assert "root" not in body(shown(house.client("lead"), address))
    assert csv_rows(house.client("outsider"), reverse("audit-all-csv"))[0] == HEADER


def test_a_host_key_is_told_in_its_project(house: House) -> None:
    for number, verdict in enumerate(("accept", "refuse")):
        key = HostKey.objects.create(
            server=house.migration.source, key_type=f"t{number}", public="A", fingerprint=f"SHA256:{verdict}"
        )
        house.client("lead").post(reverse(f"host-key-{verdict}", args=[house.project.slug, key.pk]))
    told = AuditEvent.objects.filter(verb__startswith="hostkey.").values_list("verb", "project_id", "actor")
    assert set(told) == {
        ("hostkey.accepted", house.project.pk, house.lead.pk),
        ("hostkey.refused", house.project.pk, house.lead.pk),
    }
    page = body(shown(house.client("manager"), reverse("audit", args=[house.project.slug]), kind="servers.hostkey"))
    assert "SHA256:accept" in page


def test_what_was_typed_is_shown_as_text(house: House, address: str) -> None:
    factories.make_user("eve")
    record("hold.add", house.migration, actor=house.lead, project_id=house.project.pk, why="<script>alert(1)</script>")
    raw = house.client("lead").get(address, {"q": "<script>"}).content.decode()
    assert "<script>alert" not in raw and "&lt;script&gt;alert" in raw
