"""HPE VM Essentials as a platform."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

from migrationhub.lib.findings import Finding
from servers.platforms.base import Choice, Instance, InstanceSpec, Nic, Placed, PlatformAccess
from servers.platforms.vme import checks, lookups, shapes
from servers.platforms.vme.acts import Gone
from servers.platforms.vme.change import Connect, Delete, OnInstance, Power
from servers.platforms.vme.client import TIMEOUT, Client
from servers.platforms.vme.create import Create, find_body
from servers.platforms.vme.inside import Execute, Revert, Snapshot
from servers.platforms.vme.version import build_version
from servers.progress import Memo, Progress


class VmePlatform:
    """One appliance. Look-ups raise `PlatformProblem`; `observe_*` and `advance_*` put it into the Progress.

    `observe_*` only reads. A Progress with `observed_at` None means that nothing could be seen just now: the work
    is open, `reason` says what is in the way. A caller that finds a try which was killed in the middle passes the
    memo through `vme.acts.interrupted`, so that the outside is asked before anything is sent again.
    """

    def __init__(
        self,
        access: PlatformAccess,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        timeout: tuple[float, float] = TIMEOUT,
    ) -> None:
        self.client = Client(access, clock=clock, sleep=sleep, timeout=timeout)
        self.placed: Placed | None = None

    def holding(self, placed: Placed) -> VmePlatform:
        """With the same client: its token and its waits are the appliance's, whichever instance is meant."""
        held = copy.copy(self)
        held.placed = placed
        return held

    def _on[Kind: OnInstance](self, act: Kind) -> Kind:
        """The act, told what we placed, if that is what it is for and not an instance that is just being made."""
        if self.placed and self.placed.external_id == act.external_id:
            act.placed = self.placed
        return act

    # -- look-ups -------------------------------------------------------------------------------------------

    def version(self) -> str:
        return build_version(self.client)

    def check(self, spec: InstanceSpec | None, production_network: str = "") -> list[Finding]:
        return checks.check(self.client, spec, production_network)

    def check_name(self, label: str) -> list[Finding]:
        return checks.findings_of([lambda: checks.name_free(self.client, label)])

    def groups(self) -> list[Choice]:
        return lookups.groups(self.client)

    def zones(self, group_id: str) -> list[Choice]:
        return lookups.zones(self.client, group_id)

    def pools(self, zone_id: str, group_id: str, layout_id: str) -> list[Choice]:
        return lookups.pools(self.client, zone_id, group_id, layout_id)

    def layouts(self) -> list[Choice]:
        return lookups.layouts(self.client)

    def plans(self, zone_id: str, layout_id: str, group_id: str, pool_id: str) -> list[Choice]:
        return lookups.plans(self.client, zone_id, layout_id, group_id, pool_id)

    def networks(self, zone_id: str, pool_id: str) -> list[Choice]:
        return lookups.networks(self.client, zone_id, pool_id)

    def images(self) -> list[Choice]:
        return lookups.images(self.client)

    def datastores(self, zone_id: str) -> list[Choice]:
        return lookups.datastores(self.client, zone_id)

    def find(self, label: str) -> Instance | None:
        body = find_body(self.client, label)
        return shapes.instance_from(body) if body is not None else None

    def get(self, external_id: str) -> Instance | None:
        try:
            return self._on(OnInstance(self.client, "", external_id)).read(external_id)[0]
        except Gone:
            return None

    # -- acts -----------------------------------------------------------------------------------------------

    def advance_create(self, work_key: str, spec: InstanceSpec, memo: Memo) -> tuple[Memo, Progress]:
        return Create(self.client, work_key, spec).advance(memo)

    def observe_create(self, work_key: str, spec: InstanceSpec, memo: Memo) -> Progress:
        return Create(self.client, work_key, spec).observe(memo)

    def advance_connect(
        self, work_key: str, external_id: str, nics: tuple[Nic, ...], memo: Memo
    ) -> tuple[Memo, Progress]:
        return self._on(Connect(self.client, work_key, external_id, nics)).advance(memo)

    def observe_connect(self, work_key: str, external_id: str, nics: tuple[Nic, ...], memo: Memo) -> Progress:
        return self._on(Connect(self.client, work_key, external_id, nics)).observe(memo)

    def advance_power(self, work_key: str, external_id: str, power: str, memo: Memo) -> tuple[Memo, Progress]:
        return self._on(Power(self.client, work_key, external_id, power)).advance(memo)

    def observe_power(self, work_key: str, external_id: str, power: str, memo: Memo) -> Progress:
        return self._on(Power(self.client, work_key, external_id, power)).observe(memo)

    def advance_execute(self, work_key: str, external_id: str, script: str, memo: Memo) -> tuple[Memo, Progress]:
        return self._on(Execute(self.client, work_key, external_id, script)).advance(memo)

    def observe_execute(self, work_key: str, external_id: str, script: str, memo: Memo) -> Progress:
        return self._on(Execute(self.client, work_key, external_id, script)).observe(memo)

    def advance_snapshot(self, work_key: str, external_id: str, name: str, memo: Memo) -> tuple[Memo, Progress]:
        return self._on(Snapshot(self.client, work_key, external_id, name)).advance(memo)

    def observe_snapshot(self, work_key: str, external_id: str, name: str, memo: Memo) -> Progress:
        return self._on(Snapshot(self.client, work_key, external_id, name)).observe(memo)

    def advance_revert(self, work_key: str, external_id: str, snapshot_id: str, memo: Memo) -> tuple[Memo, Progress]:
        return self._on(Revert(self.client, work_key, external_id, snapshot_id)).advance(memo)

    def observe_revert(self, work_key: str, external_id: str, snapshot_id: str, memo: Memo) -> Progress:
        return self._on(Revert(self.client, work_key, external_id, snapshot_id)).observe(memo)

    def advance_delete(self, work_key: str, external_id: str, memo: Memo) -> tuple[Memo, Progress]:
        return self._on(Delete(self.client, work_key, external_id)).advance(memo)

    def observe_delete(self, work_key: str, external_id: str, memo: Memo) -> Progress:
        return self._on(Delete(self.client, work_key, external_id)).observe(memo)
