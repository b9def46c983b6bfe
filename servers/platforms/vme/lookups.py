"""What an appliance has to choose from: groups, clouds, pools, layouts, plans, networks, images, datastores."""

from __future__ import annotations

from servers.platforms.base import Choice
from servers.platforms.vme.answers import Json, items, network_ref, number, obj, pool_ref, text_id
from servers.platforms.vme.client import Client
from servers.platforms.vme.create import plan_bodies

GIB = 1 << 30
INSTANCE_TYPE = "mvm"  # HPE's code for its own virtual machines
PROVISION_TYPE = "kvm"


def groups(client: Client) -> list[Choice]:
    return [
        Choice(
            text_id(body.get("id")), str(body.get("name")), {"zones": [text_id(z) for z in items(body.get("zones"))]}
        )
        for body in client.all("/api/groups", "groups")
    ]


def zones(client: Client, group_id: str) -> list[Choice]:
    """Clouds of a group; those that cannot hold HPE VMs by their type say so in `facts`."""
    params = {"groupId": number(group_id)} if group_id else {}
    return [
        Choice(
            text_id(body.get("id")),
            str(body.get("name")),
            {
                "type": str(obj(body.get("zoneType")).get("code") or ""),
                "status": str(body.get("status") or ""),
                "auto_recover_power": bool(body.get("autoRecoverPowerState")),
            },
        )
        for body in client.all("/api/zones", "zones", params)
    ]


def pools(client: Client, zone_id: str, group_id: str, layout_id: str) -> list[Choice]:
    """Resource pools to provision into: the HVM clusters' own."""
    params = {"zoneId": number(zone_id), "groupId": number(group_id), "layoutId": number(layout_id)}
    found = items(client.get("/api/options/zonePools", params).get("data"))
    typed = any(body.get("providerType") for body in found)
    return [
        Choice(
            pool_ref(body.get("value") or body.get("id")),
            str(body.get("name")),
            {"provider": str(body.get("providerType") or ""), "default": bool(body.get("isDefault"))},
        )
        for body in found
        if not body.get("isGroup") and (not typed or body.get("providerType") == INSTANCE_TYPE)
    ]


def layouts(client: Client) -> list[Choice]:
    """Layouts of HPE's VM instance type, from the type itself: the library's own list may be forbidden."""
    found = []
    for kind in client.all("/api/instance-types", "instanceTypes", {"code": INSTANCE_TYPE}):
        if kind.get("code") != INSTANCE_TYPE:
            continue
        for layout in items(kind.get("instanceTypeLayouts")):
            if layout.get("provisionTypeCode") == PROVISION_TYPE:
                facts = {"instance_type": INSTANCE_TYPE, "instance_type_name": str(kind.get("name") or "")}
                found.append(Choice(text_id(layout.get("id")), str(layout.get("name")), facts))
    return found


def plans(client: Client, zone_id: str, layout_id: str, group_id: str, pool_id: str) -> list[Choice]:
    return [
        Choice(
            text_id(body.get("id")),
            str(body.get("name")),
            {
                "code": str(body.get("code") or ""),
                "cores": number(body.get("maxCores")),
                "memory": number(body.get("maxMemory")),
                "storage": number(body.get("maxStorage")),
            },
        )
        for body in plan_bodies(client, zone_id, layout_id, group_id, pool_id)
    ]


def network_bodies(client: Client, zone_id: str) -> list[Json]:
    return client.all("/api/networks", "networks", {"zoneId": number(zone_id)} if zone_id else {})


def pools_of(body: Json) -> list[str]:
    """The pools that a network is bound to; `assignedZonePools` is undocumented but HPE's provider reads it."""
    refs = [pool_ref(body.get("zonePool")), *map(pool_ref, items(body.get("assignedZonePools")))]
    return list(dict.fromkeys(filter(None, refs)))


def networks(client: Client, zone_id: str, pool_id: str) -> list[Choice]:
    """Networks that an instance in this pool can be attached to: active and bound to it."""
    wanted = pool_ref(pool_id) if pool_id else ""
    return [
        network_choice(body)
        for body in network_bodies(client, zone_id)
        if body.get("active") is not False and (not wanted or wanted in pools_of(body))
    ]


def network_choice(body: Json) -> Choice:
    label = str(body.get("displayName") or body.get("name"))
    if body.get("vlanId") and str(body["vlanId"]) not in label:
        label += f" (VLAN {body['vlanId']})"
    if body.get("cidr"):
        label += f", {body['cidr']}"
    return Choice(
        network_ref(body.get("id")),
        label,
        {
            "name": str(body.get("name") or ""),
            "vlan": body.get("vlanId"),
            "cidr": str(body.get("cidr") or ""),
            "gateway": str(body.get("gateway") or ""),
            "dns": [str(body[key]) for key in ("dnsPrimary", "dnsSecondary") if body.get(key)],
            "dhcp": bool(body.get("dhcpServer")),
            "has_pool": bool(body.get("pool")),
            "active": body.get("active") is not False,
            "pools": pools_of(body),
            "zone": text_id(body.get("zone")),
            "labels": [str(label) for label in body.get("labels") or []],
        },
    )


def image_bodies(client: Client) -> list[Json]:
    return client.all("/api/virtual-images", "virtualImages", {"filterType": "All", "imageType": "qcow2"})


def images(client: Client) -> list[Choice]:
    return [
        Choice(
            text_id(body.get("id")),
            str(body.get("name")),
            {
                "status": str(body.get("status") or ""),
                "os": str(obj(body.get("osType")).get("name") or ""),
                "cloud_init": bool(body.get("isCloudInit")),
                "uefi": bool(body.get("uefi")),
                "minimum_disk": number(body.get("minDisk")),
            },
        )
        for body in image_bodies(client)
        if str(body.get("status") or "Active").lower() == "active"
    ]


def datastore_bodies(client: Client, zone_id: str) -> list[Json]:
    return client.all(f"/api/zones/{number(zone_id)}/data-stores", "datastores")


def datastores(client: Client, zone_id: str) -> list[Choice]:
    found = []
    for body in datastore_bodies(client, zone_id):
        if body.get("active") is False or body.get("allowProvision") is False:
            continue
        free = number(body.get("freeSpace"), default=-1)
        label = str(body.get("name")) + (f", {free / GIB:.0f} GiB free" if free >= 0 else "")
        facts = {
            "type": str(body.get("type") or ""),
            "free": free if free >= 0 else None,
            "online": body.get("online") is not False,
            "pool": pool_ref(body.get("zonePool")),
        }
        found.append(Choice(text_id(body.get("id")), label, facts))
    return found


def machines_named(client: Client, name: str) -> list[Json]:
    """Machine records of that very name, powered off or only discovered ones too."""
    found = client.all("/api/servers", "servers", {"name": name})
    return [body for body in found if body.get("name") == name]


def permissions(whoami: Json) -> dict[str, str]:
    """Permission code → access."""
    return {
        str(entry["code"]): str(entry.get("access") or "none")
        for entry in items(whoami.get("permissions"))
        if entry.get("code")
    }
