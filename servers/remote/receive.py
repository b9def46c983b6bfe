"""Receive mode: a target on which nothing runs but its base, so that nothing writes while it is filled.

Base is what a target of ours under /run leaves active that wants sysinit.target, the journal, the network units
in use and our own sshd. It is `sysinit.target`, not `basic.target`: the latter brings every timer, socket and
path that the copied system has enabled. A restart ends receive mode by itself, as all of it lives under /run.
"""

from __future__ import annotations

import fnmatch
import shlex

from migrationhub.lib.findings import Finding, Level, Problem
from servers.remote import power
from servers.remote.base import Connection
from servers.remote.services import look

TARGET = "migrationhub-receive.target"
ACCESS = "migrationhub-access.service"
_LIST = "/run/migrationhub/received"  # what is held back
_PLACE = "/run/systemd/system.control"

# What sets up or keeps the network. With NetworkManager the message bus belongs to it.
NETWORK = (
    "networking.service",
    "ifupdown-pre.service",
    "ifup@*.service",
    "systemd-networkd.service",
    "systemd-networkd.socket",
    "systemd-networkd-wait-online.service",
    "systemd-network-generator.service",
    "systemd-resolved.service",
    "NetworkManager.service",
    "NetworkManager-wait-online.service",
    "network.service",
    "wicked*.service",
    "dhcpcd*.service",
)
_BUS = ("dbus.service", "dbus.socket", "dbus-broker.service")
# Early services of systemd and the distribution: storage, devices, the journal. They serve no data.
EARLY = (
    "systemd-journald*.service",
    "systemd-journald*.socket",
    "systemd-journal-flush.service",
    "systemd-journal-catalog-update.service",
    "systemd-udev*.service",
    "systemd-udevd-*.socket",
    "systemd-tmpfiles-setup*.service",
    "systemd-sysusers.service",
    "systemd-sysctl.service",
    "systemd-remount-fs.service",
    "systemd-modules-load.service",
    "systemd-random-seed.service",
    "systemd-update-utmp.service",
    "systemd-update-done.service",
    "systemd-hwdb-update.service",
    "systemd-machine-id-commit.service",
    "systemd-boot-*.service",
    "systemd-pcr*.service",
    "systemd-binfmt.service",
    "systemd-fsck*.service",
    "systemd-growfs*.service",
    "systemd-cryptsetup@*.service",
    "systemd-ask-password-*.path",
    "systemd-fsckd.socket",
    "systemd-battery-check.service",
    "systemd-firstboot.service",
    "systemd-vconsole-setup.service",
    "ldconfig.service",
    "modprobe@*.service",
    "kmod-static-nodes.service",
    "keyboard-setup.service",
    "console-setup.service",
    "apparmor.service",
    "selinux-*.service",
    "dracut-*.service",
    "import-state.service",
    "blk-availability.service",
    "lvm2-monitor.service",
    "lvm2-lvmpolld.socket",
    "multipathd.service",
    "multipathd.socket",
    "mdmonitor.service",
    "finalrd.service",
    "plymouth*.service",
    "init.scope",
)
_KINDS_OF_BASE = ("mount", "automount", "swap", "device", "slice", "target")

_ENTER = r"""
export SYSTEMD_COLORS=0
active() {{ systemctl list-units --no-legend --plain --full --state=active,activating,reloading,deactivating "$@" |
  while read -r unit rest; do echo "$unit"; done; }}
is_base() {{ case $1 in {base}) return 0 ;; esac; return 1; }}
hold() {{
  mkdir -p {place} /run/migrationhub
  for unit do
    is_base "$unit" && continue
    if [ -e "{place}/$unit" ] || [ -L "{place}/$unit" ]; then continue; fi
    printf '%s\n' "$unit" >> {list}; ln -s /dev/null "{place}/$unit"
  done
  systemctl daemon-reload
}}
settle() {{
  while [ -n "$(systemctl list-jobs --no-legend --plain 2>/dev/null)" ] && [ "$(date +%s)" -lt "$end" ]; do
    sleep 0.2
  done
}}
end=$(( $(date +%s) + {seconds} ))
wanted=$(active | while read -r unit; do case $unit in {network}) echo "$unit" ;; esac; done)
mkdir -p /run/systemd/system /run/migrationhub
cat > /run/systemd/system/{target} <<E
[Unit]
Description=Base only: this machine is being filled by migrationhub
Requires=sysinit.target
After=sysinit.target
Wants={access} systemd-journald.service $(echo $wanted)
AllowIsolate=yes
E
systemctl daemon-reload || exit 1
# What starts others goes first, then all at once, then what isolation spares (sessions, units that ignore it).
starters=$(active --type=timer,socket,path; systemctl list-unit-files --no-legend --plain --full \
  --type=timer,socket,path --state=enabled,enabled-runtime | while read -r unit rest; do echo "$unit"; done)
services=$(active --type=service)
set --; for unit in $starters; do is_base "$unit" || set -- "$@" "$unit"; done
[ $# = 0 ] || systemctl stop --no-block -- "$@"
hold "$@"
systemctl isolate --no-block {target} || exit 1
settle
rest=$(active --type=service,scope)
set --; for unit in $rest; do is_base "$unit" || set -- "$@" "$unit"; done
if [ $# != 0 ]; then
  systemctl stop --no-block -- "$@"
  settle
  # The machine is filled anew: what does not end in time is ended.
  for unit do
    case $(systemctl show -p ActiveState --value -- "$unit") in
    active|deactivating|activating|reloading) systemctl kill --signal=KILL -- "$unit" ;;
    esac
  done
  end=$(( $(date +%s) + 5 )); settle
fi
# Only now: a unit that is held back has lost its stop commands.
set --; for unit in $services $rest; do case $unit in *.service) set -- "$@" "$unit" ;; esac; done
hold "$@"
# Sessions and whatever else its unit left behind when it stopped.
left() {{ sh -c "$processes" | while read -r pid started parent group name; do
  unit=; for part in $(echo "$group" | tr / ' '); do case $part in *.service|*.scope|*.socket) unit=$part ;; esac; done
  [ -z "$unit" ] || is_base "$unit" || echo "$pid"
done; }}
for signal in TERM KILL; do
  pids=$(left); [ -n "$pids" ] || break
  kill -$signal $pids 2>/dev/null
  for n in 1 2 3 4 5 6 7 8 9 10; do [ -n "$(left)" ] || break; sleep 0.2; done
done
exit 0
"""

_PROVE = rf"""
export SYSTEMD_COLORS=0
echo '@@ target'; systemctl is-active {TARGET}
echo '@@ units'
systemctl list-units --no-legend --plain --full --state=active,activating,reloading,deactivating
echo '@@ processes'
{look.PROCESSES}
exit 0
"""


def enter(connection: Connection, *, timeout: float = 120.0) -> None:
    """Stop and hold back everything that is not base, waiting up to `timeout` seconds; may be repeated.

    Call `prove` for what came of it. `Problem` where the connection does not come through our own sshd, as the
    stop would cut it, and on hosts under supervisord, where only recorded services are stopped.
    """
    _refuse(connection)
    units = "|".join(pattern for pattern in (*EARLY, *NETWORK, *_bus(connection), ACCESS))
    script = _ENTER.format(
        base="|".join((units, *(f"*.{kind}" for kind in _KINDS_OF_BASE))),
        network="|".join((*NETWORK, *_bus(connection))),
        place=_PLACE,
        list=_LIST,
        target=TARGET,
        access=ACCESS,
        seconds=max(1, int(timeout)),
    )
    script = f"processes={shlex.quote(look.PROCESSES)}\n{script}"
    connection.run(["sh", "-s"], stdin=script.encode(), timeout=timeout + 60, check=True)


def prove(connection: Connection) -> list[Finding]:
    """Empty where the machine is in receive mode and nothing but base is active or has a process."""
    name = connection.endpoint.name
    found = look.sections(connection.run(["sh", "-s"], stdin=_PROVE.encode(), timeout=60, check=True).text)
    findings = []
    if found.get("target", [""])[0] != "active":
        findings.append(
            Finding(
                Level.BLOCKING,
                "receive.not_entered",
                f"{name}: is not in receive mode; it was restarted or never entered it.",
                "Enter receive mode before anything is sent.",
                TARGET,
            )
        )
    units = [words[:4] for line in found.get("units", []) if len(words := line.split(None, 4)) >= 4]
    with_bus = any(words[0] == "NetworkManager.service" for words in units)
    for unit, _, state, detail in units:
        if not is_base(unit, with_bus=with_bus):
            findings.append(
                Finding(
                    Level.BLOCKING,
                    "receive.unit_active",
                    f"{name}: {unit} is still {state} ({detail}) in receive mode.",
                    f"Find out what keeps it (systemctl status {unit}), stop it, then try again.",
                    unit,
                )
            )
    findings += [
        Finding(
            Level.BLOCKING,
            "receive.process_left",
            f"{name}: process {process.pid} ({process.name}) of {process.unit or process.group} is left "
            "in receive mode.",
            f"End it on the machine (kill {process.pid}), then try again.",
            process.unit or process.name,
        )
        for process in look.processes(found.get("processes", []))
        # A control group outside of this machine's own tree: the hypervisor's agent at work, not a service.
        if not process.group.startswith("/..") and not (process.unit and is_base(process.unit, with_bus=with_bus))
    ]
    return findings


def leave(connection: Connection) -> None:
    """Restart the machine; returns before it happens. What it runs next is what the sync brought, and all of it.

    Starting again without a restart would run programs, libraries and units that were replaced below the running
    system. What was held back lives under /run and is gone with it.
    """
    power.reboot(connection)


def is_base(unit: str, *, with_bus: bool = False) -> bool:
    """Whether a unit may stay active in receive mode."""
    if unit.rpartition(".")[2] in _KINDS_OF_BASE:
        return True
    patterns = (*EARLY, *NETWORK, ACCESS, *(_BUS if with_bus else ()))
    return any(fnmatch.fnmatchcase(unit, pattern) for pattern in patterns)


def _bus(connection: Connection) -> tuple[str, ...]:
    active = connection.run(["systemctl", "-q", "is-active", "NetworkManager.service"]).rc == 0
    return _BUS if active else ()


def _refuse(connection: Connection) -> None:
    name = connection.endpoint.name
    if connection.endpoint.manager != "systemd":
        raise Problem(
            f"{name}: receive mode does not apply to a host under supervisord.",
            "Stop its recorded services instead.",
            code="receive.not_applicable",
        )
    groups = connection.run(["cat", "/proc/self/cgroup"]).text
    if f"/{ACCESS}" not in groups:
        raise Problem(
            f"{name}: receive mode is refused over this connection: it would end with the machine's own sshd.",
            f"Open our access on the machine and connect to its port ({shlex.quote(ACCESS)}).",
            code="receive.foreign_connection",
        )
