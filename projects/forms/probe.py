"""A probe: the same question on source, clone and target. The fields of a kind are drawn from one table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django import forms

from servers.models import Probe, Server
from servers.remote.probes_fields import validate

from .base import Lines, SetupForm, row_key, sentence

PREFIX = "p_"


@dataclass(frozen=True)
class Parameter:
    label: str
    kind: str = "text"  # text | number | decimal | flag | lines | long | choice
    help: str = ""
    required: bool = False
    initial: Any = None
    choices: tuple[str, ...] = ()


TIMEOUT = Parameter("Time-out", "decimal", "Seconds; 10 when empty.")
PARAMETERS: dict[str, dict[str, Parameter]] = {
    "unit": {"unit": Parameter("Service", help="Such as nginx or orders.service.", required=True)},
    "tcp": {
        "port": Parameter("Port", "number", required=True),
        "host": Parameter("Host", help="The machine's own address when empty."),
        "from": Parameter(
            "Asked from", "choice", "From the hub, or from inside the machine.", choices=("hub", "inside")
        ),
    },
    "http": {
        "scheme": Parameter("Scheme", "choice", choices=("http", "https")),
        "port": Parameter("Port", "number", "80 or 443 when empty."),
        "path": Parameter("Path", help="Such as /health; / when empty."),
        "host": Parameter("Host header", help="Such as shop.example; the machine's address when empty."),
        "status": Parameter("Expected status", "number", "200 when empty."),
        "text": Parameter("Expected text", help="Somewhere in the page."),
        "verify": Parameter("Verify the certificate", "flag", initial=True),
        "ca": Parameter("CA certificates", "long", "PEM, for https with a CA of your own."),
        "follow": Parameter("Follow redirects", "flag"),
    },
    "dns": {
        "name": Parameter("Name", help="Such as db.shop.example.", required=True),
        "rtype": Parameter("Type", "choice", choices=("A", "AAAA", "CNAME", "PTR", "TXT", "SRV", "MX")),
        "values": Parameter("Expected values", "lines", "One per line; {address} stands for the machine's address."),
        "server": Parameter("Name server", help="IP address; the machine's resolver when empty."),
    },
    "command": {
        "command": Parameter(
            "Command", help="Read only, please: it is run on source, clone and target.", required=True
        ),
        "output": Parameter("Expected output"),
        "match": Parameter("How it is compared", "choice", choices=("contains", "equals", "regex")),
        "status": Parameter("Expected exit status", "number", "0 when empty."),
        "root": Parameter("Run as root", "flag"),
    },
}


def field_of(parameter: Parameter) -> forms.Field:
    common: dict[str, Any] = {
        "label": parameter.label,
        "help_text": parameter.help,
        "required": parameter.required,
        "initial": parameter.initial,
    }
    if parameter.kind == "number":
        return forms.IntegerField(**common)
    if parameter.kind == "decimal":
        return forms.FloatField(**common)
    if parameter.kind == "flag":
        return forms.BooleanField(**common)
    if parameter.kind == "lines":
        return Lines(**common)
    if parameter.kind == "choice":
        return forms.ChoiceField(choices=[(word, word) for word in parameter.choices], **common)
    widget = forms.Textarea(attrs={"rows": 4}) if parameter.kind == "long" else forms.TextInput
    return forms.CharField(widget=widget, **common)


class ProbeForm(SetupForm):
    name = forms.CharField(
        label="Name", max_length=100, help_text="What it asks, in words of the application's people."
    )
    kind = forms.ChoiceField(choices=Probe.Kind.choices, widget=forms.HiddenInput)
    places = forms.MultipleChoiceField(
        label="Asked on",
        choices=Probe.Place.choices,
        required=False,
        initial=[place.value for place in Probe.Place],
        widget=forms.CheckboxSelectMultiple,
        help_text="Source: before the stop. Clone: at acceptance. Target: from the network move on.",
    )
    position = forms.IntegerField(
        label="Position", min_value=0, max_value=10000, required=False, help_text="Lower ones are asked first."
    )
    expected = {
        "position": "Enter a whole number from 0 on.",
        f"{PREFIX}port": "Enter a port from 1 to 65535.",
        f"{PREFIX}timeout": "Enter seconds, more than 0.",
        f"{PREFIX}status": "Enter a whole number.",
    }
    marked = ("name", "parameters", "places", "position")

    def __init__(self, *args: Any, server: Server, kind: str, row: Probe | None = None, **kwargs: Any) -> None:
        initial: dict[str, Any] = {"kind": kind}
        if row:
            initial |= {"name": row.name, "places": row.places, "position": row.position}
            initial |= {PREFIX + name: value for name, value in row.parameters.items()}
        super().__init__(*args, row=row, initial=initial, **kwargs)
        self.server, self.kind_of = server, kind
        for name, parameter in {**PARAMETERS[kind], "timeout": TIMEOUT}.items():
            field = self.fields[PREFIX + name] = field_of(parameter)
            if not isinstance(field.widget, forms.CheckboxInput):
                field.widget.attrs.setdefault("class", "input")
        self.order_fields(["name", "kind", *(PREFIX + name for name in PARAMETERS[kind]), f"{PREFIX}timeout"])

    def clean_kind(self) -> str:
        return self.kind_of

    def clean_name(self) -> str:
        name = str(self.cleaned_data["name"])
        if self.server.probes.exclude(pk=row_key(self.row)).filter(name=name).exists():
            raise sentence(f"Name “{name}” is another probe of {self.server}.", "Choose another name.")
        return name

    def clean(self) -> dict[str, Any]:
        for name, message in validate(self.kind_of, self.parameters()).items():
            field = PREFIX + name
            if field not in self.fields:
                self.add_error(None, sentence(f"{name}: {message}"))
            elif field not in self.errors:
                value = self.data.get(field, "")
                self.add_error(field, sentence(f"{self.fields[field].label} “{value}” cannot be asked.", message))
        return self.cleaned_data

    def parameters(self) -> dict[str, Any]:
        """The kind's parameters as they were given: what stayed empty is left to the probe's own default."""
        found = {}
        for name, parameter in {**PARAMETERS[self.kind_of], "timeout": TIMEOUT}.items():
            value = self.cleaned_data.get(PREFIX + name)
            if parameter.kind == "flag":
                found[name] = bool(value)
            elif value not in (None, "", []):
                found[name] = value
        if self.kind_of == "http" and found.get("scheme", "http") != "https":
            found.pop("verify", None)
            found.pop("ca", None)
        return found

    def row_values(self) -> dict[str, Any]:
        return {
            "name": self.cleaned_data["name"],
            "kind": self.kind_of,
            "parameters": self.parameters(),
            "places": list(self.cleaned_data["places"]),
            "position": self.cleaned_data.get("position") or 0,
        }
