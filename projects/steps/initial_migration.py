"""Step 1: a new instance on the isolated network, the first full sync, boot, smoke check."""

from __future__ import annotations

from projects.errors import NotReady
from projects.models import ItemRole, Profile, Step
from servers.models import HostKey, Placement
from servers.targets import new_target

from .base import Item, Lane, Plan, StepModule, Unmet, busy
from .moving import address_parameters, machines, probe_plan, profile_of, sync_parameters, sync_plan


class InitialMigration(StepModule):
    kind = Step.Kind.INITIAL
    items = (
        Item("checked", "Both machines were checked before copying", operation="preflight"),
        Item("first-sync", "The first full copy is on the clone", operation="sync"),
        Item("smoke", "The clone started and answers", operation="probe", required=False),
        Item(
            "owner-told",
            "The application's owner knows when the test begins",
            "Agree on a day with the owner, and on who stands in for them. They need to know:\n\n"
            "- that the copy is isolated: nothing they do on it reaches production,\n"
            "- that what they change on it is thrown away by the next sync,\n"
            "- how to get there (the access note of the application).",
            role=ItemRole.LEAD,
            required=False,
        ),
    )
    operations = {
        "facts": "Facts of the machines",
        "platform_fit": "Check of the platform",
        "provision": "Making of the instance",
        "preflight": "Check of both machines",
        "sync": "First full sync",
        "probe": "Probes of the clone",
    }

    def conditions(self, lane: Lane) -> list[Unmet]:
        migration = lane.migration
        missing = []
        if migration.wave is None:
            missing.append(Unmet("It is in no wave: plan it into one.", "plan.wave"))
        if migration.application is None:
            missing.append(Unmet("It belongs to no application: choose one.", "plan.application"))
        if migration.profile is None:
            missing.append(Unmet("It has no profile: choose how it is migrated.", "plan.profile"))
        else:
            missing += platform_unmet(lane)
        if migration.source.credential_id is None:
            missing.append(Unmet("The source has no credential: choose one.", "source.credential"))
        if not any(key.state == HostKey.State.ACCEPTED for key in migration.source.host_keys.all()):
            missing.append(Unmet("Nobody has accepted the source's host key: look at it and accept it.", "source.key"))
        missing += [
            Unmet(f"{finding['text']} {finding.get('act', '')}".strip(), finding["code"])
            for finding in migration.source.findings
            if finding["level"] == "blocking"
        ]
        return missing + busy(lane, Step.Kind.INITIAL) + lane.held_by("person", "engine", "limit")

    def prepare(self, lane: Lane) -> None:
        """The target's row and the key by which we will reach it; the instance itself is made by `provision`."""
        migration = lane.migration
        if migration.target_id is None:
            platform = profile_of(migration).platform
            if Placement.objects.filter(platform=platform, label=migration.source.name).exists():
                raise NotReady(
                    [f"{platform} has a target named {migration.source.name} already, of another migration."],
                    "Enter this server by another name.",
                )
            migration.target = new_target(migration.source, platform)
            migration.save(update_fields=["target"])

    def plan(self, lane: Lane) -> list[Plan]:
        migration, profile = lane.migration, profile_of(lane.migration)
        planned = {**machines(migration), "spec": spec_of(profile)}
        return [
            Plan("facts", "Look at the source", {"server": migration.source_id}),
            Plan("platform_fit", "Check networks, plan, image, storage and name on the platform", planned),
            Plan("provision", "Make the instance on the migration network", planned),
            Plan(
                "preflight",
                "Check both machines before copying",
                {**sync_parameters(migration, "initial"), **address_parameters(migration)},
            ),
            sync_plan(lane, "initial", f"First full sync ({profile.get_scope_display().lower()})"),
            Plan("facts", "Look at the clone", {"server": migration.target_id}),
            probe_plan(lane, "clone", "Smoke check of the clone", until_seconds=60),
        ]


def platform_unmet(lane: Lane) -> list[Unmet]:
    platform = profile_of(lane.migration).platform
    if platform.checked_at is None:
        return [Unmet(f"{platform} was never checked: check it on its page.", "platform.unchecked")]
    return [
        Unmet(f"{platform}: {finding['text']} {finding.get('act', '')}".strip(), finding["code"])
        for finding in platform.findings
        if finding["level"] == "blocking"
    ]


def spec_of(profile: Profile) -> dict[str, object]:
    """What is made on the platform (an InstanceSpec without the label, which the placement has)."""
    return {
        "group_id": profile.group_id,
        "zone_id": profile.zone_id,
        "pool_id": profile.pool_id,
        "instance_type": profile.instance_type,
        "layout_id": profile.layout_id,
        "plan_id": profile.plan_id,
        "image_id": profile.image_id,
        "network_id": profile.migration_network_id,
        "datastore_id": profile.datastore_id,
        "disks": [profile.disk_gib],
        "nic_type_id": profile.nic_type_id,
        "production": profile.production_network_id,
    }
