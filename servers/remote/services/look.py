"""What both managers read of a machine: processes, listening ports, sections of a script's output."""

from __future__ import annotations

import re
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Process:
    pid: int
    started: int  # clock ticks since boot: with the id it names a process for good
    parent: int
    group: str  # path of its control group
    name: str

    @property
    def unit(self) -> str:
        """The systemd unit that it runs in: the last part of the path with a unit's suffix."""
        parts = [part for part in self.group.split("/") if re.search(r"\.(service|scope|socket|mount|swap)$", part)]
        return parts[-1] if parts else ""


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
    return found


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
