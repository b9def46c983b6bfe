"""What the appliance has from the start: cloud, cluster, networks, plans, images. Ids differ per appliance."""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass, field
from typing import Any

from migrationhub.lab.vme.settings import Settings

Json = dict[str, Any]
GIB = 1 << 30

# Clone images by kind of lab host: name on the appliance → the lab's recipe.
IMAGES = {
    "nspawn": {"Debian 12": "debian", "Debian 12 networkd": "debian-networkd"},
    "process": {"Debian 12": "base", "Debian 12 networkd": "base"},
}
IMPORTING = "Debian 13 (importing)"
PLANS = (
    ("1 CPU, 1GB Memory", "kvm-vm-1024", 1, 1),
    ("2 CPU, 4GB Memory", "kvm-vm-4096", 2, 4),
    ("4 CPU, 8GB Memory", "kvm-vm-8192", 4, 8),
)


@dataclass(frozen=True)
class Net:
    """One of the appliance's networks; `side` is the lab's network behind it ("" = none)."""

    id: int
    name: str
    vlan: int
    side: str
    cidr: str
    pool_id: int
    active: bool = True
    dhcp: bool = False
    labels: tuple[str, ...] = ()


@dataclass
class Catalog:
    settings: Settings
    taken: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        number = self.number
        self.tenant = {"id": 1, "name": "lab"}
        self.group = {"id": number("group"), "name": "Migrations"}
        self.other_group = {"id": number("other group"), "name": "Empty"}
        self.zone = {"id": number("zone"), "name": "Lab cloud"}
        self.cluster = {"id": number("cluster"), "name": "hvm-cluster-1"}
        self.pool: Json = {"id": number("pool"), "name": self.cluster["name"]}
        self.other_pool: Json = {"id": number("other pool"), "name": "hvm-cluster-2"}
        self.instance_type = {"id": number("type"), "code": "mvm", "name": "HVM"}
        self.layout = {"id": number("layout"), "name": "Single HPE VM"}
        self.provision_type = {"id": number("provision type"), "code": "kvm", "name": "KVM"}
        self.nic_type = {"id": number("nic type"), "code": "virtio", "name": "VirtIO"}
        self.storage_type = {"id": number("storage type"), "code": "standard", "name": "Standard"}
        self.datastore = {"id": number("datastore"), "name": "cluster-gfs2"}
        self.offline_datastore = {"id": number("offline datastore"), "name": "old-nfs"}
        self.networks = self._networks()
        self.plans = {number(code): (name, code, cores, gib * GIB) for name, code, cores, gib in PLANS}
        self.images = {number(f"image {name}"): name for name in (*IMAGES[self.settings.kind], IMPORTING)}

    def number(self, what: str) -> int:
        """An id that nobody can guess from another appliance."""
        for attempt in range(1000):
            digest = hashlib.sha256(f"{self.settings.name}/{what}/{attempt}".encode()).hexdigest()
            value = int(digest[:8], 16) % 5000 + 11
            if value not in self.taken:
                self.taken.add(value)
                return value
        raise AssertionError("a thousand ids are taken")

    def _networks(self) -> dict[int, Net]:
        settings, pool = self.settings, int(self.pool["id"])
        nets = (
            Net(
                self.number("net p"),
                "Production VLAN 20",
                20,
                "production",
                settings.production,
                pool,
                labels=("production",),
            ),
            Net(
                self.number("net m"),
                "Migration VLAN 66",
                66,
                "migration",
                settings.migration,
                pool,
                dhcp=True,
                labels=("isolated",),
            ),
            Net(self.number("net f"), "Storage VLAN 90", 90, "", "192.0.2.0/25", int(self.other_pool["id"])),
            Net(self.number("net o"), "Retired VLAN 7", 7, "", "192.0.2.128/25", pool, active=False),
        )
        return {net.id: net for net in nets}

    def image_of_lab(self, image_id: int) -> str:
        """The lab's recipe behind an image, "" where it cannot be deployed."""
        return IMAGES[self.settings.kind].get(self.images.get(image_id, ""), "")

    # -- bodies ---------------------------------------------------------------------------------------------

    def network_body(self, net: Net) -> Json:
        subnet = ipaddress.IPv4Network(net.cidr)
        isolated = net.side == "migration"
        return {
            "id": net.id,
            "name": net.name,
            "displayName": net.name,
            "labels": list(net.labels),
            "zone": self.zone,
            "type": {"id": self.number_of("network type"), "name": "OVS VLAN", "code": "hvmOvsVlan"},
            "owner": self.tenant,
            "vlanId": net.vlan,
            "bridgeName": "mgmt",
            "dhcpServer": net.dhcp,
            "gateway": None if isolated else str(subnet[1]),
            "netmask": str(subnet.netmask),
            "dnsPrimary": str(subnet[2]),
            "dnsSecondary": None,
            "cidr": net.cidr,
            "pool": None,
            "networkDomain": None,
            "active": net.active,
            "defaultNetwork": False,
            "status": "available",
            "visibility": "private",
            "allowStaticOverride": True,
            "zonePool": self.pool if net.pool_id == self.pool["id"] else self.other_pool,
            "tenants": [self.tenant],
        }

    def number_of(self, what: str) -> int:
        """A stable number for what nobody refers to by id."""
        return int(hashlib.sha256(f"{self.settings.name}/{what}".encode()).hexdigest()[:4], 16)

    def plan_body(self, plan_id: int) -> Json:
        name, code, cores, memory = self.plans[plan_id]
        disk = {**self.storage_type, "defaultType": True, "enabled": True, "volumeType": "disk", "hasDatastore": True}
        return {
            "id": plan_id,
            "name": name,
            "value": plan_id,
            "code": code,
            "maxStorage": 10 * GIB,
            "maxMemory": memory,
            "maxCpu": cores,
            "maxCores": cores,
            "customCpu": False,
            "customMaxMemory": False,
            "customMaxStorage": True,
            "coresPerSocket": 1,
            "storageTypes": [disk],
            "rootStorageTypes": [disk],
            "addVolumes": True,
            "hasDatastore": True,
            "minDisk": 0,
            "supportsAutoDatastore": True,
            "datastores": {"cluster": [], "store": [self.datastore]},
        }

    def image_body(self, image_id: int) -> Json:
        name = self.images[image_id]
        return {
            "id": image_id,
            "name": name,
            "description": None,
            "labels": [],
            "tenant": self.tenant,
            "imageType": "qcow2",
            "userUploaded": True,
            "systemImage": False,
            "isCloudInit": True,
            "osType": {"id": 9, "code": "debian.12.64", "name": "debian 12 64-bit", "platform": "linux"},
            "minDisk": 2 * GIB,
            "minDiskGB": "2",
            "virtioSupported": True,
            "uefi": False,
            "visibility": "private",
            "status": "Saving" if name == IMPORTING else "Active",
        }

    def datastore_bodies(self) -> list[Json]:
        common = {"zone": self.zone, "visibility": "public", "tenants": [self.tenant], "active": True}
        return [
            {
                **self.datastore,
                **common,
                "type": "gfs2",
                "freeSpace": 800 * GIB,
                "online": True,
                "zonePool": self.pool,
                "allowProvision": True,
            },
            {
                **self.offline_datastore,
                **common,
                "type": "nfs",
                "freeSpace": 90 * GIB,
                "online": False,
                "zonePool": self.pool,
                "allowProvision": True,
            },
        ]
