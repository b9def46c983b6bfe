"""Servers, how to log in to them, which host keys are theirs, and where a target is placed."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q

from migrationhub.lib.fields import EncryptedTextField
from servers.remote.base import Endpoint


class Credential(models.Model):
    """A secret with a name. The secret goes in, is used, and is never shown again."""

    class Kind(models.TextChoices):
        PASSWORD = "password", "Password"
        KEY = "key", "SSH private key"
        API = "api", "API account"
        TSIG = "tsig", "TSIG key"

    class Become(models.TextChoices):
        NONE = "none", "Logs in as root"
        SUDO = "sudo", "Uses sudo"

    name = models.CharField(max_length=100)
    kind = models.CharField(max_length=10, choices=Kind)
    username = models.CharField(max_length=100, blank=True)  # TSIG: the key's name
    secret = EncryptedTextField(blank=True)
    passphrase = EncryptedTextField(blank=True)
    become = models.CharField(max_length=10, choices=Become, default=Become.NONE)
    become_password = EncryptedTextField(blank=True)
    algorithm = models.CharField(max_length=30, blank=True)  # TSIG: hmac-sha256 …
    public = models.TextField(blank=True)  # the public part of a key that we made
    internal = models.BooleanField(default=False)  # made by us for one target; not offered in forms
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name


class Server(models.Model):
    """A machine: a source, or a target (which has a `Placement`)."""

    class Role(models.TextChoices):
        SOURCE = "source", "Source"
        TARGET = "target", "Target"

    class Manager(models.TextChoices):
        SYSTEMD = "systemd", "Linux with systemd"
        SUPERVISORD = "supervisord", "Directory with supervisord"

    class Power(models.TextChoices):
        ON = "on", "On"
        OFF = "off", "Off"
        UNKNOWN = "unknown", "Unknown"

    name = models.CharField(max_length=63)
    role = models.CharField(max_length=10, choices=Role, default=Role.SOURCE)
    address = models.CharField(max_length=255, blank=True)  # where it is reached now
    port = models.PositiveIntegerField(default=22)
    credential = models.ForeignKey("servers.Credential", null=True, blank=True, on_delete=models.PROTECT)
    manager = models.CharField(max_length=12, choices=Manager, default=Manager.SYSTEMD)
    directory = models.CharField(max_length=500, default="/")
    facts = models.JSONField(default=dict)
    facts_at = models.DateTimeField(null=True, blank=True)
    power = models.CharField(max_length=10, choices=Power, default=Power.UNKNOWN)
    power_at = models.DateTimeField(null=True, blank=True)
    findings = models.JSONField(default=list)  # of the last check
    generation = models.PositiveIntegerField(default=1)  # of a target's content
    # How many of its generations came of going back to a snapshot: to content that was there and was tested.
    reverts = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name

    def accepted_keys(self, port: int) -> tuple[str, ...]:
        """What may be shown there, as "type base64". A target's own sshd has other keys than our access to it."""
        ports = (None, port) if port == self.port else (port,)
        return tuple(
            f"{key.key_type} {key.public}"
            for key in self.host_keys.all()
            if key.state == HostKey.State.ACCEPTED and key.port in ports
        )

    def endpoint(self, **changes: Any) -> Endpoint:
        """How this machine is reached, with its secrets. Never store or log the result."""
        login: dict[str, Any] = {}
        if self.credential:
            credential = self.credential
            login = {"username": credential.username or "root", "become": credential.become}
            if credential.become_password:
                login["become_password"] = credential.become_password
            if credential.kind == Credential.Kind.KEY:
                login |= {"private_key": credential.secret, "passphrase": credential.passphrase or None}
            else:
                login["password"] = credential.secret
        values: dict[str, Any] = {
            "name": self.name,
            "address": self.address,
            "port": self.port,
            "host_keys": self.accepted_keys(changes.get("port", self.port)),
            "manager": self.manager,
            "directory": self.directory,
        }
        return Endpoint(**{**values, **login, **changes})


class HostKey(models.Model):
    """A host key belongs to the machine, not to the address."""

    class State(models.TextChoices):
        OFFERED = "offered", "Offered, nobody has accepted it"
        ACCEPTED = "accepted", "Accepted"
        REFUSED = "refused", "Refused"
        RETIRED = "retired", "Retired"
        MOVED = "moved", "Its new server has it now"

    server = models.ForeignKey("servers.Server", on_delete=models.CASCADE, related_name="host_keys")
    key_type = models.CharField(max_length=40)
    public = models.TextField()  # base64
    fingerprint = models.CharField(max_length=80)
    port = models.PositiveIntegerField(null=True, blank=True)  # whose sshd shows it; empty: the one we log in by
    state = models.CharField(max_length=10, choices=State, default=State.OFFERED)
    origin = models.CharField(max_length=20, default="scan")  # scan | known_hosts | creation
    seen_at = models.DateTimeField(auto_now_add=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["server", "fingerprint"], name="host_key_once_per_server"),
        ]

    def __str__(self) -> str:
        return f"{self.key_type} {self.fingerprint}"


class Placement(models.Model):
    """Where a target lives on its platform."""

    server = models.OneToOneField("servers.Server", on_delete=models.CASCADE, related_name="placement")
    platform = models.ForeignKey("servers.Platform", on_delete=models.PROTECT, related_name="placements")
    label = models.CharField(max_length=63)  # its name there, by which it is found again
    external_id = models.CharField(max_length=40, blank=True)
    external_uuid = models.CharField(max_length=40, blank=True)
    spec = models.JSONField(default=dict)  # what was asked for (InstanceSpec)
    raw_state = models.CharField(max_length=40, blank=True)
    nics = models.JSONField(default=list)
    observed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["platform", "label"], name="placement_label_once"),
            models.UniqueConstraint(
                fields=["platform", "external_id"],
                condition=~Q(external_id=""),
                name="placement_instance_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.label} on {self.platform}"
