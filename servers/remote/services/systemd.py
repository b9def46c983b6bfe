"""Services under systemd (tried on Debian 12, systemd 252)."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence

from migrationhub.lib.findings import Finding, Problem
from servers.remote.base import Connection, Result
from servers.remote.causes import cause_of
from servers.remote.services import look, systemd_record
from servers.remote.services.base import ServiceRecord, Unit, running

# A link to /dev/null here plus daemon-reload keeps a unit from starting, even one whose file is under /etc (where
# `mask --runtime` does nothing), and vanishes at reboot. `disable` and `mask` write to /etc and would be copied.
RUNTIME = "/run/systemd/system.control"
LASTING = "/etc/systemd/system.control"
_DOWN = ("inactive", "failed")
_START_ORDER = {"socket": 0, "service": 1}  # a socket refuses to start after its service; timers and paths go last

# Without these the machine is not reached or not itself; whoever names one has made a mistake.
_KEPT = {
    "migrationhub-access.service",
    "systemd-journald.service",
    "dbus.service",
    "dbus-broker.service",
    "networking.service",
    "systemd-networkd.service",
    "NetworkManager.service",
}

# `systemctl stop` waits for the named units alone, not for what goes down with them: all are watched.
_STOP = r"""
end=$(( $(date +%s) + {seconds} ))
systemctl stop --no-block -- {units} || exit 1
while :; do
  left=
  for unit in {units}; do
    case $(systemctl show -p ActiveState --value -- "$unit") in inactive|failed) ;; *) left="$left $unit" ;; esac
  done
  [ -n "$left" ] || exit 0
  [ "$(date +%s)" -lt "$end" ] || break
  sleep 0.2
done
"""


class Systemd:
    """`ServiceManager` of a machine with systemd. Needs root."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.name = connection.endpoint.name

    def record(self) -> ServiceRecord:
        return systemd_record.take(self.connection)

    def stop_one(self, record: ServiceRecord, name: str, timeout: float) -> list[Finding]:
        units = record.group([name])
        self._refuse_kept(units)
        starters = [unit for unit in units if unit.kind != "service"]
        services = [unit for unit in units if unit.kind == "service"]
        findings: list[Finding] = []
        if starters:  # first, or they bring the service back; they have no stop commands of weight
            findings += self._stop(starters, timeout)
            self._link(RUNTIME, starters)
        working = services + self._connections(starters)
        if working and not findings:
            findings += self._stop(working, timeout)
        if not findings:  # only now: a unit that is blocked first loses its ExecStop with the reload
            self._link(RUNTIME, services)
        return findings

    def stop(self, record: ServiceRecord, names: Sequence[str], *, timeout: float) -> list[Finding]:
        for name in names:
            findings = self.stop_one(record, name, timeout)
            if findings:
                return findings
        return []

    def block(self, record: ServiceRecord, names: Sequence[str]) -> None:
        self._block(RUNTIME, record, names)

    def unblock(self, record: ServiceRecord, names: Sequence[str]) -> None:
        self._unlink([RUNTIME], record.group(names))

    def block_persistently(self, record: ServiceRecord, names: Sequence[str]) -> None:
        self._block(LASTING, record, names)

    def unblock_persistently(self, record: ServiceRecord, names: Sequence[str]) -> None:
        self._unlink([LASTING], record.group(names))

    def prove(self, record: ServiceRecord, names: Sequence[str]) -> list[Finding]:
        units = record.group(names)
        if not units:
            return []
        script = f"echo '@@ processes'\n{look.PROCESSES}\necho '@@ ports'\n{look.PORTS}\n"
        seen = look.sections(self._script(script).text)
        active = {unit: state for unit, state in self._states(units).items() if state.partition("/")[0] not in _DOWN}
        findings = [
            running(
                "services.active",
                f"{self.name}: {unit} is {state}.",
                f"Find out what keeps or starts it (systemctl status {unit}), end it there, then retry.",
                unit,
            )
            for unit, state in active.items()
        ]
        down = [unit for unit in units if unit.name not in active]
        processes = look.processes(seen.get("processes", []))
        findings += self._processes(down, processes) + self._containers(processes)
        return findings + self._ports(units, seen.get("ports", []))

    def restore(self, record: ServiceRecord, names: Sequence[str]) -> list[Finding]:
        units = record.group(names)
        self._unlink([RUNTIME, LASTING], units)
        findings = []
        backwards = list(reversed(units))
        for unit in sorted(backwards, key=lambda one: _START_ORDER.get(one.kind, 2)):
            if comes_and_goes(record, unit):
                continue
            verb = "start" if unit.active else "stop"
            done = self.connection.run(["systemctl", verb, "--", unit.name], timeout=150)
            if done.rc:
                said = " ".join(done.error_text.split())[-300:]
                findings.append(self._not_restored(unit, f"does not {verb}: {said}"))
        now = self.record()
        for unit in units:
            seen = now.unit(unit.name)
            as_active = seen is not None and (seen.active == unit.active or comes_and_goes(record, unit))
            if seen is None or not as_active or seen.start_mode != unit.start_mode:
                is_now = f"{seen.state}, {seen.start_mode}" if seen else "gone"
                findings.append(self._not_restored(unit, f"was {unit.state}, {unit.start_mode} and is {is_now}"))
        return findings

    # -- looks ---------------------------------------------------------------------------------------------

    def _states(self, units: Sequence[Unit]) -> dict[str, str]:
        """Name → "active/running"; a unit that systemd no longer knows is inactive."""
        names = [unit.name for unit in units]
        shown = self.connection.run(["systemctl", "show", "-p", "Id,ActiveState,SubState", "--", *names], check=True)
        states = {}
        for block in shown.text.split("\n\n"):
            values = dict(line.partition("=")[::2] for line in block.splitlines())
            states[values.get("Id", "")] = f"{values.get('ActiveState')}/{values.get('SubState')}"
        return {name: states.get(name, "inactive/dead") for name in names}

    def _connections(self, starters: Sequence[Unit]) -> list[Unit]:
        """What serves a connection each of these sockets: it goes on when the socket is stopped."""
        patterns = [f"{unit.name.removesuffix('.socket').partition('@')[0]}@*" for unit in starters if unit.accepts]
        if not patterns:
            return []
        listing = ["systemctl", "list-units", "--no-legend", "--plain", "--full", "--type=service", "--", *patterns]
        names = [line.split()[0] for line in self.connection.run(listing, check=True).text.splitlines() if line.strip()]
        served = [name for name in names if any(unit.serves(name) for unit in starters)]
        return [Unit(name, "service", active=True, state="") for name in served]

    def _processes(self, units: Sequence[Unit], processes: Sequence[look.Process]) -> list[Finding]:
        """Processes in the control groups of units and of what serves their connections, and recorded ones anywhere."""
        names = {unit.name for unit in units}
        recorded = {process: unit.name for unit in units for process in unit.processes}
        findings = []
        for process in processes:
            within = process.unit in names or any(unit.serves(process.unit) for unit in units)
            unit = process.unit if within else recorded.get((process.pid, process.started))
            if unit:
                findings.append(
                    running(
                        "services.process",
                        f"{self.name}: process {process.pid} ({process.name}) of {unit} outlived the stop.",
                        f"End it on the machine (kill {process.pid}) once it is clear what it does, then retry.",
                        unit,
                    )
                )
        return findings

    def _containers(self, processes: Sequence[look.Process]) -> list[Finding]:
        """Containers that no stopped service took down: they stand in no list of services and write all the same."""
        first = {one.container: one for one in reversed(processes) if one.container}
        return [
            running(
                "services.container",
                f"{self.name}: container {name} still runs (process {one.pid}, {one.name}).",
                f"Stop it on the machine (podman stop, docker stop, or kill {one.pid}), then retry."
                " Start it there again if the cutover is taken back: that starts services alone.",
                name,
            )
            for name, one in sorted(first.items())
        ]

    def _ports(self, units: Sequence[Unit], lines: list[str]) -> list[Finding]:
        owners = {port: unit.name for unit in units for port in unit.ports}
        return [
            running(
                "services.port",
                f"{self.name}: port {one.number} of {owners[one.number]} is still open, held by {one.holder}"
                f" ({', '.join(map(str, one.pids)) or 'no process id'}).",
                "Find the process that listens there and end it, then retry.",
                owners[one.number],
            )
            for one in {one.number: one for one in look.listeners(lines) if one.protocol == "tcp"}.values()
            if one.number in owners
        ]

    def _not_restored(self, unit: Unit, words: str) -> Finding:
        return running(
            "services.not_restored",
            f"{self.name}: {unit.name} {words}.",
            f"Look at `journalctl -u {unit.name}` on the machine, mend the cause, then retry.",
            unit.name,
        )

    def _refuse_kept(self, units: Sequence[Unit]) -> None:
        """Refuse to saw off the branch that we sit on."""
        groups = self.connection.run(["cat", "/proc/self/cgroup"], root=False, check=True).text
        ours = {part for part in re.split(r"[/\s]", groups) if part.endswith(".service")}
        if "migrationhub-access.service" not in ours:
            ours |= {"ssh.service", "sshd.service", "ssh.socket", "sshd.socket"}
        for unit in units:
            if unit.name in ours | _KEPT:
                raise Problem(
                    f"{self.name}: {unit.name} carries our access or the machine's base; it is not stopped.",
                    "Take it, or the service that it goes down with, out of the services to stop.",
                    code="services.kept",
                )

    # -- acts ----------------------------------------------------------------------------------------------

    def _script(self, script: str, timeout: float = 60.0) -> Result:
        return self.connection.run(["sh", "-s"], stdin=script.encode(), timeout=timeout, check=True)

    def _stop(self, units: Sequence[Unit], timeout: float) -> list[Finding]:
        words = shlex.join(_safe(unit.name) for unit in units)
        self._script(_STOP.format(units=words, seconds=max(1, int(timeout))), timeout + 30)
        return [
            running(
                "services.active",
                f"{self.name}: {unit} did not stop within {timeout:g} s: it is {state}.",
                "Wait and retry (systemd kills it after its TimeoutStopSec), or end it on the machine.",
                unit,
            )
            for unit, state in self._states(units).items()
            if state.partition("/")[0] not in _DOWN
        ]

    def _block(self, directory: str, record: ServiceRecord, names: Sequence[str]) -> None:
        units = record.group(names)
        self._refuse_kept(units)
        self._link(directory, units)

    def _link(self, directory: str, units: Iterable[Unit]) -> None:
        script = f"umask 022; mkdir -p {directory} || exit 1\n"
        for unit in units:
            where = shlex.quote(f"{directory}/{_safe(unit.name)}")
            script += (
                f"if [ -e {where} ] && [ ! -c {where} ]; then echo {where}; exit 3; fi\n"
                f"ln -sfn /dev/null {where} || exit 1\n"
            )
        done = self.connection.run(["sh", "-s"], stdin=(script + "systemctl daemon-reload\n").encode(), timeout=60)
        if done.rc == 3:
            raise Problem(
                f"{self.name}: {done.text.strip()} exists and is not ours: the service cannot be blocked there.",
                "Look who wrote it (systemctl edit and set-property do), remove it by hand, then retry.",
                code="services.block",
            )
        if done.rc:
            cause, act = cause_of(done.error_text)
            said = " ".join(done.error_text.split())[-300:]
            raise Problem(
                f"{self.name}: restarts could not be blocked below {directory}: {cause or said}.",
                act,
                code="services.block",
            )

    def _unlink(self, directories: Sequence[str], units: Iterable[Unit]) -> None:
        names = [_safe(unit.name) for unit in units]
        paths = [shlex.quote(f"{directory}/{name}") for directory in directories for name in names]
        script = "".join(f'[ "$(readlink {path})" != /dev/null ] || rm -f {path}\n' for path in paths)
        for directory in directories:
            script += f"rmdir {directory} 2>/dev/null\n"  # only where nothing is left in it
        self._script(f"{script}systemctl daemon-reload\n")


def comes_and_goes(record: ServiceRecord, unit: Unit) -> bool:
    """Whether it was active or not is nothing to bring back: a job that ends, or what was down until it is called for.

    To run a job once more is for its timer or for people, and one that its timer has begun is not cut.
    """
    starters = [record.unit(name) for name in unit.activators]
    return unit.ends or (not unit.active and any(starter is not None and starter.active for starter in starters))


def _safe(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9:_.@\\-]+", name):
        raise Problem(f"{name!r} is not a name of a unit.", "Correct the list of services.", code="services.name")
    return name
