"""What the demo's people know of their servers: services, probes, how each is to be moved, on either kind of host."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any

from migrationhub.lab.demo.forms import Value

PROJECT = "Shop to VME"
SLUG = "shop-to-vme"
ZONE_OF_PEOPLE = "Europe/Zurich"
POSTGRES_BIN = "/usr/lib/postgresql/15/bin"
DELTA_MINUTES = 1
# The platform's choices, by words of their labels.
PLACE = {
    "group_id": "Migrations",
    "zone_id": "Lab cloud",
    "layout_id": "Single HPE VM",
    "pool_id": "hvm-cluster-1",
    "plan_id": "1 CPU, 1GB Memory",
    "datastore_id": "cluster-gfs2",
    "migration_network_id": "Migration",
    "production_network_id": "Production",
}


@dataclass(frozen=True)
class ProbePlan:
    """One probe: its kind and the fields of its form."""

    kind: str
    name: str
    values: dict[str, Value]
    places: tuple[str, ...] = ("Source", "Clone", "Target in production")


@dataclass(frozen=True)
class ServerPlan:
    """How one server is to be moved. Names of services are in the order in which they are stopped."""

    name: str
    application: str
    services: tuple[str, ...]
    profile: dict[str, Value]  # fields of the profile's form, those of PLACE left out
    probes: tuple[ProbePlan, ...]
    wave: int = 1
    image: str = "Debian 12"
    taking_over: bool = False
    port: int = 0  # where people reach the service
    renamed: bool = True  # whether its DNS record changes

    @property
    def profile_name(self) -> str:
        return str(self.profile["name"])


@dataclass(frozen=True)
class ApplicationPlan:
    name: str
    owner: str
    description: str
    access_note: str
    waits_for: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scenario:
    """All plans for one lab, made from what `Datacentre.describe` tells."""

    lab: dict[str, Any]
    servers: tuple[ServerPlan, ...]
    applications: tuple[ApplicationPlan, ...]

    @property
    def on_process_hosts(self) -> bool:
        return bool(self.lab["kind"] == "process")

    def source(self, name: str) -> dict[str, Any]:
        return next(one for one in self.lab["sources"] if one["name"] == name)

    def of_wave(self, number: int) -> list[ServerPlan]:
        return [server for server in self.servers if server.wave == number]

    def of_application(self, name: str) -> list[ServerPlan]:
        return [server for server in self.servers if server.application == name]

    def new_address(self, server: ServerPlan) -> str:
        """With prefix; where the source's is taken over, that one."""
        prefix = ipaddress.ip_network(self.production["subnet"]).prefixlen
        return f"{self.source(server.name)['new_address']}/{prefix}"

    @property
    def production(self) -> dict[str, Any]:
        return dict(self.lab["networks"]["production"])


APPLICATIONS = (
    ApplicationPlan(
        "Shop database",
        "owner",
        "PostgreSQL with all orders of the shop.",
        "psql shop on the copy; look at the last orders, enter one.",
    ),
    ApplicationPlan(
        "Shop web",
        "owner",
        "The pages of the shop.",
        "Open the copy's page in a browser; it shows the last order of the database's copy.",
        waits_for=("Shop database",),
    ),
    ApplicationPlan("Files", "owner-files", "Files of all departments.", "Log in to the copy; look below /srv/files."),
    ApplicationPlan("Wiki", "owner-files", "A small wiki, for the second night.", "Open the copy's page in a browser."),
)


def scenario(lab: dict[str, Any]) -> Scenario:
    """The plans for a lab with all its sources."""
    plans = _process_plans(lab) if lab["kind"] == "process" else _nspawn_plans(lab)
    return Scenario(lab, plans, APPLICATIONS)


def _unit(name: str) -> ProbePlan:
    return ProbePlan("unit", f"{name} runs", {"p_unit": name})


def _tcp(name: str, port: int) -> ProbePlan:
    return ProbePlan("tcp", name, {"p_port": port})


def _http(name: str, port: int, text: str) -> ProbePlan:
    return ProbePlan("http", name, {"p_port": port, "p_text": text})


def _command(name: str, command: str, output: str) -> ProbePlan:
    return ProbePlan("command", name, {"p_command": command, "p_output": output})


def _record(lab: dict[str, Any], name: str) -> ProbePlan:
    source = next(one for one in lab["sources"] if one["name"] == name)
    network = lab["networks"]["production"]
    server = f"{network['resolver']}:{network['resolver_port']}"
    values: dict[str, Value] = {"p_name": source["record"], "p_values": ["{address}"], "p_server": server}
    return ProbePlan("dns", f"{source['record']} shows the new address", values, ("Target in production",))


def _nspawn_plans(lab: dict[str, Any]) -> tuple[ServerPlan, ...]:
    orders = "psql -h 127.0.0.1 -U shop -d shop -Atc 'SELECT count(*) > 0 FROM orders'"
    return (
        ServerPlan(
            "shop-db",
            "Shop database",
            ("orders.service", "postgresql@15-main.service", "postgresql.service"),
            {
                "name": "Database, frozen while copying",
                "scope": "Whole system",
                "consistency": "Freeze PostgreSQL",
                "postgresql_data": "/var/lib/postgresql/15/main",
                "addressing": "new production address",
            },
            (
                _unit("orders.service"),
                _tcp("PostgreSQL answers", 5432),
                _command("Orders are there", orders, "t"),
                _record(lab, "shop-db"),
            ),
            port=5432,
        ),
        ServerPlan(
            "shop-web",
            "Shop web",
            ("nginx.service", "shop.service"),
            {
                "name": "Web server, live",
                "scope": "Whole system",
                "consistency": "Live copy",
                "addressing": "new production address",
            },
            (
                _unit("nginx.service"),
                _unit("shop.service"),
                _http("The shop's page shows an order", 80, "Last order"),
                _record(lab, "shop-web"),
            ),
            image="Debian 12 networkd",
            port=80,
        ),
        ServerPlan(
            "files",
            "Files",
            ("churn.service", "rsync.service"),
            {
                "name": "Files, from a btrfs snapshot",
                "scope": "Whole system",
                "consistency": "btrfs snapshot",
                "snapshot_subvolume": "/",
                "addressing": "Takes over",
            },
            (
                _unit("churn.service"),
                _unit("rsync.service"),
                _tcp("The file service answers", 873),
                _command("Files are there", "test $(find /srv/files | wc -l) -gt 1000 && echo many", "many"),
            ),
            taking_over=True,
            port=873,
            renamed=False,
        ),
        ServerPlan(
            "wiki",
            "Wiki",
            ("nginx.service",),
            {
                "name": "Small server, live",
                "scope": "Whole system",
                "consistency": "Live copy",
                "addressing": "new production address",
            },
            (_unit("nginx.service"), _http("The wiki's page answers", 80, "Wiki"), _record(lab, "wiki")),
            wave=2,
            port=80,
        ),
    )


def _process_plans(lab: dict[str, Any]) -> tuple[ServerPlan, ...]:
    paths: dict[str, Value] = {"scope": "Named directories", "paths": ["srv", "opt", "etc/supervisor.d"]}
    orders = f"{POSTGRES_BIN}/psql -h \"$HOST_ADDRESS\" -U shop -d shop -Atc 'SELECT count(*) > 0 FROM orders'"
    return (
        ServerPlan(
            "shop-db",
            "Shop database",
            ("orders", "postgresql"),
            {
                "name": "Database, frozen while copying",
                **paths,
                "consistency": "Freeze PostgreSQL",
                "postgresql_data": "/srv/postgresql",
                "postgresql_role": "postgres",
                "postgresql_bin": POSTGRES_BIN,
                "addressing": "new production address",
            },
            (
                _unit("orders"),
                _tcp("PostgreSQL answers", 5432),
                _command("Orders are there", orders, "t"),
                _record(lab, "shop-db"),
            ),
            port=5432,
        ),
        ServerPlan(
            "shop-web",
            "Shop web",
            ("shop",),
            {
                "name": "Web server, live",
                **paths,
                "consistency": "Live copy",
                "addressing": "new production address",
            },
            (_unit("shop"), _http("The shop's page shows an order", 8080, "Last order"), _record(lab, "shop-web")),
            port=8080,
        ),
        ServerPlan(
            "files",
            "Files",
            ("churn",),
            {
                "name": "Files, stopped while copying",
                **paths,
                "consistency": "Stop the services",
                "addressing": "Takes over",
            },
            (
                _unit("churn"),
                _command("Files are there", "test $(find srv/files | wc -l) -gt 100 && echo many", "many"),
            ),
            taking_over=True,
            port=2222,
            renamed=False,
        ),
        ServerPlan(
            "wiki",
            "Wiki",
            ("wiki",),
            {"name": "Small server, live", **paths, "consistency": "Live copy", "addressing": "new production address"},
            (_unit("wiki"), _http("The wiki's page answers", 8080, "Wiki"), _record(lab, "wiki")),
            wave=2,
            port=8080,
        ),
    )
