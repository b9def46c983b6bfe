"""Where a lab is on this machine: its name, directory, number, address ranges and lock.

Several labs may run on one machine. What lies outside a lab's own directory carries its name or number.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import ipaddress
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from migrationhub.lib.findings import Problem

REPOSITORY = Path(__file__).resolve().parent.parent.parent
INDEXES = range(64)
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")
# The third octet of both kinds' ranges.
NETWORKS = {"hub": 0, "production": 1, "migration": 2}
FIRST_OCTET = {"nspawn": 10, "process": 127}


class LabProblem(Problem):
    """The lab cannot do what was asked of it."""


class Lab:
    """One lab. Making the object changes nothing; the first use of `index` allots its number."""

    def __init__(self, name: str | None = None, var: Path | None = None) -> None:
        self.name = name or os.environ.get("MIGRATIONHUB_LAB") or "default"
        if not NAME.fullmatch(self.name):
            raise LabProblem(
                f"“{self.name}” is no name for a lab.",
                "Use 1 to 31 small letters, digits and hyphens in MIGRATIONHUB_LAB.",
                code="lab.name",
            )
        self.var = (var or Path(os.environ.get("MIGRATIONHUB_VAR") or REPOSITORY / "var")).resolve()
        self.dir = self.var / "lab" / self.name
        # Two checkouts may each have a lab of the same name: this word tells them apart, also after a reboot.
        self.unique_name = f"{self.name}-{hashlib.sha256(os.fsencode(self.dir)).hexdigest()[:8]}"

    def __repr__(self) -> str:
        return f"Lab({self.name!r}, {str(self.var)!r})"

    @property
    def cache(self) -> Path:
        """Images: one place for all labs of this machine, the only thing that `down` leaves behind."""
        if os.geteuid() == 0:
            return Path("/var/cache/migrationhub-lab")
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "migrationhub-lab"

    # -- number ---------------------------------------------------------------------------------------------

    @cached_property
    def index(self) -> int:
        """0..63, allotted once on this machine and kept until `remove`; the same after a reboot if free."""
        with machine_lock():
            kept = self.dir / "index"
            for number in _order(self._allotted(), _number(kept)):
                if _allot(number, self):
                    self.dir.mkdir(parents=True, exist_ok=True)
                    kept.write_text(f"{number}\n")
                    return number
        raise LabProblem(
            f"All {len(INDEXES)} lab numbers of this machine are taken (files in {_registry()}).",
            "End a lab with `manage.py lab down` first.",
            code="lab.full",
        )

    def _allotted(self) -> int | None:
        for path in _registry().glob("[0-9]*"):
            if _entry(path).get("dir") == str(self.dir):
                return int(path.name)
        return None

    @property
    def tag(self) -> str:
        """Short and unique among the labs that run: for interfaces (15 characters at most) and namespaces."""
        return f"mh{self.index}"

    @property
    def vme_port(self) -> int:
        """Loopback port of the VME stand-in."""
        return 18400 + self.index

    def subnet(self, network: str, kind: str = "nspawn") -> ipaddress.IPv4Network:
        """The /24 of “hub”, “production” or “migration” for hosts of a kind (“nspawn” or “process”)."""
        return ipaddress.IPv4Network((f"{FIRST_OCTET[kind]}.{100 + self.index}.{NETWORKS[network]}.0", 24), strict=True)

    def address(self, network: str, host: int, kind: str = "nspawn", *, prefix: bool = False) -> str:
        """Address number `host` (1..254) of a network, with "/24" if asked."""
        subnet = self.subnet(network, kind)
        if not 0 < host < 255:
            raise LabProblem(f"{host} is no host number in {subnet}.", "Use 1 to 254.", code="lab.address")
        return f"{subnet[host]}/{subnet.prefixlen}" if prefix else str(subnet[host])

    def resolver(self, network: str, kind: str = "nspawn") -> tuple[str, int]:
        """Address and port of the name server of “production” or “migration”.

        Process hosts share the machine, where port 53 of loopback may be taken and takes root.
        """
        return self.address(network, 2, kind), 53 if kind == "nspawn" else 5353

    # -- lock and end ---------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def lock(self, timeout: float = 600.0) -> Iterator[None]:
        """Only one `lab up` or `lab down` of this lab at a time. Waits up to `timeout` seconds.

        The file goes away when the one who holds the lock is done, so it is checked that the file that was
        locked is still the one with that name.
        """
        path = _registry() / f"{self.unique_name}.lock"
        deadline = time.monotonic() + timeout
        while True:
            with machine_lock():
                handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _same_file(handle, path):
                    break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(handle)
                    raise LabProblem(
                        f"Another command holds the lab “{self.name}” ({path}).",
                        "Wait until it is done, then try again.",
                        code="lab.busy",
                        lasting=False,
                    ) from None
                time.sleep(0.1)
            os.close(handle)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            os.close(handle)

    def remove(self) -> None:
        """Remove the lab's directory and give its number back: the last act of `down`, after its hosts."""
        with machine_lock():
            while (number := self._allotted()) is not None:
                (_registry() / str(number)).unlink(missing_ok=True)
            shutil.rmtree(self.dir, ignore_errors=True)
        self.__dict__.pop("index", None)
        with contextlib.suppress(OSError):  # the directory of the last lab goes too
            self.dir.parent.rmdir()


def known_labs() -> list[Lab]:
    """Every lab that has a number on this machine."""
    labs = []
    for path in sorted(_registry().glob("[0-9]*")):
        if entry := _entry(path):
            labs.append(Lab(entry["name"], Path(entry["dir"]).parent.parent))
    return labs


def _registry() -> Path:
    if os.geteuid() == 0:
        return Path("/run/lock/migrationhub-lab")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime) / "migrationhub-lab" if runtime else Path(f"/tmp/migrationhub-lab-{os.geteuid()}")


def _order(*first: int | None) -> list[int]:
    # Root counts up and others count down, as they do not see each other's numbers.
    order = list(INDEXES) if os.geteuid() == 0 else list(reversed(INDEXES))
    return list(dict.fromkeys([*(number for number in first if number is not None), *order]))


def _number(path: Path) -> int | None:
    try:
        number = int(path.read_text())
    except (OSError, ValueError):
        return None
    return number if number in INDEXES else None


def _allot(number: int, lab: Lab) -> bool:
    path = _registry() / str(number)
    entry = _entry(path)
    if entry.get("dir") == str(lab.dir):
        return True
    if path.exists() and (not entry or not Path(entry["dir"]).is_dir()):
        path.unlink(missing_ok=True)  # its lab was deleted by hand, or its writer died in between
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        return False
    # The directory exists before the entry can be read by others: an entry without one counts as stale.
    lab.dir.mkdir(parents=True, exist_ok=True)
    with os.fdopen(handle, "w") as file:
        json.dump({"name": lab.name, "dir": str(lab.dir)}, file)
    return True


def _entry(path: Path) -> dict[str, Any]:
    if not path.name.isdigit():  # a lock of a lab whose name starts with a digit
        return {}
    try:
        entry = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return entry if isinstance(entry, dict) and {"name", "dir"} <= entry.keys() else {}


@contextlib.contextmanager
def machine_lock() -> Iterator[None]:
    """Held while what all labs of this machine share (numbers, the account) is changed."""
    registry = _registry()
    while True:
        registry.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(registry, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:  # the last lab of the machine went away just now
            continue
        fcntl.flock(handle, fcntl.LOCK_EX)
        if _same_file(handle, registry):
            break
        os.close(handle)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # only the last lab finds it empty
            registry.rmdir()
        os.close(handle)


def _same_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
