"""The appliance's records of its instances: made, found, addresses handed out, power kept up to date."""

from __future__ import annotations

import contextlib
import ipaddress
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from migrationhub.lab.hosts import HostBackend
from migrationhub.lab.vme.catalog import Catalog
from migrationhub.lab.vme.refusals import Refusal, network_of, number, obj
from migrationhub.lab.vme.settings import Settings
from migrationhub.lab.vme.store import Store

Json = dict[str, Any]
HOST_NAME = 31  # characters that the lab's hosts may have


class Instances:
    def __init__(self, settings: Settings, store: Store, catalog: Catalog, backend: HostBackend) -> None:
        self.settings, self.store, self.catalog, self.backend = settings, store, catalog, backend
        self._turns: dict[int, threading.Lock] = defaultdict(threading.Lock)
        self._looked: dict[int, float] = {}

    @contextlib.contextmanager
    def turn(self, instance_id: int) -> Iterator[None]:
        """Only one act at a time works on an instance."""
        with self._turns[instance_id]:
            yield

    def get(self, instance_id: str) -> Json:
        found: Json | None = self.store.state["instances"].get(instance_id)
        if found is None:
            raise Refusal(404, f"Instance not found for id {instance_id}")
        self._look(found)
        return found

    def all(self) -> list[Json]:
        records = list(self.store.state["instances"].values())
        for record in records:
            self._look(record)
        return sorted(records, key=lambda record: str(record["name"]))

    def idle(self, instance_id: str) -> Json:
        """An instance that does nothing just now; the real one, too, takes one change at a time."""
        record = self.get(instance_id)
        if record["busy"]:
            raise Refusal(409, f"Instance {record['name']} is {record['status']}, try again later")
        return record

    def _look(self, record: Json) -> None:
        """Notice a machine that went off or on by itself, as late as an appliance does."""
        now = time.time()
        if record["busy"] or record["status"] in ("failed", "provisioning"):
            return
        if now - self._looked.get(record["id"], 0.0) < self.settings.power_sync:
            return
        self._looked[record["id"]] = now
        power = self.backend.power(record["host"])
        if power in ("on", "off") and power != record["power"]:
            record |= {"power": power, "status": "running" if power == "on" else "stopped", "changed_at": now}
            self.store.save()

    def make(self, body: Json) -> Json:
        """The record of a new instance from a request that was found right. Call with the store's lock."""
        catalog, asked, config = self.catalog, obj(body["instance"]), obj(body["config"])
        now, first = time.time(), catalog.number_of
        number_of = self.store.next_id("instance", 100 + first("first instance") % 900)
        record: Json = {
            "id": number_of,
            "uuid": str(uuid.uuid4()),
            "server_id": self.store.next_id("server", 1000 + first("first server") % 3000, 2),
            "server_uuid": str(uuid.uuid4()),
            "container_id": self.store.next_id("container", 1000 + first("first container") % 2000, 5),
            "name": str(asked["name"]),
            "host": "",
            "image": catalog.image_of_lab(number(config["imageId"])),
            "user_data": str(config.get("userData") or ""),
            "start": not config.get("provisionPoweredOff"),
            "labels": [str(label) for label in body.get("labels") or []],
            "plan_id": number(asked["plan"]),
            "group_id": number(asked["site"]),
            "status": "provisioning",
            "power": "off",
            "busy": True,
            "message": "",
            "nics": [],
            "volumes": [
                {"id": self.store.next_id("volume", 5000), "name": str(disk.get("name")), "size": disk["size"]}
                for disk in body["volumes"]
            ],
            "created_at": now,
            "changed_at": now,
            "address_known_at": now + 10 * 365 * 86400,
        }
        record["host"] = self._host_name(record)
        record["nics"] = [self.new_nic(record, obj(nic), None) for nic in body["networkInterfaces"]]
        self.store.state["instances"][str(number_of)] = record
        return record

    def _host_name(self, record: Json) -> str:
        """The lab's own name of the machine: the instance's, unless a source or another host has it."""
        used = {*self.backend.names(), *(one["host"] for one in self.store.state["instances"].values())}
        name = str(record["name"]).lower().replace(".", "-")[:HOST_NAME].rstrip("-")
        if name not in used:
            return name
        tail = f"-vm{record['id']}"
        return name[: HOST_NAME - len(tail)] + tail

    def new_nic(self, record: Json, asked: Json, old: Json | None) -> Json:
        """An interface on the network that was asked for. A move to another network makes a new one: id and MAC
        differ afterwards, as HPE's own provider warns."""
        net = network_of(self.catalog, asked)
        if net is None:
            raise Refusal(400, "Invalid network", {"networkInterfaces": "Invalid network"})
        address = str(asked.get("ipAddress") or "")
        if old and old["network"] == net.id and address in ("", old["address"]):
            return old
        nic_id = self.store.next_id("nic", 300 + self.catalog.number_of("first nic") % 700)
        return {
            "id": nic_id,
            "network": net.id,
            "ip_mode": "static" if address else "dhcp",
            "address": address or self._transient(net.side),
            "mac": f"52:54:00:{nic_id >> 16 & 255:02x}:{nic_id >> 8 & 255:02x}:{nic_id & 255:02x}",
        }

    def _transient(self, side: str) -> str:
        """The next free address that the migration network's DHCP hands out."""
        if side != "migration":
            return ""
        used = {nic["address"] for one in self.store.state["instances"].values() for nic in one["nics"]}
        used |= {nic["address"] for one in self.store.state["pending"].values() for nic in one.get("nics", [])}
        subnet = ipaddress.IPv4Network(self.settings.migration)
        last = int(self.store.state["next"].get("address", self.settings.first - 1))
        count = self.settings.last - self.settings.first + 1
        for step in range(1, count + 1):
            host = self.settings.first + (last - self.settings.first + step) % count
            if str(subnet[host]) not in used:
                self.store.state["next"]["address"] = host
                return str(subnet[host])
        raise Refusal(500, "No address is left in the migration network")

    def release(self, record: Json, keep: list[Json] | None = None) -> None:
        """Forget addresses that the instance no longer has; a later one may get them."""
        kept = [nic["address"] for nic in keep or []]
        for nic in record["nics"]:
            if nic["ip_mode"] == "dhcp" and nic["address"] not in kept:
                nic["address"] = ""
