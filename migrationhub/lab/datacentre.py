"""The whole lab: network, name server, sources and the VME stand-in, of one kind of host.

`up` twice is `up` once, `down` leaves nothing but the cache of images, and a crash in between is repaired by either.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from migrationhub.lab.daemon import Daemon, write_json
from migrationhub.lab.hosts import HostBackend, HostSpec, Nic
from migrationhub.lab.kinds import choose
from migrationhub.lab.nameserver import ZONE, Nameserver
from migrationhub.lab.network import SIDES, Network, run
from migrationhub.lab.nspawn import NspawnBackend
from migrationhub.lab.process import ProcessBackend
from migrationhub.lab.process_keeper import PORT
from migrationhub.lab.sources import SOURCES, Source, source_of
from migrationhub.lab.state import REPOSITORY, Lab, LabProblem

Say = Callable[[str], None]
NETWORK_NAMES = {"production": "Production VLAN 20", "migration": "Migration VLAN 66"}


def silent(text: str) -> None:
    """For callers that want no progress."""


class Datacentre:
    """One lab as a whole. `kind` is known from the first `up` on."""

    def __init__(self, lab: Lab | None = None, say: Say = silent) -> None:
        self.lab = lab or Lab()
        self.say = say
        self.notes = self.lab.dir / "datacentre.json"

    # -- up and down ----------------------------------------------------------------------------------------

    def up(
        self,
        kind: str = "auto",
        *,
        sources: Iterable[str] | None = None,
        options: Mapping[str, Mapping[str, str]] | None = None,
    ) -> dict[str, Any]:
        """Bring everything up and wait until the sources answer; returns `describe()`.

        kind: auto | nspawn | process. sources: names, all by default. options: per source, what replaces its own
        options (`files` count, `rate` of its line, `scale` of pgbench).
        """
        with self.lab.lock():
            found = self._kind(kind)
            backend = self._backend(found["kind"])
            if found["kind"] == "nspawn":
                Network(self.lab).up()
            server = Nameserver(self.lab, found["kind"])
            server.up()
            self.say(f"name server for {ZONE} at {server.address('production')}")
            wanted = [source_of(name) for name in sources] if sources is not None else list(SOURCES)
            for source in wanted:
                self._source(source, backend, server, (options or {}).get(source.name, {}))
            self._restart_others(backend)
            self._platform(found["kind"])
            self._wait_for(wanted, backend)
        return self.describe()

    def down(self) -> None:
        """End and remove everything of this lab but the cache of images."""
        with self.lab.lock():
            self._vme().stop()
            if os.geteuid() == 0:
                NspawnBackend(self.lab).down()
            for kind in ("nspawn", "process"):
                Nameserver(self.lab, kind).down()
            process = ProcessBackend(self.lab)
            if process.hosts.exists() or process.control.exists():
                process.down()
            if os.geteuid() == 0:
                Network(self.lab).down()
            self.lab.remove()

    def _kind(self, asked: str) -> dict[str, Any]:
        """The kind of host, chosen once and kept until `down`."""
        kept = self._kept()
        if kept:
            if asked not in ("auto", kept["kind"]):
                raise LabProblem(
                    f"The lab “{self.lab.name}” is up with {kept['kind']} hosts.",
                    "Run `manage.py lab down` first, or use another name in MIGRATIONHUB_LAB.",
                    code="lab.kind",
                )
            return kept
        kind, why = choose(self.lab, asked)
        self.say(f"{kind} hosts: {why}")
        self.lab.dir.mkdir(parents=True, exist_ok=True)
        write_json(self.notes, {"kind": kind, "why": why})
        return self._kept()

    def _kept(self) -> dict[str, Any]:
        try:
            kept: dict[str, Any] = json.loads(self.notes.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return kept

    def kind(self) -> str:
        """nspawn | process; "" before the first `up`."""
        return str(self._kept().get("kind", ""))

    def backend(self) -> HostBackend:
        """The backend of the lab's hosts; the lab must be up."""
        if not self.kind():
            raise LabProblem(f"The lab “{self.lab.name}” is not up.", "Run `manage.py lab up`.", code="lab.down")
        return self._backend(self.kind())

    def _backend(self, kind: str) -> HostBackend:
        return NspawnBackend(self.lab) if kind == "nspawn" else ProcessBackend(self.lab)

    # -- sources --------------------------------------------------------------------------------------------

    def _source(self, source: Source, backend: HostBackend, server: Nameserver, options: Mapping[str, str]) -> None:
        kept = self._kept()
        if source.name in kept.get("made", []):
            return  # on, or switched off by whoever moved it
        self.say(f"making {source.name} at {source.address(self.lab, backend.kind)}")
        chosen = dict(source.options if backend.kind == "nspawn" else source.process_options) | dict(options)
        chosen["authorized_key"] = self.key().with_suffix(".pub").read_text().strip()
        nic = Nic("production", f"{source.address(self.lab, backend.kind)}/24")
        # The record comes before the host: a host that is there has its record, whatever is cut in between.
        server.enter(source.record, source.address(self.lab, backend.kind), "production")
        backend.create(HostSpec(source.name, source.name, (nic,), "", chosen))
        backend.start(source.name)
        write_json(self.notes, kept | {"made": [*kept.get("made", []), source.name]})

    def _restart_others(self, backend: HostBackend) -> None:
        """What runs no more although nobody switched it off: this machine was restarted, or a keeper was killed."""
        if isinstance(backend, NspawnBackend):
            for name in filter(backend.should_run, backend.names()):
                self.say(f"starting {name} again")
                backend.start(name)
            return
        # A process host is off after a restart of the machine, or because it was switched off: told by the boot.
        booted = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        kept = self._kept()
        if kept.get("booted", booted) != booted:
            for name in kept.get("running", []):
                backend.start(name)
        running = [name for name in backend.names() if backend.power(name) == "on"]
        write_json(self.notes, kept | {"booted": booted, "running": running})

    def _wait_for(self, sources: Iterable[Source], backend: HostBackend, timeout: float = 300.0) -> None:
        """Until sshd of every source that is on listens; all its host keys are made then."""
        deadline = time.monotonic() + timeout
        port = _ssh_port(backend)
        for source in sources:
            while backend.power(source.name) == "on" and not _listens(port, source.address(self.lab, backend.kind)):
                if time.monotonic() > deadline:
                    raise LabProblem(
                        f"“{source.name}” did not come up:\n{backend.console(source.name, 8)}",
                        "Run `manage.py lab down`, then `manage.py lab up`.",
                        code="lab.start",
                    )
                time.sleep(0.2)

    def _host_keys(self, name: str, backend: HostBackend) -> list[str]:
        files = sorted((backend.root(name) / "etc/ssh").glob("ssh_host_*_key.pub"))
        return [" ".join(file.read_text().split()[:2]) for file in files]

    def key(self) -> Path:
        """The private key that opens all sources: what a person enters in the product. Made at the first use."""
        path = self.lab.dir / "ssh" / "id_ed25519"
        if not path.with_suffix(".pub").exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.unlink(missing_ok=True)
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"lab {self.lab.name}", "-f", str(path)])
        return path

    # -- platform -------------------------------------------------------------------------------------------

    def _vme(self) -> Daemon:
        group = f"migrationhub-lab/{self.lab.tag}/.vme" if os.geteuid() == 0 else ""
        return Daemon(self.lab.dir / "vme", "stand-in", group)

    def _platform(self, kind: str) -> None:
        daemon = self._vme()
        if daemon.pid():
            return
        argv = [sys.executable, "-m", "migrationhub.lab.vme", "--lab", self.lab.name, "--kind", kind]
        argv += ["--port", str(self.lab.vme_port)]
        environment = {"PYTHONPATH": str(REPOSITORY), "MIGRATIONHUB_VAR": str(self.lab.var)}
        daemon.start(argv, environment | {"MIGRATIONHUB_LAB": self.lab.name})
        deadline = time.monotonic() + 30
        # Its own last file; it listens right after.
        while not ((self.lab.dir / "vme/ca.pem").exists() and _listens(self.lab.vme_port)):
            if not daemon.pid() or time.monotonic() > deadline:
                raise LabProblem(
                    f"The VME stand-in did not start:\n{daemon.last_words()}",
                    "Run `manage.py lab down`, then `manage.py lab up`.",
                    code="lab.vme",
                )
            time.sleep(0.1)
        self.say(f"VME stand-in at https://127.0.0.1:{self.lab.vme_port}")

    # -- what is there --------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """What runs, asked of the processes: lab, kind, why, hosts {name: on|off}, network, dns, vme."""
        kept = self._kept()
        if not kept:
            return {"lab": self.lab.name, "kind": "", "hosts": {}}
        backend = self._backend(kept["kind"])
        return {
            "lab": self.lab.name,
            "kind": kept["kind"],
            "why": kept["why"],
            "hosts": {name: backend.power(name) for name in backend.names()},
            "network": Network(self.lab).is_up() if kept["kind"] == "nspawn" else None,
            "dns": Nameserver(self.lab, kept["kind"]).daemon.pid() is not None,
            "vme": self._vme().pid() is not None,
        }

    def describe(self) -> dict[str, Any]:
        """All that a person would be told who moves these servers. Holds secrets: not for logs."""
        backend = self.backend()
        kind = backend.kind
        server = Nameserver(self.lab, kind)
        account = json.loads((self.lab.dir / "vme" / "account.json").read_text())
        names = set(backend.names())
        return {
            "lab": self.lab.name,
            "kind": kind,
            "why": self._kept()["why"],
            "sources": [self._describe(source, backend) for source in SOURCES if source.name in names],
            "ssh_key": str(self.key()),
            "platform": {
                "url": f"https://127.0.0.1:{self.lab.vme_port}",
                "ca_bundle": str(self.lab.dir / "vme" / "ca.pem"),
                **account,
            },
            "dns": {
                "zone": ZONE,
                "server": server.address("production"),
                "port": server.port,
                "key": asdict(server.key()),
            },
            "networks": {side: self._describe_network(side, server) for side in SIDES},
        }

    def _describe(self, source: Source, backend: HostBackend) -> dict[str, Any]:
        process = isinstance(backend, ProcessBackend)
        return {
            "name": source.name,
            "address": source.address(self.lab, backend.kind),
            "new_address": source.new_address(self.lab, backend.kind),
            "record": f"{source.record}.{ZONE}",
            "port": _ssh_port(backend),
            "username": backend.account.name if isinstance(backend, ProcessBackend) else "root",
            "manager": "supervisord" if process else "systemd",
            "directory": str(backend.root(source.name)) if process else "/",
            "host_keys": self._host_keys(source.name, backend),
            "image": "Debian 12" if process else source.clone_image,
            "services": list(source.services),
            "wave": source.wave,
        }

    def _describe_network(self, side: str, server: Nameserver) -> dict[str, Any]:
        return {
            "name": NETWORK_NAMES[side],
            "subnet": str(self.lab.subnet(side, server.kind)),
            "gateway": Network(self.lab).gateway(side) if server.kind == "nspawn" else "",
            "resolver": server.address(side),
            "resolver_port": server.port,
        }


def _ssh_port(backend: HostBackend) -> int:
    return PORT if isinstance(backend, ProcessBackend) else 22


def _listens(port: int, address: str = "127.0.0.1") -> bool:
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True


def register_clone(name: str, address: str, lab: Lab | None = None) -> None:
    """Enter a clone's transient address in the migration view, under the record that its source has in production.

    `name` is the instance's: a source's own, or one that begins with it and a hyphen; any other name is its record.
    """
    lab = lab or Lab()
    known = sorted((s for s in SOURCES if name == s.name or name.startswith(f"{s.name}-")), key=lambda s: -len(s.name))
    record = known[0].record if known else name
    Nameserver(lab, Datacentre(lab).kind() or "nspawn").enter(record, address, "migration")
