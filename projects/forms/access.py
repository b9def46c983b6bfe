"""Credentials, platforms, name servers. Secrets go in and never come back, not even to the form with an error."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.models import User

from projects import destinations
from projects.models import Project
from servers.models import Credential, NameServer, Platform

from . import checks
from .base import Lines, SecretTextarea, SetupForm, row_initial, row_key, sentence

Kind = Credential.Kind
ALGORITHMS = ("hmac-sha256", "hmac-sha512", "hmac-sha384", "hmac-sha224", "hmac-sha1", "hmac-md5")
KEEP = "Stored, and never shown again. Leave it empty to keep what is stored."
ONCE = "Stored encrypted, and never shown again; after an error it must be entered again."
# Which fields a kind of credential has, and what they are called there.
FIELDS_OF: dict[str, dict[str, str]] = {
    Kind.PASSWORD: {
        "username": "User name",
        "secret": "Password",
        "become": "How it becomes root",
        "become_password": "Password for sudo",
    },
    Kind.KEY: {
        "username": "User name",
        "private_key": "Private key",
        "passphrase": "Passphrase of the key",
        "become": "How it becomes root",
        "become_password": "Password for sudo",
    },
    Kind.API: {"username": "User name", "secret": "Password"},
    Kind.TSIG: {"username": "Name of the key", "secret": "Secret", "algorithm": "Algorithm"},
}
HINTS: dict[str, str] = {
    Kind.PASSWORD: "An account on the servers.",
    Kind.KEY: "An account on the servers, with the private key that opens it.",
    Kind.API: "The account with which the platform's API is used; on VME <tenant>\\<user> for a subtenant.",
    Kind.TSIG: "The key with which a name server takes updates.",
}


def _only_one(form: SetupForm, rows: Any, what: str) -> str:
    """The name, which no other row of the project has: a form that is sent twice makes one row."""
    name = str(form.cleaned_data["name"])
    if rows.exclude(pk=row_key(form.row)).filter(name__iexact=name).exists():
        raise sentence(f"Name “{name}” is another {what}'s.", "Choose a name that tells them apart.")
    return name


class CredentialForm(SetupForm):
    name = forms.CharField(label="Name", max_length=100, help_text="How it is found in lists; tells nothing secret.")
    kind = forms.ChoiceField(choices=Kind.choices, widget=forms.HiddenInput)
    username = forms.CharField(max_length=100, widget=forms.TextInput(attrs={"autocomplete": "off"}))
    secret = forms.CharField(widget=forms.PasswordInput, strip=False)
    private_key = forms.CharField(widget=SecretTextarea(attrs={"rows": 6, "spellcheck": "false"}))
    passphrase = forms.CharField(widget=forms.PasswordInput, required=False, strip=False)
    become = forms.ChoiceField(choices=Credential.Become.choices, initial=Credential.Become.NONE)
    become_password = forms.CharField(
        widget=forms.PasswordInput, required=False, strip=False, help_text="Only where sudo asks for one."
    )
    algorithm = forms.ChoiceField(choices=[(name, name) for name in ALGORITHMS])
    expected = {
        "secret": "Enter it; it is stored encrypted.",
        "private_key": "Paste the whole private key, from -----BEGIN … to -----END …",
        "username": "Enter the account's name.",
    }
    marked = ("name", "username", "become", "algorithm", "secret", "passphrase", "become_password")

    def __init__(self, *args: Any, project: Project, kind: str, row: Credential | None = None, **kwargs: Any) -> None:
        initial = {"kind": kind, **row_initial(row, ("name", "username", "become", "algorithm"))}
        super().__init__(*args, row=row, initial=initial, **kwargs)
        self.project, self.kind_of, self.stored = project, kind, row is not None and row.pk is not None
        labels = FIELDS_OF[kind]
        for name in ("username", "secret", "private_key", "passphrase", "become", "become_password", "algorithm"):
            if name in labels:
                self.fields[name].label = labels[name]
            else:
                del self.fields[name]
        for name in {"secret", "private_key", "passphrase", "become_password"} & set(labels):
            field = self.fields[name]
            field.help_text = " ".join(filter(None, [str(field.help_text), KEEP if self.stored else ONCE]))
            field.required = field.required and not self.stored

    def clean_kind(self) -> str:
        return self.kind_of

    def clean_name(self) -> str:
        return _only_one(self, self.project.credentials, "credential")

    def clean(self) -> dict[str, Any]:
        data = self.cleaned_data
        if self.kind_of == Kind.KEY:
            self._clean_key(data)
        elif self.kind_of == Kind.TSIG and data.get("secret"):
            self._try("secret", checks.tsig_secret, data["secret"])
        if self.kind_of == Kind.TSIG and data.get("username"):
            self._try("username", lambda value: checks.zone_name("Name of the key", value), data["username"])
        return data

    def _try(self, name: str, check: Any, value: str) -> None:
        try:
            self.cleaned_data[name] = check(value)
        except forms.ValidationError as error:
            self.add_error(name, error)

    def _clean_key(self, data: dict[str, Any]) -> None:
        """Opened here, at entry: a passphrase that does not fit is found now and not at night."""
        key, passphrase = data.get("private_key", ""), data.get("passphrase", "")
        if not key and passphrase and isinstance(self.row, Credential):
            key = self.row.secret  # a new passphrase must open the stored key
        if key:
            try:
                data["private_key"] = checks.ssh_key(key, passphrase or self._stored_passphrase(data))
            except forms.ValidationError as error:
                self.add_error("private_key", error)

    def _stored_passphrase(self, data: dict[str, Any]) -> str:
        """A new key brings its own passphrase; the stored one is the stored key's."""
        return self.row.passphrase if isinstance(self.row, Credential) and not data.get("private_key") else ""

    def row_values(self) -> dict[str, Any]:
        """For the verb: the private key is the secret; a new key without passphrase ends the old one's."""
        values = self.values("private_key")
        if "private_key" in self.fields:
            values["secret"] = self.cleaned_data.get("private_key", "")
        return values


class PlatformForm(SetupForm):
    name = forms.CharField(label="Name", max_length=100)
    kind = forms.ChoiceField(label="Kind", choices=Platform.Kind.choices, initial=Platform.Kind.VME)
    url = forms.CharField(
        label="URL",
        max_length=300,
        help_text="Of the manager, such as https://vme.example.com.",
        widget=forms.TextInput(attrs={"inputmode": "url", "spellcheck": "false"}),
    )
    credential = forms.ModelChoiceField(
        label="Credential", queryset=Credential.objects.none(), help_text="An API account of this project."
    )
    ca_bundle = forms.CharField(
        label="CA certificates",
        required=False,
        widget=forms.Textarea(attrs={"rows": 5, "spellcheck": "false"}),
        help_text="PEM. Only where the manager's certificate is not signed by a public authority.",
    )
    insecure = forms.BooleanField(
        label="Insecure: do not verify the certificate",
        required=False,
        help_text="DANGER: anybody on the way can then read the password and answer in the manager's place. "
        "For a try in a lab alone; paste its CA certificate instead.",
    )
    secret_again = destinations.again_field(
        "Only where the URL, the credential or how the identity is proven changes, and it was not you who entered it."
    )
    expected = {"credential": "Enter an API account of this project first."}
    sections_of = (
        (
            "How its identity is proven",
            "A password is sent to nobody whose certificate was not verified.",
            ("ca_bundle", "insecure"),
        ),
    )
    FIELDS = ("name", "kind", "url", "credential", "ca_bundle", "insecure")
    marked = ("name", "kind", "url", "credential_id", "ca_bundle", "insecure")

    def __init__(self, *args: Any, project: Project, user: User, row: Platform | None = None, **kwargs: Any) -> None:
        super().__init__(*args, row=row, initial=row_initial(row, self.FIELDS), **kwargs)
        self.project, self.user = project, user
        self.logins = project.credentials.filter(kind=Kind.API)
        self.fields["credential"].queryset = self.logins  # type: ignore[attr-defined]

    def clean_name(self) -> str:
        return _only_one(self, self.project.platforms, "platform")

    def clean_url(self) -> str:
        return checks.https_url("URL", self.cleaned_data["url"])

    def clean_ca_bundle(self) -> str:
        return checks.pem_bundle("CA certificates", self.cleaned_data["ca_bundle"])

    def clean(self) -> dict[str, Any]:
        data = self.cleaned_data
        if data.get("insecure") and data.get("ca_bundle"):
            self.add_error(
                "insecure",
                sentence("With CA certificates there is no reason not to verify.", "Untick it, or empty the CA field."),
            )
        destinations.check(self, self.user, ("url", "ca_bundle", "insecure"))
        return data


class NameServerForm(SetupForm):
    name = forms.CharField(label="Name", max_length=100)
    address = forms.CharField(
        label="Address", max_length=255, help_text="Of the authoritative server that takes updates (RFC 2136)."
    )
    port = forms.IntegerField(label="Port", min_value=1, max_value=65535, initial=53)
    zone = forms.CharField(label="Zone", max_length=253, help_text="Such as shop.example.")
    credential = forms.ModelChoiceField(
        label="TSIG key", queryset=Credential.objects.none(), help_text="A credential of the kind TSIG key."
    )
    resolvers = Lines(
        label="Further authoritative servers",
        required=False,
        help_text="IP addresses, one per line: a change is proven at these too.",
    )
    expected = {"port": "Enter a port from 1 to 65535.", "credential": "Enter a TSIG key for this project first."}
    FIELDS = ("name", "address", "port", "zone", "credential", "resolvers")
    marked = ("name", "address", "port", "zone", "credential_id", "resolvers")

    def __init__(self, *args: Any, project: Project, row: NameServer | None = None, **kwargs: Any) -> None:
        super().__init__(*args, row=row, initial=row_initial(row, self.FIELDS), **kwargs)
        self.project = project
        self.keys = project.credentials.filter(kind=Kind.TSIG)
        self.fields["credential"].queryset = self.keys  # type: ignore[attr-defined]

    def clean_name(self) -> str:
        return _only_one(self, self.project.name_servers, "name server")

    def clean_address(self) -> str:
        return checks.address_or_name("Address", self.cleaned_data["address"])

    def clean_zone(self) -> str:
        return checks.zone_name("Zone", self.cleaned_data["zone"])

    def clean_resolvers(self) -> list[str]:
        return [checks.ip_address("Further authoritative server", line) for line in self.cleaned_data["resolvers"]]
