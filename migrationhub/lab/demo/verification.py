"""What the lab itself compares, from both roots, while source and target are off for the network move.

Run by the stand-in's hook as `python -m migrationhub.lab.demo.verification LAB VAR OUTPUT INSTANCE HOST`. It knows
nothing of the product's rows or of the mover's lists: what is left out is named here again, from the outside.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from migrationhub.lab.daemon import write_json
from migrationhub.lab.datacentre import Datacentre
from migrationhub.lab.sources import SOURCES
from migrationhub.lab.state import REPOSITORY, Lab
from migrationhub.lab.verify import compare_orders, compare_trees

Result = dict[str, Any]  # ok: True | False | None (not applicable), said, and what was counted

# Whole systems: what belongs to the machine and not to its data, and what a running base writes by itself.
LEFT_OUT = {
    "the machine's kernel interfaces and what lives until the next boot": ("dev", "proc", "run", "sys", "tmp"),
    "kernel and boot loader": ("boot", "lib/modules", "usr/lib/modules", "usr/lib/firmware"),
    "disks of the machine": ("etc/fstab", "etc/mtab"),
    "network of the machine": ("etc/network", "etc/systemd/network", "etc/resolv.conf"),
    "identity of the machine": (
        *("etc/machine-id", "var/lib/dbus/machine-id", "etc/hostname", "etc/ssh/ssh_host_*"),
        "var/lib/systemd/random-seed",
    ),
    "made for the machine by its platform": ("var/lib/cloud", "var/log/cloud-init-output.log"),
    "the hub's own access and state": (
        *("etc/migrationhub", "var/lib/migrationhub", "etc/systemd/system/migrationhub-access.service"),
        "etc/systemd/system/*.wants/migrationhub-access.service",
        "etc/pam.d/migrationhub*",
    ),
    "written by the base of a host whose services are stopped": (
        *("var/log/journal", "var/log/wtmp", "var/log/btmp", "var/log/lastlog", "var/log/auth.log"),
        *("var/lib/systemd/timers", "var/lib/systemd/catalog"),
    ),
    # Private directories of services come and go there at each start and stop, the last one after the copy.
    "temporary files": ("var/tmp",),
    # Put on the source after the last copy, so that a source switched on by mistake starts no second writer.
    "the lasting block of the source's services": ("etc/systemd/system.control",),
}
# The lasting block of process hosts; everything else below PROCESS_PATHS is data.
PROCESS_LEFT_OUT = ("etc/supervisor.d/zz-migrationhub-blocked.ini",)
DATA = ("srv", "home", "opt", "root", "usr/local", "var/lib/postgresql", "var/www", "etc/postgresql", "etc/nginx")
PROCESS_PATHS = ("srv", "opt", "etc/supervisor.d")
CLUSTERS = {"nspawn": "var/lib/postgresql/15/main", "process": "srv/postgresql"}


def hook(lab: Lab, output: Path) -> str:
    """The text of the stand-in's hook `before-resize`."""
    argv = [sys.executable, "-m", "migrationhub.lab.demo.verification", lab.name, str(lab.var), str(output)]
    return f'#!/bin/sh\ncd {shlex.quote(str(REPOSITORY))} && exec {shlex.join(argv)} "$1" "$2"\n'


def install(lab: Lab, output: Path) -> None:
    """Have the stand-in run the comparison before each move of an interface."""
    program = lab.dir / "vme" / "hooks" / "before-resize"
    program.parent.mkdir(parents=True, exist_ok=True)
    output.mkdir(parents=True, exist_ok=True)
    program.write_text(hook(lab, output))
    program.chmod(0o755)


def compare(lab: Lab, instance: str, host: str) -> Result:
    """Compare the source of an instance with the host behind it. Both must be off."""
    centre = Datacentre(lab)
    backend = centre.backend()
    source = source_name(instance)
    power = {"source": backend.power(source), "target": backend.power(host)}
    checks: dict[str, Result] = {
        "both_off": {
            "ok": set(power.values()) == {"off"},
            "said": f"source {power['source']}, target {power['target']} while they were compared",
        }
    }
    began = time.monotonic()
    roots = backend.root(source), backend.root(host)
    if backend.kind == "process":
        checks["files_equal"] = _told(lambda: compare_trees(*roots, PROCESS_PATHS, PROCESS_LEFT_OUT))
    else:
        everything = [path for paths in LEFT_OUT.values() for path in paths]
        checks["files_equal"] = _told(lambda: compare_trees(*roots, _there(roots[0], DATA)))
        checks["system_equal"] = _told(lambda: compare_trees(*roots, (".",), everything))
    if source == "shop-db":
        checks["orders_equal"] = _told(lambda: compare_orders(*roots, CLUSTERS[backend.kind]))
    return {
        "instance": instance,
        "host": host,
        "at": datetime.now(UTC).isoformat(),
        "seconds": round(time.monotonic() - began, 1),
        "checks": checks,
    }


def source_name(instance: str) -> str:
    """The source that an instance was made for: its name, or one that begins with it and a hyphen."""
    names = sorted((one.name for one in SOURCES), key=len, reverse=True)
    return next((name for name in names if instance == name or instance.startswith(f"{name}-")), instance)


def _there(root: Path, paths: tuple[str, ...]) -> list[str]:
    return [path for path in paths if (root / path).exists()]


def _told(compare: Callable[[], Any]) -> Result:
    began = time.monotonic()
    try:
        verdict = compare()
    except Exception as error:  # noqa: BLE001  a look that failed is a check that did not hold
        return {"ok": False, "said": f"{type(error).__name__}: {error}"}
    told = {"ok": verdict.ok, "said": str(verdict), "seconds": round(time.monotonic() - began, 1)}
    return told if verdict.ok else {**told, "details": verdict.as_dict()}


def read(output: Path) -> dict[str, Result]:
    """By source: what was compared."""
    found = {}
    for path in output.glob("*.json"):
        told = json.loads(path.read_text())
        found[source_name(told["instance"])] = told
    return found


def main(arguments: list[str]) -> int:
    name, var, output, instance, host = arguments
    told = compare(Lab(name, Path(var)), instance, host)
    write_json(Path(output) / f"{instance}.json", told)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
