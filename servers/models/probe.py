"""Probes: the same question asked on the source, on the clone and on the target in production."""

from __future__ import annotations

from django.db import models


class Probe(models.Model):
    class Kind(models.TextChoices):
        UNIT = "unit", "Service is active"
        TCP = "tcp", "TCP port answers"
        HTTP = "http", "HTTP status and text"
        DNS = "dns", "DNS answer"
        COMMAND = "command", "Command with expected output"

    class Place(models.TextChoices):
        SOURCE = "source", "Source"
        CLONE = "clone", "Clone"
        TARGET = "target", "Target in production"

    server = models.ForeignKey("servers.Server", on_delete=models.CASCADE, related_name="probes")  # the source
    name = models.CharField(max_length=100)
    kind = models.CharField(max_length=10, choices=Kind)
    parameters = models.JSONField(default=dict)
    places = models.JSONField(default=list)  # of Place
    position = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["position", "pk"]
        constraints = [models.UniqueConstraint(fields=["server", "name"], name="probe_name_once")]

    def __str__(self) -> str:
        return self.name


class ProbeResult(models.Model):
    probe = models.ForeignKey("servers.Probe", on_delete=models.CASCADE, related_name="results")
    run = models.ForeignKey("servers.Run", on_delete=models.PROTECT, related_name="probe_results")
    place = models.CharField(max_length=10, choices=Probe.Place)
    passed = models.BooleanField(null=True)  # None: could not be determined; never green
    observed = models.TextField(blank=True)
    expected = models.TextField(blank=True)
    reason = models.TextField(blank=True)
    seconds = models.FloatField(default=0)
    at = models.DateTimeField()

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.probe} on {self.place}: {self.passed}"
