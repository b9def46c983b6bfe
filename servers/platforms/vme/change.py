"""Acts on an instance that exists: network interfaces, power, deletion."""

from __future__ import annotations

from servers.platforms.base import Nic, PlatformProblem
from servers.platforms.vme import answers, shapes
from servers.platforms.vme.acts import SETTLE, Act, Gone
from servers.platforms.vme.answers import Json, Refused
from servers.platforms.vme.client import Client
from servers.platforms.vme.version import IN_PLACE_NICS, build_version
from servers.progress import Memo, Progress

POWER_WAIT = 600.0  # seconds; HPE's own tools give up after 300
DELETE_WAIT = 900.0


class OnInstance(Act):
    def __init__(self, client: Client, work_key: str, external_id: str) -> None:
        super().__init__(client, work_key)
        self.external_id = external_id

    @property
    def path(self) -> str:
        return f"/api/instances/{self.external_id}"

    def confirm(self) -> None:
        """For an act that needs to know nothing else of the instance: that it is the one we placed."""
        if self.placed:
            self.read(self.external_id)


class Connect(OnInstance):
    """Make the complete list of interfaces what was asked, by one resize; done when it reads so."""

    def __init__(self, client: Client, work_key: str, external_id: str, nics: tuple[Nic, ...]) -> None:
        super().__init__(client, work_key, external_id)
        self.nics = nics

    def look(self, memo: Memo) -> Progress:
        instance, _ = self.read(self.external_id)
        raw = {"raw": instance.status, "target_power": instance.power}
        if instance.status in shapes.APPROVALS:
            return self.running("waiting for approval in VME", reason="A policy of VME wants an approval.", **raw)
        asked = "asked_at" in memo
        if instance.status in shapes.BUSY:
            return self.running("moving the network interface" if asked else "waiting until VME is done", **raw)
        if shapes.same_nics(self.nics, instance.nics):
            seen = [
                {"id": nic.id, "network_id": nic.network_id, "address": nic.address, "mac": nic.mac}
                for nic in instance.nics
            ]
            return self.succeeded(result={"nics": seen, "adopted": not asked}, **raw)
        if not asked:
            return self.waiting_for_effect(memo, "resize", "moving the network interface", **raw)
        if instance.status not in shapes.BROKEN and self.since(memo) < SETTLE:
            return self.running("moving the network interface", **raw)
        why = self.why(self.external_id, instance)
        is_now = ", ".join(f"{nic.network_id} {nic.address}".strip() for nic in instance.nics) or "none"
        problem = PlatformProblem(
            f"{self.client.access.name} took the network change of {instance.name}, but its interfaces are still"
            f" {is_now}" + (f": {why.rstrip('.')}." if why else "."),
            "Mend the cause in VME, then retry.",
            code="connect.failed",
        )
        return self.failed(problem, **raw)

    def do(self, act: str, memo: Memo) -> tuple[Memo, Progress]:
        version = build_version(self.client)
        if answers.version_of(version) < IN_PLACE_NICS:
            raise PlatformProblem(
                f"{self.client.access.name} is version {version or 'unknown'}; interfaces change in place from"
                f" {'.'.join(map(str, IN_PLACE_NICS))} on.",
                "Upgrade the appliance, or move the interface by hand in VME and retry.",
                code="version.old",
            )
        instance, _ = self.read(self.external_id)
        body: Json = {
            # `volumes` is left out: a list that is not complete could drop disks.
            "instance": {
                "id": answers.number(self.external_id),
                "plan": {"id": answers.number(instance.plan_id)},
            },
            "networkInterfaces": shapes.complete_list(self.nics, instance.nics),
        }
        memo, answer = self.send("PUT", f"{self.path}/resize", memo=memo, body=body)
        status = str(answers.obj(answer.get("instance")).get("status") or "")
        return memo, self.running("moving the network interface", raw=status)


class Power(OnInstance):
    """Turn the machine on or off; already so is done."""

    def __init__(self, client: Client, work_key: str, external_id: str, power: str) -> None:
        super().__init__(client, work_key, external_id)
        if power not in ("on", "off"):
            raise ValueError(f"power {power!r}: on or off is expected")
        self.power = power

    def look(self, memo: Memo) -> Progress:
        instance, _ = self.read(self.external_id)
        raw = {"raw": instance.status, "target_power": instance.power}
        phase = "starting" if self.power == "on" else "stopping"
        if instance.status in shapes.BUSY:
            return self.running(phase if "asked_at" in memo else "waiting until VME is done", **raw)
        if instance.power == self.power:
            return self.succeeded(result={"power": self.power, "adopted": "asked_at" not in memo}, **raw)
        if "asked_at" not in memo:
            return self.waiting_for_effect(memo, "start" if self.power == "on" else "stop", phase, **raw)
        if instance.status not in shapes.BROKEN and self.since(memo) < POWER_WAIT:
            return self.running(phase, **raw)
        why = self.why(self.external_id, instance)
        problem = PlatformProblem(
            f"{instance.name} is not {self.power} although {self.client.access.name} was told"
            f" {self.since(memo):.0f} s ago (status {instance.status})" + (f": {why.rstrip('.')}." if why else "."),
            "Look at the machine in VME, then retry.",
            code="power.failed",
        )
        return self.failed(problem, **raw)

    def do(self, act: str, memo: Memo) -> tuple[Memo, Progress]:
        phase = "starting" if self.power == "on" else "stopping"
        try:
            memo, _ = self.send("PUT", f"{self.path}/{act}", memo=memo, params={"server": "true"})
        except Refused as problem:
            if problem.status != 409:
                raise
            # A stop of what is stopped may answer 409; the next look tells whether it is so.
            memo = {**memo, "asked_at": self.client.clock()}
        return memo, self.running(phase)


class Delete(OnInstance):
    """Delete the instance with its disks; done when it is gone."""

    def look(self, memo: Memo) -> Progress:
        try:
            instance, _ = self.read(self.external_id)
        except Gone:
            return self.succeeded(result={"adopted": "asked_at" not in memo}, target_power="off")
        raw = {"raw": instance.status, "target_power": instance.power}
        if "asked_at" not in memo:
            if instance.status == "removing":
                return self.running("deleting", **raw)
            return self.waiting_for_effect(memo, "delete", "deleting", **raw)
        if instance.status != "failed" and self.since(memo) < DELETE_WAIT:
            return self.running("deleting", **raw)
        why = self.why(self.external_id, instance)
        problem = PlatformProblem(
            f"{instance.name} is still there (status {instance.status}) {self.since(memo):.0f} s after"
            f" {self.client.access.name} was told to delete it" + (f": {why.rstrip('.')}." if why else "."),
            "A policy of VME may keep deleted machines for a while; delete it there, then retry.",
            code="delete.failed",
        )
        return self.failed(problem, **raw)

    def do(self, act: str, memo: Memo) -> tuple[Memo, Progress]:
        params = {"force": "off", "preserveVolumes": "off", "removeVolumes": "on"}
        try:
            memo, _ = self.send("DELETE", self.path, memo=memo, params=params)
        except Refused as problem:
            if problem.code != "platform.missing":
                raise
            memo = {**memo, "asked_at": self.client.clock()}
        return memo, self.running("deleting")
