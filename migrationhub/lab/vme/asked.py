"""Read-only requests."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from migrationhub.lab.vme import bodies
from migrationhub.lab.vme.refusals import Refusal, number
from migrationhub.lab.vme.request import Request

if TYPE_CHECKING:
    from migrationhub.lab.vme.appliance import Appliance

Json = dict[str, Any]


def page(request: Request, key: str, found: list[Json]) -> Json:
    """A list as HPE pages it: `max` (25 by default), `offset`, `meta`."""
    limit, offset = request.number("max") or 25, request.number("offset") or 0
    part = found[offset : offset + limit]
    return {key: part, "meta": {"offset": offset, "max": limit, "size": len(part), "total": len(found)}}


def named(request: Request, found: list[Json]) -> list[Json]:
    """`name` is a loose filter (case is ignored), `phrase` a part of it, as on a real appliance."""
    name, phrase = request.query.get("name", "").lower(), request.query.get("phrase", "").lower()
    return [
        one
        for one in found
        if (not name or str(one["name"]).lower() == name) and (not phrase or phrase in str(one["name"]).lower())
    ]


def ping(app: Appliance, request: Request) -> Json:
    return {"success": True, "buildVersion": app.settings.version if request.account else ""}


def whoami(app: Appliance, request: Request) -> Json:
    if request.account is None:
        raise Refusal(401, "Unauthorized")
    return app.accounts.whoami(request.account, app.settings.version)


def health(app: Appliance, request: Request) -> Json:
    return {
        "health": {
            "success": True,
            "statusMessage": "",
            "buildVersion": app.settings.version,
            "applianceUrl": app.url,
            "setupNeeded": False,
            "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
    }


def license_(app: Appliance, request: Request) -> Json:
    end = datetime.now(UTC) + timedelta(days=400)
    terms = {
        "id": 1,
        "keyId": "lab",
        "licenseVersion": 3,
        "productTier": "vme",
        "startDate": "2026-01-01T00:00:00Z",
        "endDate": end.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "maxMvm": app.settings.machines,
        "maxMvmSockets": 12,
        "maxSockets": None,
        "hardLimit": True,
        "freeTrial": False,
        "features": {"migrations": True, "virtualImages": True, "network": True, "dnsServices": False},
    }
    return {
        "license": terms,
        "installedLicenses": [terms],
        "currentUsage": {"mvm": len(app.store.state["instances"]), "mvmSockets": 2},
    }


def groups(app: Appliance, request: Request) -> Json:
    catalog = app.catalog
    found = [{**catalog.group, "zones": [catalog.zone]}, {**catalog.other_group, "zones": []}]
    return page(request, "groups", named(request, [{**one, "accountId": 1, "active": True} for one in found]))


def zones(app: Appliance, request: Request) -> Json:
    catalog = app.catalog
    found = [
        {
            **catalog.zone,
            "code": "lab",
            "status": "ok",
            "enabled": True,
            "zoneType": {"id": catalog.number_of("zone type"), "code": "standard", "name": "HPE VM"},
            "autoRecoverPowerState": app.auto_recover_power,
            "groups": [catalog.group],
        }
    ]
    group = request.number("groupId")
    if group is not None and group != catalog.group["id"]:
        found = []
    return page(request, "zones", named(request, found))


def clusters(app: Appliance, request: Request) -> Json:
    catalog = app.catalog
    found = [
        {
            **catalog.cluster,
            "status": "ok",
            "enabled": True,
            "type": {"id": catalog.number_of("cluster type"), "name": "HPE VM Cluster", "code": "mvm-cluster"},
            "zone": catalog.zone,
            "layout": {
                "id": catalog.number_of("cluster layout"),
                "name": "HPE VM 1.2 Cluster",
                "provisionTypeCode": "kvm",
            },
            "servers": [],
            "permissions": {"resourcePool": catalog.pool},
        }
    ]
    return page(request, "clusters", named(request, found))


def networks(app: Appliance, request: Request) -> Json:
    request.need("infrastructure-networks", "read")
    zone = request.number("zoneId")
    found = [app.catalog.network_body(net) for net in app.catalog.networks.values()]
    if zone is not None and zone != app.catalog.zone["id"]:
        found = []
    return page(request, "networks", named(request, found))


def network(app: Appliance, request: Request) -> Json:
    request.need("infrastructure-networks", "read")
    net = app.catalog.networks.get(int(request.match["id"]))
    if net is None:
        raise Refusal(404, f"Network not found for id {request.match['id']}")
    return {"network": app.catalog.network_body(net)}


def plans(app: Appliance, request: Request) -> Json:
    catalog = app.catalog
    fits = request.number("zoneId") == catalog.zone["id"] and request.number("layoutId") == catalog.layout["id"]
    return {"plans": [catalog.plan_body(one) for one in catalog.plans] if fits else []}


def instance_types(app: Appliance, request: Request) -> Json:
    catalog = app.catalog
    other = {"id": catalog.number_of("other type"), "code": "ubuntu", "name": "Ubuntu"}
    vmware = {"id": catalog.number_of("vmware layout"), "name": "VMware VM", "provisionTypeCode": "vmware"}
    found: list[Json] = [
        {
            **catalog.instance_type,
            "provisionTypeCode": "kvm",
            "active": True,
            "instanceTypeLayouts": [{**catalog.layout, "provisionTypeCode": "kvm"}, vmware],
        },
        {**other, "provisionTypeCode": "vmware", "active": True, "instanceTypeLayouts": [vmware]},
    ]
    code = request.query.get("code")
    return page(request, "instanceTypes", [one for one in found if code in (None, one["code"])])


def layouts(app: Appliance, request: Request) -> Json:
    raise Refusal(403, "Forbidden – Your API key does not have the required role or permissions (library).")


def provision_types(app: Appliance, request: Request) -> Json:
    kind = {**app.catalog.provision_type, "hasNetworks": True, "hasDatastore": True, "hasSnapshots": True}
    return page(request, "provisionTypes", [kind] if request.query.get("code", "kvm") == "kvm" else [])


def zone_pools(app: Appliance, request: Request) -> Json:
    catalog = app.catalog
    if request.number("zoneId") != catalog.zone["id"]:
        return {"success": True, "data": []}
    pool = {
        **catalog.pool,
        "isGroup": False,
        "group": None,
        "isDefault": True,
        "type": "Cluster",
        "providerType": "mvm",
        "value": f"pool-{catalog.pool['id']}",
    }
    other = {
        **catalog.other_pool,
        "isGroup": False,
        "providerType": "vmware",
        "value": f"pool-{catalog.other_pool['id']}",
    }
    return {"success": True, "data": [pool, other]}


def network_options(app: Appliance, request: Request) -> Json:
    catalog = app.catalog
    found = [
        {"id": f"network-{net.id}", "name": net.name, "dhcpServer": net.dhcp, "allowStaticOverride": True, "pool": None}
        for net in catalog.networks.values()
        if net.active and net.pool_id == catalog.pool["id"]
    ]
    kinds = [{**catalog.nic_type, "displayOrder": 1, "enabled": True, "defaultType": True, "externalId": "virtio"}]
    return {
        "success": True,
        "data": {
            "networks": found,
            "networkGroups": [],
            "networkTypes": kinds,
            "networkSubnets": [],
            "hasNetworks": True,
            "maxNetworks": 0,
            "enableNetworkTypeSelection": "on",
            "supportsNetworkSelection": True,
        },
    }


def datastores(app: Appliance, request: Request) -> Json:
    request.need("infrastructure-storage", "read")
    zone = request.match.get("zone")
    found = app.catalog.datastore_bodies() if zone in (None, str(app.catalog.zone["id"])) else []
    return page(request, "datastores", named(request, found))


def images(app: Appliance, request: Request) -> Json:
    request.need("virtual-images", "read")
    if request.query.get("filterType", "User") not in ("User", "All"):
        return page(request, "virtualImages", [])
    kind = request.query.get("imageType", "qcow2")
    found = [app.catalog.image_body(one) for one in app.catalog.images] if kind == "qcow2" else []
    return page(request, "virtualImages", named(request, found))


def servers(app: Appliance, request: Request) -> Json:
    request.need("admin-servers", "read")
    found = [
        {**bodies.server(app.catalog, one), "instance": {"id": one["id"], "name": one["name"]}}
        for one in app.instances.all()
    ]
    discovered = [{**one, "zone": app.catalog.zone, "interfaces": [], "volumes": []} for one in app.discovered]
    return page(request, "servers", named(request, found + discovered))


def server(app: Appliance, request: Request) -> Json:
    request.need("admin-servers", "read")
    for one in app.instances.all():
        if request.match["id"] in (str(one["server_id"]), one["server_uuid"]):
            return {"server": {**bodies.server(app.catalog, one), "instance": {"id": one["id"], "name": one["name"]}}}
    raise Refusal(404, f"Server not found for id {request.match['id']}")


def instances(app: Appliance, request: Request) -> Json:
    request.need("provisioning", "read")
    details = request.query.get("details", "false") == "true"
    found = named(request, app.instances.all())
    part = page(request, "instances", found)
    return {**part, "instances": [bodies.instance(app.catalog, one, details=details) for one in part["instances"]]}


def instance(app: Appliance, request: Request) -> Json:
    request.need("provisioning", "read")
    details = request.query.get("details", "true") == "true"
    return {"instance": bodies.instance(app.catalog, app.instances.get(request.match["id"]), details=details)}


def snapshots(app: Appliance, request: Request) -> Json:
    record = app.instances.get(request.match["id"])
    found = [one for one in app.store.state["snapshots"].values() if one["instance_id"] == record["id"]]
    return {"snapshots": [bodies.snapshot(app.catalog, one) for one in found]}


def processes(app: Appliance, request: Request) -> Json:
    wanted = request.number("instanceId")
    found = [
        bodies.process(one)
        for one in reversed(app.store.state["processes"])
        if one["act"] != "execute" and wanted in (None, one["instance_id"])
    ]
    return page(request, "processes", found)


def process(app: Appliance, request: Request) -> Json:
    for one in app.store.state["processes"]:
        if one["id"] == number(request.match["id"]):
            return {"process": bodies.process(one)}
    raise Refusal(404, f"Process not found for id {request.match['id']}")


def execution(app: Appliance, request: Request) -> Json:
    one = app.store.state["requests"].get(request.match["id"])
    if one is None:
        raise Refusal(404, f"Execution Request not found for id {request.match['id']}")
    return {"success": True, "executionRequest": bodies.execution(one)}


Handler = Callable[["Appliance", Request], Json]
