"""Planning one server into a wave: how, when, and what becomes of its address, name and services."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from django import forms

from projects.models import Application, Migration, Profile, Project, Wave
from servers.models import NameServer, Server, ServiceRecord

from . import checks
from .base import Lines, SetupForm, row_initial, sentence

RUNS = (True, "active", "running")  # in the words of a record, of systemd, of supervisord
UNIT = re.compile(r"[A-Za-z0-9][\w.@:\\-]*")
FIELDS = (
    "application",
    "profile",
    "wave",
    "new_address",
    "gateway",
    "resolvers",
    "name_server",
    "dns_name",
    "dns_ttl",
    "services",
    "delta_every_minutes",
)


def choice(label: str, model: Any, help_text: str = "", **kwargs: Any) -> forms.ModelChoiceField[Any]:
    return forms.ModelChoiceField(
        label=label, queryset=model.objects.none(), help_text=help_text, empty_label="Choose", **kwargs
    )


class PlanForm(SetupForm):
    application = choice("Application", Application)
    profile = choice("Profile", Profile, "How it is migrated, and where the new instance is made.")
    wave = choice("Wave", Wave)
    new_address = forms.CharField(
        label="Address in production",
        required=False,
        max_length=43,
        help_text="With prefix, such as 10.1.2.30/24. May stay empty where the source's address is taken over.",
    )
    gateway = forms.CharField(label="Gateway", required=False, max_length=39, help_text="In the same network.")
    resolvers = Lines(label="Resolvers", required=False, help_text="IP addresses, one per line.")
    name_server = choice("Name server", NameServer, "Takes the change of the record.", required=False)
    dns_name = forms.CharField(
        label="DNS name",
        required=False,
        max_length=253,
        help_text="Whose record then shows the new address. Empty: no DNS change.",
    )
    dns_ttl = forms.IntegerField(
        label="TTL of the record", min_value=5, max_value=86400, initial=300, required=False, help_text="Seconds."
    )
    services = Lines(
        label="Services to stop, in order",
        required=False,
        help_text="One per line; the first is stopped first, and on the way back started last.",
    )
    delta_every_minutes = forms.IntegerField(
        label="A delta every … minutes",
        min_value=0,
        max_value=10080,
        initial=0,
        required=False,
        help_text="From the initial migration to the go. 0: only by hand.",
    )
    sections_of = (
        ("What and when", "", ("application", "profile", "wave")),
        ("Address at cutover", "", ("new_address", "gateway", "resolvers")),
        ("Name at cutover", "", ("dns_name", "name_server", "dns_ttl")),
        ("Services", "What holds data must be stopped before the final delta.", ("services",)),
        ("Deltas", "", ("delta_every_minutes",)),
    )
    expected = {
        "application": "Enter the application first, on the page Applications.",
        "profile": "Enter a profile first, on the page Profiles.",
        "wave": "Enter a wave first, on the page Waves.",
        "dns_ttl": "Enter seconds from 5 to 86400.",
        "delta_every_minutes": "Enter minutes from 0 (by hand) to 10080 (a week).",
        "name_server": "Choose a name server of this project.",
    }
    marked = (
        "application_id",
        "profile_id",
        "wave_id",
        "new_address",
        "gateway",
        "resolvers",
        "name_server_id",
        "dns_name",
        "dns_ttl",
        "services",
        "delta_every_minutes",
    )

    def __init__(self, *args: Any, migration: Migration, **kwargs: Any) -> None:
        super().__init__(*args, row=migration, initial=row_initial(migration, FIELDS), **kwargs)
        self.migration, self.project = migration, migration.project
        for name, rows in offered(migration.project).items():
            self.fields[name].queryset = rows  # type: ignore[attr-defined]

    def clean_new_address(self) -> str:
        value = self.cleaned_data["new_address"]
        return checks.interface("Address in production", value) if value else ""

    def clean_gateway(self) -> str:
        value = self.cleaned_data["gateway"]
        return checks.ip_address("Gateway", value) if value else ""

    def clean_resolvers(self) -> list[str]:
        return [checks.ip_address("Resolver", line) for line in self.cleaned_data["resolvers"]]

    def clean_dns_name(self) -> str:
        value = self.cleaned_data["dns_name"]
        return checks.domain_name("DNS name", value) if value else ""

    def clean_dns_ttl(self) -> int:
        return int(self.cleaned_data["dns_ttl"] or 300)

    def clean_delta_every_minutes(self) -> int:
        return int(self.cleaned_data["delta_every_minutes"] or 0)

    def clean_services(self) -> list[str]:
        names = list(self.cleaned_data["services"])
        for name in names:
            if not UNIT.fullmatch(name):
                raise sentence(
                    f"Service “{name}” is not the name of a service.",
                    "Write it as systemctl or supervisorctl shows it, one per line.",
                )
            if names.count(name) > 1:
                raise sentence(f"Service “{name}” stands there twice.", "Delete one: it is stopped once.")
        return names

    def clean(self) -> dict[str, Any]:
        data = self.cleaned_data
        if "new_address" in data:
            self._clean_addresses(data)
        self._clean_name(data)
        return data

    def _clean_addresses(self, data: dict[str, Any]) -> None:
        profile, address, source = data.get("profile"), data["new_address"], self.migration.source
        taking_over = profile is not None and profile.addressing == Profile.Addressing.TAKE_OVER
        if profile and not address and not taking_over:
            self._refuse(
                "new_address",
                f"Address in production is empty, but profile {profile} gives a new address.",
                "Enter it with its prefix, such as 10.1.2.30/24, or choose a profile that takes the source's over.",
            )
        if not address:
            if data.get("gateway"):
                self._refuse("gateway", "Gateway is given without an address.", "Enter the address, or empty it.")
            return
        found = ipaddress.ip_interface(address)
        if str(found.ip) == source.address and profile and not taking_over:
            self._refuse(
                "new_address",
                f"Address in production “{address}” is the source's own, but profile {profile} gives a new one.",
                "Enter another address, or choose a profile that takes the source's over.",
            )
        if gateway := data.get("gateway"):
            if ipaddress.ip_address(gateway) not in found.network:
                self._refuse("gateway", f"Gateway “{gateway}” is not in {found.network}.", "Correct it or the prefix.")
            elif gateway == str(found.ip):
                self._refuse("gateway", f"Gateway “{gateway}” is the server itself.", "Enter the router's address.")
        self._clean_network(profile, address, found)
        self._clean_twice(address, found)

    def _clean_network(self, profile: Profile | None, address: str, found: Any) -> None:
        """Inside what the platform says about the production network, where it says it."""
        try:
            network = ipaddress.ip_network(
                (profile.labels if profile else {}).get("production_cidr") or "", strict=False
            )
        except ValueError:
            return
        if found.version == network.version and found.ip not in network:
            self._refuse(
                "new_address",
                f"Address in production “{address}” is not in {network}, the production network of profile {profile}.",
                "Correct the address, or choose a profile with its network.",
            )

    def _clean_twice(self, address: str, found: Any) -> None:
        others = Migration.objects.filter(state=Migration.State.OPEN).exclude(pk=self.migration.pk)
        for other in others.filter(new_address__startswith=f"{found.ip}/").select_related("source"):
            whose = other.source.name if other.project_id == self.project.pk else "a server of another project"
            self._refuse(
                "new_address", f"Address in production “{address}” is planned for {whose}.", "Enter another address."
            )

    def _clean_name(self, data: dict[str, Any]) -> None:
        name, server = data.get("dns_name"), data.get("name_server")
        if name and not server and "name_server" not in self.errors:
            self._refuse(
                "name_server", "Name server is not chosen, but a DNS name is given.", "Choose it, or empty both."
            )
        if server and not name and "dns_name" not in self.errors:
            self._refuse("dns_name", f"DNS name is empty, but {server} is chosen.", "Enter it, or choose no server.")
        if name and server and name != server.zone and not name.endswith(f".{server.zone}"):
            self._refuse(
                "dns_name",
                f"DNS name “{name}” is not in zone {server.zone} of {server.name}.",
                f"Write a name such as {name.split('.')[0]}.{server.zone}, or choose another name server.",
            )

    def _refuse(self, field: str, text: str, act: str) -> None:
        self.add_error(field, sentence(text, act))


def offered(project: Project) -> dict[str, Any]:
    return {
        "application": project.applications.all(),
        "profile": project.profiles.all(),
        "wave": project.waves.all(),
        "name_server": project.name_servers.all(),
    }


def services_seen(server: Server) -> list[str]:
    """Services that run on the source, from its newest record, else from its facts; [] where neither is there."""
    row = ServiceRecord.objects.filter(server=server).order_by("-pk").first()
    units = (row.record.get("units") if row else None) or server.facts.get("units") or []
    found = []
    for unit in units:
        if isinstance(unit, str):
            found.append(unit)
        elif isinstance(unit, dict) and unit.get("name") and unit.get("active") in RUNS:
            found.append(str(unit["name"]))
    return [name for name in found if name.endswith(".service") or "." not in name]
