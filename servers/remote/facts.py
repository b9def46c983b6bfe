"""Facts of a machine: `gather`. Everything is JSON; what could not be read is missing or empty."""

from __future__ import annotations

import re
import shlex
import time
from typing import Any

from servers.remote.base import Connection
from servers.remote.facts_scripts import SUPERVISORD, SYSTEMD
from servers.remote.services.look import listeners, sections

Sections = dict[str, list[str]]
_TIMEOUT = 120.0  # seconds: a mount that hangs is limited by the script itself

# File systems that hold no data of the machine.
_PSEUDO = {
    "autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs", "efivarfs",
    "fusectl", "hugetlbfs", "mqueue", "proc", "pstore", "ramfs", "securityfs", "sysfs", "tmpfs", "tracefs", "nsfs",
}  # fmt: skip
_SNAPSHOT_BY_TYPE = {"btrfs": "btrfs", "zfs": "zfs"}


def gather(connection: Connection) -> dict[str, Any]:
    """What the machine is, as of now, in two round trips. Sizes in bytes, `clock.offset` in seconds ahead of the hub.

    On a host under supervisord limited to its directory, its programs and its address. Raises `RemoteProblem`.
    """
    endpoint = connection.endpoint
    process_host = endpoint.manager == "supervisord"
    script = f"cd {shlex.quote(endpoint.directory)} || exit 1\n{SUPERVISORD}" if process_host else SYSTEMD
    result = connection.run(["sh", "-s"], stdin=script.encode(), timeout=_TIMEOUT, limit=16 << 20, check=True)
    found = sections(result.text)
    facts = {
        "os": _os(found),
        "kernel": _line(found, "kernel"),
        "architecture": _line(found, "kernel", 1),
        "cpus": _number(_line(found, "cpus")),
        **_memory(found),
        "hostname": endpoint.name if process_host else _line(found, "hostname"),
        "machine_id": _line(found, "machine_id"),
        "boot_id": _line(found, "boot_id"),
        "uptime": float(_line(found, "uptime").split()[0]) if _line(found, "uptime") else None,
        "virtualization": _line(found, "virtualization"),
        "manager": endpoint.manager,
        "file_systems": _file_systems(found, process_host),
        "listening": _listening(found, endpoint.address if process_host else ""),
        "resolvers": [line.split()[1] for line in found.get("resolvers", []) if re.match(r"nameserver\s+\S", line)],
        "tools": _tools(found),
        "databases": _databases(found),
        "clock": _clock(connection),
    }
    return facts | (_of_process_host(found, endpoint.address) if process_host else _of_system(found))


def _of_process_host(found: Sections, address: str) -> dict[str, Any]:
    programs = [line.split() for line in found.get("programs", [])]
    return {
        "mounts": [],
        "addresses": [{"interface": "", "address": address, "family": "inet", "cidr": ""}],
        "default_route": {},
        "network": {"kind": "other", "files": []},
        "units": [
            {"name": words[0], "active": words[1].lower(), "detail": words[1], "start_mode": ""}
            for words in programs
            if len(words) > 1 and words[1].isupper()
        ],
        "package_count": None,
        "usr": "",
        "boot": [],
        "modules": [],
        "root": {"type": "", "device": "", "snapshot": ""},
    }


def _of_system(found: Sections) -> dict[str, Any]:
    mounts = [
        {"device": _unescape(words[0]), "mount": _unescape(words[1]), "type": words[2], "options": words[3]}
        for line in found.get("mounts", [])
        if len(words := line.split()) >= 4
    ]
    usr = dict(line.split() for line in found.get("usr", []))
    return {
        "mounts": [mount for mount in mounts if mount["type"] not in _PSEUDO],
        "addresses": _addresses(found),
        "default_route": _default_route(found),
        "network": _network(found),
        "units": _units(found),
        "package_count": _number(_line(found, "packages")),
        "usr": "merged" if usr and all(word == "merged" for word in usr.values()) else "split",
        "boot": found.get("boot", []),
        "modules": found.get("modules", []),
        "root": _root(found, mounts),
    }


def _line(found: Sections, name: str, index: int = 0) -> str:
    lines = found.get(name, [])
    return lines[index].strip() if index < len(lines) else ""


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def _unescape(text: str) -> str:
    """/proc/mounts writes blanks as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _os(found: Sections) -> dict[str, str]:
    values = {}
    for line in found.get("os", []):
        key, equals, value = line.partition("=")
        if equals:
            try:
                values[key] = " ".join(shlex.split(value))
            except ValueError:
                values[key] = value.strip("\"'")
    return {
        "id": values.get("ID", ""),
        "like": values.get("ID_LIKE", ""),
        "version": values.get("VERSION_ID", ""),
        "codename": values.get("VERSION_CODENAME", ""),
        "name": values.get("PRETTY_NAME", ""),
    }


def _memory(found: Sections) -> dict[str, int | None]:
    kib = dict(line.split()[:2] for line in found.get("memory", []) if len(line.split()) >= 2)

    def size(key: str) -> int | None:
        return int(kib[key]) * 1024 if key in kib else None

    return {"memory": size("MemTotal:"), "memory_available": size("MemAvailable:"), "swap": size("SwapTotal:")}


def _file_systems(found: Sections, process_host: bool) -> list[dict[str, Any]]:
    """From `df -PTB1` and `df -Pi`; the mount point is the last column and may hold blanks."""
    inodes = {}
    for line in found.get("inodes", [])[1:]:
        words = line.split(None, 5)
        if len(words) == 6:
            inodes[words[5]] = (_number(words[1]), _number(words[3]))
    systems = []
    for line in found.get("space", [])[1:]:
        words = line.split(None, 6)
        if len(words) != 7 or (words[1] in _PSEUDO and not process_host):
            continue
        total, free = inodes.get(words[6], (None, None))
        systems.append(
            {
                "device": words[0],
                "type": words[1],
                "mount": words[6],
                "size": _number(words[2]),
                "used": _number(words[3]),
                "free": _number(words[4]),
                "inodes": total,
                "inodes_free": free,
            }
        )
    return systems


def _listening(found: Sections, own_address: str) -> list[dict[str, Any]]:
    """Ports with the process's name; on a process host those of its own address alone."""
    ports = []
    for listener in listeners(found.get("ports", [])):
        address, _, port = listener.address.rpartition(":")
        address = address.strip("[]")
        if own_address and address != own_address:
            continue
        if port.isdigit():
            process = ", ".join(listener.names)
            ports.append({"protocol": listener.protocol, "address": address, "port": int(port), "process": process})
    return sorted(ports, key=lambda entry: (entry["port"], entry["protocol"], entry["address"]))


def _tools(found: Sections) -> dict[str, Any]:
    paths = dict(line.split(None, 1) for line in found.get("tools", []) if " " in line)
    version = re.search(r"rsync\s+version\s+v?(\d[\w.]*)", _line(found, "rsync"))
    python = re.search(r"Python\s+(\S+)", _line(found, "python"))
    return {
        "paths": paths,
        "rsync": version[1] if version else "",
        "rsync_capabilities": sorted(
            {
                word
                for line in found.get("rsync", [])
                for word in re.findall(r"\b(?:ACLs|xattrs|hardlinks|symlinks|prealloc)\b", line)
                if f"no {word}" not in line
            }
        ),
        "python3": python[1] if python else "",
    }


def _databases(found: Sections) -> list[dict[str, Any]]:
    """Database directories and whether something has them open: such files need a freeze, a snapshot or a stop."""
    rows = [line.split("\t") for line in found.get("databases", []) if line.count("\t") == 3]
    kinds = {"postgres": "postgresql", "postmaster": "postgresql", "mysqld": "mysql", "mariadbd": "mysql"}
    names = {"mongod": "mongodb", "redis-server": "redis", "slapd": "ldap"}
    databases: dict[tuple[str, str], dict[str, Any]] = {}
    for state, name, pid, path in rows:
        kind = kinds.get(name, names.get(name, name))
        entry = databases.setdefault((kind, path), {"kind": kind, "path": path, "open": False, "pid": None})
        if state == "open":
            entry.update(open=True, pid=entry["pid"] or _number(pid))
    return sorted(databases.values(), key=lambda entry: (entry["kind"], entry["path"]))


def _clock(connection: Connection) -> dict[str, float | None]:
    """The machine's clock against ours, in a round trip of its own: the offset is no better than half of it."""
    before = time.time()
    text = connection.run(["date", "+%s.%N"], root=False, check=True).text.strip()
    after = time.time()
    trip = round(after - before, 3)
    try:
        epoch = float(text)
    except ValueError:
        return {"epoch": None, "offset": None, "round_trip": trip}
    return {"epoch": epoch, "offset": round(epoch - (before + after) / 2, 3), "round_trip": trip}


def _addresses(found: Sections) -> list[dict[str, Any]]:
    macs = {}
    for line in found.get("links", []):
        match = re.match(r"\d+:\s+([^:@\s]+).*link/\S+\s+([0-9a-f:]{17})", line)
        if match:
            macs[match[1]] = match[2]
    addresses: list[dict[str, Any]] = []
    for line in found.get("addresses", []):
        words = line.split()
        if len(words) < 4 or words[2] not in ("inet", "inet6") or words[1] == "lo" or "scope link" in line:
            continue
        addresses.append(
            {
                "interface": words[1],
                "family": words[2],
                "address": words[3].partition("/")[0],
                "cidr": words[3],
                "mac": macs.get(words[1], ""),
                "dynamic": " dynamic" in line,
            }
        )
    return addresses


def _default_route(found: Sections) -> dict[str, str]:
    """The first default route; {} where there is none."""
    for line in found.get("routes", []):
        words = line.split()
        named = dict(zip(words[1::2], words[2::2], strict=False))
        if words[:1] == ["default"] and named.get("via"):
            return {"gateway": named["via"], "interface": named.get("dev", "")}
    return {}


def _network(found: Sections) -> dict[str, Any]:
    """What configures the network: netplan where it has files, else the manager that is active and has some."""
    rows = [line.split(None, 1) for line in found.get("network", []) if " " in line]
    active = [value for key, value in rows if key == "active"]
    files: dict[str, list[str]] = {}
    for key, value in rows:
        if key != "active":
            files.setdefault(key, []).append(value)
    if "netplan" in files:
        kind = "netplan"
    elif "NetworkManager" in active:
        kind = "NetworkManager"
    elif "systemd-networkd" in active and "networkd" in files:
        kind = "networkd"
    elif "networking" in active and "ifupdown" in files:
        kind = "ifupdown"
    else:
        kind = "other"
    return {"kind": kind, "files": sorted(set(files.get(kind, []))), "active": active}


def _units(found: Sections) -> list[dict[str, str]]:
    modes = {words[0]: words[1] for line in found.get("unit_files", []) if len(words := line.split()) > 1}
    units = []
    for line in found.get("units", []):
        words = line.split(None, 4)
        if len(words) >= 4 and words[1] != "not-found":
            mode = modes.get(words[0]) or modes.get(re.sub(r"@[^.]*\.", "@.", words[0]), "")
            units.append({"name": words[0], "active": words[2], "detail": words[3], "start_mode": mode})
    return units


def _root(found: Sections, mounts: list[dict[str, str]]) -> dict[str, str]:
    """The root file system and by what it can be snapshotted ("" = not)."""
    root = next((mount for mount in reversed(mounts) if mount["mount"] == "/"), None)
    if root is None:
        return {"type": "", "device": "", "snapshot": ""}
    snapshot = _SNAPSHOT_BY_TYPE.get(root["type"], "")
    if snapshot == "btrfs" and not found.get("btrfs"):
        snapshot = ""  # not the root of a subvolume, or no btrfs program
    if snapshot == "zfs" and not any(line.startswith("zfs ") for line in found.get("tools", [])):
        snapshot = ""
    lvm = _line(found, "lvm").split()
    if not snapshot and len(lvm) == 2 and (_number(lvm[1]) or 0) > 0:
        snapshot = "lvm"
    return {"type": root["type"], "device": root["device"], "snapshot": snapshot}
