"""The appliance as a whole: what it has, who may do what, and which request does what."""

from __future__ import annotations

import re
from typing import Any

from migrationhub.lab.hosts import HostBackend
from migrationhub.lab.vme import asked, asks
from migrationhub.lab.vme.asked import Handler
from migrationhub.lab.vme.auth import Accounts, Tokens
from migrationhub.lab.vme.catalog import Catalog
from migrationhub.lab.vme.faults import Faults
from migrationhub.lab.vme.instances import Instances
from migrationhub.lab.vme.refusals import Refusal
from migrationhub.lab.vme.request import Request
from migrationhub.lab.vme.settings import Settings
from migrationhub.lab.vme.store import Store
from migrationhub.lab.vme.work import OnAddress, Work

Json = dict[str, Any]

# method, path, handler, permission (code, access) that the role needs
ROUTES: tuple[tuple[str, str, Handler, tuple[str, str] | None], ...] = (
    ("GET", "/api/whoami", asked.whoami, None),
    ("GET", "/api/health", asked.health, ("admin-health", "read")),
    ("GET", "/api/license", asked.license_, ("admin-licenses", "read")),
    ("GET", "/api/groups", asked.groups, None),
    ("GET", "/api/zones", asked.zones, None),
    ("GET", "/api/clusters", asked.clusters, ("infrastructure-cluster", "read")),
    ("GET", "/api/networks", asked.networks, None),
    ("GET", r"/api/networks/(?P<id>\d+)", asked.network, None),
    ("GET", "/api/instances/service-plans", asked.plans, ("provisioning", "read")),
    ("GET", "/api/instance-types", asked.instance_types, ("provisioning", "read")),
    ("GET", "/api/library/layouts", asked.layouts, None),
    ("GET", "/api/provision-types", asked.provision_types, None),
    ("GET", "/api/options/zonePools", asked.zone_pools, None),
    ("GET", "/api/options/zoneNetworkOptions", asked.network_options, None),
    ("GET", r"/api/zones/(?P<zone>\d+)/data-stores", asked.datastores, None),
    ("GET", "/api/data-stores", asked.datastores, None),
    ("GET", "/api/virtual-images", asked.images, None),
    ("GET", "/api/servers", asked.servers, None),
    ("GET", r"/api/servers/(?P<id>[\w-]+)", asked.server, None),
    ("GET", "/api/instances", asked.instances, None),
    ("GET", r"/api/instances/(?P<id>\d+)", asked.instance, None),
    ("GET", r"/api/instances/(?P<id>\d+)/snapshots", asked.snapshots, ("provisioning", "read")),
    ("GET", "/api/processes", asked.processes, None),
    ("GET", r"/api/processes/(?P<id>\d+)", asked.process, None),
    ("GET", r"/api/execution-request/(?P<id>[\w-]+)", asked.execution, ("execution-request", "full")),
    ("POST", "/api/instances", asks.create, ("provisioning-add", "full")),
    ("POST", "/api/execution-request/execute", asks.execute, ("execution-request", "full")),
    ("PUT", r"/api/instances/(?P<id>\d+)/(?P<act>start|stop|restart)", asks.power, ("provisioning-power", "full")),
    ("PUT", r"/api/instances/(?P<id>\d+)/resize", asks.resize, ("provisioning-reconfigure", "full")),
    ("PUT", r"/api/instances/(?P<id>\d+)/snapshot", asks.snapshot, ("snapshots", "full")),
    (
        "PUT",
        r"/api/instances/(?P<id>\d+)/revert-snapshot/(?P<snapshot>\d+)",
        asks.revert,
        ("snapshots", "full"),
    ),
    ("DELETE", r"/api/instances/(?P<id>\d+)", asks.delete, ("provisioning-delete", "full")),
)


class Appliance:
    def __init__(self, settings: Settings, backend: HostBackend, on_address: OnAddress | None = None) -> None:
        self.settings = settings
        self.url = ""
        self.store = Store(settings.directory)
        self.catalog = Catalog(settings)
        self.accounts = Accounts(settings.directory, self.catalog.number_of("first user") % 900 + 20)
        self.tokens = Tokens(self.store, self.accounts, settings.token_seconds)
        self.faults = Faults(settings.directory)
        self.discovered: list[Json] = []  # machines that VME only found, of tests
        self.auto_recover_power = False  # of the cloud; changed by tests
        self.instances = Instances(settings, self.store, self.catalog, backend)
        self.work = Work(
            settings,
            self.store,
            self.catalog,
            self.instances,
            backend,
            self.faults,
            on_address or (lambda name, address: None),
        )

    def start(self) -> None:
        """Go on with pending acts."""
        self.work.resume()

    def stop(self) -> None:
        self.work.stop()

    def answer(self, request: Request) -> tuple[int, Json]:
        """Status and body for a request of a known or unknown account."""
        try:
            if request.path == "/api/ping":
                return 200, asked.ping(self, request)
            handler, permission = self._route(request)
            if request.account is None:
                raise AssertionError("the server asks for a token first")
            if permission:
                request.need(*permission)
            with self.store.lock:
                return 200, handler(self, request)
        except Refusal as refusal:
            if request.method != "GET":
                self.note(request, "refused", None, effective=False, status=refusal.status)
            return refusal.status, refusal.body

    def _route(self, request: Request) -> tuple[Handler, tuple[str, str] | None]:
        known = False
        for method, pattern, handler, permission in ROUTES:
            if found := re.fullmatch(pattern, request.path):
                known = True
                if method == request.method:
                    request.match = found.groupdict()
                    return handler, permission
        if known:
            raise Refusal(405, "Method Not Allowed - You tried to access a resource with an invalid method.")
        raise Refusal(404, "Specified Resource Not Found")

    def note(self, request: Request, act: str, record: Json | None, *, effective: bool = True, **more: Any) -> None:
        """One line in the journal for a changing request, before its work begins."""
        self.store.journal.write(
            kind="request",
            work_key=request.work_key,
            method=request.method,
            path=request.path,
            act=act,
            instance=record["id"] if record else None,
            name=record["name"] if record else "",
            effective=effective,
            **more,
        )
