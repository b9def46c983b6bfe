"""Services under supervisord, by its own control program and the host's own configuration.

Limited to the host's directory and programs: a login there sees the real machine. A blocked program is taken out
of the running supervisord (`remove`), so that nobody starts it there until supervisord itself starts anew. To hold
it back then too, an override is written that says `autostart=false`; by its name it is read after the program's own
file, which stays as it is.
"""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from migrationhub.lib.findings import Finding, Problem
from servers.remote.base import Connection, Result
from servers.remote.services import look
from servers.remote.services.base import ServiceRecord, Unit, running

UP = ("RUNNING", "STARTING", "BACKOFF", "STOPPING")
_STATES = "STOPPED|STARTING|RUNNING|BACKOFF|STOPPING|EXITED|FATAL|UNKNOWN"
_OVERRIDE = "etc/supervisor.d/zz-migrationhub-blocked.ini"
_WHILE_ADDING = "etc/supervisor.d/zz-migrationhub-adding.ini"

_RECORD = rf"""
echo '@@ boot'; cat run/boot_id 2>/dev/null
echo '@@ status'; supervisorctl -c etc/supervisord.conf status 2>&1
echo '@@ configuration'
for file in etc/supervisord.conf etc/supervisor.d/*.ini; do [ -f "$file" ] && echo "## $file" && cat "$file"; done
echo '@@ processes'
{look.PROCESSES}
echo '@@ ports'
{look.PORTS}
exit 0
"""

# Whether it was asked at all counts before how long it took: on a host under load supervisorctl itself may need longer
# to begin than a short limit is, and a program that nobody asked to stop is not one that did not.
_PATIENCE = 60  # s, of the host's own doing
_STOP = """
{stop} >/dev/null 2>&1 & asker=$!
waited=0
while kill -0 $asker 2>/dev/null && [ $waited -lt $(({limit} * 5)) ]; do sleep 0.2; waited=$((waited + 1)); done
waited=0
while kill -0 $asker 2>/dev/null && [ $waited -lt {asking} ]; do
  {status} | grep -Eq ' (RUNNING|STARTING|BACKOFF) ' || break
  sleep 1
  waited=$((waited + 1))
done
kill $asker 2>/dev/null
exit 0
"""


class Supervisord:
    """`ServiceManager` of a host under supervisord. A program in a group is named "group:program"."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.name = connection.endpoint.name
        self.directory = connection.endpoint.directory.rstrip("/")

    def record(self) -> ServiceRecord:
        found = look.sections(self._run(_RECORD, check=True).text)
        status = self._status(found.get("status", []))
        programs = _programs(found.get("configuration", []))
        processes = look.processes(found.get("processes", []))
        owners = _owners({pid: name for name, (_, pid) in status.items() if pid}, processes)
        listeners = [one for one in look.listeners(found.get("ports", [])) if one.protocol == "tcp"]
        units = []
        for name, (state, pid) in status.items():
            mine = [process for process in processes if owners.get(process.pid) == name]
            pids = {process.pid for process in mine}
            mode, file = programs.get(name.rpartition(":")[2], ("autostart", ""))
            units.append(
                Unit(
                    name=name,
                    kind="service",
                    active=state in UP,
                    state=state,
                    start_mode=mode,
                    pid=pid,
                    commands=tuple(dict.fromkeys(process.name for process in mine)),
                    ports=tuple(sorted({one.number for one in listeners if pids & {*one.pids}})),
                    processes=tuple((process.pid, process.started) for process in mine),
                    file=f"{self.directory}/{file}" if file else "",
                )
            )
        known = {name.rpartition(":")[2] for name in status}
        units += [
            Unit(name, "service", active=False, state="REMOVED", start_mode=mode, file=f"{self.directory}/{file}")
            for name, (mode, file) in programs.items()
            if name not in known
        ]
        return ServiceRecord(
            taken_at=datetime.now(UTC).isoformat(),
            boot_id="".join(found.get("boot", [])).strip(),
            units=tuple(sorted(units, key=lambda unit: unit.name)),
            listeners=tuple(
                sorted({f"{one.number} {one.holder}" for one in listeners if any(pid in owners for pid in one.pids)})
            ),
        )

    def stop_one(self, record: ServiceRecord, name: str, timeout: float) -> list[Finding]:
        unit = record.need(name)
        limit = max(1, int(timeout))
        # supervisorctl waits for the end by itself; what it says about one that is down already is no news.
        if self._states().get(unit.name) in UP:
            stop, status = _ctl("stop", unit.name), _ctl("status", unit.name)
            script = _STOP.format(stop=stop, status=status, limit=limit, asking=_PATIENCE)
            self._run(script, timeout=limit + _PATIENCE + 60)
        states = self._states()
        state = states.get(unit.name, "REMOVED")
        if state in UP:
            return [
                self._finding(
                    "services.active",
                    unit,
                    f"{unit.name} did not stop within {limit} s: it is {state}",
                    "Wait and retry (supervisord kills it after its stopwaitsecs), or end it on the host.",
                )
            ]
        # A group is held back as a whole, once the last of it is down.
        if not any(other in UP for one, other in states.items() if _group(one) == _group(unit.name)):
            self.block(record, [name])
        return []

    def stop(self, record: ServiceRecord, names: Sequence[str], *, timeout: float) -> list[Finding]:
        for name in names:
            findings = self.stop_one(record, name, timeout)
            if findings:
                return findings
        return []

    def prove(self, record: ServiceRecord, names: Sequence[str]) -> list[Finding]:
        units = record.group(names)
        if not units:
            return []
        found = look.sections(self._run(_RECORD, check=True).text)
        status = self._status(found.get("status", []))
        alive = {(one.pid, one.started): one for one in look.processes(found.get("processes", []))}
        listeners = {one.number: one for one in look.listeners(found.get("ports", [])) if one.protocol == "tcp"}
        findings: list[Finding] = []
        for unit in units:
            state = status.get(unit.name, ("REMOVED", 0))[0]
            if state in UP:
                act = "Find out what started it, stop it, then retry."
                findings.append(self._finding("services.active", unit, f"{unit.name} is {state}", act))
            for process in unit.processes:
                if process in alive:
                    text = f"process {process[0]} ({alive[process].name}) of {unit.name} outlived the stop"
                    act = f"End it on the host (kill {process[0]}) once it is clear what it does, then retry."
                    findings.append(self._finding("services.process", unit, text, act))
            for port in unit.ports:
                one = listeners.get(port)
                if one and self._is_own(one):
                    text = f"port {port} of {unit.name} is still open, held by {one.holder}"
                    act = "Find the process that listens there and end it, then retry."
                    findings.append(self._finding("services.port", unit, text, act))
        return findings

    def block(self, record: ServiceRecord, names: Sequence[str]) -> None:
        states = self._states()
        for unit in record.group(names):
            if unit.name not in states:
                continue
            said = ""
            if states[unit.name] not in UP:
                said = " ".join(self._run(f"{_ctl('remove', _group(unit.name))} 2>&1").text.split())[-200:]
                if unit.name not in self._states():
                    continue
            raise Problem(
                f"{self.name}: {unit.name} is {states[unit.name]} and cannot be held back. {said}".strip(),
                "Stop it first, together with all programs of its group.",
                code="services.block",
            )

    def unblock(self, record: ServiceRecord, names: Sequence[str]) -> None:
        """Known to supervisord again, but not started, whatever its autostart says."""
        states = self._states()
        absent = [unit.name for unit in record.group(names) if unit.name not in states]
        if not absent:
            return
        self._override(_WHILE_ADDING, absent)
        try:
            groups = dict.fromkeys(_group(name) for name in absent)
            adding = "; ".join(_ctl("add", group) for group in groups)
            self._run(f"{_ctl('reread')} >/dev/null; {adding}")
        finally:
            self._run(f"rm -f {_WHILE_ADDING}; {_ctl('reread')} >/dev/null")

    def block_persistently(self, record: ServiceRecord, names: Sequence[str]) -> None:
        units = record.group(names)
        self._override(_OVERRIDE, [unit.name for unit in units])
        self.block(record, names)

    def unblock_persistently(self, record: ServiceRecord, names: Sequence[str]) -> None:
        self._run(f"rm -f {_OVERRIDE}; {_ctl('reread')} >/dev/null")

    def restore(self, record: ServiceRecord, names: Sequence[str]) -> list[Finding]:
        self.unblock_persistently(record, names)
        self.unblock(record, names)
        units = record.group(names)
        findings = []
        for unit in reversed(units):
            state = self._settled(unit.name)
            if state == "STOPPING":  # neither: it cannot be started, and does not stay
                text = f"{unit.name} was {unit.state} and is still stopping: it cannot be started before it has ended"
                findings.append(self._not_restored(unit, text))
                continue
            if unit.active == (state in UP):
                continue
            verb = "start" if unit.active else "stop"
            done = self._run(f"timeout 90 {_ctl(verb, unit.name)} 2>&1", timeout=120)
            if done.rc:
                said = " ".join(done.text.split())[-300:]
                findings.append(self._not_restored(unit, f"{unit.name} does not {verb}: {said}"))
        now = self.record()
        for unit in units:
            seen = now.unit(unit.name)
            if seen is None or seen.active != unit.active or seen.start_mode != unit.start_mode:
                is_now = f"{seen.state}, {seen.start_mode}" if seen else "gone"
                text = f"{unit.name} was {unit.state}, {unit.start_mode} and is {is_now}"
                findings.append(self._not_restored(unit, text))
        return findings

    # -- how -----------------------------------------------------------------------------------------------

    def _run(self, script: str, timeout: float = 60.0, check: bool = False) -> Result:
        line = f"cd {shlex.quote(self.directory)} || exit 1\n{script}"
        return self.connection.run(line, timeout=timeout, check=check)

    def _states(self) -> dict[str, str]:
        status = self._status(self._run(f"{_ctl('status')} 2>&1").text.splitlines())
        return {name: state for name, (state, _) in status.items()}

    def _settled(self, name: str) -> str:
        """Its state, once a stop that somebody ordered earlier is over; "STOPPING" where it is not within a minute."""
        deadline = time.monotonic() + _PATIENCE
        while (state := self._states().get(name, "")) == "STOPPING" and time.monotonic() < deadline:
            time.sleep(0.5)
        return state

    def _status(self, lines: list[str]) -> dict[str, tuple[str, int]]:
        """Program → state and process id (0: none). `Problem` where supervisord did not answer."""
        found: dict[str, tuple[str, int]] = {}
        for line in lines:
            match = re.match(rf"(\S+)\s+({_STATES})\b(.*)", line)
            if match:
                pid = re.search(r"pid (\d+)", match[3])
                found[match[1]] = (match[2], int(pid[1]) if pid else 0)
        # Beside the programs it may print warnings of its Python; without one, what it prints is why.
        if not found and (said := " ".join(" ".join(lines).split())):
            raise Problem(
                f"{self.name}: supervisord does not answer: {said[-200:]}.",
                f"Check that it runs on the host, with {self.directory}/etc/supervisord.conf, then retry.",
                code="services.manager",
                lasting=False,
            )
        return found

    def _override(self, path: str, names: Sequence[str]) -> None:
        programs = dict.fromkeys(name.rpartition(":")[2] for name in names)
        text = "".join(f"[program:{name}]\nautostart=false\n" for name in programs)
        self.connection.put(text.encode(), f"{self.directory}/{path}", mode=0o644)

    def _is_own(self, listener: look.Listener) -> bool:
        """Of this host and not of the machine that it lives on, where others may have the same port."""
        address = listener.address.rpartition(":")[0].strip("[]")
        return address in (self.connection.endpoint.address, "0.0.0.0", "*", "::")  # noqa: S104

    def _finding(self, code: str, unit: Unit, text: str, act: str) -> Finding:
        return running(code, f"{self.name}: {text}.", act, unit.name)

    def _not_restored(self, unit: Unit, text: str) -> Finding:
        act = f"Look at its log below {self.directory}/var/log, mend the cause, then retry."
        return self._finding("services.not_restored", unit, text, act)


def _ctl(verb: str, name: str = "") -> str:
    return f"supervisorctl -c etc/supervisord.conf {verb} {shlex.quote(name) if name else ''}".strip()


def _group(name: str) -> str:
    return name.partition(":")[0]


def _owners(mains: dict[int, str], processes: list[look.Process]) -> dict[int, str]:
    """Process id → program, for the programs' main processes and all below them."""
    parents = {process.pid: process.parent for process in processes}
    owners: dict[int, str] = {}
    for pid in parents:
        at, seen = pid, set()
        while at in parents and at not in mains and at not in seen:
            seen.add(at)
            at = parents[at]
        if at in mains:
            owners[pid] = mains[at]
    return owners


def _programs(lines: list[str]) -> dict[str, tuple[str, str]]:
    """Program → (autostart | manual, its file), by the configuration; our own overrides are not its start mode."""
    programs: dict[str, tuple[str, str]] = {}
    program = file = ""
    for line in lines:
        if line.startswith("## etc/"):
            program, file = "", line[3:]
        header = re.match(r"\s*\[(?:program:([^\]]+)|[^\]]*)\]", line)
        if header:
            program = (header[1] or "").strip()
            if program and "zz-migrationhub-" not in file:
                programs.setdefault(program, ("autostart", file))
        elif program and "zz-migrationhub-" not in file:
            match = re.match(r"\s*autostart\s*=\s*([^;\s]+)", line)
            if match:
                on = match[1].lower() in ("true", "1", "yes", "on")
                programs[program] = ("autostart" if on else "manual", programs[program][1])
    return programs
