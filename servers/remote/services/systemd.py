"""Services under systemd (tried on Debian 12, systemd 252)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from migrationhub.lib.findings import Finding, Problem
from servers.remote.base import Connection, TimedOut

from .base import KINDS, ServiceRecord, Unit, running, unit_name

# A link to /dev/null here plus daemon-reload keeps a unit from starting, even one whose file is under /etc (where
# `mask --runtime` does nothing), and vanishes at reboot. `disable` and `mask` write to /etc and would be copied.
RUNTIME = "/run/systemd/system.control"
LASTING = "/etc/systemd/system.control"
OURS = ("migrationhub-",)
PASSING = ("run-", "session-", "user@", "user-runtime-dir@")

RECORD = r"""
section() { printf '\n@@%s\n' "$1"; }
section boot; cat /proc/sys/kernel/random/boot_id
section files; systemctl list-unit-files --no-legend --no-pager --plain --type=service,socket,timer,path 2>/dev/null
section units
systemctl show --no-pager -p Id,LoadState,ActiveState,SubState,UnitFileState,MainPID,TriggeredBy,FragmentPath \
  '*.service' '*.socket' '*.timer' '*.path' 2>/dev/null
section processes
for d in /proc/[0-9]*; do
  unit=$(sed -n 's/.*\/\([^/]*\.\(service\|socket\)\)\(\/.*\)\{0,1\}$/\1/p' "$d/cgroup" 2>/dev/null | head -n 1)
  [ -n "$unit" ] && printf '%s %s %s\n' "${d#/proc/}" "$unit" "$(tr '\0\n' '  ' <"$d/cmdline" 2>/dev/null | cut -c1-300)"
done
section listeners; ss -H -ltnp 2>/dev/null
section cron
for f in /etc/crontab /etc/cron.d/* /var/spool/cron/crontabs/*; do [ -f "$f" ] && sha256sum "$f"; done 2>/dev/null
section at; atq 2>/dev/null | sort
section containers
for c in docker podman; do command -v $c >/dev/null 2>&1 && $c ps --format "$c {{.Names}} {{.Image}}" 2>/dev/null; done
:
"""


class Systemd:
    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def record(self) -> ServiceRecord:
        parts = sections(self.connection.run(["sh"], stdin=RECORD.encode(), timeout=60, check=True).text)
        listeners = [line for line in map(_listener, parts["listeners"]) if line]
        processes = [
            (int(line.split()[0]), line.split()[1], line.split(None, 2)[2:]) for line in parts["processes"] if line
        ]
        by_unit: dict[str, list[tuple[int, str]]] = {}
        for pid, unit, rest in processes:
            by_unit.setdefault(unit, []).append((pid, rest[0].strip() if rest else ""))
        return ServiceRecord(
            taken_at=datetime.now(UTC).isoformat(),
            boot_id="".join(parts["boot"]).strip(),
            units=tuple(_units(parts["files"], parts["units"], by_unit, listeners)),
            listeners=tuple(sorted({f"{port} {process}" for port, process, _ in listeners})),
            cron=tuple(_cron(line) for line in parts["cron"] if line),
            at_jobs=tuple(line for line in parts["at"] if line),
            containers=tuple(line for line in parts["containers"] if line),
        )

    def stop_one(self, record: ServiceRecord, name: str, timeout: float) -> list[Finding]:
        unit = record.need(name)
        if unit.activators:
            self._run(["systemctl", "stop", *unit.activators])
            self._link(RUNTIME, unit.activators)
        try:
            done = self.connection.run(["systemctl", "stop", unit.name], timeout=timeout)
            words = done.error_text.strip()
        except TimedOut:
            words = f"it was given {timeout:g} s"
        findings = self._active([unit], words)
        if not findings:
            # Only now: a unit that is blocked first loses its ExecStop with the reload.
            self._link(RUNTIME, [unit.name])
        return findings

    def stop(self, record: ServiceRecord, names: Sequence[str], *, timeout: float) -> list[Finding]:
        for name in names:
            findings = self.stop_one(record, name, timeout)
            if findings:
                return findings
        return []

    def block(self, record: ServiceRecord, names: Sequence[str]) -> None:
        self._link(RUNTIME, _with_activators(record, names))

    def unblock(self, record: ServiceRecord, names: Sequence[str]) -> None:
        self._unlink([RUNTIME], _with_activators(record, names))

    def block_persistently(self, record: ServiceRecord, names: Sequence[str]) -> None:
        self._link(LASTING, _with_activators(record, names))

    def unblock_persistently(self, record: ServiceRecord, names: Sequence[str]) -> None:
        self._unlink([LASTING], _with_activators(record, names))

    def prove(self, record: ServiceRecord, names: Sequence[str]) -> list[Finding]:
        units = [record.need(name) for name in names]
        now = self.record()
        findings = self._active(units, "", now)
        open_ports = {int(line.split()[0]): line for line in now.listeners}
        for unit in units:
            for port in unit.ports:
                if port in open_ports:
                    findings.append(
                        running(
                            "services.port",
                            f"Port {port} of {unit.name} is still open ({open_ports[port]}).",
                            "Find the process that listens there and end it, then retry.",
                            unit.name,
                        )
                    )
        return findings + self._left(units)

    def restore(self, record: ServiceRecord, names: Sequence[str]) -> list[Finding]:
        self._unlink([RUNTIME, LASTING], _with_activators(record, names))
        units = [record.need(name) for name in names]
        for unit in reversed(units):
            if unit.active:
                self._run(["systemctl", "start", unit.name], 90)
        activators = {name for unit in units for name in unit.activators}
        wanted = [other for name in activators if (other := record.unit(name)) and other.active]
        for other in wanted:
            self._run(["systemctl", "start", other.name])
        return self._differs(units + wanted)

    # -- looks ---------------------------------------------------------------------------------------------

    def _differs(self, units: Iterable[Unit]) -> list[Finding]:
        now, findings = self.record(), []
        for unit in units:
            seen = now.unit(unit.name)
            if seen is None or seen.active != unit.active or seen.start_mode != unit.start_mode:
                is_now = f"{seen.state}, {seen.start_mode}" if seen else "gone"
                findings.append(
                    running(
                        "services.not_restored",
                        f"{unit.name} was {unit.state}, {unit.start_mode} and is {is_now}.",
                        f"Look at `journalctl -u {unit.name}` on the machine, mend the cause, then retry.",
                        unit.name,
                    )
                )
        return findings

    def _active(self, units: Sequence[Unit], words: str, now: ServiceRecord | None = None) -> list[Finding]:
        now = now or self.record()
        findings = []
        for unit in units:
            for name in (unit.name, *unit.activators):
                seen = now.unit(name)
                if seen is not None and (seen.active or seen.commands):
                    held = f" Process {seen.pid} ({seen.commands[0]})." if seen.pid and seen.commands else ""
                    findings.append(
                        running(
                            "services.active",
                            f"{name} did not stop: it is {seen.state}.{held}{' ' + words if words else ''}",
                            "Find out what it waits for on the machine, end it there, then retry.",
                            name,
                        )
                    )
        return findings

    def _left(self, units: Sequence[Unit]) -> list[Finding]:
        """Processes with the very command line that ran in the unit, wherever they run now."""
        listing = self.connection.run(
            "for d in /proc/[0-9]*; do printf '%s %s\\n' \"${d#/proc/}\" "
            "\"$(tr '\\0\\n' '  ' <\"$d/cmdline\" 2>/dev/null | cut -c1-300)\"; done",
            check=True,
        ).text.splitlines()
        alive = {line.partition(" ")[2].strip(): line.partition(" ")[0] for line in listing}
        return [
            running(
                "services.process",
                f"Process {alive[command]} of {unit.name} is still there: {command[:120]}.",
                "End it on the machine, then retry.",
                unit.name,
            )
            for unit in units
            for command in unit.commands
            if command and command in alive
        ]

    # -- acts ----------------------------------------------------------------------------------------------

    def _run(self, command: Sequence[str], timeout: float = 60) -> None:
        self.connection.run(command, timeout=timeout)

    def _link(self, directory: str, names: Iterable[str]) -> None:
        script = f"set -e; mkdir -p {directory}\n"
        for name in names:
            where = f"{directory}/{_safe(name)}"
            script += (
                f"if [ -e {where} ] && [ ! -c {where} ]; then echo {where}; exit 3; fi; ln -sfn /dev/null {where}\n"
            )
        done = self.connection.run(["sh"], stdin=(script + "systemctl daemon-reload\n").encode(), timeout=60)
        if done.rc == 3:
            raise Problem(
                f"{done.text.strip()} exists on the machine and is not ours: the service cannot be blocked there.",
                "Look who wrote it (systemctl set-property does), remove it by hand, then retry.",
                code="services.block",
            )
        if done.rc:
            raise Problem(f"Blocking restarts failed: {done.error_text.strip()}.", "Retry.", code="services.block")

    def _unlink(self, directories: Iterable[str], names: Iterable[str]) -> None:
        script = "".join(
            f'[ -L {where} ] && [ "$(readlink {where})" = /dev/null ] && rm -f {where}\n'
            for directory in directories
            for name in names
            for where in [f"{directory}/{_safe(name)}"]
        )
        self.connection.run(["sh"], stdin=(script + "systemctl daemon-reload\n").encode(), timeout=60, check=True)


def sections(text: str) -> dict[str, list[str]]:
    """The lines under each "@@name"."""
    found: dict[str, list[str]] = {}
    for part in text.split("\n@@")[1:]:
        name, _, body = part.partition("\n")
        found[name.strip()] = body.splitlines()
    return found


def _safe(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9:_.@\\-]+", name):
        raise Problem(f"{name!r} is not a name of a unit.", "Correct the list of services.", code="services.name")
    return name.replace("\\", "\\\\")


def _with_activators(record: ServiceRecord, names: Sequence[str]) -> list[str]:
    found: dict[str, None] = {}
    for name in names:
        unit = record.need(name)
        found |= dict.fromkeys((*unit.activators, unit.name))
    return list(found)


def _listener(line: str) -> tuple[int, str, list[int]] | None:
    """Port, process name and pids of one line of `ss -ltnp`."""
    columns = line.split()
    if len(columns) < 5 or not columns[3].rpartition(":")[2].isdigit():
        return None
    process = re.search(r'users:\(\("([^"]+)"', line)
    pids = [int(pid) for pid in re.findall(r"pid=(\d+)", line)]
    return int(columns[3].rpartition(":")[2]), process[1] if process else "?", pids


def _cron(line: str) -> str:
    digest, _, path = line.partition("  ")
    return f"{path} {digest[:16]}"


def _units(
    files: list[str],
    shown: list[str],
    by_unit: dict[str, list[tuple[int, str]]],
    listeners: list[tuple[int, str, list[int]]],
) -> Iterable[Unit]:
    modes = {columns[0]: columns[1] for line in files if len(columns := line.split()) >= 2}
    seen: set[str] = set()
    for block in "\n".join(shown).split("\n\n"):
        facts = dict(line.partition("=")[::2] for line in block.splitlines() if "=" in line)
        name = facts.get("Id", "")
        if not name or name.startswith((*OURS, *PASSING)) or facts.get("LoadState") in ("not-found", None):
            continue
        seen.add(name)
        processes = by_unit.get(name, [])
        pids = {pid for pid, _ in processes}
        state = facts.get("ActiveState", "")
        masked = facts.get("LoadState") == "masked"
        yield Unit(
            name=name,
            kind=name.rsplit(".", 1)[-1],
            active=state in ("active", "reloading", "activating", "deactivating"),
            state=f"{state}/{facts.get('SubState', '')}",
            start_mode=modes.get(name) or ("" if masked else facts.get("UnitFileState", "")),
            pid=int(facts.get("MainPID") or 0),
            commands=tuple(command for _, command in processes),
            ports=tuple(sorted({port for port, _, owners in listeners if pids & {*owners}})),
            activators=tuple(
                other for other in facts.get("TriggeredBy", "").split() if other.rsplit(".", 1)[-1] in KINDS
            ),
            file=facts.get("FragmentPath", ""),
        )
    for name, mode in modes.items():
        if name not in seen and not name.startswith((*OURS, *PASSING)):
            yield Unit(unit_name(name), name.rsplit(".", 1)[-1], active=False, state="inactive/dead", start_mode=mode)
