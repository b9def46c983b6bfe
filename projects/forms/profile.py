"""A profile: how data moves, and where the new instance is made."""

from __future__ import annotations

import re
from typing import Any

from django import forms

from migrationhub.lib.findings import Problem
from migrationhub.lib.reading import whole
from projects.models import Profile, Project
from servers.models import Platform
from servers.movers.rsync import snapshots

from .base import Lines, SetupForm, row_initial, row_key, sentence
from .profile_choices import PLACE_FIELDS, Choices, load

# What the rsync mover carries out today; a choice that always failed would only disappoint at night.
CONSISTENCY = [
    (choice.value, choice.label)
    for choice in (
        Profile.Consistency.NONE,
        Profile.Consistency.POSTGRESQL,
        Profile.Consistency.SNAPSHOT_BTRFS,
        Profile.Consistency.SNAPSHOT_LVM,
        Profile.Consistency.SNAPSHOT_ZFS,
        Profile.Consistency.STOP,
    )
]
# Option of a method → the form's field.
OPTIONS: dict[str, dict[str, str]] = {
    "postgresql": {
        "data": "postgresql_data",
        "user": "postgresql_user",
        "role": "postgresql_role",
        "port": "postgresql_port",
        "database": "postgresql_database",
        "host": "postgresql_host",
        "bin": "postgresql_bin",
    },
    "snapshot-btrfs": {"subvolume": "snapshot_subvolume"},
    "snapshot-lvm": {"size": "snapshot_size"},
}
OPTION_FIELDS = tuple(field for fields in OPTIONS.values() for field in fields.values())
PLAIN = (
    "name",
    "platform",
    "scope",
    "paths",
    "exclusions",
    "consistency",
    "proof",
    "bandwidth",
    "addressing",
    "guest_address",
    "identity",
    "nic_type_id",
    "disk_gib",
)
LATER = "Load choices first"
IDENTITY = [
    (Profile.Identity.HOST_KEYS.value, "SSH host keys: clients see no changed key"),
    (Profile.Identity.MACHINE_ID.value, "Machine id: for software that is licensed by it; DHCP leases follow it"),
    (Profile.Identity.HOST_NAME.value, "Host name: for software that knows itself by name"),
]
GUEST_ADDRESS_HELP = (
    "Who writes the production address inside the new server. By hand: where netplan, NetworkManager, a bridge, a bond "
    "or two network cards are in use. Set it there once the final delta is done, for the next start; step 6 looks for "
    "it. It can be chosen while step 6 has failed, too: Retry follows it."
)
IDENTITY_HELP = (
    "Nothing ticked: the new server keeps its own. What is ticked counts from the start in production on, once the "
    "source is proven off. Leave it out where the source may run again: two machines with one identity confuse "
    "licences, DHCP leases, monitoring and whoever trusts the key."
)


def place_field(label: str, help_text: str = "") -> forms.CharField:
    return forms.CharField(label=label, widget=forms.Select, help_text=help_text)


def text_field(label: str, help_text: str, **kwargs: Any) -> forms.CharField:
    return forms.CharField(label=label, help_text=help_text, required=False, max_length=300, **kwargs)


class ProfileForm(SetupForm):
    name = forms.CharField(label="Name", max_length=100, help_text="Such as Database, frozen while copying.")
    scope = forms.ChoiceField(label="Scope", choices=Profile.Scope.choices, initial=Profile.Scope.SYSTEM)
    paths = Lines(label="Directories", required=False, help_text="For named directories: one per line.")
    exclusions = Lines(
        label="Leave out", required=False, help_text="rsync patterns, one per line, such as /var/cache/apt/*."
    )
    bandwidth = forms.IntegerField(
        label="Bandwidth limit",
        min_value=0,
        max_value=2_000_000_000,  # what a row holds
        initial=0,
        help_text="KiB per second; 0: as fast as it goes.",
    )
    consistency = forms.ChoiceField(label="Consistency", choices=CONSISTENCY, initial=Profile.Consistency.NONE)
    postgresql_data = text_field("PostgreSQL: data directory", "Such as /var/lib/postgresql/15/main.")
    postgresql_user = text_field("PostgreSQL: system user", "Root becomes it; postgres when empty.")
    postgresql_role = text_field(
        "PostgreSQL: role", "A superuser or a role with REPLICATION; the user's name when empty."
    )
    postgresql_port = forms.IntegerField(
        label="PostgreSQL: port", min_value=1, max_value=65535, required=False, help_text="5432 when empty."
    )
    postgresql_database = text_field("PostgreSQL: database", "To log in to; postgres when empty.")
    postgresql_host = text_field(
        "PostgreSQL: host", "Address or directory of the socket; the default socket when empty."
    )
    postgresql_bin = text_field("PostgreSQL: directory of psql", "/usr/bin when empty.")
    snapshot_subvolume = text_field("btrfs: subvolume", "Where it is mounted; / when empty.")
    snapshot_size = text_field(
        "LVM: room for changes", "Such as 5G or 20%; a fifth of each volume when empty. Full, the sync fails."
    )
    proof = forms.ChoiceField(
        label="Proof of the final delta", choices=Profile.Proof.choices, initial=Profile.Proof.FULL
    )
    addressing = forms.ChoiceField(label="Address", choices=Profile.Addressing.choices, initial=Profile.Addressing.NEW)
    guest_address = forms.ChoiceField(
        label="Guest address",
        choices=Profile.GuestAddress.choices,
        initial=Profile.GuestAddress.MIGRATIONHUB,
        help_text=GUEST_ADDRESS_HELP,
    )
    identity = forms.MultipleChoiceField(
        label="Take over the source's identity",
        choices=IDENTITY,
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=IDENTITY_HELP,
    )
    platform = forms.ModelChoiceField(label="Platform", queryset=Platform.objects.none(), empty_label="Choose")
    group_id = place_field("Group")
    zone_id = place_field("Cloud")
    layout_id = place_field("Layout")
    pool_id = place_field("Resource pool")
    plan_id = place_field("Service plan")
    image_id = place_field("Image", "Same distribution and major release as the source.")
    datastore_id = place_field("Datastore")
    migration_network_id = place_field("Migration network", "Isolated: the clone lives here until cutover.")
    production_network_id = place_field("Production network", "The target lives here from cutover on.")
    nic_type_id = text_field(
        "NIC type", "Empty: the cloud's default, VirtIO on HVM. Else the number that its API names in networkTypes."
    )
    disk_gib = forms.IntegerField(label="Root disk", min_value=1, max_value=65536, initial=20, help_text="GiB.")
    sections_of = (
        ("What is copied", "", ("scope", "paths", "exclusions", "bandwidth")),
        (
            "How the copy is made consistent",
            "A database that was copied while open may not start. The final delta is taken with services stopped.",
            ("consistency", "proof"),
        ),
        ("Details of PostgreSQL, btrfs and LVM", "Only where they are not as Debian has them.", OPTION_FIELDS),
        ("At cutover", "", ("addressing", "guest_address", "identity")),
        (
            "Where the new instance is made",
            "Choose a platform and load its choices; each load goes on as far as what is chosen allows.",
            ("platform", *PLACE_FIELDS, "nic_type_id", "disk_gib"),
        ),
    )
    folded = ("Details of PostgreSQL, btrfs and LVM",)
    expected = {
        "bandwidth": "Enter KiB per second, at most 2000000000, or 0.",
        "disk_gib": "Enter the size of the root disk in GiB, at least 1.",
        "platform": "Enter the platform first, on the page Platforms.",
        "postgresql_port": "Enter a port from 1 to 65535.",
        **dict.fromkeys(PLACE_FIELDS, "Load the choices and choose one."),
    }
    marked = (*(name for name in PLAIN if name != "platform"), "platform_id", "consistency_options", *PLACE_FIELDS)

    def __init__(
        self,
        data: Any = None,
        *,
        project: Project,
        row: Profile | None = None,
        typed: dict[str, Any] | None = None,
        reload: bool = False,
    ) -> None:
        """`typed`: what was typed so far, not to be saved yet; `reload`: ask the platform."""
        initial = {**row_initial(row, (*PLAIN, *PLACE_FIELDS)), **_options_of(row), **(typed or {})}
        super().__init__(data, row=row, initial=initial)
        self.project = project
        self.fields["platform"].queryset = project.platforms.all()  # type: ignore[attr-defined]
        given = self.data if self.is_bound else self.initial
        values = {name: str(given.get(name) or "") for name in PLACE_FIELDS}
        self.choices = Choices(values)
        platform = self._platform(given.get("platform"))
        if platform and (reload or (self.is_bound and self._moved(platform, values))):
            self.choices = load(platform, values)
            self.initial = {**self.initial, **self.choices.values}
            if self.is_bound:  # the only choice there is counts as chosen; what is gone stays to be named
                taken = {name: value for name, value in self.choices.values.items() if value and not values[name]}
                self.data = _with_values(self.data, taken)
        self._draw(row, values)

    def _platform(self, value: Any) -> Platform | None:
        return self.project.platforms.filter(pk=whole(str(value or "")) or 0).first()

    def _moved(self, platform: Platform, values: dict[str, str]) -> bool:
        """Whether the place differs from the stored one: a stored place needs no platform that answers."""
        row = self.row
        if not isinstance(row, Profile) or row.platform_id != platform.pk:
            return True
        return any(getattr(row, name) != value for name, value in values.items())

    def _draw(self, row: Profile | None, values: dict[str, str]) -> None:
        """Selects with what the platform has, or with the value at hand where it was not asked."""
        labels = row.labels if row else {}
        for name in PLACE_FIELDS:
            offered = self.choices.lists.get(name)
            if offered is not None:
                pairs = [("", "Choose" if offered else "Nothing there")]
                pairs += [(choice.value, choice.label) for choice in offered]
            else:
                pairs = [("", LATER)]
                if values[name]:
                    pairs.append((values[name], labels.get(name) or values[name]))
            widget = self.fields[name].widget
            assert isinstance(widget, forms.Select)
            widget.choices = pairs

    def notes(self) -> list[str]:
        """What the last question to the platform brought, in words."""
        said = []
        if self.choices.problem:
            said.append(f"{self.choices.problem.text} {self.choices.problem.act}".strip())
        for name in self.choices.gone:
            said.append(f"{self.fields[name].label}: what was chosen is not offered any more. Choose again.")
        said += [
            f"{self.fields[name].label}: the platform offers none for what is chosen before it."
            for name, offered in self.choices.lists.items()
            if not offered
        ]
        return said

    def clean_name(self) -> str:
        name = str(self.cleaned_data["name"])
        if self.project.profiles.exclude(pk=row_key(self.row)).filter(name__iexact=name).exists():
            raise sentence(f"Name “{name}” is another profile's.", "Choose another name.")
        return name

    def clean_paths(self) -> list[str]:
        for path in self.cleaned_data["paths"]:
            if ".." in path.split("/") or path.strip("/") == "" or "\x00" in path:
                raise sentence(f"Directory “{path}” is not a directory below the root.", "Write it like /srv/data.")
        return list(self.cleaned_data["paths"])

    def clean_identity(self) -> list[str]:
        return [name for name in Profile.Identity.values if name in self.cleaned_data["identity"]]

    def clean_snapshot_size(self) -> str:
        value = str(self.cleaned_data["snapshot_size"])
        try:
            snapshots.size(value)
        except Problem:
            raise sentence(
                f"LVM: room for changes “{value}” is no size.", "Write it like 5G, or like 20% of each volume."
            ) from None
        return value

    def clean_nic_type_id(self) -> str:
        value = str(self.cleaned_data["nic_type_id"])
        if value and whole(value) is None:
            raise sentence(f"NIC type “{value}” is not a number.", "Enter the platform's number of it, or nothing.")
        return value

    def clean(self) -> dict[str, Any]:
        data = self.cleaned_data
        if data.get("scope") == Profile.Scope.PATHS and not data.get("paths") and "paths" not in self.errors:
            self.add_error("paths", sentence("Directories is empty.", "Name at least one, or choose the whole system."))
        if data.get("scope") == Profile.Scope.SYSTEM and data.get("paths"):
            self.add_error(
                "paths",
                sentence("Directories are named, but the whole system is chosen.", "Empty it, or change scope."),
            )
        if data.get("consistency") == "postgresql" and not data.get("postgresql_data"):
            self.add_error(
                "postgresql_data",
                sentence("PostgreSQL: data directory is empty.", "Enter it, such as /var/lib/postgresql/15/main."),
            )
        bin_directory = data.get("postgresql_bin", "")
        if bin_directory and not re.fullmatch(r"/[\w./+-]*", bin_directory):
            self.add_error(
                "postgresql_bin",
                sentence(f"PostgreSQL: directory of psql “{bin_directory}” is not a path.", "Write it like /usr/bin."),
            )
        self._clean_place(data)
        return data

    def _clean_place(self, data: dict[str, Any]) -> None:
        if self.choices.problem:
            self.add_error(
                None,
                sentence(
                    "The choices could not be checked with the platform, so nothing was saved:",
                    self.choices.problem.text,
                    self.choices.problem.act,
                ),
            )
            return
        for name in self.choices.gone:
            value = self.data.get(name, "")
            self.add_error(
                name,
                sentence(
                    f"{self.fields[name].label} “{value}” is not what the platform offers here.",
                    "Load the choices and choose one.",
                ),
            )
        networks = data.get("migration_network_id"), data.get("production_network_id")
        if networks[0] and networks[0] == networks[1]:
            self.add_error(
                "migration_network_id",
                sentence(
                    "Migration network is the production network: a clone with the source's name and jobs "
                    "would run beside the source.",
                    "Choose an isolated network.",
                ),
            )

    def row_values(self) -> dict[str, Any]:
        """For the verb: options in one field, the labels that were shown, the instance type of the layout."""
        values = self.values(*OPTION_FIELDS)
        options = OPTIONS.get(values["consistency"], {})
        values["consistency_options"] = {
            option: self.cleaned_data[name] for option, name in options.items() if self.cleaned_data.get(name)
        }
        if self.choices.lists:
            labels = {name: self.choices.label(name) for name in PLACE_FIELDS}
            network = self.choices.chosen("production_network_id")
            labels["production_cidr"] = str(network.facts.get("cidr") or "") if network else ""
            values["labels"] = labels
            layout = self.choices.chosen("layout_id")
            if layout and layout.facts.get("instance_type"):
                values["instance_type"] = str(layout.facts["instance_type"])
        return values


def _with_values(data: Any, values: dict[str, str]) -> Any:
    changed = data.copy()
    for name, value in values.items():
        changed[name] = value
    return changed


def _options_of(row: Profile | None) -> dict[str, Any]:
    if row is None:
        return {}
    fields = OPTIONS.get(row.consistency, {})
    return {field: row.consistency_options.get(option, "") for option, field in fields.items()}
