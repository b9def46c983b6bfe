"""What both managers read of a machine: processes, listening ports, sections of a script's output."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace

# One line per process: id, start time in clock ticks, parent, control group of systemd, name. Kernel threads
# (children of 2) are left out. A process that ends meanwhile is passed over.
PROCESSES = r"""
for p in /proc/[0-9]*; do
  { IFS= read -r stat < "$p/stat"; } 2>/dev/null || continue
  name=${stat#*\(}; name=${name%)*}
  set -f; set -- ${stat##*) }; set +f
  case $1$2 in Z*|?2) continue ;; esac
  unit=
  { while IFS= read -r line; do
    case $line in *:name=systemd:*|0::/?*) unit=${line#*:*:}; break ;; esac
  done < "$p/cgroup"; } 2>/dev/null || continue
  printf '%s %s %s %s %s\n' "${p#/proc/}" "${20}" "$2" "${unit:-/}" "$name"
done
"""
PORTS = "ss -Hlntup 2>/dev/null || echo absent"

# Control groups of containers: of docker, podman and Kubernetes by their id, of LXC by their name.
_CONTAINER = re.compile(
    r"(?:docker|libpod|nerdctl|cri-containerd|crio)[-/]([0-9a-f]{64})|/lxc(?:\.payload[./]|/)([^/]+)"
)


@dataclass(frozen=True)
class Process:
    pid: int
    started: int  # clock ticks since boot: with the id it names a process for good
    parent: int
    group: str  # path of its control group
    name: str

    @property
    def unit(self) -> str:
        """The machine's own systemd unit that it runs in: the first part of the path below slices, as systemd has it.

        What a container or a user's own manager calls its units is further down and none of the machine's.
        """
        first = next((part for part in self.group.split("/") if part and not part.endswith(".slice")), "")
        return first if re.search(r"\.(service|scope|socket|mount|swap)$", first) else ""

    @property
    def container(self) -> str:
        """The container that it runs in, where that is no part of a service of the machine: its id, cut, or name."""
        if self.unit.endswith(".service") and not self.unit.startswith("user@"):
            return ""
        found = _CONTAINER.search(self.group)
        return (found[1] or "")[:12] or found[2] if found else ""


@dataclass(frozen=True)
class Listener:
    protocol: str  # tcp | udp
    address: str  # "0.0.0.0:80", "[::]:80"
    pids: tuple[int, ...]
    names: tuple[str, ...]

    @property
    def number(self) -> int:
        """The port; 0 where it is none."""
        text = self.address.rpartition(":")[2]
        return int(text) if text.isdigit() else 0

    @property
    def on_loopback(self) -> bool:
        try:
            return ipaddress.ip_address(self.address.rpartition(":")[0].strip("[]")).is_loopback
        except ValueError:
            return False

    @property
    def holder(self) -> str:
        return ", ".join(self.names) or "?"


def sections(text: str) -> dict[str, list[str]]:
    """Lines under each "@@ name" line of a script's output."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("@@ "):
            lines = found.setdefault(line[3:].strip(), [])
        else:
            lines.append(line)
    return found


def processes(lines: list[str]) -> list[Process]:
    found = []
    for line in lines:
        words = line.split(" ", 4)
        if len(words) == 5 and words[0].isdigit():
            found.append(Process(int(words[0]), int(words[1]), int(words[2]), words[3], words[4]))
    # A machine that is a container itself may see its host's path before each of its own groups.
    root = next((one.group for one in found if one.pid == 1), "").removesuffix("/init.scope").rstrip("/")
    return [replace(one, group=one.group[len(root) :]) if one.group.startswith(f"{root}/") else one for one in found]


def listeners(lines: list[str]) -> list[Listener]:
    """What `ss -Hlntup` printed; the interface in "127.0.0.53%lo:53" is dropped."""
    found = []
    for line in lines:
        words = line.split(None, 6)
        if len(words) < 6:
            continue
        users = words[6] if len(words) > 6 else ""
        pids = tuple(sorted({int(pid) for pid in re.findall(r"pid=(\d+)", users)}))
        names = tuple(sorted(set(re.findall(r'\("([^"]*)",pid=', users))))
        found.append(Listener(words[0], re.sub(r"%[^:\]]*", "", words[4]), pids, names))
    return found
