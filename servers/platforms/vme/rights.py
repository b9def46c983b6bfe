"""Which rights the account needs: codes as whoami tells them, names as VME's role page calls them."""

from __future__ import annotations

from dataclasses import dataclass

from migrationhub.lib.findings import Level

RANK = {"none": 0, "no": 0, "view": 1, "read": 1, "user": 1, "group": 1, "provision": 1, "yes": 2, "full": 2}


@dataclass(frozen=True)
class Need:
    code: str  # HPE's permission code, as in whoami
    name: str  # as the role page of VME calls it
    access: str  # read | full
    what_for: str
    level: Level = Level.BLOCKING


NEEDS = (
    Need("provisioning", "Instances: List", "read", "see instances"),
    Need("provisioning-add", "Instances: Add", "full", "make instances"),
    Need("provisioning-edit", "Instances: Edit", "full", "label instances"),
    Need("provisioning-power", "Power Control", "full", "start and stop machines"),
    Need("provisioning-reconfigure", "Reconfigure", "full", "move machines to the production network"),
    Need("provisioning-reconfigure-add-network", "Reconfigure: Network Add", "full", "add interfaces"),
    Need("provisioning-reconfigure-modify-network", "Reconfigure: Network Modify", "full", "move interfaces"),
    Need("provisioning-reconfigure-remove-network", "Reconfigure: Network Remove", "full", "remove interfaces"),
    Need("execution-request", "API: Execution Request", "full", "read back the target's host key"),
    Need("infrastructure-networks", "Networks", "read", "choose networks"),
    Need("infrastructure-storage", "Storage", "read", "choose a datastore"),
    Need("virtual-images", "Virtual Images", "read", "choose an image"),
    Need("admin-servers", "Compute", "read", "see whether a name is free"),
    Need("provisioning-delete", "Instances: Delete", "full", "undo an initial migration", Level.WARNING),
    Need("snapshots", "Snapshots", "full", "take snapshots and revert", Level.WARNING),
)
