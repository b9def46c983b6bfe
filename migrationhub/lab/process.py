"""Process hosts: a private directory, an sshd on a loopback address, services under supervisord.

For machines where no containers can be had, and for tests that need many hosts. A login there sees the real
machine; when root runs the lab, hosts run as an account of their own.

What the lab itself keeps of a host is in `<lab>/process/<name>/`: `host.json` (what it is), `console.log`,
`snapshots/`. The host's root directory lies apart from it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from migrationhub.lab import process_account, process_table
from migrationhub.lab.hosts import ExecResult, HostSpec, Nic
from migrationhub.lab.process_account import Account
from migrationhub.lab.process_keeper import PORT, Host, processes_of
from migrationhub.lab.process_table import Process, wait_for
from migrationhub.lab.recipes_process import RECIPES, TRAP_LOG, Build
from migrationhub.lab.state import REPOSITORY, Lab, LabProblem

KEEPER = "migrationhub.lab.process_keeper"
NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,50}")
START_SECONDS = 120.0
STOP_SECONDS = 75.0  # more than the keeper gives the services
SOCKET_PATH_LIMIT = 107  # bytes, sun_path of Linux


class ProcessBackend:
    """`HostBackend` of process hosts. Calls for the same host wait for each other, also across processes."""

    kind = "process"

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.control = lab.dir / "process"
        self.hosts = process_account.hosts_directory(lab)
        self._account: Account | None = None

    @property
    def account(self) -> Account:
        """Who the hosts' processes run as; the login name of every process host."""
        if self._account is None:
            self._account = process_account.ensure()
        return self._account

    # -- making ---------------------------------------------------------------------------------------------

    def create(self, spec: HostSpec) -> None:
        recipe = RECIPES.get(spec.image)
        if recipe is None or not NAME.fullmatch(spec.name):
            raise LabProblem(
                f"There is no recipe “{spec.image}” for a process host “{spec.name}”.",
                f"Take one of {', '.join(RECIPES)} and a name of small letters, digits, dots and hyphens.",
                code="lab.recipe",
            )
        root = self.root(spec.name)
        if len(os.fsencode(root / "run/postgresql/.s.PGSQL.5432.lock")) > SOCKET_PATH_LIMIT:
            raise LabProblem(
                f"The path of the host “{spec.name}”, {root}, is too long for a Unix socket below it.",
                "Set MIGRATIONHUB_VAR to a shorter directory.",
                code="lab.path_too_long",
            )
        with self._lock(spec.name):
            if self._exists(spec.name):
                return
            self._remove(spec.name)  # what an interrupted call left
            new = self._beside(root, "new")
            self._directory(self.hosts)
            self._directory(new)
            recipe(Build(self.lab, self.account, spec, new, root))
            new.rename(root)
            self._write(spec.name, spec.nics, spec.options.get("host_keys", "ed25519 ecdsa"))

    def delete(self, name: str) -> None:
        with self._lock(name):
            if self.root(name).exists() or self.keeper(name):
                self._off(name, hard=True)
            self._remove(name)

    def down(self) -> None:
        """Delete every host of the lab, and the account unless another lab has hosts."""
        # Also what has lost its note, as when somebody deleted the lab's directory by hand.
        kept = {path.name for path in self.hosts.glob("[!.]*")} | {p.name for p in self.control.glob("*/")}
        for name in sorted(kept):
            self.delete(name)
        shutil.rmtree(self.control, ignore_errors=True)
        shutil.rmtree(self.hosts, ignore_errors=True)
        process_account.remove_unused()

    # -- power ----------------------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        with self._lock(name):
            self._start(name)

    def stop(self, name: str, *, hard: bool = False) -> None:
        with self._lock(name):
            self._require(name)
            self._off(name, hard=hard)

    def power(self, name: str) -> str:
        if not self._exists(name):
            return "absent"
        return "on" if self.keeper(name) else "off"

    def attach(self, name: str, nics: tuple[Nic, ...]) -> None:
        with self._lock(name):
            self._require(name)
            self._write(name, nics, self._read(name)["host_keys"])

    def keeper(self, name: str) -> Process | None:
        """The host's keeper, if it runs: its note is only a hint that the kernel must confirm."""
        control = self.control / name
        with contextlib.suppress(OSError, ValueError, TypeError):
            noted = Process(**json.loads((control / "keeper.json").read_text()))
            if process_table.alive(noted):
                return noted
        found = process_table.with_arguments([KEEPER, str(control)], os.geteuid())
        return found[0] if found else None

    # -- inside ---------------------------------------------------------------------------------------------

    def execute(self, name: str, script: str, timeout: float = 120.0) -> ExecResult:
        """Run `sh -c script` in the host's directory as its account; status 124 when `timeout` seconds are over.

        Output goes through files: a process that the script leaves in the background keeps no one waiting.
        """
        self._require(name, on=True)
        host = Host.read(self.control / name)
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = subprocess.Popen(
                ["sh", "-c", script],
                cwd=host.root,
                env=host.environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                **host.account.popen(),
            )
            try:
                status = process.wait(timeout)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                status = 124
                err.write(f"\nnot done after {timeout:g} seconds".encode())
            return ExecResult(status, *(self._text(file) for file in (out, err)))

    def console(self, name: str, lines: int = 50) -> str:
        try:
            text = (self.control / name / "console.log").read_text(errors="backslashreplace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def root(self, name: str) -> Path:
        return self.hosts / name

    def address(self, name: str) -> str:
        """Where the host's services listen from its next power on ("" = no address)."""
        return next(iter(self._read(name)["addresses"]), "")

    def names(self) -> list[str]:
        return sorted(path.parent.name for path in self.control.glob("*/host.json"))

    def trapped(self, name: str) -> list[str]:
        """Commands that would have touched the real machine and were refused on this host: "time TAB command"."""
        try:
            return (self.root(name) / TRAP_LOG).read_text(errors="backslashreplace").splitlines()
        except FileNotFoundError:
            return []

    # -- snapshots ------------------------------------------------------------------------------------------

    def snapshot(self, name: str, snapshot: str) -> None:
        """Copy the host's directory; its processes stand still meanwhile. A snapshot of that name stays as it is."""
        with self._lock(name):
            self._require(name)
            kept = self._snapshot_path(name, snapshot)
            if kept.exists():
                return
            stopped = self._inside(name)
            try:
                for process in stopped:
                    process_table.send(process, signal.SIGSTOP)
                self._copy(self.root(name), kept)
            finally:
                for process in stopped:
                    process_table.send(process, signal.SIGCONT)

    def revert(self, name: str, snapshot: str) -> None:
        """Put the snapshot back. A host that is on loses its power first and is on again afterwards."""
        with self._lock(name):
            self._require(name)
            kept = self._snapshot_path(name, snapshot)
            if not kept.exists():
                raise LabProblem(
                    f"The host “{name}” has no snapshot “{snapshot}”.",
                    "Take one of: " + (", ".join(sorted(p.name for p in kept.parent.glob("*"))) or "none"),
                    code="lab.no_snapshot",
                )
            was_on = self.keeper(name) is not None
            self._off(name, hard=True)
            root = self.root(name)
            new = self._beside(root, "new")
            self._copy(kept, new)
            shutil.rmtree(root)
            new.rename(root)
            if was_on:
                self._start(name)

    # -- how ------------------------------------------------------------------------------------------------

    def _start(self, name: str) -> None:
        self._require(name)
        if self.keeper(name):
            return
        # What a killed keeper left would keep the address.
        process_table.end(lambda: self._inside(name), grace=2)
        control = self.control / name
        with (control / "console.log").open("ab") as console:
            subprocess.run(
                [sys.executable, "-m", KEEPER, str(control)],
                cwd=REPOSITORY,
                env={"PATH": process_account.SYSTEM_PATH, "LANG": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
                check=True,
                timeout=30,
            )
        if not wait_for(lambda: self._answers(name) or not self.keeper(name), START_SECONDS) or not (self.keeper(name)):
            last = self.console(name, 10)
            self._off(name, hard=True)
            raise LabProblem(
                f"The host “{name}” did not start in {START_SECONDS:g} seconds. Its console ends with:\n{last}",
                "Mend what it names, then start it again.",
                code="lab.start",
            )

    def _off(self, name: str, *, hard: bool) -> None:
        keeper = self.keeper(name)
        if keeper:
            process_table.send(keeper, signal.SIGINT if hard else signal.SIGTERM)
            patience = 10 if hard else STOP_SECONDS
            if not wait_for(lambda: not process_table.alive(keeper), patience):
                process_table.send(keeper, signal.SIGKILL)
        if not process_table.end(lambda: self._inside(name), grace=0):
            raise LabProblem(
                f"Processes of the host “{name}” could not be ended: {self._inside(name)}.",
                "Look at them with ps, then call again.",
                code="lab.stop",
            )

    def _inside(self, name: str) -> list[Process]:
        """The host's processes, without its keeper."""
        found = set(processes_of(self.root(name), self.account))
        if keeper := self.keeper(name):
            found.update(process_table.descendants(keeper.pid))
        return sorted(found)

    def _answers(self, name: str) -> bool:
        """sshd shows its banner and supervisord takes commands."""
        addresses = self._read(name)["addresses"]
        try:
            with socket.socket(socket.AF_UNIX) as link:
                link.connect(str(self.root(name) / "run/supervisor.sock"))
            for address in addresses:
                with socket.create_connection((address, PORT), timeout=5) as link:
                    if not link.recv(4).startswith(b"SSH"):
                        return False
        except OSError:
            return False
        return True

    def _remove(self, name: str) -> None:
        root = self.root(name)
        for path in (self.control / name, self._beside(root, "new"), root):
            shutil.rmtree(path, ignore_errors=True)
            if path.exists():
                raise LabProblem(
                    f"{path} of the host “{name}” could not be removed wholly.",
                    "Look at what is left there, then call again.",
                    code="lab.delete",
                )

    def _snapshot_path(self, name: str, snapshot: str) -> Path:
        if not NAME.fullmatch(snapshot):
            raise LabProblem(
                f"“{snapshot}” is no name for a snapshot.",
                "Use small letters, digits, dots and hyphens.",
                code="lab.snapshot_name",
            )
        return self.control / name / "snapshots" / snapshot

    def _copy(self, source: Path, target: Path) -> None:
        new = self._beside(target, "copy")
        shutil.rmtree(new, ignore_errors=True)
        new.parent.mkdir(parents=True, exist_ok=True)
        # Sockets and FIFOs come along; `cp -a` keeps links, attributes, ACLs and holes.
        subprocess.run(["cp", "-a", "--reflink=auto", "--sparse=auto", source, new], check=True, timeout=600)
        new.rename(target)

    def _directory(self, path: Path) -> None:
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
        if self.account.switched:
            os.chown(path, self.account.uid, self.account.gid)

    @staticmethod
    def _beside(path: Path, word: str) -> Path:
        return path.with_name(f".{path.name}.{word}")

    @staticmethod
    def _text(file: Any) -> str:
        file.seek(0)
        return str(file.read().decode("utf-8", "backslashreplace"))

    def _known(self, name: str) -> bool:
        return (self.control / name / "host.json").exists()

    def _exists(self, name: str) -> bool:
        """A whole host. One whose root is gone had its revert cut off: the copy beside it takes its place."""
        root = self.root(name)
        if self._known(name) and not root.exists():
            with contextlib.suppress(FileNotFoundError):
                self._beside(root, "new").rename(root)
        return self._known(name) and root.exists()

    def _require(self, name: str, *, on: bool = False) -> None:
        if not self._exists(name):
            raise LabProblem(
                f"The lab “{self.lab.name}” has no process host “{name}”.",
                "Its hosts: " + (", ".join(self.names()) or "none") + ".",
                code="lab.absent",
            )
        if on and not self.keeper(name):
            raise LabProblem(f"The host “{name}” is off.", "Start it first.", code="lab.off", lasting=False)

    def _read(self, name: str) -> dict[str, Any]:
        data: dict[str, Any] = json.loads((self.control / name / "host.json").read_text())
        return data

    def _write(self, name: str, nics: tuple[Nic, ...], host_keys: str) -> None:
        with_address = [nic for nic in nics if nic.address]
        network = with_address[0].network if with_address else "production"
        address, port = self.lab.resolver(network, self.kind)
        data = {
            "name": name,
            "root": str(self.root(name)),
            "account": asdict(self.account),
            "nics": [asdict(nic) for nic in nics],
            "addresses": [nic.address.partition("/")[0] for nic in with_address],
            "resolver": f"{address}:{port}",
            "host_keys": host_keys,
        }
        control = self.control / name
        control.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = control / ".host.json"
        temporary.write_text(json.dumps(data, indent=1))
        temporary.replace(control / "host.json")

    @contextlib.contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        self.control.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.control / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)
