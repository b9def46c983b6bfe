"""Make an instance: looked for by label, asked for once, watched until it runs."""

from __future__ import annotations

from servers.platforms.base import Instance, InstanceSpec, PlatformProblem
from servers.platforms.vme import answers, shapes
from servers.platforms.vme.acts import Act
from servers.platforms.vme.answers import Json, Refused
from servers.platforms.vme.client import Client
from servers.progress import Memo, Progress

PATIENCE = 2700.0  # seconds after which HPE's own tools give up on a create; we only say so
ADDRESS_WAIT = 900.0  # seconds that a running instance may be without an address


def find_body(client: Client, label: str) -> Json | None:
    """Our instance of this label, None where there is none.

    VME's `name` filter is not relied upon, so equality is checked here. Raises `PlatformProblem` where the name
    belongs to an instance that does not carry our label.
    """
    found = [
        body
        for body in client.all("/api/instances", "instances", {"name": label, "details": "true"})
        if body.get("name") == label
    ]
    ours = [body for body in found if shapes.has_label(body, label)]
    if len(ours) > 1:
        ids = ", ".join(answers.text_id(body.get("id")) for body in ours)
        raise PlatformProblem(
            f"{client.access.name} has {len(ours)} instances with the label “{label}” (ids {ids}).",
            "Delete in VME those that are not wanted, or take the label off them.",
            code="instance.twice",
        )
    if found and not ours:
        raise PlatformProblem(
            f"{client.access.name} already has an instance named “{label}”"
            f" (id {answers.text_id(found[0].get('id'))}) that is not ours: it lacks the label “{label}”.",
            "Choose another name for the target, or rename or delete that instance in VME.",
            code="name.taken",
        )
    return ours[0] if ours else None


class Create(Act):
    def __init__(self, client: Client, work_key: str, spec: InstanceSpec) -> None:
        super().__init__(client, work_key)
        self.spec = spec

    def look(self, memo: Memo) -> Progress:
        if external_id := memo.get("external_id"):
            instance, body = self.read(str(external_id))
            return self.state_of(instance, body, memo)
        if (body_found := find_body(self.client, self.spec.label)) is not None:
            instance = shapes.instance_from(body_found)
            return self.running(
                "taking on the instance that is already there",
                raw=instance.status,
                next_act="adopt",
                result={"external_id": instance.external_id},
            )
        return self.waiting_for_effect(memo, "create", "making the instance")

    def do(self, act: str, memo: Memo) -> tuple[Memo, Progress]:
        if act == "adopt":
            body = find_body(self.client, self.spec.label)
            if body is None:  # deleted between the two looks
                return memo, self.running("making the instance", next_act="create")
            kept = {name: value for name, value in memo.items() if name != "unsure_since"}
            adopted = {
                **kept,
                "external_id": answers.text_id(body.get("id")),
                "asked_at": memo.get("asked_at", self.client.clock()),
                "adopted": True,
            }
            return adopted, self.look(adopted)
        try:
            memo, answer = self.send("POST", "/api/instances", memo=memo, body=self.request())
        except Refused as problem:
            # VME keeps names unique: an earlier request of ours may just have taken effect.
            if "name" in problem.fields and find_body(self.client, self.spec.label) is not None:
                return memo, self.running("taking on the instance that is already there", next_act="adopt")
            raise
        body = answers.obj(answer.get("instance"))
        instance = shapes.instance_from(body)
        if not instance.external_id:
            # Taken, but not told which: found by its label at the next look.
            return {**memo, "unsure_since": self.client.clock()}, self.running("making the instance")
        memo = {**memo, "external_id": instance.external_id, "uuid": instance.uuid}
        return memo, self.running(
            "making the instance",
            raw=instance.status,
            result={"external_id": instance.external_id, "uuid": instance.uuid},
            log=(f"{self.client.access.name} makes instance {instance.external_id} “{self.spec.label}”.",),
        )

    def state_of(self, instance: Instance, body: Json, memo: Memo) -> Progress:
        raw = {"raw": instance.status, "target_power": instance.power}
        if instance.status in shapes.BROKEN:
            why = self.why(instance.external_id, instance)
            problem = PlatformProblem(
                f"{self.client.access.name} could not make “{self.spec.label}” (status {instance.status})"
                + (f": {why.rstrip('.')}." if why else "; it names no reason."),
                "Mend the cause, delete the instance in VME, then retry.",
                code="create.failed",
            )
            return self.failed(problem, **raw)
        if instance.status == "warning":
            why = self.why(instance.external_id, instance) or "no reason given"
            return self.running("needs attention in VME", reason=f"VME warns: {why}", **raw)
        if instance.status in shapes.APPROVALS:
            return self.running("waiting for approval in VME", reason="A policy of VME wants an approval.", **raw)
        if instance.status not in shapes.CREATED:
            minutes = self.since(memo) / 60
            late = f"It has taken {minutes:.0f} minutes; look at it in VME." if minutes > PATIENCE / 60 else ""
            return self.running("making the instance", reason=late, **raw)
        address = shapes.address_of(instance, body)
        if not address and instance.status == "running":
            return self.without_address(instance, memo)
        return self.succeeded(
            result={
                "external_id": instance.external_id,
                "uuid": instance.uuid,
                "server_id": instance.server_id,
                "plan_id": instance.plan_id,
                "address": address,
                "adopted": bool(memo.get("adopted")),
            },
            **raw,
        )

    def without_address(self, instance: Instance, memo: Memo) -> Progress:
        raw = {"raw": instance.status, "target_power": instance.power}
        if self.since(memo) < ADDRESS_WAIT:
            return self.running("waiting for an address", **raw)
        problem = PlatformProblem(
            f"“{self.spec.label}” runs, but {self.client.access.name} tells no address of it.",
            "Check that the migration network has DHCP or a pool (or give a static address), then retry.",
            code="create.address",
        )
        return self.failed(problem, **raw)

    def request(self) -> Json:
        """The body of POST /api/instances. Ids come from what the appliance has, none is known beforehand."""
        spec = self.spec
        nic: Json = {"network": {"id": answers.network_ref(spec.network_id)}}
        if spec.nic_type_id:
            nic["networkInterfaceTypeId"] = answers.number(spec.nic_type_id)
        if spec.ip_mode:
            nic["ipMode"] = spec.ip_mode
        if address := shapes.usable_address(spec.ip_address):
            nic["ipAddress"] = address
        config: Json = {
            "resourcePoolId": answers.pool_ref(spec.pool_id),
            "poolProviderType": "mvm",
            "imageId": answers.number(spec.image_id),
            "createUser": False,
            "noAgent": True,
            "nestedVirtualization": "off",
            "createBackup": False,
        }
        if spec.user_data:
            config["userData"] = spec.user_data
        return {
            "zoneId": answers.number(spec.zone_id),
            "instance": {
                "name": spec.label,
                "hostName": spec.label,
                "site": {"id": answers.number(spec.group_id)},
                "instanceType": {"code": spec.instance_type},
                "type": spec.instance_type,
                "layout": {"id": answers.number(spec.layout_id)},
                "plan": {"id": answers.number(spec.plan_id)},
            },
            "config": config,
            "volumes": self.volumes(),
            "networkInterfaces": [nic],
            "labels": ["migrationhub", spec.label],
            "layoutSize": 1,
            "copies": 1,
        }

    def volumes(self) -> list[Json]:
        """The disks, root first (before 8.0.11 the order counts)."""
        storage_type = self.storage_type()
        datastore: int | str = answers.number(self.spec.datastore_id) or self.spec.datastore_id
        disks = []
        for position, size in enumerate(self.spec.disks):
            disk: Json = {
                "id": -1,
                "rootVolume": position == 0,
                "name": "root" if position == 0 else f"data-{position}",
                "size": size,
                "datastoreId": datastore,
            }
            if storage_type:
                disk["storageType"] = storage_type
            disks.append(disk)
        return disks

    def storage_type(self) -> int:
        """The plan's default type of root disk, 0 where it tells none (then VME chooses)."""
        spec = self.spec
        for plan in plan_bodies(self.client, spec.zone_id, spec.layout_id, spec.group_id, spec.pool_id):
            if answers.text_id(plan.get("id")) == spec.plan_id:
                types = answers.items(plan.get("rootStorageTypes"))
                chosen = next((kind for kind in types if kind.get("defaultType")), types[0] if types else {})
                return answers.number(chosen.get("id"))
        return 0


def plan_bodies(client: Client, zone_id: str, layout_id: str, group_id: str, pool_id: str) -> list[Json]:
    """The service plans that VME offers for this place."""
    params = {
        "zoneId": answers.number(zone_id),
        "layoutId": answers.number(layout_id),
        "siteId": answers.number(group_id),
    }
    if pool_id:
        params["resourcePoolId"] = answers.number(pool_id)
    return answers.items(client.get("/api/instances/service-plans", params).get("plans"))
