"""What the appliance refuses, in HPE's shape: a status and `{"success": false, "msg", "errors": {field: text}}`."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from migrationhub.lab.vme.catalog import Catalog, Net
from migrationhub.lab.vme.store import Store

Json = dict[str, Any]


class Refusal(Exception):
    def __init__(self, status: int, msg: str, errors: dict[str, str] | None = None) -> None:
        super().__init__(msg)
        self.status = status
        self.body: Json = {"success": False, "msg": msg}
        if errors:
            self.body["errors"] = errors


def number(value: object) -> int:
    """An id as int, "7", "pool-7", "network-7" or {"id": …}; 0 for anything else."""
    if isinstance(value, dict):
        value = value.get("id")
    found = re.fullmatch(r"(?:[A-Za-z]+-)?(\d+)", str(value))
    return int(found.group(1)) if found else 0


def obj(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def check_create(catalog: Catalog, store: Store, body: Json) -> None:
    """Raise `Refusal` with the field that is wrong, as the documented 400 does."""
    asked, config = obj(body.get("instance")), obj(body.get("config"))
    errors: dict[str, str] = {}
    name = str(asked.get("name") or "")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]{0,62}", name):
        errors["name"] = "You must enter a valid name"
    elif any(record["name"] == name for record in store.state["instances"].values()):
        errors["name"] = "Name must be unique"
    if number(body.get("zoneId")) != catalog.zone["id"]:
        errors["zoneId"] = "Invalid cloud"
    if number(asked.get("site")) != catalog.group["id"]:
        errors["site"] = "Invalid group"
    if obj(asked.get("instanceType")).get("code") != "mvm":
        errors["instanceType"] = "Invalid instance type"
    if number(asked.get("layout")) != catalog.layout["id"]:
        errors["layout"] = "Invalid layout"
    if number(asked.get("plan")) not in catalog.plans:
        errors["plan"] = "Invalid plan"
    if number(config.get("resourcePoolId")) != catalog.pool["id"]:
        errors["resourcePoolId"] = "Invalid resource pool"
    if not catalog.image_of_lab(number(config.get("imageId"))):
        errors["imageId"] = "Invalid image"
    errors |= _volumes(catalog, body.get("volumes"))
    errors |= check_nics(catalog, body.get("networkInterfaces"))
    if errors:
        raise Refusal(400, "Failed to create instance", errors)


def _volumes(catalog: Catalog, volumes: object) -> dict[str, str]:
    if not isinstance(volumes, list) or not volumes:
        return {"volumes": "At least one volume is required"}
    if not obj(volumes[0]).get("rootVolume"):
        return {"volumes": "The first volume must be the root volume"}
    for volume in volumes:
        if number(obj(volume).get("datastoreId")) != catalog.datastore["id"]:
            return {"volumes": "Invalid datastore"}
        if not isinstance(volume.get("size"), int) or volume["size"] < 1:
            return {"volumes": "Invalid size"}
    return {}


def check_nics(catalog: Catalog, nics: object) -> dict[str, str]:
    """HPE's documented errors: a network of another pool, inactive or unknown is just "Invalid network"."""
    if not isinstance(nics, list) or not nics:
        return {"networkInterfaces": "At least one network is required"}
    for nic in nics:
        net = network_of(catalog, obj(nic))
        if net is None or not net.active or net.pool_id != catalog.pool["id"] or not net.side:
            return {"networkInterfaces": "Invalid network"}
        address = obj(nic).get("ipAddress")
        if not net.dhcp and not address:
            return {"networkInterfaces": "You must enter an ip address"}
        if address:
            try:
                inside = ipaddress.ip_address(address) in ipaddress.ip_network(net.cidr)
            except ValueError:
                inside = False
            if not inside:
                return {"networkInterfaces": "Invalid ip address"}
    return {}


def network_of(catalog: Catalog, nic: Json) -> Net | None:
    return catalog.networks.get(number(nic.get("network")))
