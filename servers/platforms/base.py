"""The contract of a platform: it makes, isolates, connects and powers instances."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from migrationhub.lib.findings import Finding, Problem
from servers.progress import Memo, Progress


class PlatformProblem(Problem):
    """The platform refused, or did not answer as published."""


# Codes of findings that may be gone at the next look, without anybody doing anything.
PASSING = frozenset(
    {"platform.unavailable", "platform.unreachable", "platform.error", "platform.busy", "platform.wait"}
)


@dataclass(frozen=True)
class PlatformAccess:
    """How to reach a platform. TLS is verified unless `insecure` says otherwise by name."""

    name: str
    url: str
    username: str
    password: str = field(repr=False)
    ca_bundle: str = ""  # PEM text
    insecure: bool = False


@dataclass(frozen=True)
class Choice:
    """One thing that the platform really has: value as the API wants it, label for people."""

    value: str
    label: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class InstanceSpec:
    """What to make. Ids are the platform's own, chosen from what it has; sizes in GiB."""

    label: str  # unique; how the instance is found again: name and label
    group_id: str
    zone_id: str
    pool_id: str
    instance_type: str
    layout_id: str
    plan_id: str
    image_id: str
    network_id: str  # the migration network
    datastore_id: str
    disks: tuple[int, ...] = (10,)  # root first
    nic_type_id: str = ""
    ip_mode: str = ""  # "" | dhcp | static
    ip_address: str = ""
    user_data: str = ""  # config.userData, run at first boot


@dataclass(frozen=True)
class Nic:
    """One network interface as the platform tells it."""

    network_id: str
    id: str = ""
    address: str = ""
    mac: str = ""
    type_id: str = ""
    primary: bool = False


@dataclass(frozen=True)
class Instance:
    external_id: str
    name: str
    status: str  # the platform's own word
    power: str  # on | off | unknown
    nics: tuple[Nic, ...] = ()
    uuid: str = ""
    server_id: str = ""
    plan_id: str = ""
    message: str = ""


@dataclass(frozen=True)
class Placed:
    """The instance that we placed. An id says little: behind another address the same one is another machine's."""

    external_id: str
    name: str
    uuid: str = ""  # "" where it was not kept: then the name is compared

    def is_it(self, instance: Instance) -> bool:
        if instance.external_id and instance.external_id != self.external_id:
            return False
        if self.uuid and instance.uuid:
            return self.uuid == instance.uuid
        return self.name == instance.name


class Platform(Protocol):
    """`advance_*` do exactly one act each and are told the memo of the last; all are safe to call again.

    `work_key` goes out as X-Request-Id with every changing request.
    """

    def holding(self, placed: Placed) -> Platform:
        """The same platform, that looks before each act on this instance whether it still is that one."""

    def check(self, spec: InstanceSpec | None, production_network: str = "") -> list[Finding]: ...
    def check_name(self, label: str) -> list[Finding]:
        """Only whether the name is free, or our own instance's."""

    def networks(self, zone_id: str, pool_id: str) -> list[Choice]: ...
    def plans(self, zone_id: str, layout_id: str, group_id: str, pool_id: str) -> list[Choice]: ...
    def images(self) -> list[Choice]: ...
    def groups(self) -> list[Choice]: ...
    def zones(self, group_id: str) -> list[Choice]: ...
    def pools(self, zone_id: str, group_id: str, layout_id: str) -> list[Choice]: ...
    def layouts(self) -> list[Choice]: ...
    def datastores(self, zone_id: str) -> list[Choice]: ...
    def find(self, label: str) -> Instance | None: ...
    def get(self, external_id: str) -> Instance | None: ...
    def advance_create(self, work_key: str, spec: InstanceSpec, memo: Memo) -> tuple[Memo, Progress]: ...
    def observe_create(self, work_key: str, spec: InstanceSpec, memo: Memo) -> Progress: ...
    def advance_connect(
        self, work_key: str, external_id: str, nics: tuple[Nic, ...], memo: Memo
    ) -> tuple[Memo, Progress]:
        """Make the complete list of interfaces what `nics` says (resize)."""

    def observe_connect(self, work_key: str, external_id: str, nics: tuple[Nic, ...], memo: Memo) -> Progress: ...
    def advance_power(self, work_key: str, external_id: str, power: str, memo: Memo) -> tuple[Memo, Progress]: ...
    def observe_power(self, work_key: str, external_id: str, power: str, memo: Memo) -> Progress: ...
    def advance_execute(self, work_key: str, external_id: str, script: str, memo: Memo) -> tuple[Memo, Progress]:
        """Run a script inside the guest through the platform; `result` has rc, out and err."""

    def observe_execute(self, work_key: str, external_id: str, script: str, memo: Memo) -> Progress: ...
    def advance_snapshot(self, work_key: str, external_id: str, name: str, memo: Memo) -> tuple[Memo, Progress]: ...
    def observe_snapshot(self, work_key: str, external_id: str, name: str, memo: Memo) -> Progress: ...
    def advance_revert(
        self, work_key: str, external_id: str, snapshot_id: str, memo: Memo
    ) -> tuple[Memo, Progress]: ...
    def observe_revert(self, work_key: str, external_id: str, snapshot_id: str, memo: Memo) -> Progress: ...
    def advance_delete(self, work_key: str, external_id: str, memo: Memo) -> tuple[Memo, Progress]: ...
    def observe_delete(self, work_key: str, external_id: str, memo: Memo) -> Progress: ...
