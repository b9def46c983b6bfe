"""Platforms that run targets, and name servers that take updates."""

from __future__ import annotations

from django.db import models

from servers.platforms.base import PlatformAccess


class Platform(models.Model):
    class Kind(models.TextChoices):
        VME = "vme", "HPE VM Essentials"

    name = models.CharField(max_length=100)
    kind = models.CharField(max_length=10, choices=Kind, default=Kind.VME)
    url = models.URLField(max_length=300)
    credential = models.ForeignKey("servers.Credential", on_delete=models.PROTECT, related_name="+")
    ca_bundle = models.TextField(blank=True)  # PEM
    insecure = models.BooleanField(default=False)  # TLS not verified: only by this name
    build_version = models.CharField(max_length=40, blank=True)
    findings = models.JSONField(default=list)
    checked_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.name

    def access(self) -> PlatformAccess:
        return PlatformAccess(
            name=self.name,
            url=self.url,
            username=self.credential.username,
            password=self.credential.secret,
            ca_bundle=self.ca_bundle,
            insecure=self.insecure,
        )


class NameServer(models.Model):
    """An authoritative server of one zone that takes RFC 2136 updates signed with TSIG."""

    name = models.CharField(max_length=100)
    address = models.CharField(max_length=255)
    port = models.PositiveIntegerField(default=53)
    zone = models.CharField(max_length=253)
    credential = models.ForeignKey("servers.Credential", on_delete=models.PROTECT, related_name="+")
    resolvers = models.JSONField(default=list)  # the zone's other authoritative servers to prove at

    def __str__(self) -> str:
        return f"{self.zone} at {self.address}"
