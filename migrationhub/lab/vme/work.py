"""What the appliance does after it said yes: acts that take time, go on after a restart and may fail."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
import traceback
import uuid
from collections.abc import Callable
from typing import Any

from migrationhub.lab.hosts import HostBackend, HostSpec, Nic
from migrationhub.lab.vme.catalog import Catalog
from migrationhub.lab.vme.faults import Faults
from migrationhub.lab.vme.instances import Instances
from migrationhub.lab.vme.settings import Settings
from migrationhub.lab.vme.store import Store

Json = dict[str, Any]
OnAddress = Callable[[str, str], None]
HOOK_SECONDS = 900


class Stopped(Exception):
    """The stand-in is being stopped: the act goes on at its next start."""


class ActFailed(Exception):
    """The act ends in failure with this reason."""


class Work:
    """Pending acts, one thread each; one at a time per instance."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        catalog: Catalog,
        instances: Instances,
        backend: HostBackend,
        faults: Faults,
        on_address: OnAddress,
    ) -> None:
        self.settings, self.store, self.catalog = settings, store, catalog
        self.instances, self.backend, self.faults, self.on_address = instances, backend, faults, on_address
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._acts: dict[str, Callable[[Json, Json], None]] = {
            "create": self._create,
            "start": self._start,
            "stop": self._shut,
            "restart": self._restart,
            "resize": self._resize,
            "snapshot": self._snapshot,
            "revert": self._revert,
            "delete": self._delete,
            "execute": self._execute,
        }

    def begin(self, act: str, record: Json, **parameters: Any) -> Json:
        """Note an act as pending and start on it; the process that people see. Call with the store's lock."""
        process = {
            "id": self.store.next_id("process", self.catalog.number_of("first process"), 7),
            "unique_id": str(uuid.uuid4()),
            "act": act,
            "name": record["name"],
            "instance_id": record["id"],
            "status": "running",
            "error": "",
            "start": time.time(),
            "end": None,
        }
        self.store.state["processes"].append(process)
        pending = {"act": act, "instance_id": record["id"], "process_id": process["id"], **parameters}
        self.store.state["pending"][str(process["id"])] = pending
        self.store.save()
        self._run(str(process["id"]))
        return process

    def resume(self) -> None:
        """Go on with what a stop or crash interrupted."""
        with self.store.lock:
            for key in list(self.store.state["pending"]):
                self._run(key)

    def stop(self) -> None:
        """Stop without finishing: pending acts stay noted."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=30)

    def _run(self, key: str) -> None:
        thread = threading.Thread(target=self._work, args=(key,), daemon=True, name=f"act-{key}")
        self._threads = [one for one in self._threads if one.is_alive()] + [thread]
        thread.start()

    def _work(self, key: str) -> None:
        with self.store.lock:
            pending = self.store.state["pending"].get(key)
            record = self.store.state["instances"].get(str(pending["instance_id"])) if pending else None
        if pending is None or record is None:
            return
        error = ""
        try:
            with self.instances.turn(record["id"]):
                if fault := self.faults.act(pending["act"]):
                    self._wait(pending)
                    raise ActFailed(fault.get("message", "The hypervisor reported an error"))
                self._acts[pending["act"]](record, pending)
        except Stopped:
            return
        except ActFailed as failure:
            error = str(failure)
        except Exception as failure:  # noqa: BLE001  a host that fails is the instance's failure, not ours
            traceback.print_exc()
            error = f"{type(failure).__name__}: {failure}"
        self._end(key, pending, record, error)

    def _end(self, key: str, pending: Json, record: Json, error: str) -> None:
        with self.store.lock:
            process = next(one for one in self.store.state["processes"] if one["id"] == pending["process_id"])
            process |= {"status": "failed" if error else "complete", "error": error, "end": time.time()}
            self.store.state["pending"].pop(key, None)
            if pending["act"] != "execute":
                others = self.store.state["pending"].values()
                record["busy"] = any(one["instance_id"] == record["id"] and one["act"] != "execute" for one in others)
                record |= {"changed_at": time.time(), "message": error}
            if error:
                self._failed(pending, record)
            self.store.save()
        self.store.journal.write(
            kind="end", act=pending["act"], instance=record["id"], name=record["name"], ok=not error, error=error
        )

    def _failed(self, pending: Json, record: Json) -> None:
        act = pending["act"]
        if act in ("create", "delete"):
            record["status"] = "failed"
        elif act == "snapshot":
            self.store.state["snapshots"][str(pending["snapshot_id"])]["status"] = "failed"
        elif act != "execute":
            record["status"] = "running" if record["power"] == "on" else "stopped"

    def _wait(self, pending: Json, share: float = 1.0) -> None:
        """What the appliance itself needs, counted from when it was asked: a restart does not begin anew."""
        process = next(one for one in self.store.state["processes"] if one["id"] == pending["process_id"])
        left = process["start"] + share * self.settings.duration - time.time()
        if self._stop.wait(max(0.0, left)):
            raise Stopped

    def _settle(self, record: Json, power: str) -> None:
        with self.store.lock:
            if power == "on" and record["power"] != "on":
                record["address_known_at"] = time.time() + self.settings.duration / 2
            record |= {"power": power, "status": "running" if power == "on" else "stopped"}
            self.store.save()

    # -- acts: all may run again after a crash in the middle ---------------------------------------------------

    def _create(self, record: Json, pending: Json) -> None:
        spec = HostSpec(record["host"], record["image"], self.nics(record), record["user_data"])
        self.backend.create(spec)
        self._hand_out(record)
        self._wait(pending, 0.5)
        if not record["start"]:
            self._wait(pending)
            self._settle(record, "off")
            return
        self.backend.start(record["host"])
        self._wait(pending)
        self._settle(record, "on")

    def _start(self, record: Json, pending: Json) -> None:
        self.backend.start(record["host"])
        self._wait(pending)
        self._settle(record, "on")

    def _shut(self, record: Json, pending: Json) -> None:
        self.backend.stop(record["host"])
        self._wait(pending)
        self._settle(record, "off")

    def _restart(self, record: Json, pending: Json) -> None:
        self.backend.stop(record["host"])
        self._wait(pending, 0.5)
        self.backend.start(record["host"])
        self._wait(pending)
        self._settle(record, "on")

    def _resize(self, record: Json, pending: Json) -> None:
        """The list of interfaces; a running machine is restarted for it. The guest's files are not touched."""
        was_on = pending["was_on"]
        if was_on:
            self.backend.stop(record["host"])
        self._hook("before-resize", record)
        self._wait(pending, 0.5)
        with self.store.lock:
            self.instances.release(record, keep=pending["nics"])
            record["nics"] = pending["nics"]
            self.store.save()
        self.backend.attach(record["host"], self.nics(record))
        self._hand_out(record)
        if was_on:
            self.backend.start(record["host"])
        self._wait(pending)
        self._settle(record, "on" if was_on else "off")

    def _hook(self, name: str, record: Json) -> None:
        """Run `hooks/<name> INSTANCE HOST` of the stand-in's directory, if it is there, while the machine is off.

        For the lab's own looks from outside. How it ended is in the journal; the act goes on whatever it says.
        """
        program = self.settings.directory / "hooks" / name
        if not os.access(program, os.X_OK):
            return
        try:
            done = subprocess.run(
                [program, record["name"], record["host"]],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=HOOK_SECONDS,
                check=False,
            )
            status, said = done.returncode, done.stderr.decode(errors="backslashreplace")[-1000:]
        except (OSError, subprocess.TimeoutExpired) as error:
            status, said = -1, str(error)
        self.store.journal.write(
            kind="hook", hook=name, instance=record["id"], name=record["name"], status=status, said=said
        )

    def _snapshot(self, record: Json, pending: Json) -> None:
        self.backend.snapshot(record["host"], f"snapshot-{pending['snapshot_id']}")
        self._wait(pending)
        with self.store.lock:
            for one in self.store.state["snapshots"].values():
                one["active"] = one["active"] and one["instance_id"] != record["id"]
            self.store.state["snapshots"][str(pending["snapshot_id"])] |= {"status": "complete", "active": True}
            self.store.save()

    def _revert(self, record: Json, pending: Json) -> None:
        if pending["was_on"]:
            self.backend.stop(record["host"], hard=True)
        self.backend.revert(record["host"], f"snapshot-{pending['snapshot_id']}")
        self._wait(pending, 0.5)
        if pending["was_on"]:
            self.backend.start(record["host"])
        self._wait(pending)
        self._settle(record, "on" if pending["was_on"] else "off")

    def _delete(self, record: Json, pending: Json) -> None:
        with contextlib.suppress(Exception):
            self.backend.stop(record["host"], hard=True)
        self._wait(pending)
        self.backend.delete(record["host"])
        with self.store.lock:
            self.instances.release(record)
            self.store.state["instances"].pop(str(record["id"]), None)
            snapshots = self.store.state["snapshots"]
            for key in [key for key, one in snapshots.items() if one["instance_id"] == record["id"]]:
                del snapshots[key]
            self.store.save()

    def _execute(self, record: Json, pending: Json) -> None:
        request = self.store.state["requests"][pending["unique_id"]]
        if request["status"] == "running":  # begun before a restart of ours: nobody saw how it ended
            with self.store.lock:
                request |= {"status": "failed", "message": "The appliance restarted while the script ran"}
            raise ActFailed("The appliance restarted while the script ran")
        with self.store.lock:
            request["status"] = "running"
            self.store.save()
        if self.backend.power(record["host"]) != "on":
            request |= {"status": "failed", "message": "The machine is not running"}
            raise ActFailed("The machine is not running")
        try:
            done = self.backend.execute(record["host"], pending["script"])
        except Exception as failure:
            request |= {"status": "failed", "message": f"{failure}"[:300]}
            raise ActFailed(f"{failure}"[:300]) from failure
        self._wait(pending, 0.3)
        with self.store.lock:
            request |= {"status": "complete", "rc": done.rc, "out": done.out, "err": done.err}
            self.store.save()

    def _hand_out(self, record: Json) -> None:
        """Tell the lab's DNS of transient addresses. A machine boots without DNS as well, so a failure is noted."""
        for nic in record["nics"]:
            if nic["ip_mode"] != "dhcp" or not nic["address"]:
                continue
            error = ""
            try:
                self.on_address(record["name"], nic["address"])
            except Exception as failure:  # noqa: BLE001
                traceback.print_exc()
                error = f"{type(failure).__name__}: {failure}"
            self.store.journal.write(
                kind="address", instance=record["id"], name=record["name"], address=nic["address"], error=error
            )

    def nics(self, record: Json) -> tuple[Nic, ...]:
        """The interfaces as the lab's hosts take them."""
        found = []
        for nic in record["nics"]:
            net = self.catalog.networks[nic["network"]]
            prefix = net.cidr.split("/")[1]
            found.append(Nic(net.side, f"{nic['address']}/{prefix}" if nic["address"] else ""))
        return tuple(found)
