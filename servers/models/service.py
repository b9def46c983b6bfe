"""Services of a server as they were at one moment."""

from __future__ import annotations

from django.db import models


class ServiceRecord(models.Model):
    server = models.ForeignKey("servers.Server", on_delete=models.CASCADE, related_name="service_records")
    run = models.ForeignKey("servers.Run", on_delete=models.PROTECT, related_name="+")
    taken_at = models.DateTimeField()
    record = models.JSONField()  # servers.remote.services: ServiceRecord.as_dict()
    fingerprint = models.CharField(max_length=80)  # of the services: names, start modes, ports
    machine = models.JSONField(default=dict)  # packages, digest of /etc

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"services of {self.server} at {self.taken_at:%Y-%m-%d %H:%M}"
