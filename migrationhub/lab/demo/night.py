"""One wave, driven by the buttons that the pages offer, from the first copy to the declaration."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from migrationhub.lab.demo.board import STEPS, Board, Lane
from migrationhub.lab.demo.driver import Page, Person
from migrationhub.lab.demo.forms import Form, PageProblem
from migrationhub.lab.demo.people import People
from migrationhub.lab.demo.scenario import DELTA_MINUTES, SLUG, ApplicationPlan, Scenario, ServerPlan
from migrationhub.lab.demo.tester import Tester
from migrationhub.lib.findings import Problem

INITIAL, DELTA, UAT, STOP, FINAL, CUTOVER, VALIDATION = STEPS
COPY_SECONDS = 1500  # for all first copies of the wave
DELTA_SECONDS = 400
CUTOVER_SECONDS = 1500
OVER = ("done", "not_applicable", "skipped")
OVERDUE = 5.0  # seconds, several looks of the controller
DISCARDED = re.compile(r"discarded (\d+) changes? made on the clone")


@dataclass
class Seen:
    """What was seen on the pages on the way; goes into the report."""

    delta_by_schedule: dict[str, bool] = field(default_factory=dict)
    delta_waited: dict[str, str] = field(default_factory=dict)
    discarded: dict[str, int] = field(default_factory=dict)
    writes: dict[str, list[str]] = field(default_factory=dict)
    writes_left: dict[str, list[str]] = field(default_factory=dict)
    join_waited: str = ""


class Night:
    """The address of the board of wave `number`, and who works on it."""

    def __init__(
        self,
        people: People,
        plan: Scenario,
        wave_address: str,
        tester: Tester,
        say: Callable[[str], None],
        number: int = 1,
    ) -> None:
        self.people, self.plan, self.tester, self.say = people, plan, tester, say
        self.address = wave_address
        self.board = Board(people.lead, wave_address, say)
        self.number, self.servers = number, plan.of_wave(number)
        names = {server.application for server in self.servers}
        self.applications = [one for one in plan.applications if one.name in names]
        self.seen = Seen()
        self.opened_at = 0.0  # by the monotonic clock, of the last test
        self.before: dict[str, int] = {}  # deltas of each server before the tester wrote

    def drive(self) -> Seen:
        self.start()
        self.deltas()
        self.acceptance()
        self.changes_taken_away()
        self.go()
        self.cutover()
        self.complete()
        return self.seen

    # -- steps 1 and 2 --------------------------------------------------------------------------------------

    def start(self) -> None:
        page = self.people.operator.get(self.address)
        self.people.operator.press(page, r"Start .*", within=page.part("wave-acts"))
        self.say(f"the operator started wave {self.number}: {', '.join(server.name for server in self.servers)}")
        self.board.watch(lambda lanes: all_over(lanes, INITIAL), "the first copies", seconds=COPY_SECONDS)

    def deltas(self) -> None:
        """At least one by schedule on each server."""
        self.board.watch(
            lambda lanes: all(self.syncs(lane, "delta") for lane in lanes.values()),
            "a delta by schedule on each server",
            seconds=DELTA_SECONDS,
        )
        self.seen.delta_by_schedule = dict.fromkeys((server.name for server in self.servers), True)
        self.say("each server had a delta by its schedule")

    def syncs(self, lane: Lane, kind: str) -> list[str]:
        """The sync points of one kind on the server's page, newest first, as they are written there."""
        part = self.people.lead.get(lane.link).part("data")
        return [node.text for node in part.all("th") if re.match(rf"\d+, {kind}\b", node.text)]

    # -- step 3 ---------------------------------------------------------------------------------------------

    def acceptance(self) -> None:
        for one in self.applications:
            self.open_test(one)
        self.opened_at = time.monotonic()
        for one in self.applications:
            owner = self.people[one.owner]
            address = self.acceptance_address(owner, one)
            owner.wait(address, _asked, f"the evidence of {one.name}", seconds=DELTA_SECONDS)
        self.say("the evidence is there; the owners are asked")
        for server in self.servers:
            self.due_delta_waits(server)
        # No delta runs now: what is there was synced before the tester's changes.
        self.before = {name: len(self.syncs(lane, "delta")) for name, lane in self.board.look().items()}
        for server in self.servers:
            written = self.tester.write(server.name)
            self.seen.writes[server.name] = written
            if written:
                self.say(f"the tester wrote on the copy of {server.name}: {', '.join(written)}")
        for one in self.applications:
            self.sign(one)

    def acceptance_address(self, person: Person, one: ApplicationPlan) -> str:
        """The link with the application's name on the board."""
        for node in person.get(self.address).part("gates").all("a"):
            if node.text == one.name:
                return node.get("href")
        raise PageProblem(f"{person.name} sees no link to {one.name} on {self.address}.", code="demo.link")

    def open_test(self, one: ApplicationPlan) -> None:
        """The owner does; where the copy is a live one, a lead must take that on."""
        owner = self.people[one.owner]
        address = self.acceptance_address(owner, one)
        page = owner.get(address)
        labels = [button.label for form in page.forms(page.part("ask")) for button in form.buttons]
        if "Open the test" in labels:
            owner.press(page, "Open the test", within=page.part("ask"))
            self.say(f"{one.name}: {owner.name} opened the test")
            return
        page = self.people.lead.get(address)
        self.people.lead.press(page, "Open the test on a live copy", within=page.part("ask"))
        self.say(f"{one.name}: the copy is a live one; the lead took that on and opened the test")

    def due_delta_waits(self, server: ServerPlan) -> None:
        """More than the interval of the schedule is over since the test was opened: the delta is due, has not
        started, and the page says why."""
        lane = self.board.look()[server.name]
        lead = self.people.lead
        synced = self.syncs(lane, "delta")
        time.sleep(max(0.0, self.opened_at + DELTA_MINUTES * 60 + OVERDUE - time.monotonic()))
        page = lead.get(lane.link)
        held, words = page.part("rail").all("li")[STEPS.index(DELTA)], page.part("side").text
        if (
            held.get("data-state") != "held"
            or "Acceptance test under way" not in words
            or self.syncs(lane, "delta") != synced
        ):
            raise Problem(
                f"The page of {server.name} does not show that its delta is due and why it waits: {held.text}. {words}",
                code="demo.hold",
            )
        self.seen.delta_waited[server.name] = f"{held.text}; Acceptance test under way"
        self.say(f"{server.name}: its due delta waits, and the page says why: Acceptance test under way")

    def sign(self, one: ApplicationPlan) -> None:
        owner = self.people[one.owner]
        address = self.acceptance_address(owner, one)
        page = owner.get(address)
        answered = 0
        while form := _unanswered(page):
            page = owner.submit(form.fill(state="Works"))
            answered += 1
        page = owner.press(page, "Approve", within=page.part("answer"), comment="Works as it should.")
        page = owner.get(address)
        owner.press(page, "End the test", within=page.part("ask"))
        self.say(f"{one.name}: {owner.name} answered {answered} questions, approved, and ended the test")

    def changes_taken_away(self) -> None:
        """The next delta discards what the tester did, and the page says how much that was."""
        wanted = {name for name, written in self.seen.writes.items() if written}

        def told(lanes: dict[str, Lane]) -> bool:
            for name in wanted - self.seen.discarded.keys():
                synced = self.syncs(lanes[name], "delta")
                after = synced[: len(synced) - self.before[name]]
                counts = [int(found[1]) for text in after if (found := DISCARDED.search(text))]
                if counts:
                    self.seen.discarded[name] = sum(counts)
            return wanted <= self.seen.discarded.keys()

        self.board.watch(told, "the delta that takes the tester's changes away", seconds=DELTA_SECONDS)
        for name in sorted(wanted):
            left = self.tester.left(name)
            self.seen.writes_left[name] = left
            if left:
                raise Problem(
                    f"{name}: the page says that {self.seen.discarded[name]} changes were discarded, but still there "
                    f"is: {', '.join(left)}",
                    code="demo.discard",
                )
            self.say(f"{name}: a delta discarded {self.seen.discarded[name]} changes; nothing of the tester is left")

    # -- steps 4 to 7 ---------------------------------------------------------------------------------------

    def go(self) -> None:
        lead = self.people.lead
        self.board.watch(lambda lanes: all_over(lanes, UAT), "acceptance testing to be done", seconds=120)
        for one in self.applications:
            page = lead.wait(self.address, lambda page, one=one: bool(_go(page, one)), f"the go of {one.name}")  # type: ignore[misc]
            forms = _go(page, one)
            lead.submit(forms[0])
            self.say(f"{one.name}: the lead gave the go")

    def cutover(self) -> None:
        """The lanes run by themselves; a person only looks."""

        def done(lanes: dict[str, Lane]) -> bool:
            if stale := self.board.page.part("gates").all(where=lambda node: node.get("data-state") == "relook"):
                raise Problem(
                    f"An answer is not valid any more ({stale[0].text}): {self.board.page.part('gates').text}",
                    "Look at the acceptance page: it says what changed.",
                    code="demo.relook",
                )
            for lane in lanes.values():
                if "Waits for" in lane.why and "is not proven yet" in lane.why and not self.seen.join_waited:
                    self.seen.join_waited = f"{lane.name}: {lane.why}"
                    self.say(f"{lane.name} waits before its cutover events: {lane.why}")
            return all(all_over({lane.name: lane}, CUTOVER) for lane in lanes.values())

        self.board.watch(done, "the cutover of all servers", seconds=CUTOVER_SECONDS)

    def complete(self) -> None:
        for name, lane in self.board.look().items():
            operator = self.people.operator
            page = operator.wait(
                lane.link, lambda page: bool(_tick(page, "Users can work with it")), f"the checklist of {name}"
            )
            operator.submit(_tick(page, "Users can work with it")[0])
        self.say("the operator ticked: users can work with it")
        lead = self.people.lead
        for name, lane in self.board.look().items():
            page = lead.wait(lane.link, _may_declare, f"{name} to be ready for its declaration")
            lead.press(page, "Declare complete")
            self.say(f"{name}: the lead declared it complete")
        self.board.watch(
            lambda lanes: all(lane.why.startswith("Complete since") for lane in lanes.values()),
            "our access to be removed from the targets",
            seconds=180,
        )

    def read_progress(self, manager: Person) -> str:
        """What somebody who only reads finds on the project's page; they get no button there."""
        page = manager.get(f"/projects/{SLUG}/")
        figures = page.part("figures").text
        complete = f"{len(self.servers)} of {len(self.plan.servers)}"
        if complete not in figures:
            raise PageProblem(f"The progress page does not say {complete}: {figures}", code="demo.progress")
        buttons = [button.label for form in page.forms(page.main) for button in form.buttons]
        if buttons:
            raise PageProblem(f"The manager is offered {', '.join(buttons)} on {page.path}.", code="demo.manager")
        return f"{complete} servers are complete"


def all_over(lanes: dict[str, Lane], step: str) -> bool:
    return all(lane.state(step) in OVER for lane in lanes.values())


def _asked(page: Page) -> bool:
    """The answer can be given, or is grey for a reason that the owner can do something about."""
    return bool(page.part("answer").all("form"))


def _unanswered(page: Page) -> Form | None:
    for form in page.forms(page.part("tests")):
        if "state" in form.fields and form.fields["state"].sent() != ["done"]:
            return form
    return None


def _tick(page: Page, title: str) -> list[Form]:
    """The form with the button Done beside a line of the checklist."""
    found = []
    for line in page.part("checks").all("li", where=lambda node: title in node.text):
        found += [form for form in page.forms(line) if any(button.label == "Done" for button in form.buttons)]
    return found


def _go(page: Page, one: ApplicationPlan) -> list[Form]:
    """The form with the button of the go in the application's line of gates."""
    found = []
    for line in page.part("gates").all("li", where=lambda node: one.name in [link.text for link in node.all("a")]):
        found += [form for form in page.forms(line) if any(button.label == "Give the go" for button in form.buttons)]
    return found


def _may_declare(page: Page) -> bool:
    return any(button.label == "Declare complete" for form in page.forms(page.main) for button in form.buttons)
