"""Migrations of a whole Debian host; in each of the seven steps a worker, the controller and both die at work.

What came of it is read from the disks by the lab, from the journals of the appliance, of the name server and of the
guests, and only then from our rows.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from migrationhub.lab.demo import verification
from migrationhub.lab.nameserver import Nameserver
from migrationhub.lab.state import Lab
from migrationhub.lab.vme.store import effective, repeated_keys
from projects.models import Migration
from servers import lease
from servers.models import Credential, Probe, RunEvent, SyncPoint
from servers.movers.rsync.layout import safe
from tests.hub_processes import HubProcesses, hub_processes
from tests.kills.evidence import bytes_move, goes_down, platform_is_at, sleeps, was_asked_to_go_down
from tests.kills.journey import Journey, K, S, Strike, kill_both
from tests.test_system_scope import Site

pytestmark = [
    pytest.mark.nspawn,
    pytest.mark.full,
    pytest.mark.skipif("sqlite" not in settings.DATABASES["default"]["ENGINE"], reason="opens the hub's SQLite file"),
]
SLOW = "4.7"  # seconds that a probe's command takes
# Both services take their time to stop, so that there is a middle.
SLOW_STOP = """
for unit in orders.service postgresql@15-main.service; do
  mkdir -p /etc/systemd/system/$unit.d
  printf '[Service]\\nExecStop=/bin/sleep 3\\n' >/etc/systemd/system/$unit.d/slow.conf
done
systemctl daemon-reload
"""
STRIKES = {
    K.INITIAL: [
        Strike("worker", "sync", "receive"),
        Strike("controller", "sync", None, bytes_move),
        Strike("both", "sync", None, bytes_move),
    ],
    K.DELTA: [
        Strike("worker", "sync", "start"),
        Strike("controller", "sync", None, bytes_move),
        Strike("both", "sync", "finish"),
        Strike("worker", "sync", "leave"),
    ],
    K.UAT: [
        Strike("worker", "record_services", ""),
        Strike("controller", "probe", "", sleeps("source", SLOW)),
        Strike("both", "probe", "", sleeps("clone", SLOW)),
    ],
    K.STOP: [
        Strike("controller", "probe", "", sleeps("source", SLOW)),
        Strike("worker", "stop_services", "stop orders", goes_down("orders.service")),
        Strike("both", "stop_services", "stop postgresql", goes_down("postgresql@15-main.service")),
    ],
    K.FINAL: [
        Strike("worker", "sync", "receive"),
        Strike("controller", "sync", None, bytes_move),
        Strike("both", "shutdown", None, was_asked_to_go_down),
    ],
    K.CUTOVER: [
        Strike("worker", "network", "down"),
        Strike("controller", "network", None, platform_is_at("resize")),
        # The third one is `both_in_the_dns_act`.
    ],
    K.VALIDATION: [
        Strike("worker", "probe", "", sleeps("clone", SLOW)),
        Strike("controller", "probe", "", sleeps("clone", SLOW)),
        # The third one comes after the declaration: both at “remove_access”.
    ],
}


@pytest.fixture
def hub(tmp_path_factory: pytest.TempPathFactory, django_db_blocker: Any) -> Iterator[HubProcesses]:
    with django_db_blocker.unblock(), hub_processes(tmp_path_factory.mktemp("hub")) as made:
        yield made


@pytest.fixture
def site(spare_lab: Lab, hub: HubProcesses) -> Iterator[Site]:
    verification.install(spare_lab, spare_lab.dir / "verdicts")
    profile = {
        "scope": "system",
        "consistency": "postgresql",
        "consistency_options": {
            "data": "/var/lib/postgresql/15/main",
            "user": "postgres",
            "port": 5432,
            "service": "postgresql",
        },
    }
    made = Site(spare_lab, "shop-db", profile, {"rate": "40mbit"})
    lease.release("test", made.hub.epoch)  # the site's own hub in one process leaves the field to real ones
    assert made.centre.backend().execute("shop-db", SLOW_STOP).rc == 0
    made.probe("orders", "unit", unit="orders")
    made.probe("slow", "command", command=f"sleep {SLOW}; echo answered", output="answered")
    yield made


def test_killed_in_each_of_the_seven_steps(site: Site, hub: HubProcesses, spare_lab: Lab) -> None:
    began = time.time()
    hub.start_up()
    journey = Journey(hub, site.migration, site.centre.backend(), spare_lab.dir / "vme")
    site.hub.step = lambda: None  # type: ignore[method-assign]
    site.prepare()

    journey.start(K.INITIAL)
    strike_all(journey, K.INITIAL)
    journey.wait_for_step(K.INITIAL)
    write_on_source(journey, "early")
    journey.start(K.DELTA)
    strike_all(journey, K.DELTA)
    journey.wait_for_step(K.DELTA, S.READY)

    journey.open_test()
    strike_all(journey, K.UAT)
    journey.sign()
    write_on_source(journey, "late")
    journey.give_the_go()
    for kind in (K.STOP, K.FINAL, K.CUTOVER):
        strike_all(journey, kind)
    both_in_the_dns_act(journey, Nameserver(spare_lab))
    journey.wait_for_step(K.CUTOVER)

    strike_all(journey, K.VALIDATION)
    journey.tick(K.VALIDATION, journey.lead)
    journey.declare()
    Strike("both", "remove_access", "")(journey)
    journey.wait_for_step(K.VALIDATION)

    whole_on_the_disks(spare_lab)
    nothing_twice(journey, spare_lab, began)
    journey.nothing_stuck()
    rows_tell_it(journey)


def write_on_source(journey: Journey, name: str) -> None:
    """So much that copying it takes several seconds."""
    assert journey.backend.execute(journey.source, f"head -c 40M /dev/urandom >/srv/{name}; sync").rc == 0


def test_cancelled_where_systemd_counts(site: Site, hub: HubProcesses, spare_lab: Lab) -> None:
    """Half a stop, half a final copy, half a move: each says what it leaves, is taken back or goes on to success."""
    hub.start_up()
    journey = Journey(hub, site.migration, site.centre.backend(), spare_lab.dir / "vme")
    site.hub.step = lambda: None  # type: ignore[method-assign]
    site.prepare()
    journey.start(K.INITIAL)
    journey.wait_for_step(K.INITIAL)
    journey.open_test()
    journey.sign()
    write_on_source(journey, "late")
    journey.give_the_go()

    journey.wait(lambda: journey.in_hand("stop_services") and goes_down("orders.service")(journey), 240, "it stops")
    journey.cancel(K.STOP)
    journey.wait_for_step(K.STOP, S.CANCELLED, 240)
    assert "with 1 of 2 stopped (in this order: orders, postgresql)" in journey.step(K.STOP).reason
    assert states(journey) == ["inactive", "active"]
    journey.start(K.STOP)  # what was signed is not compared with services that are half stopped
    journey.wait_for_step(K.STOP, seconds=240)
    assert states(journey) == ["inactive", "inactive"]

    journey.wait(lambda: bytes_move(journey), 240, "bytes move")
    journey.cancel(K.FINAL)
    journey.wait_for_step(K.FINAL, S.CANCELLED, 240)
    assert journey.says(journey.source, "pgrep -x rsync; ls /run/migrationhub/*/key 2>/dev/null") == ""
    journey.press("migration-abort", journey.migration.pk, why="a try")
    journey.wait(lambda: journey.state(K.FINAL) == journey.state(K.STOP) == S.UNDONE, 240, "both are undone")
    assert states(journey) == ["active", "active"], "as they were recorded before anything was stopped"
    assert journey.says(journey.source, "ls /run/systemd/system.control /etc/systemd/system.control 2>/dev/null") == ""

    journey.give_the_go()
    journey.wait(lambda: platform_is_at("resize")(journey), 240, "the interface is being moved")
    journey.cancel(K.CUTOVER)
    journey.wait_for_step(K.CUTOVER, S.CANCELLED, 240)
    journey.start(K.CUTOVER)
    journey.wait_for_step(K.CUTOVER)
    journey.tick(K.VALIDATION, journey.lead)
    journey.declare()
    journey.wait_for_step(K.VALIDATION)
    whole_on_the_disks(spare_lab)
    journal = spare_lab.dir / "vme" / "journal.jsonl"
    acts = Counter(entry["act"] for entry in effective(journal))
    assert (acts["create"], acts["resize"], repeated_keys(journal)) == (1, 1, [])
    journey.nothing_stuck()


def states(journey: Journey) -> list[str]:
    """Of both services on the source."""
    units = "orders.service postgresql@15-main.service"
    return journey.says(journey.source, f"systemctl is-active {units}").split()


def strike_all(journey: Journey, kind: str) -> None:
    for strike in STRIKES[kind]:
        strike(journey)


def both_in_the_dns_act(journey: Journey, server: Nameserver) -> None:
    """The name server hears the change, and whoever asked for it is dead before it answers."""

    def found() -> bool:
        run = journey.run_of("dns")
        return run is not None and "old" in run.memo

    journey.wait(found, 240, "the old record was looked up")
    named = int(Path(f"/proc/{server.daemon.pid()}/task/{server.daemon.pid()}/children").read_text().split()[0])
    os.kill(named, signal.SIGSTOP)
    try:
        journey.wait(lambda: journey.in_hand("dns", "change"), 30, "the change is asked for")
        time.sleep(0.5)
        kill_both(journey)
    finally:
        os.kill(named, signal.SIGCONT)


def whole_on_the_disks(lab: Lab) -> None:
    """What the lab compared from both roots while source and target were off for the network move."""
    verdict = verification.read(lab.dir / "verdicts")["shop-db"]
    wrong = {name: told for name, told in verdict["checks"].items() if told["ok"] is not True}
    assert wrong == {}, json.dumps(wrong, indent=1)
    assert {"both_off", "files_equal", "system_equal", "orders_equal"} <= verdict["checks"].keys()


def nothing_twice(journey: Journey, lab: Lab, began: float) -> None:
    journal = lab.dir / "vme" / "journal.jsonl"
    acts = Counter(entry["act"] for entry in effective(journal))
    assert (acts["create"], acts["resize"]) == (1, 1), acts
    assert repeated_keys(journal) == []
    # One directory and one unit for each try of a sync, on a source that was never restarted.
    keys = {safe(run.key) for run in journey.runs.filter(operation="sync")}
    assert journey.jobs == keys, journey.jobs
    said = guest_journal(journey, began)
    for key in keys:
        assert said.count(f"Started migrationhub-{key}.service") == 1, key
    for unit in ("orders.service", "postgresql@15-main.service"):
        assert said.count(f"Stopping {unit}") == 1, unit
    assert said.count("System is powering down") == 1
    named = Nameserver(lab).daemon.log.read_text(errors="replace")
    address = journey.migration.new_address.split("/")[0]
    updates = [line for line in named.splitlines() if "adding an RR" in line and address in line]
    assert len(updates) == 1, updates
    assert Nameserver(lab).look_up("production", "db") == [address]


def guest_journal(journey: Journey, began: float) -> str:
    """The source's own journal, read from its disk now that it is off."""
    place = journey.backend.root(journey.source) / "var/log/journal"
    done = subprocess.run(
        ["journalctl", "-D", str(place), "-o", "cat", f"--since=@{int(began)}"],
        capture_output=True,
        text=True,
        errors="replace",
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows_tell_it(journey: Journey) -> None:
    migration = Migration.objects.get(pk=journey.migration.pk)
    assert migration.state == Migration.State.COMPLETE
    assert Counter(SyncPoint.objects.values_list("kind", flat=True)) == {"initial": 1, "delta": 1, "final": 1}
    assert set(journey.runs.values_list("state", "number")) == {("succeeded", 1)}, "no try was given up"
    assert Probe.objects.count() == 2 and not Credential.objects.filter(server=migration.target).exclude(secret="")
    cut = RunEvent.objects.filter(run__in=journey.runs, text__contains="The worker ended in the middle")
    assert cut.count() >= 12, list(cut.values_list("text", flat=True))
