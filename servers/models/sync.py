"""What a sync left behind."""

from __future__ import annotations

from django.db import models


class SyncPoint(models.Model):
    class Consistency(models.TextChoices):
        LIVE = "live", "Live: files changed while they were copied"
        FROZEN = "frozen", "Frozen: the database held still"
        SNAPSHOT = "snapshot", "Snapshot of one moment"
        STOPPED = "stopped", "Services stopped"

    run = models.OneToOneField("servers.Run", on_delete=models.PROTECT, related_name="sync_point")
    source = models.ForeignKey("servers.Server", on_delete=models.PROTECT, related_name="syncs_out")
    target = models.ForeignKey("servers.Server", on_delete=models.PROTECT, related_name="syncs_in")
    number = models.PositiveIntegerField()  # per source and target, from 1
    kind = models.CharField(max_length=10)  # initial | delta | final
    method = models.CharField(max_length=20)
    bytes_sent = models.BigIntegerField()
    files_sent = models.BigIntegerField()
    seconds = models.FloatField()
    as_of = models.DateTimeField()
    consistency = models.CharField(max_length=10, choices=Consistency)
    generation = models.PositiveIntegerField(default=1)
    discarded_count = models.PositiveIntegerField(default=0)
    facts = models.JSONField(default=dict)  # SyncFacts as a whole
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(fields=["source", "target", "number"], name="sync_point_number_once"),
        ]

    def __str__(self) -> str:
        return f"sync {self.number} ({self.kind})"

    @property
    def is_consistent(self) -> bool:
        return self.consistency != self.Consistency.LIVE
