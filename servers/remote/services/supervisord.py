"""Services under supervisord on a process host: everything stays inside the host's directory."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime

from migrationhub.lib.findings import Finding, Problem
from servers.remote.base import Connection, TimedOut

from .base import ServiceRecord, Unit, running

UP = ("RUNNING", "STARTING", "BACKOFF", "STOPPING")
HELD = ".migrationhub-blocked"

RECORD = r"""
ctl() { supervisorctl -c "$1/etc/supervisord.conf" "$2"; }
section() { printf '\n@@%s\n' "$1"; }
section status; ctl "$d" status
section listeners; ss -H -ltnp 2>/dev/null
section files
for f in "$d"/etc/supervisor.d/*.ini "$d"/etc/supervisor.d/*.ini.migrationhub-blocked; do
  [ -f "$f" ] || continue
  printf '%s %s %s\n' "$f" "$(sed -n 's/^\[program:\(.*\)\]/\1/p' "$f" | head -n 1)" \
    "$(grep -qi '^autostart *= *false' "$f" && echo manual || echo autostart)"
done
section processes
for p in $(ctl "$d" status | sed -n 's/.*pid \([0-9]*\),.*/\1/p'); do
  for q in $p $(ps -o pid= -g $p 2>/dev/null) $(ps -o pid= --ppid $p 2>/dev/null); do
    printf '%s %s %s\n' $p $q "$(tr '\0\n' '  ' </proc/$q/cmdline 2>/dev/null | cut -c1-300)"
  done
done
:
"""


class Supervisord:
    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.directory = connection.endpoint.directory.rstrip("/")
        self.config = f"{self.directory}/etc/supervisord.conf"

    def record(self) -> ServiceRecord:
        from .systemd import _listener, sections

        script = f"d={shlex.quote(self.directory)}\n{RECORD}"
        parts = sections(self.connection.run(["sh"], stdin=script.encode(), timeout=30, check=True).text)
        files = {columns[1]: columns for line in parts["files"] if len(columns := line.split()) == 3}
        processes: dict[int, dict[int, str]] = {}
        for line in parts["processes"]:
            columns = line.split(None, 2)
            if len(columns) >= 2:
                processes.setdefault(int(columns[0]), {})[int(columns[1])] = columns[2].strip() if columns[2:] else ""
        listeners = [found for line in parts["listeners"] if (found := _listener(line))]
        units = []
        for name, (status, pid) in _status(parts["status"]).items():
            own = processes.get(pid, {})
            units.append(
                Unit(
                    name=name,
                    kind="service",
                    active=status in UP,
                    state=status,
                    start_mode=files.get(name, ["", "", ""])[2],
                    pid=pid,
                    commands=tuple(own.values()),
                    ports=tuple(sorted({port for port, _, pids in listeners if {*own} & {*pids}})),
                    file=files.get(name, [""])[0],
                )
            )
        known = {unit.name for unit in units}
        units += [
            Unit(name, "service", active=False, state="REMOVED", start_mode=mode, file=file)
            for name, (file, _, mode) in files.items()
            if name not in known
        ]
        mine = {pid for own in processes.values() for pid in own}
        return ServiceRecord(
            taken_at=datetime.now(UTC).isoformat(),
            boot_id="",
            units=tuple(sorted(units, key=lambda unit: unit.name)),
            listeners=tuple(sorted({f"{port} {name}" for port, name, pids in listeners if mine & {*pids}})),
        )

    def stop_one(self, record: ServiceRecord, name: str, timeout: float) -> list[Finding]:
        unit = record.need(name)
        try:
            self._control("stop", unit.name, timeout=timeout)
        except TimedOut:
            pass  # told below, by what is seen
        return self._active([unit])

    def stop(self, record: ServiceRecord, names: Sequence[str], *, timeout: float) -> list[Finding]:
        for name in names:
            findings = self.stop_one(record, name, timeout)
            if findings:
                return findings
        return []

    def block(self, record: ServiceRecord, names: Sequence[str]) -> None:
        """A program that was stopped by hand stays stopped: supervisord starts it again only when told to."""

    def unblock(self, record: ServiceRecord, names: Sequence[str]) -> None:
        """Nothing was written."""

    def block_persistently(self, record: ServiceRecord, names: Sequence[str]) -> None:
        """The program's file is put aside, so that a restarted supervisord does not know it."""
        for name in names:
            file = record.need(name).file
            if file and not file.endswith(HELD):
                self._shell(f"[ ! -e {shlex.quote(file)} ] || mv {shlex.quote(file)} {shlex.quote(file + HELD)}")
        self._control("update")

    def unblock_persistently(self, record: ServiceRecord, names: Sequence[str]) -> None:
        for name in names:
            file = record.need(name).file.removesuffix(HELD)
            if file:
                self._shell(f"[ ! -e {shlex.quote(file + HELD)} ] || mv {shlex.quote(file + HELD)} {shlex.quote(file)}")
        self._control("update")

    def prove(self, record: ServiceRecord, names: Sequence[str]) -> list[Finding]:
        units = [record.need(name) for name in names]
        findings = self._active(units)
        open_ports = {int(line.split()[0]) for line in self.record().listeners}
        findings += [
            running("services.port", f"Port {port} of {unit.name} is still open.", "End what listens there.", unit.name)
            for unit in units
            for port in unit.ports
            if port in open_ports
        ]
        return findings + self._left(units)

    def restore(self, record: ServiceRecord, names: Sequence[str]) -> list[Finding]:
        self.unblock_persistently(record, names)
        units = [record.need(name) for name in names]
        for unit in reversed(units):
            self._control("start" if unit.active else "stop", unit.name, timeout=60)
        now = self.record()
        findings = []
        for unit in units:
            seen = now.unit(unit.name)
            if seen is None or seen.active != unit.active or seen.start_mode != unit.start_mode:
                is_now = seen.state if seen else "gone"
                findings.append(
                    running(
                        "services.not_restored",
                        f"{unit.name} was {unit.state} and is {is_now}.",
                        f"Look at its log below {self.directory}/var/log, mend the cause, then retry.",
                        unit.name,
                    )
                )
        return findings

    def _active(self, units: Sequence[Unit]) -> list[Finding]:
        now = self.record()
        return [
            running(
                "services.active",
                f"{unit.name} did not stop: it is {seen.state}, process {seen.pid}.",
                "Find out what it waits for on the machine, end it there, then retry.",
                unit.name,
            )
            for unit in units
            if (seen := now.unit(unit.name)) is not None and seen.active
        ]

    def _left(self, units: Sequence[Unit]) -> list[Finding]:
        """Processes of the record that are still alive with the same command line."""
        checks = "".join(
            f"[ \"$(tr '\\0\\n' '  ' </proc/{unit.pid}/cmdline 2>/dev/null | cut -c1-300 | sed 's/ *$//')\" = "
            f"{shlex.quote(unit.commands[0].rstrip())} ] && echo {shlex.quote(unit.name)} {unit.pid}\n"
            for unit in units
            if unit.pid and unit.commands and unit.commands[0]
        )
        alive = self.connection.run(["sh"], stdin=(checks + ":\n").encode(), timeout=20, check=True).text.splitlines()
        return [
            running("services.process", f"A process of {line} is still there.", "End it on the machine.", line)
            for line in alive
        ]

    def _control(self, *words: str, timeout: float = 30) -> None:
        self.connection.run(["supervisorctl", "-c", self.config, *words], timeout=timeout)

    def _shell(self, script: str) -> None:
        done = self.connection.run(["sh", "-c", script], timeout=20)
        if done.rc:
            raise Problem(f"On the host: {done.error_text.strip()}.", "Retry.", code="services.block")


def _status(lines: list[str]) -> dict[str, tuple[str, int]]:
    """Name → state and pid, from `supervisorctl status`."""
    found = {}
    for line in lines:
        columns = line.split()
        if len(columns) >= 2 and columns[1].isupper():
            pid = columns[3].rstrip(",") if len(columns) > 3 and columns[2] == "pid" else "0"
            found[columns[0].rpartition(":")[2]] = (columns[1], int(pid) if pid.isdigit() else 0)
    return found
