"""The lead sets the project up: every row is made by a form of the pages, choices are taken by their labels."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from migrationhub.lab.demo.driver import Page, Person
from migrationhub.lab.demo.forms import Form, PageProblem, Value
from migrationhub.lab.demo.people import Account
from migrationhub.lab.demo.scenario import (
    DELTA_MINUTES,
    PLACE,
    PROJECT,
    SLUG,
    ZONE_OF_PEOPLE,
    ProbePlan,
    Scenario,
    ServerPlan,
)
from migrationhub.lab.hosts import HostBackend

CHECK_SECONDS = 90
BASE = f"/projects/{SLUG}"
PLATFORM, NAME_SERVER = "VME in the lab", "Name server of shop.lab"
API_KEY, LOGIN_KEY, DNS_KEY = "VME service account", "Key of the lab's servers", "Key for shop.lab"
# Words of a fingerprint as OpenSSH prints it.
FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")


class Setup:
    """One pass; `say` gets a line for each thing that was done."""

    def __init__(self, lead: Person, plan: Scenario, backend: HostBackend, say: Callable[[str], None]) -> None:
        self.lead, self.plan, self.backend, self.say = lead, plan, backend, say

    def everything(self, accounts: list[Account]) -> None:
        self.project(accounts)
        self.platform()
        self.name_server()
        self.servers()
        self.applications(accounts)
        self.profiles()
        self.waves()
        for server in self.plan.servers:
            self.plan_server(server)

    # -- project, credentials, platform ---------------------------------------------------------------------

    def project(self, accounts: list[Account]) -> None:
        self.lead.fill(
            "/projects/new/",
            name=PROJECT,
            time_zone=ZONE_OF_PEOPLE,
            description="Moves the shop's servers into HPE VM Essentials.",
        )
        for one in accounts:
            if one.name != self.lead.name:
                self.lead.fill(f"{BASE}/members/", username=one.name, role=one.role)
        self.say(f"project “{PROJECT}” with {len(accounts)} people")

    def platform(self) -> None:
        told = self.plan.lab["platform"]
        self.lead.fill(
            f"{BASE}/credentials/new/?kind=api", name=API_KEY, username=told["username"], secret=told["password"]
        )
        page = self.lead.fill(
            f"{BASE}/platforms/new/",
            name=PLATFORM,
            url=told["url"],
            credential=API_KEY,
            ca_bundle=Path(told["ca_bundle"]).read_text(),
        )
        page = self.check(page.path.partition("?")[0], PLATFORM)
        findings = page.part("check").all(where=lambda node: node.get("data-state") == "failed")
        if findings:
            raise PageProblem(f"The check of {PLATFORM} says: {page.part('check').text}", code="demo.platform")
        self.say(f"platform “{PLATFORM}” is entered, its check found nothing that blocks")

    def name_server(self) -> None:
        told = self.plan.lab["dns"]
        self.lead.fill(
            f"{BASE}/credentials/new/?kind=tsig",
            name=DNS_KEY,
            username=told["key"]["name"],
            secret=told["key"]["secret"],
            algorithm=told["key"]["algorithm"],
        )
        self.lead.fill(
            f"{BASE}/name-servers/new/",
            name=NAME_SERVER,
            address=told["server"],
            port=told["port"],
            zone=told["zone"],
            credential=DNS_KEY,
        )
        self.say(f"name server of {told['zone']} is entered")

    # -- servers --------------------------------------------------------------------------------------------

    def servers(self) -> None:
        told = self.plan.source(self.plan.servers[0].name)
        key = Path(self.plan.lab["ssh_key"]).read_text()
        self.lead.fill(f"{BASE}/credentials/new/?kind=key", name=LOGIN_KEY, username=told["username"], private_key=key)
        pages = {}
        for server in self.plan.servers:
            source = self.plan.source(server.name)
            page = self.lead.fill(
                f"{BASE}/servers/new/",
                name=server.name,
                address=source["address"],
                port=source["port"],
                credential=LOGIN_KEY,
                manager=source["manager"],
                directory=source["directory"],
            )
            pages[server.name] = page.path.partition("?")[0]
        for name, address in pages.items():
            self.accept_host_keys(name, address)
            page = self.check(address, name)
            failed = page.part("check").all(where=lambda node: node.get("data-state") == "failed")
            if failed:
                raise PageProblem(f"The check of {name} says: {page.part('check').text}", code="demo.server")
            self.say(f"{name} is entered; its host keys were compared at its console and accepted; log-in works")

    def check(self, address: str, what: str) -> Page:
        """Press Check, unless a check is under way already, and wait until it is done."""
        page = self.lead.get(address)
        if _checked(page):
            self.lead.press(page, "Check")
        return self.lead.wait(address, _checked, f"the check of {what}", seconds=CHECK_SECONDS)

    def accept_host_keys(self, name: str, address: str) -> None:
        """Accept exactly those keys whose fingerprint the server's own console shows."""
        page = self.check(address, name)
        known = self.console_fingerprints(name)
        accepted = 0
        while True:
            offered = [form for form in page.forms(page.main) if "/accept/" in form.action]
            if not offered:
                break
            fingerprint = self._fingerprint_beside(page, offered[0])
            if fingerprint not in known:
                raise PageProblem(
                    f"{name} offers the host key {fingerprint}; its console shows {', '.join(sorted(known))}.",
                    "This is another machine, or somebody is in between.",
                    code="demo.host_key",
                )
            page = self.lead.submit(offered[0])
            accepted += 1
        if not accepted:
            raise PageProblem(f"The page of {name} offers no host key: {page.text[:800]}", code="demo.host_key")

    def console_fingerprints(self, name: str) -> set[str]:
        """What a person reads at the server's own console."""
        script = 'for key in etc/ssh/ssh_host_*_key.pub; do ssh-keygen -l -f "$key"; done'
        done = self.backend.execute(name, script if self.plan.on_process_hosts else f"cd / && {script}")
        return set(FINGERPRINT.findall(done.out))

    def _fingerprint_beside(self, page: Page, form: Form) -> str:
        """The fingerprint that stands in the smallest part of the page around this form's button."""
        around = [
            node
            for node in page.main.walk()
            if FINGERPRINT.search(node.text) and any(one.get("action") == form.action for one in node.all("form"))
        ]
        if not around:
            raise PageProblem(f"No fingerprint stands beside the button for {form.action}.", code="demo.host_key")
        shown: list[str] = FINGERPRINT.findall(min(around, key=lambda node: len(node.text)).text)
        return shown[0]

    # -- applications, profiles, waves ----------------------------------------------------------------------

    def applications(self, accounts: list[Account]) -> None:
        full_name = {one.name: one.full_name for one in accounts}
        for one in self.plan.applications:
            values: dict[str, Value] = {"waits_for": list(one.waits_for)} if one.waits_for else {}
            page = self.lead.get(f"{BASE}/applications/new/")
            form = page.form("name", "owner").fill(
                name=one.name, description=one.description, access_note=one.access_note, **values
            )
            owners = [option.label for option in form.fields["owner"].options]
            shown = next((label for label in owners if label in (one.owner, full_name[one.owner])), one.owner)
            self.lead.submit(form.fill(owner=shown))
        self.say(f"{len(self.plan.applications)} applications with their owners")

    def profiles(self) -> None:
        for server in self.plan.servers:
            if server.profile_name not in self.lead.get(f"{BASE}/profiles/").text:
                self.profile(server)

    def profile(self, server: ServerPlan) -> None:
        page = self.lead.get(f"{BASE}/profiles/new/")
        form = page.form("name", "platform").fill(platform=PLATFORM, **server.profile)
        place = {**PLACE, "image_id": server.image}
        for _ in range(len(place)):
            button = next(button for button in form.buttons if button.name == "load")
            page = self.lead.submit(form, button)
            form = page.form("name", "platform")
            offered = {name for name in place if len([one for one in form.fields[name].options if one.value]) > 0}
            form.fill(**{name: label for name, label in place.items() if name in offered})
            if offered == place.keys():
                break
        self.lead.submit(form, next(button for button in form.buttons if button.name != "load"))
        self.say(f"profile “{server.profile_name}”, its choices taken from what the platform has")

    def waves(self) -> None:
        window = {"starts_at": local_time(timedelta(hours=-1)), "ends_at": local_time(timedelta(hours=10))}
        self.lead.fill(f"{BASE}/waves/new/", name="Shop, first night", number=1, time_zone=ZONE_OF_PEOPLE, **window)
        if self.plan.of_wave(2):
            self.lead.fill(f"{BASE}/waves/new/", name="Small servers", number=2, time_zone=ZONE_OF_PEOPLE)
        self.say(f"wave 1 with a window until {window['ends_at']} {ZONE_OF_PEOPLE}; wave 2 without one")

    # -- planning -------------------------------------------------------------------------------------------

    def plan_server(self, server: ServerPlan) -> None:
        address = self.plan_address(server.name)
        network = self.plan.production
        values: dict[str, Value] = {
            "application": server.application,
            "profile": server.profile_name,
            "wave": f"Wave {server.wave}",
            "services": list(server.services),
            "delta_every_minutes": DELTA_MINUTES if server.wave == 1 else 0,
        }
        if not (server.taking_over and self.plan.on_process_hosts):
            values["new_address"] = self.plan.new_address(server)
        if not self.plan.on_process_hosts:
            values |= {"gateway": network["gateway"], "resolvers": [network["resolver"]]}
        if server.renamed:
            zone = self.plan.lab["dns"]["zone"]
            values |= {"name_server": zone, "dns_name": self.plan.source(server.name)["record"], "dns_ttl": 60}
        # Probes are added from the plan's page, so the plan is saved first.
        self.lead.fill(address, **values)
        for position, probe in enumerate(server.probes):
            self.probe(address, probe, position)
        self.say(f"{server.name} is planned into wave {server.wave} with {len(server.probes)} probes")

    def plan_address(self, name: str) -> str:
        """The link to its plan in the list of servers."""
        page = self.lead.get(f"{BASE}/servers/")
        for row in page.main.all("tr", "li"):
            if name in [node.text for node in row.all("a", "th", "td", "b", "strong")]:
                for link in row.all("a"):
                    if re.fullmatch(r"/migrations/\d+/plan/", link.get("href")):
                        return link.get("href")
        raise PageProblem(f"The list of servers has no link to the plan of {name}.", code="demo.link")

    def probe(self, address: str, probe: ProbePlan, position: int) -> None:
        self.lead.fill(
            f"{address.removesuffix('plan/')}probes/new/?kind={probe.kind}",
            name=probe.name,
            places=list(probe.places),
            position=position,
            **probe.values,
        )


def _checked(page: Page) -> bool:
    """No check is under way: the region does not look again by itself."""
    return not page.part("check").has("hx-get")


def local_time(offset: timedelta) -> str:
    """Now and an offset as the wall clock of the demo's zone shows it, an hour earlier where that says two things."""
    zone = ZoneInfo(ZONE_OF_PEOPLE)
    moment = datetime.now(UTC) + offset
    while True:
        local = moment.astimezone(zone).replace(second=0, microsecond=0)
        if local.replace(fold=0).utcoffset() == local.replace(fold=1).utcoffset():
            return f"{local:%Y-%m-%dT%H:%M}"
        moment -= timedelta(hours=1)
