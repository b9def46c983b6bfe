"""The demo from beginning to end. Needs Django set up on the demo's own directory."""

from __future__ import annotations

import shutil
import signal
import threading
import traceback
from pathlib import Path
from typing import Any

from django.core.management import call_command

from migrationhub.lab.datacentre import Datacentre
from migrationhub.lab.demo import aftermath, report, rows, verification
from migrationhub.lab.demo.hub import Hub
from migrationhub.lab.demo.night import Night, Seen
from migrationhub.lab.demo.people import People, accounts
from migrationhub.lab.demo.scenario import PROJECT, Scenario, scenario
from migrationhub.lab.demo.setup import Setup
from migrationhub.lab.demo.terminal import Say, Teller
from migrationhub.lab.demo.tester import Tester
from migrationhub.lab.demo.verification import Result
from migrationhub.lab.state import Lab
from migrationhub.lib.findings import Problem
from migrationhub.management.commands.account import account

ON_PROCESS_HOSTS = (
    "process hosts are directories of one machine: no whole systems, isolation, receive mode beyond recorded services, "
    "timers and masks, guest's address, kernel findings, snapshots, capabilities, foreign owners"
)


class Demo:
    """`home`: the user's own directory for data; the demo's hub has `home`/demo, its lab is one of `home`."""

    def __init__(self, home: Path, lab: Lab, *, port: int, ends: bool, write: Say) -> None:
        self.home, self.lab, self.ends = home, lab, ends
        self.directory = home / "demo"
        self.teller = Teller(write)
        self.say = self.teller.say
        self.centre = Datacentre(lab, self.say)
        self.hub = Hub(self.directory, port)
        self.people = People(self.hub.url, accounts())
        self.report_path = home / "demo-report.json"
        self.compared = self.directory / "verify"
        self.seen = Seen()
        self.plan: Scenario | None = None

    def run(self, kind: str) -> int:
        """0: every check held. Cleans up whatever happens."""
        self.report_path.unlink(missing_ok=True)  # of an earlier demo
        failure, told = "", report.report("", [], "interrupted")
        try:
            try:
                self.bring_up(kind)
                self.drive()
            except Problem as problem:
                failure = str(problem)
            except Exception as error:  # noqa: BLE001  what is not foreseen ends in the report as well
                traceback.print_exc()
                failure = f"{type(error).__name__}: {error}"
            told = self.tell(failure)
            if not self.ends and self.hub.running:
                self.serve()
        except KeyboardInterrupt:
            self.say("interrupted")
        finally:
            self.take_down(keep=not told["ok"])
        return 0 if told["ok"] else 1

    # -- up -------------------------------------------------------------------------------------------------

    def bring_up(self, kind: str) -> None:
        self.hub.check_port()
        self.centre.down()  # what an interrupted demo left
        told = self.centre.up(kind)
        self.say(f"the lab has {told['kind']} hosts: {told['why']}")
        self.plan = scenario(told)
        verification.install(self.lab, self.compared)
        call_command("migrate", interactive=False, verbosity=0)
        for one in self.people.accounts:
            account(one.name, one.password, staff=one.staff, full_name=one.full_name)
        self.hub.start()
        self.say(f"the hub is at {self.hub.url}; only accounts are in its database")

    def drive(self) -> None:
        assert self.plan is not None
        backend = self.centre.backend()
        self.people.log_in()
        Setup(self.people.lead, self.plan, backend, self.say).everything(self.people.accounts)
        tester = Tester(self.lab, backend)
        night = Night(self.people, self.plan, rows.wave_address(1), tester, self.say)
        self.seen = night.seen
        night.drive()
        self.say(f"the manager reads: {night.read_progress(self.people['manager'])}")

    # -- the report -----------------------------------------------------------------------------------------

    def tell(self, failure: str) -> dict[str, Any]:
        servers = []
        if self.plan is not None:
            try:
                servers = self.servers(self.plan)
            except Exception as error:  # noqa: BLE001  a report that cannot be made is a failed demo
                traceback.print_exc()
                failure = failure or f"The report could not be made: {type(error).__name__}: {error}"
        told = report.report(self.centre.kind(), servers, failure)
        report.write(self.report_path, told)
        self.teller.head(report.lines(told))
        if failure:
            self.teller.head(f"The demo stopped: {failure}")
        else:
            self.teller.head("Every check held." if told["ok"] else "NOT every check held.")
        self.teller.write(f"The report is in {self.report_path}.")
        return told

    def servers(self, plan: Scenario) -> list[dict[str, Any]]:
        """Per server its rows and all that was verified."""
        compared = verification.read(self.compared)
        return [
            {**told, "verified": self.verified(plan, told["name"], compared.get(told["name"]))}
            for told in rows.servers()
        ]

    def verified(self, plan: Scenario, name: str, compared: dict[str, Any] | None) -> dict[str, Result]:
        server = next(one for one in plan.servers if one.name == name)
        found: dict[str, Result] = {}
        if compared:
            found |= compared["checks"]
            found["both_off"]["said"] += f"; the comparison took {compared['seconds']} s of the downtime"
        else:
            found["both_off"] = {"ok": False, "said": "source and target were never compared while both were off"}
        tester = Tester(self.lab, self.centre.backend())
        journal = self.lab.dir / "vme" / "journal.jsonl"
        try:
            found |= aftermath.look(plan, server, self.centre.backend(), tester.clone(name), journal)
        except Problem as problem:
            found["instance"] = {"ok": False, "said": str(problem)}
        found |= self.on_the_way(name)
        if name == "shop-web":
            found["join"] = _join()
        for words in rows.not_applicable(name):
            title, _, reason = words.partition(": ")
            found[title] = {"ok": None, "said": reason}
        if plan.on_process_hosts:
            found["whole_system"] = {"ok": None, "said": ON_PROCESS_HOSTS}
        return found

    def on_the_way(self, name: str) -> dict[str, Result]:
        """What was seen on the pages while it was driven."""
        seen = self.seen
        found: dict[str, Result] = {
            "delta_by_schedule": {
                "ok": seen.delta_by_schedule.get(name, False),
                "said": "a delta ran by its schedule before the test" if name in seen.delta_by_schedule else "not seen",
            },
            "delta_waited": {
                "ok": name in seen.delta_waited,
                "said": f"the due delta during the test: {seen.delta_waited.get(name, 'not seen to wait')}",
            },
        }
        if seen.writes.get(name) or name in ("shop-db", "files"):
            left = seen.writes_left.get(name)
            found["tester_undone"] = {
                "ok": left == [] and seen.discarded.get(name, 0) > 0,
                "said": f"written on the copy: {', '.join(seen.writes.get(name, [])) or 'nothing'}; the page said "
                f"{seen.discarded.get(name, 0)} changes were discarded; left: "
                f"{'not looked at' if left is None else ', '.join(left) or 'nothing'}",
            }
        return found

    # -- the end --------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Until Ctrl-C: the newcomer's turn."""
        self.teller.head(f"The dashboard is at {self.hub.url}")
        for one in self.people.accounts:
            self.teller.write(f"  {one.name:12} {one.password:20} {one.full_name}, {one.role.lower()}")
        self.teller.write(
            f"Wave 2 of “{PROJECT}” waits for you: log in as lead, open “Wave 2”, start the initial migration, and go "
            f"on as the pages say. A command on a server of the lab: manage.py lab --lab {self.lab.name} exec NAME -- …"
        )
        self.teller.write("Ctrl-C ends it: the hub stops and the lab is taken down.")
        threading.Event().wait()

    def take_down(self, *, keep: bool) -> None:
        """Hub and lab end, whatever signals come; of the demo's directory what may explain a failure stays."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        self.say("stopping the hub")
        self.hub.stop()
        self.say("taking the lab down")
        self.centre.down()
        if self.ends and not keep:
            shutil.rmtree(self.directory, ignore_errors=True)
            self.say("nothing is left but the report and the cache of images")
        else:
            self.say(f"what stays: the report, the cache of images, and database and log in {self.directory}")


def _join() -> Result:
    try:
        return rows.join("shop-web", "shop-db")
    except LookupError as error:
        return {"ok": False, "said": str(error)}
