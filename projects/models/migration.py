"""How a server is migrated (profile) and a source's place in a project (migration)."""

from __future__ import annotations

from typing import Self

from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User
from django.db import models
from django.db.models import Q

from .project import seen_in_wave


class Profile(models.Model):
    """Our recipe. What it names on the platform was chosen from what the platform really has."""

    class Scope(models.TextChoices):
        SYSTEM = "system", "Whole system"
        PATHS = "paths", "Named directories"

    class Consistency(models.TextChoices):
        NONE = "none", "Live copy"
        POSTGRESQL = "postgresql", "Freeze PostgreSQL while copying"
        SNAPSHOT_BTRFS = "snapshot-btrfs", "Copy from a btrfs snapshot"
        SNAPSHOT_LVM = "snapshot-lvm", "Copy from an LVM snapshot"
        SNAPSHOT_ZFS = "snapshot-zfs", "Copy from a ZFS snapshot"
        STOP = "stop", "Stop the services for each sync"

    class Proof(models.TextChoices):
        MANIFEST = "manifest", "Manifests of both sides agree"
        FULL = "full", "Manifests agree and a dry run finds nothing"
        CHECKSUM = "checksum", "Every file's content is compared"

    class Addressing(models.TextChoices):
        NEW = "new", "Gets a new production address"
        TAKE_OVER = "take_over", "Takes over the source's address"

    class GuestAddress(models.TextChoices):
        MIGRATIONHUB = "migrationhub", "Set by migrationhub"
        BY_HAND = "by_hand", "Set by hand"

    class Identity(models.TextChoices):
        HOST_KEYS = "host_keys", "SSH host keys"
        MACHINE_ID = "machine_id", "Machine id"
        HOST_NAME = "host_name", "Host name"

    project = models.ForeignKey("projects.Project", on_delete=models.CASCADE, related_name="profiles")
    name = models.CharField(max_length=100)
    mover = models.CharField(max_length=20, default="rsync")
    platform = models.ForeignKey("servers.Platform", on_delete=models.PROTECT, related_name="+")
    scope = models.CharField(max_length=10, choices=Scope, default=Scope.SYSTEM)
    paths = models.JSONField(default=list, blank=True)
    exclusions = models.JSONField(default=list, blank=True)
    consistency = models.CharField(max_length=20, choices=Consistency, default=Consistency.NONE)
    consistency_options = models.JSONField(default=dict, blank=True)
    proof = models.CharField(max_length=10, choices=Proof, default=Proof.FULL)
    bandwidth = models.PositiveIntegerField(default=0)  # KiB/s, 0: unlimited
    addressing = models.CharField(max_length=10, choices=Addressing, default=Addressing.NEW)
    guest_address = models.CharField(max_length=12, choices=GuestAddress, default=GuestAddress.MIGRATIONHUB)
    identity = models.JSONField(default=list, blank=True)  # what of the source's is taken over at cutover (`Identity`)
    # The platform's own ids, as `Choice.value`; the labels that were shown are kept for people.
    group_id = models.CharField(max_length=40)
    zone_id = models.CharField(max_length=40)
    pool_id = models.CharField(max_length=40)
    instance_type = models.CharField(max_length=40, default="mvm")
    layout_id = models.CharField(max_length=40)
    plan_id = models.CharField(max_length=40)
    image_id = models.CharField(max_length=40)
    datastore_id = models.CharField(max_length=40)
    migration_network_id = models.CharField(max_length=40)
    production_network_id = models.CharField(max_length=40)
    nic_type_id = models.CharField(max_length=40, blank=True)
    labels = models.JSONField(default=dict)
    disk_gib = models.PositiveIntegerField(default=20)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["project", "name"], name="profile_name_once")]

    def __str__(self) -> str:
        return self.name


class MigrationQuerySet(models.QuerySet["Migration"]):
    def visible_to(self, user: User | AnonymousUser) -> Self:
        return self.filter(seen_in_wave(user))


class Migration(models.Model):
    """A source's place in a project. At most one is open per source."""

    class State(models.TextChoices):
        OPEN = "open", "Open"
        COMPLETE = "complete", "Complete"
        CANCELLED = "cancelled", "Cancelled"

    project = models.ForeignKey("projects.Project", on_delete=models.CASCADE, related_name="migrations")
    application = models.ForeignKey(
        "projects.Application", null=True, blank=True, on_delete=models.PROTECT, related_name="migrations"
    )
    wave = models.ForeignKey(
        "projects.Wave", null=True, blank=True, on_delete=models.PROTECT, related_name="migrations"
    )
    profile = models.ForeignKey(
        "projects.Profile", null=True, blank=True, on_delete=models.PROTECT, related_name="migrations"
    )
    source = models.ForeignKey("servers.Server", on_delete=models.PROTECT, related_name="migrations")
    target = models.OneToOneField(
        "servers.Server", null=True, blank=True, on_delete=models.PROTECT, related_name="migration_as_target"
    )
    state = models.CharField(max_length=10, choices=State, default=State.OPEN)
    # Cutover: what becomes of address and name.
    new_address = models.CharField(max_length=43, blank=True)  # with prefix: 10.1.2.30/24
    gateway = models.CharField(max_length=39, blank=True)
    resolvers = models.JSONField(default=list, blank=True)
    name_server = models.ForeignKey(
        "servers.NameServer", null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    dns_name = models.CharField(max_length=253, blank=True)  # fully qualified; empty: no DNS change
    dns_ttl = models.PositiveIntegerField(default=300)
    # Order in which services are stopped; undo goes the other way.
    services = models.JSONField(default=list, blank=True)
    delta_every_minutes = models.PositiveIntegerField(default=0)  # 0: by hand
    next_delta_at = models.DateTimeField(null=True, blank=True)
    declared_at = models.DateTimeField(null=True, blank=True)  # a lead declared it complete
    declared_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    version = models.BigIntegerField(default=1)
    created_at = models.DateTimeField(auto_now_add=True)
    completed_at = models.DateTimeField(null=True, blank=True)

    objects = MigrationQuerySet.as_manager()

    class Meta:
        ordering = ["source__name"]
        constraints = [
            models.UniqueConstraint(fields=["source"], condition=Q(state="open"), name="migration_open_once"),
        ]

    def __str__(self) -> str:
        return self.source.name
