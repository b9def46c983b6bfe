"""`python -m migrationhub.lab.vme --lab NAME --kind nspawn|process [--port N]`: serve until SIGTERM."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import threading

from migrationhub.lab.hosts import HostBackend
from migrationhub.lab.state import Lab
from migrationhub.lab.vme.appliance import Appliance
from migrationhub.lab.vme.server import Server
from migrationhub.lab.vme.settings import Settings
from migrationhub.lab.vme.work import OnAddress

BACKENDS = {
    "nspawn": ("migrationhub.lab.nspawn", "NspawnBackend"),
    "process": ("migrationhub.lab.process", "ProcessBackend"),
}


def backend_of(kind: str, lab: Lab) -> HostBackend:
    module, name = BACKENDS[kind]
    backend: HostBackend = getattr(importlib.import_module(module), name)(lab)
    return backend


def settings_of(lab: Lab, kind: str, **more: object) -> Settings:
    return Settings(
        name=lab.name,
        directory=lab.dir / "vme",
        kind=kind,
        production=str(lab.subnet("production", kind)),
        migration=str(lab.subnet("migration", kind)),
        **more,  # type: ignore[arg-type]
    )


def registrar(lab: Lab) -> OnAddress:
    """Enter a clone's transient address into the lab's migration view, where a whole lab with a name server runs."""

    def enter(name: str, address: str) -> None:
        # Imported late: the data centre knows the stand-in, and single hosts of tests need neither.
        datacentre = importlib.import_module("migrationhub.lab.datacentre")
        if datacentre.Datacentre(lab).kind():
            datacentre.register_clone(name, address, lab)

    return enter


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m migrationhub.lab.vme", description=__doc__)
    parser.add_argument("--lab", required=True, help="name of the lab")
    parser.add_argument("--kind", choices=sorted(BACKENDS), required=True, help="what its instances are")
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; the lab's own by default")
    parser.add_argument("--duration", type=float, default=3.0, help="seconds that each act takes")
    parser.add_argument("--token-seconds", type=float, default=43200.0, help="validity of an access token")
    parser.add_argument("--version", default=Settings.version, help="build version that it tells")
    options = parser.parse_args(argv)
    os.environ["MIGRATIONHUB_LAB"] = options.lab  # what is imported later means the same lab
    lab = Lab(options.lab)
    settings = settings_of(
        lab,
        options.kind,
        duration=options.duration,
        token_seconds=options.token_seconds,
        version=options.version,
    )
    appliance = Appliance(settings, backend_of(options.kind, lab), registrar(lab))
    server = Server(appliance, options.port or lab.vme_port)
    for number in (signal.SIGTERM, signal.SIGINT):
        # `stop` waits for the serving loop, which this very thread runs.
        signal.signal(number, lambda *_: threading.Thread(target=server.stop).start())
    print(f"VME stand-in of lab {lab.name} at {server.url}", flush=True)
    server.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
