"""The record of a machine under systemd, in one round trip."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from servers.remote.base import Connection
from servers.remote.services import look
from servers.remote.services.base import KINDS, ServiceRecord, Unit

OURS = ("migrationhub-",)
# Come and go with log-ins, devices and boots.
PASSING = (
    "run-",
    "session-",
    "user@",
    "user-runtime-dir@",
    "modprobe@",
    "getty@",
    "serial-getty@",
    "container-getty@",
    "systemd-fsck@",
    "systemd-coredump@",
    "dbus-:",
)

_SCRIPT = rf"""
export SYSTEMD_COLORS=0
say() {{ printf '@@ %s\n' "$1"; }}
kinds=service,socket,timer,path
say boot; cat /proc/sys/kernel/random/boot_id
say files; systemctl list-unit-files --no-legend --no-pager --plain --full --type=$kinds
say units
systemctl show --all --no-pager -p Id,LoadState,ActiveState,SubState,UnitFileState,MainPID,TriggeredBy,FragmentPath \
  -p RequiredBy,BoundBy,ConsistsOf,Type,RemainAfterExit,Accept '*.service' '*.socket' '*.timer' '*.path'
say processes
{look.PROCESSES}
say listeners
{look.PORTS}
say cron
for f in /etc/crontab /etc/cron.d/* /var/spool/cron/crontabs/* /var/spool/cron/*; do
  [ -f "$f" ] && sha256sum "$f" 2>/dev/null
done
say at; command -v atq >/dev/null && atq | sort
say containers
for engine in docker podman; do
  command -v $engine >/dev/null && timeout 10 $engine ps --format "$engine {{{{.Names}}}} {{{{.Image}}}}" 2>/dev/null
done
exit 0
"""


def take(connection: Connection) -> ServiceRecord:
    """All services, sockets, timers and paths; cron, at and containers.

    Also what is down, and how: a service that waits for its timer has that timer to be stopped with it.
    """
    result = connection.run(["sh", "-s"], stdin=_SCRIPT.encode(), timeout=120, limit=16 << 20, check=True)
    found = look.sections(result.text)
    running = look.processes(found.get("processes", []))
    processes: dict[str, list[look.Process]] = {}
    for process in running:
        processes.setdefault(process.unit, []).append(process)
    listeners = [one for one in look.listeners(found.get("listeners", [])) if one.protocol == "tcp"]
    logged_in = {process.pid for process in running if _of_log_in(process)}
    units = list(_units(found, processes, listeners))
    accepting = [unit for unit in units if unit.accepts]
    return ServiceRecord(
        taken_at=datetime.now(UTC).isoformat(),
        boot_id="".join(found.get("boot", [])).strip(),
        units=tuple(unit for unit in units if not any(socket.serves(unit.name) for socket in accepting)),
        listeners=tuple(
            sorted({f"{one.number} {one.holder}" for one in listeners if not _passing(one, logged_in)}),
        ),
        cron=tuple(_cron(line) for line in found.get("cron", []) if line),
        at_jobs=tuple(line for line in found.get("at", []) if line),
        containers=tuple(line for line in found.get("containers", []) if line),
    )


def _of_log_in(process: look.Process) -> bool:
    """Also where no log-in gets a scope of its own: then its sshd is told from the daemon by its parent."""
    return process.group.startswith("/user.slice/") or (
        process.name in ("sshd", "sshd-session") and process.parent != 1
    )


def _passing(listener: look.Listener, logged_in: set[int]) -> bool:
    """A port that SSH forwards, or that somebody tries on loopback: it comes and goes with who is logged in."""
    return listener.on_loopback and bool(listener.pids) and {*listener.pids} <= logged_in


def _cron(line: str) -> str:
    digest, _, path = line.partition("  ")
    return f"{path} {digest[:16]}"


def _units(
    found: dict[str, list[str]], processes: dict[str, list[look.Process]], listeners: list[look.Listener]
) -> Iterable[Unit]:
    modes = {words[0]: words[1] for line in found.get("files", []) if len(words := line.split()) >= 2}
    seen: set[str] = set()
    for block in "\n".join(found.get("units", [])).split("\n\n"):
        shown = dict(line.partition("=")[::2] for line in block.splitlines() if "=" in line)
        name = shown.get("Id", "")
        if not name or name.startswith((*OURS, *PASSING)) or shown.get("LoadState") in ("not-found", None):
            continue
        if shown.get("ActiveState") == "inactive" and name not in modes and not shown.get("TriggeredBy"):
            continue  # an instance that is in memory for the moment
        seen.add(name)
        yield _unit(name, shown, modes, processes.get(name, []), listeners)
    for name, mode in modes.items():
        if name not in seen and mode != "alias" and not name.startswith((*OURS, *PASSING)):
            yield Unit(name, name.rpartition(".")[2], active=False, state="inactive/dead", start_mode=mode)


def _unit(
    name: str,
    shown: dict[str, str],
    modes: dict[str, str],
    processes: list[look.Process],
    listeners: list[look.Listener],
) -> Unit:
    state = shown.get("ActiveState", "")
    pids = {process.pid for process in processes}
    masked = shown.get("LoadState") == "masked"
    below = [part for key in ("RequiredBy", "BoundBy", "ConsistsOf") for part in shown.get(key, "").split()]
    return Unit(
        name=name,
        kind=name.rpartition(".")[2],
        active=state in ("active", "reloading", "activating", "deactivating"),
        state=f"{state}/{shown.get('SubState', '')}",
        start_mode=modes.get(name) or ("" if masked else shown.get("UnitFileState", "")),
        pid=int(shown.get("MainPID") or 0),
        commands=tuple(dict.fromkeys(process.name for process in processes)),
        ports=tuple(sorted({one.number for one in listeners if pids & {*one.pids}})),
        activators=tuple(other for other in shown.get("TriggeredBy", "").split() if _is_kind(other)),
        parts=tuple(dict.fromkeys(part for part in below if _is_kind(part))),
        processes=tuple((process.pid, process.started) for process in processes),
        file=shown.get("FragmentPath", ""),
        ends=shown.get("Type") == "oneshot" and shown.get("RemainAfterExit") == "no",
        accepts=shown.get("Accept") == "yes",
    )


def _is_kind(name: str) -> bool:
    return name.rpartition(".")[2] in KINDS
