"""HPE's instances as ours."""

from __future__ import annotations

import ipaddress

from servers.platforms.base import Instance, Nic
from servers.platforms.vme import answers
from servers.platforms.vme.answers import Json, items, network_ref, obj, text_id

CREATED = ("running", "stopped")  # a create settles in either (autoRecoverPowerState, provisionPoweredOff)
BROKEN = ("denied", "cancelled", "failed", "suspended", "removing", "pendingRemoval", "pendingDeleteApproval")
APPROVALS = ("pending", "pendingReconfigureApproval")
BUSY = [
    "provisioning",
    "finishing",
    "resizing",
    "restarting",
    "cloning",
    "restoring",
    "stopping",
    "starting",
    "suspending",
    "snapshotting",
]


def instance_from(body: Json) -> Instance:
    """An instance as `GET /api/instances/{id}` or a list with details tells it."""
    server = server_of(body)
    nics = tuple(nic_from(nic) for nic in items(server.get("interfaces"))) or tuple(
        nic_from(nic) for nic in items(body.get("interfaces"))
    )
    servers = body.get("servers")
    first = servers[0] if isinstance(servers, list) and servers else server.get("id")
    return Instance(
        external_id=text_id(body.get("id")),
        name=str(body.get("name") or ""),
        status=str(body.get("status") or "unknown"),
        power=_power(str(body.get("status") or ""), str(server.get("powerState") or "")),
        nics=nics,
        uuid=text_id(body.get("uuid")),
        server_id=text_id(first),
        plan_id=text_id(body.get("plan")),
        message=str(body.get("errorMessage") or body.get("statusMessage") or ""),
    )


def server_of(body: Json) -> Json:
    """The machine under an instance: the first container's server."""
    for container in items(body.get("containerDetails")):
        if server := obj(container.get("server")):
            return server
    return {}


def nic_from(body: Json) -> Nic:
    identity = text_id(body.get("id"))
    return Nic(
        network_id=network_ref(body.get("network")),
        id=identity if identity.isdigit() else "",  # an instance's own list may say null or "networkGroup-2"
        address=usable_address(body.get("ipAddress")),
        mac=str(body.get("macAddress") or ""),
        type_id=text_id(body.get("type") or body.get("networkInterfaceTypeId")),
        primary=bool(body.get("primaryInterface")),
    )


def usable_address(value: object) -> str:
    """An address without prefix, or "" for what VME says while it does not know (0.0.0.0, link-local)."""
    try:
        address = ipaddress.ip_interface(str(value or "").strip()).ip
    except ValueError:
        return ""
    return "" if address.is_unspecified or address.is_link_local or address.is_multicast else str(address)


def address_of(instance: Instance, body: Json) -> str:
    """How the guest is reached: the primary interface's address, then what the machine's record says."""
    for nic in sorted(instance.nics, key=lambda nic: not nic.primary):
        if nic.address:
            return nic.address
    server = server_of(body)
    candidates = [server.get("internalIp"), server.get("externalIp")]
    for container in items(body.get("containerDetails")):
        candidates += [container.get("internalIp"), container.get("ip")]
    candidates += [connection.get("ip") for connection in items(body.get("connectionInfo"))]
    return next(filter(None, map(usable_address, candidates)), "")


def _power(status: str, power_state: str) -> str:
    if power_state.lower() in ("on", "off"):
        return power_state.lower()
    if status == "running":
        return "on"
    return "off" if status == "stopped" else "unknown"


def has_label(body: Json, label: str) -> bool:
    """Whether an instance carries a label; some releases change its case."""
    labels = body.get("labels")
    return isinstance(labels, list) and label.lower() in (str(one).lower() for one in labels)


def same_nics(wanted: tuple[Nic, ...], present: tuple[Nic, ...]) -> bool:
    """Whether the interfaces are what was asked for, whatever their ids and MACs became."""
    if len(wanted) != len(present):
        return False
    left = list(present)
    for nic in wanted:
        match = next((other for other in left if _fits(nic, other)), None)
        if match is None:
            return False
        left.remove(match)
    return True


def _fits(wanted: Nic, present: Nic) -> bool:
    address = usable_address(wanted.address)
    return network_ref(wanted.network_id) == network_ref(present.network_id) and (
        not address or address == present.address
    )


def complete_list(wanted: tuple[Nic, ...], present: tuple[Nic, ...]) -> list[Json]:
    """The interfaces as a resize takes them: each that stays with its id (one left out would be removed).

    Ids may have changed since they were noted: what does not match by id is paired in order, primary first.
    """
    by_id = {nic.id: nic for nic in present if nic.id}
    kept = {nic.id for nic in wanted if nic.id in by_id}
    spare = [nic for nic in sorted(present, key=lambda nic: not nic.primary) if nic.id and nic.id not in kept]
    result = []
    for nic in wanted:
        own = by_id.get(nic.id) if nic.id else None
        if own is None and spare:
            own = spare.pop(0)
        entry: Json = {"network": {"id": network_ref(nic.network_id)}}
        if own:
            entry["id"] = answers.number(own.id)
        if type_id := nic.type_id or (own.type_id if own else ""):
            entry["networkInterfaceTypeId"] = answers.number(type_id)
        if address := usable_address(nic.address):
            entry |= {"ipMode": "static", "ipAddress": address}
        else:
            entry["ipMode"] = "dhcp"
        result.append(entry)
    return result
