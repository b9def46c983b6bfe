"""Instances, machines and processes as the API tells them."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from migrationhub.lab.vme.catalog import GIB, Catalog

Json = dict[str, Any]
UNKNOWN = "0.0.0.0"


def stamp(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def shown_address(record: Json, nic: Json) -> str:
    """What VME knows of an address: a static one at once, a transient one only some time after the start."""
    if nic["ip_mode"] == "static":
        return str(nic["address"])
    return str(nic["address"]) if nic["address"] and record["address_known_at"] <= time.time() else UNKNOWN


def interface(catalog: Catalog, record: Json, nic: Json, position: int) -> Json:
    net = catalog.networks[nic["network"]]
    return {
        "id": nic["id"],
        "name": f"eth{position}",
        "ipAddress": shown_address(record, nic),
        "publicIpAddress": shown_address(record, nic),
        "dhcp": nic["ip_mode"] == "dhcp",
        "active": True,
        "primaryInterface": position == 0,
        "network": {"id": net.id, "name": net.name},
        "type": catalog.nic_type,
        "ipMode": nic["ip_mode"],
        "macAddress": nic["mac"],
        "interfaces": [],
    }


def server(catalog: Catalog, record: Json) -> Json:
    """The machine under an instance, as in /api/servers and in an instance's container."""
    interfaces = [interface(catalog, record, nic, position) for position, nic in enumerate(record["nics"])]
    address = next((one["ipAddress"] for one in interfaces if one["ipAddress"] != UNKNOWN), None)
    return {
        "id": record["server_id"],
        "uuid": record["server_uuid"],
        "externalId": record["host"],
        "name": record["name"],
        "externalName": record["name"],
        "hostname": record["name"],
        "accountId": 1,
        "account": catalog.tenant,
        "zone": catalog.zone,
        "zoneId": catalog.zone["id"],
        "siteId": record["group_id"],
        "plan": _plan(catalog, record),
        "resourcePoolId": catalog.pool["id"],
        "computeServerType": {
            "id": catalog.number_of("server type"),
            "code": "mvmVm",
            "name": "HVM VM",
            "managed": True,
        },
        "visibility": "private",
        "externalIp": address,
        "internalIp": address,
        "sshPort": 22,
        "platform": "linux",
        "status": "provisioning" if record["status"] == "provisioning" else "provisioned",
        "powerState": record["power"],
        "agentInstalled": False,
        "maxCores": _plan_facts(catalog, record)[2],
        "maxMemory": _plan_facts(catalog, record)[3],
        "interfaces": interfaces,
        "volumes": [{**disk, "datastoreId": catalog.datastore["id"]} for disk in volumes(catalog, record)],
    }


def volumes(catalog: Catalog, record: Json) -> list[Json]:
    return [
        {
            "id": disk["id"],
            "name": disk["name"],
            "rootVolume": position == 0,
            "size": disk["size"],
            "maxStorage": disk["size"] * GIB,
            "storageType": catalog.storage_type["id"],
            "datastoreId": str(catalog.datastore["id"]),
            "displayOrder": position,
        }
        for position, disk in enumerate(record["volumes"])
    ]


def instance(catalog: Catalog, record: Json, *, details: bool = True) -> Json:
    """An instance. While it is made, its machine's record may still be missing, as on a real appliance."""
    made = record["status"] != "provisioning"
    machine = server(catalog, record)
    address = machine["internalIp"] or UNKNOWN
    name, code, cores, memory = _plan_facts(catalog, record)
    body: Json = {
        "id": record["id"],
        "uuid": record["uuid"],
        "accountId": 1,
        "tenant": catalog.tenant,
        "instanceType": {**catalog.instance_type, "category": "os"},
        "group": catalog.group,
        "cloud": {**catalog.zone, "type": "standard"},
        "cluster": catalog.cluster,
        "containers": [record["container_id"]],
        "servers": [record["server_id"]] if made else [],
        "connectionInfo": [{"ip": address, "port": 22}],
        "layout": {**catalog.layout, "provisionTypeId": catalog.provision_type["id"], "provisionTypeCode": "kvm"},
        "plan": {"id": record["plan_id"], "code": code, "name": name},
        "name": record["name"],
        "displayName": record["name"],
        "description": None,
        "config": {
            "resourcePoolId": catalog.pool["id"],
            "poolProviderType": "mvm",
            "createUser": False,
            "noAgent": True,
        },
        "volumes": volumes(catalog, record),
        "interfaces": [
            {
                "id": f"networkGroup-{position}",  # no id of an interface: a resize needs those of the machine
                "network": {"id": nic["network"], "name": catalog.networks[nic["network"]].name, "pool": None},
                "ipAddress": None,
                "ipMode": nic["ip_mode"],
                "networkInterfaceTypeId": catalog.nic_type["id"],
            }
            for position, nic in enumerate(record["nics"])
        ],
        "labels": record["labels"],
        "tags": [],
        "maxMemory": memory,
        "maxCores": cores,
        "dateCreated": stamp(record["created_at"]),
        "lastUpdated": stamp(record["changed_at"]),
        "hostName": record["name"],
        "locked": False,
        "status": record["status"],
        "statusMessage": None,
        "errorMessage": record["message"] or None,
        "isBusy": record["busy"],
    }
    if details:
        container = {
            "id": record["container_id"],
            "name": f"{record['name']}_{record['container_id']}",
            "ip": address,
            "internalIp": address,
            "server": machine,
            "plan": body["plan"],
            "status": record["status"],
        }
        body["containerDetails"] = [container] if made else []
    return body


def _plan_facts(catalog: Catalog, record: Json) -> tuple[str, str, int, int]:
    return catalog.plans[record["plan_id"]]


def _plan(catalog: Catalog, record: Json) -> Json:
    name, code, *_ = _plan_facts(catalog, record)
    return {"id": record["plan_id"], "code": code, "name": name}


def process(record: Json) -> Json:
    """One entry of /api/processes, with the one event that says how it went."""
    common: Json = {
        "processType": {"code": record["act"], "name": record["act"]},
        "displayName": record["name"],
        "instanceId": record["instance_id"],
        "status": record["status"],
        "reason": None,
        "message": None,
        "output": None,
        "error": record["error"] or None,
        "startDate": stamp(record["start"]),
    }
    if record["end"]:
        common["endDate"] = stamp(record["end"])
    percent = 100.0 if record["end"] else 50.0
    event = {**common, "id": record["id"] + 1, "processId": record["id"], "percent": percent}
    return {
        **common,
        "id": record["id"],
        "accountId": 1,
        "uniqueId": record["unique_id"],
        "percent": percent,
        "error": None,  # the event has it
        "events": [event],
    }


def execution(record: Json) -> Json:
    return {
        "id": record["id"],
        "uniqueId": record["unique_id"],
        "containerId": None,
        "serverId": None,
        "instanceId": record["instance_id"],
        "stdOut": record["out"],
        "stdErr": record["err"],
        "exitCode": record["rc"],
        "status": record["status"],
        "expiresAt": stamp(record["at"] + 3600),
        "createdById": 1,
        "statusMessage": None,
        "errorMessage": record["message"] or None,
        "config": {},
        "rawData": None,
    }


def snapshot(catalog: Catalog, record: Json) -> Json:
    return {
        "id": record["id"],
        "name": record["name"],
        "description": record["description"],
        "externalId": f"snapshot-{record['id']}",
        "status": record["status"],
        "state": None,
        "snapshotType": "vm",
        "snapshotCreated": stamp(record["at"]),
        "zone": catalog.zone,
        "currentlyActive": record["active"],
        "memorySnapshot": False,
        "forExport": False,
        "dateCreated": stamp(record["at"]),
    }
