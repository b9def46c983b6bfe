"""Sources: one, many at once, and what their known_hosts says."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.models import User

from migrationhub.lib.reading import whole
from projects import destinations
from projects.models import Project
from projects.planning_servers import NewServer, taken
from servers.models import Credential, Server

from . import checks
from .base import SetupForm, Ticks, row_initial, sentence

LOGINS = (Credential.Kind.PASSWORD, Credential.Kind.KEY)


def logins(project: Project) -> Any:
    return project.credentials.filter(kind__in=LOGINS, internal=False)


class ServerForm(SetupForm):
    name = forms.CharField(
        label="Name", max_length=63, help_text="Its short host name, such as shop-db. The new instance gets it too."
    )
    address = forms.CharField(label="Address", max_length=255, help_text="IP address or host name to log in at.")
    port = forms.IntegerField(label="SSH port", min_value=1, max_value=65535, initial=22)
    credential = forms.ModelChoiceField(
        label="Credential",
        queryset=Credential.objects.none(),
        required=False,
        empty_label="None yet",
        help_text="Password or SSH key of this project.",
    )
    manager = forms.ChoiceField(label="What it is", choices=Server.Manager.choices, initial=Server.Manager.SYSTEMD)
    directory = forms.CharField(
        label="Directory",
        max_length=500,
        initial="/",
        required=False,
        help_text="Only with supervisord: everything of this host lives below it.",
    )
    secret_again = destinations.again_field(
        "Only where address, port or credential changes to one whose password you did not enter yourself."
    )
    become_again = destinations.again_field(
        "Only where a password for sudo is stored with it, and in the same cases.", "become_password"
    )
    expected = {"port": "Enter a port from 1 to 65535.", "credential": "Choose a password or SSH key of this project."}
    FIELDS = ("name", "address", "port", "credential", "manager", "directory")
    marked = ("name", "address", "port", "credential_id", "manager", "directory")

    def __init__(self, *args: Any, project: Project, user: User, row: Server | None = None, **kwargs: Any) -> None:
        super().__init__(*args, row=row, initial=row_initial(row, self.FIELDS), **kwargs)
        self.project, self.user = project, user
        self.fields["credential"].queryset = logins(project)  # type: ignore[attr-defined]

    def clean_name(self) -> str:
        return checks.host_label("Name", self.cleaned_data["name"])

    def clean_address(self) -> str:
        return checks.address_or_name("Address", self.cleaned_data["address"])

    def clean(self) -> dict[str, Any]:
        data = self.cleaned_data
        directory = data.get("directory") or "/"
        supervised = data.get("manager") == Server.Manager.SUPERVISORD
        if supervised and (not directory.startswith("/") or directory.strip("/") == "" or ".." in directory):
            self.add_error(
                "directory",
                sentence(
                    f"Directory “{directory}” cannot be a host's own.",
                    "Enter the absolute path of the directory that holds it, not /.",
                ),
            )
        elif not supervised and directory != "/":
            self.add_error(
                "directory",
                sentence(f"Directory “{directory}” means nothing on Linux with systemd.", "Leave it at /."),
            )
        data["directory"] = directory
        if {"name", "address", "port"} <= set(data):
            why = taken(self.project, data["name"], data["address"], data["port"], but=self._server())
            if why:
                self.add_error("name" if why.startswith(data["name"]) else "address", sentence(why, "Correct it."))
        destinations.check(self, self.user, ("address", "port"))
        return data

    def _server(self) -> Server | None:
        return self.row if isinstance(self.row, Server) else None


class ManyServersForm(SetupForm):
    lines = forms.CharField(
        label="Servers",
        widget=forms.Textarea(attrs={"rows": 10, "spellcheck": "false"}),
        help_text="One per line: name, address, and :port where it is not 22. IPv6 with a port in brackets.",
    )
    credential = forms.ModelChoiceField(
        label="Credential",
        queryset=Credential.objects.none(),
        required=False,
        empty_label="None yet",
        help_text="For all of them; it can be changed for each later.",
    )
    manager = forms.ChoiceField(label="What they are", choices=[Server.Manager.choices[0]], initial="systemd")
    secret_again = destinations.again_field("Only for a credential whose password you did not enter yourself.")
    become_again = destinations.again_field(
        "Only where a password for sudo is stored with it that you did not enter yourself.", "become_password"
    )
    expected = {"lines": "Write lines such as shop-db 10.1.2.3 or shop-web 10.1.2.4:2222."}

    def __init__(self, *args: Any, project: Project, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.project, self.user = project, user
        self.fields["credential"].queryset = logins(project)  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        destinations.check(self, self.user, ())
        return self.cleaned_data

    def clean_lines(self) -> str:
        """All lines are looked at: every wrong one is named with its number."""
        found: list[NewServer] = []
        wrong = []
        for number, line in enumerate(self.cleaned_data["lines"].splitlines(), start=1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            try:
                found.append(self._one(line, found))
            except forms.ValidationError as error:
                wrong.append(sentence(f"Line {number}:", *error.messages))
        if not found and not wrong:
            wrong.append(sentence("Servers has no line that names one.", self.expected["lines"]))
        if wrong:
            raise forms.ValidationError(wrong)
        self.cleaned_data["servers"] = found
        return str(self.cleaned_data["lines"])

    def _one(self, line: str, before: list[NewServer]) -> NewServer:
        words = line.split()
        if len(words) != 2:
            raise sentence(f"“{line.strip()}” is not a name and an address.", self.expected["lines"])
        name = checks.host_label("name", words[0])
        host, port = split_port(words[1])
        new = NewServer(name, checks.address_or_name("address", host), port)
        for other in before:
            if other.name.lower() == name.lower() or (other.address, other.port) == (new.address, new.port):
                raise sentence(f"“{line.strip()}” repeats {other.name} {other.address}:{other.port}.", "Delete one.")
        why = taken(self.project, new.name, new.address, new.port)
        if why:
            raise sentence(why, "Delete the line.")
        return new


def split_port(text: str) -> tuple[str, int]:
    """“host”, “host:port”, “[v6]:port” or a bare IPv6 address; the port is 22 where none is given."""
    host, port = text, "22"
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":") or "22"
    elif text.count(":") == 1:
        host, port = text.split(":")
    found = whole(port)
    if found is None or not 1 <= found <= 65535:
        raise sentence(f"port “{port[:40]}” is not a port.", "Write a number from 1 to 65535 after the colon.")
    return host, found


class KnownHostsForm(SetupForm):
    text = forms.CharField(
        label="known_hosts",
        widget=forms.Textarea(attrs={"rows": 8, "spellcheck": "false"}),
        help_text="Lines of a known_hosts file that you trust; hashed names are understood.",
    )
    server = Ticks(
        label="For these servers",
        queryset=Server.objects.none(),
        required=False,
        help_text="None ticked: for all sources of the project.",
    )
    expected = {"text": "Paste lines such as “10.1.2.3 ssh-ed25519 AAAA…”."}

    def __init__(self, *args: Any, servers: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["server"].queryset = servers  # type: ignore[attr-defined]
