"""Changing requests: checked, noted in the journal, then begun. The answer comes before the work."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

from migrationhub.lab.vme import bodies
from migrationhub.lab.vme.refusals import Refusal, check_create, check_nics, number, obj
from migrationhub.lab.vme.request import Request

if TYPE_CHECKING:
    from migrationhub.lab.vme.appliance import Appliance

Json = dict[str, Any]
STATUS = {"start": "starting", "stop": "stopping", "restart": "restarting"}


def create(app: Appliance, request: Request) -> Json:
    check_create(app.catalog, app.store, request.body)
    record = app.instances.make(request.body)
    app.note(request, "create", record)
    app.work.begin("create", record)
    return {"success": True, "instance": bodies.instance(app.catalog, record)}


def power(app: Appliance, request: Request) -> Json:
    act = request.match["act"]
    record = app.instances.idle(request.match["id"])
    if request.query.get("server", "true") == "false":
        app.note(request, act, record, effective=False)  # only the service inside: nothing of ours
        return {"success": True}
    if act == "stop" and record["power"] == "off":
        raise Refusal(409, f"Server {record['name']} is already stopped")
    if act == "start" and record["power"] == "on":
        app.note(request, act, record, effective=False)
        return {"success": True}
    record |= {"busy": True, "status": STATUS[act]}
    app.note(request, act, record)
    app.work.begin(act, record)
    return {"success": True}


def resize(app: Appliance, request: Request) -> Json:
    record = app.instances.idle(request.match["id"])
    plan = number(obj(obj(request.body.get("instance")).get("plan")))
    if plan != record["plan_id"]:
        raise Refusal(400, "Failed to resize instance", {"plan": "Invalid plan"})
    asked = request.body.get("networkInterfaces")
    if asked is None:
        app.note(request, "resize", record, effective=False)
        return {"success": True, "instance": bodies.instance(app.catalog, record)}
    if errors := check_nics(app.catalog, asked):
        raise Refusal(400, "Failed to resize instance", errors)
    present = {nic["id"]: nic for nic in record["nics"]}
    ids = [number(obj(nic).get("id")) for nic in asked if obj(nic).get("id") is not None]
    if unknown := [one for one in ids if one not in present]:
        message = f"Network interface not found for id {unknown[0]}"
        raise Refusal(400, "Failed to resize instance", {"networkInterfaces": message})
    _allowed(request, record, asked, ids)
    # One without id is added, one left out is removed.
    nics = [app.instances.new_nic(record, obj(nic), present.get(number(obj(nic).get("id")))) for nic in asked]
    if nics == record["nics"]:
        app.note(request, "resize", record, effective=False)
        return {"success": True, "instance": bodies.instance(app.catalog, record)}
    was_on = record["power"] == "on"
    record |= {"busy": True, "status": "resizing"}
    app.note(request, "resize", record)
    app.work.begin("resize", record, nics=nics, was_on=was_on)
    return {"success": True, "instance": bodies.instance(app.catalog, record)}


def _allowed(request: Request, record: Json, asked: list[Json], ids: list[int]) -> None:
    """Adding, modifying and removing interfaces are rights of their own."""
    needed = {"provisioning-reconfigure-modify-network"} if ids else set()
    if len(ids) < len(asked):
        needed.add("provisioning-reconfigure-add-network")
    if len(ids) < len(record["nics"]):
        needed.add("provisioning-reconfigure-remove-network")
    for code in sorted(needed):
        request.need(code)


def snapshot(app: Appliance, request: Request) -> Json:
    record = app.instances.idle(request.match["id"])
    asked = obj(request.body.get("snapshot"))
    one = {
        "id": app.store.next_id("snapshot", app.catalog.number_of("first snapshot") % 500 + 5),
        "instance_id": record["id"],
        "name": str(asked.get("name") or f"{record['name']}-{int(time.time())}"),
        "description": asked.get("description"),
        "status": "creating",
        "at": time.time(),
        "active": False,
    }
    app.store.state["snapshots"][str(one["id"])] = one
    record["busy"] = True
    app.note(request, "snapshot", record)
    process = app.work.begin("snapshot", record, snapshot_id=one["id"])
    return {"success": True, "processIds": [process["id"]]}


def revert(app: Appliance, request: Request) -> Json:
    record = app.instances.idle(request.match["id"])
    one = app.store.state["snapshots"].get(request.match["snapshot"])
    if one is None or one["instance_id"] != record["id"] or one["status"] != "complete":
        raise Refusal(404, f"Snapshot not found for id {request.match['snapshot']}")
    was_on = record["power"] == "on"
    record |= {"busy": True, "status": "restoring"}
    app.note(request, "revert", record)
    app.work.begin("revert", record, snapshot_id=one["id"], was_on=was_on)
    return {"success": True}


def delete(app: Appliance, request: Request) -> Json:
    record = app.instances.get(request.match["id"])
    if record["status"] == "removing":
        app.note(request, "delete", record, effective=False)
        return {"success": True}
    record |= {"busy": True, "status": "removing"}
    app.note(request, "delete", record)
    app.work.begin("delete", record)
    return {"success": True}


def execute(app: Appliance, request: Request) -> Json:
    record = app.instances.get(request.query.get("instanceId", ""))
    script = request.body.get("script")
    if not isinstance(script, str) or not script:
        raise Refusal(400, "Failed to execute", {"script": "Script is required"})
    if request.body.get("sendKeys"):
        raise Refusal(400, "Failed to execute", {"sendKeys": "No hypervisor console is available"})
    one = {
        "id": app.store.next_id("request", app.catalog.number_of("first request") + 20),
        "unique_id": str(uuid.uuid4()),
        "instance_id": record["id"],
        "status": "pending",
        "rc": None,
        "out": None,
        "err": None,
        "message": "",
        "at": time.time(),
    }
    app.store.state["requests"][one["unique_id"]] = one
    app.note(request, "execute", record)
    app.work.begin("execute", record, unique_id=one["unique_id"], script=script)
    return {"success": True, "executionRequest": bodies.execution(one)}
