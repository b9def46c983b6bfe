"""One server's page: what runs, what is missing, who may do what, what came of it."""

from __future__ import annotations

from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from projects.models import ChecklistItem, Hold, Migration, Step
from servers.models import RunEvent, SyncPoint
from tests import factories

from .conftest import House

Kind = Step.Kind


def page(house: House, who: str = "lead") -> str:
    response = house.client(who).get(reverse("migration", args=[house.migration.pk]))
    assert response.status_code == 200
    return response.content.decode()


def region(text: str, name: str) -> str:
    return text.split(f'id="{name}"', 1)[1].split("<section", 1)[0]


def running(house: House, kind: str = Kind.INITIAL, **over: object):
    step = house.migration.steps.get(kind=kind)
    Step.objects.filter(pk=step.pk).update(state="running", started_at=timezone.now())
    action = factories.make_action(factories.make_attempt(step, started_by=house.lead), state="running")
    return factories.make_run(action=action, **over)


def test_progress_rate_phase_age_and_log(house: House) -> None:
    run = running(
        house, bytes_done=35_000_000_000, bytes_total=100_000_000_000, rate=31e6, phase="copying", files_done=18204
    )
    RunEvent.objects.create(run=run, text="<b>Copy</b> started")
    now = region(page(house), "now")
    for words in ("35 %", "35.0 GB of 100.0 GB", "31.0 MB/s", "copying", "data-age", "by Lea Adler"):
        assert words in now
    assert "18\u202f204" in now
    assert "&lt;b&gt;Copy&lt;/b&gt; started" in now  # what a machine says is text


def test_a_stopping_attempt_says_so(house: House) -> None:
    run = running(house)
    attempt = house.migration.steps.get(kind=Kind.INITIAL).attempts.get()
    type(attempt).objects.filter(pk=attempt.pk).update(state="cancelling")
    type(run).objects.filter(pk=run.pk).update(state="cancelling")
    now = region(page(house), "now")
    assert "Stopping" in now
    assert "Stop before the next act" not in now


def test_what_is_missing_before_the_next_step(house: House) -> None:
    Migration.objects.filter(pk=house.migration.pk).update(profile=None)
    side = region(page(house), "side")
    text = page(house)
    assert "Before “Initial migration” may start" in text
    assert "It has no profile" in text
    assert side


def test_the_grey_button_tells_why(house: House) -> None:
    Migration.objects.filter(pk=house.migration.pk).update(profile=None)
    now = region(page(house), "now")
    assert 'aria-disabled="true"' in now
    assert "It has no profile" in now.split('class="why"', 1)[1]


def test_roles_and_buttons(house: House) -> None:
    for who in ("lead", "operator"):
        text = page(house, who)
        assert "Start initial migration" in text
        assert reverse("hold-add", args=[house.migration.pk]) in text
    for who in ("manager", "owner"):
        text = page(house, who)
        assert "Start initial migration" not in text
        assert reverse("hold-add", args=[house.migration.pk]) not in text


def test_syncs_with_consistency_and_what_was_discarded(house: House) -> None:
    factories.make_sync(house.migration, bytes_sent=1_900_000_000)
    factories.make_sync(
        house.migration,
        consistency=SyncPoint.Consistency.LIVE,
        discarded_count=23,
        facts={"config_changed": ["/etc/hosts", "/etc/motd", "/etc/issue"]},
    )
    text = page(house)
    assert "discarded 23 changes made on the clone" in text
    assert "3 configuration files changed" in text
    assert "1.9 GB" in text
    live = text.split("discarded 23", 1)[1].split("</tr>", 1)[0]
    assert 'data-state="held"' in live  # a live copy is never drawn green
    assert 'data-state="done"' not in live


def test_probes_in_three_columns_unknown_is_never_green(house: House) -> None:
    probe = factories.make_probe(house.migration.source, "shop answers")
    factories.make_probe_result(probe, "source", True, observed="200")
    factories.make_probe_result(probe, "clone", False, observed="old answer")
    factories.make_probe_result(probe, "clone", None, observed="", reason="The clone could not be reached.")
    row = page(house).split("shop answers", 1)[1].split("</tr>", 1)[0]
    assert row.count('role="cell"') == 4
    assert "The clone could not be reached." in row
    assert "old answer" not in row  # only the newest counts
    assert "not yet" in row
    assert row.rstrip().endswith("</td>")
    assert 'data-state="unknown"' in row.split('class="fold-top"', 1)[1]


def test_services_as_recorded_and_their_order(house: House) -> None:
    Migration.objects.filter(pk=house.migration.pk).update(services=["nginx.service", "postgresql.service"])
    factories.make_service_record(
        house.migration.source,
        [{"name": "nginx.service", "state": "active/running", "start_mode": "enabled", "ports": [80]}],
    )
    services = page(house).split('id="services-h"', 1)[1].split("</table>", 1)[0]
    first, second = services.split("<tr", 3)[2:]
    assert "active/running, enabled, port 80" in first
    assert "1." in first
    assert "2." in first.split('data-label="Starts again"', 1)[1]
    assert "not recorded" in second


def test_what_runs_beside_the_services_is_shown_with_them(house: House) -> None:
    Migration.objects.filter(pk=house.migration.pk).update(services=["nginx.service"])
    record = {"units": [], "containers": ["podman web <shop>"], "at_jobs": ["3 Tue root", "4 Wed root"]}
    factories.make_service_record(house.migration.source, record=record)
    services = page(house).split('id="services-h"', 1)[1].split("</section>", 1)[0]
    assert "podman web &lt;shop&gt;. The stop fails while one still runs" in services
    assert "2 jobs wait in at: list atd" in services


def test_holds_are_listed_and_released_here(house: House) -> None:
    hold = Hold.objects.create(
        kind=Hold.Kind.PERSON, project=house.project, migration=house.migration, why="backup first", by=house.lead
    )
    text = page(house)
    assert "backup first" in text
    assert reverse("hold-release", args=[hold.pk]) in text
    assert reverse("hold-release", args=[hold.pk]) not in page(house, "manager")


def test_whose_checklist_item_it_is(house: House) -> None:
    Step.objects.filter(migration=house.migration, kind=Kind.INITIAL).update(state="done", started_at=timezone.now())
    step = house.migration.steps.get(kind=Kind.UAT)
    owners = factories.make_item(step, "Works for you", role="owner")
    ours = factories.make_item(step, "Backup is old", role="operator")
    automatic = factories.make_item(step, "Isolated", operation="isolation")
    addresses = {item.title: reverse("checklist-tick", args=[item.pk]) for item in (owners, ours, automatic)}
    for who, mine in (("operator", ["Backup is old"]), ("owner", ["Works for you"]), ("manager", [])):
        text = page(house, who)
        assert [title for title, address in addresses.items() if address in text] == mine, who
    ChecklistItem.objects.filter(pk=ours.pk).update(state="failed")
    assert 'data-state="failed"' in region(page(house), "checks")


def test_complete_is_said_and_nothing_is_left_to_press(house: House) -> None:
    now = timezone.now()
    Migration.objects.filter(pk=house.migration.pk).update(
        state="complete", completed_at=now, declared_at=now, declared_by=house.lead
    )
    Step.objects.filter(migration=house.migration).update(state="done")
    main = page(house).split("<main", 1)[1].split("</main>", 1)[0]
    assert "Declared complete by Lea Adler" in main
    assert "<form" not in main


def test_a_migration_without_steps_says_what_to_do(house: House) -> None:
    migration = factories.make_migration(project=house.project, application=None, wave=None, profile=None, steps=False)
    text = house.client("lead").get(reverse("migration", args=[migration.pk])).content.decode()
    assert "It is not planned yet" in text


def test_queries_do_not_grow_with_history(house: House) -> None:
    client, address = house.client("lead"), reverse("migration", args=[house.migration.pk])
    factories.make_sync(house.migration)
    run = running(house)
    client.get(address)
    with CaptureQueriesContext(connection) as few:
        client.get(address)
    for number in range(10):
        factories.make_sync(house.migration)
        probe = factories.make_probe(house.migration.source)
        factories.make_probe_result(probe, "source")
        RunEvent.objects.create(run=run, text=f"line {number}")
        factories.make_item(house.migration.steps.get(kind=Kind.INITIAL), by=house.lead, at=timezone.now())
    with CaptureQueriesContext(connection) as many:
        client.get(address)
    assert len(many) <= len(few) + 1  # the results of the probes
    assert len(many) <= 36


def test_the_log_of_a_run_and_its_other_tries(house: House) -> None:
    run = running(house)
    type(run).objects.filter(pk=run.pk).update(
        state="failed", finished_at=timezone.now(), reason="rsync ended with 23."
    )
    again = factories.make_run(work_key=run.work_key, server=run.server, title=run.title)
    RunEvent.objects.create(run=run, text="rsync: permission denied", level="error")
    text = house.client("operator").get(reverse("run", args=[run.pk])).content.decode()
    assert "rsync ended with 23." in text
    assert "Error: </b>rsync: permission denied" in text
    assert reverse("run", args=[again.pk]) in text
    assert "hx-trigger" not in text  # it is over
    assert "hx-trigger" in house.client("operator").get(reverse("run", args=[again.pk])).content.decode()


def test_a_platform_check_is_seen_by_its_project_without_owners(house: House) -> None:
    platform = house.migration.profile.platform
    run = factories.make_run("platform_check", parameters={"platform": platform.pk}, server=None)
    address = reverse("run", args=[run.pk])
    assert house.client("manager").get(address).status_code == 200
    assert house.client("owner").get(address).status_code == 404
    assert house.client("outsider").get(address).status_code == 404
