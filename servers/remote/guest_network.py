"""How a guest configures its network: what it has now, and the text of its files with another address.

Two ways are known: ifupdown (/etc/network/interfaces) and systemd-networkd (*.network). The rewritten text names
interfaces by pattern, because another network card brings another MAC address and may bring another name.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatch
from typing import Any

from servers.remote.base import Connection

LOGICAL = "production"  # ifupdown's own name for what the pattern matches
COMMENT = "# Written for the move to the production network; the old file is kept for the undo."
_PATTERNS = ("en*", "eth*")
_KEYWORDS = {"iface", "auto", "mapping", "source", "source-directory", "rename", "template", "no-auto-down"}
_OTHERS = (
    ("NetworkManager", "NetworkManager", "/etc/NetworkManager"),
    ("wicked", "wicked", "/etc/sysconfig/network/ifcfg-{interface}"),
    ("network", "network.service", "/etc/sysconfig/network-scripts/ifcfg-{interface}"),
)
_SEARCH = re.compile(r"^\s*(?:search|domain)\s+(.+)", re.MULTILINE)


@dataclass(frozen=True)
class NewAddress:
    """What the guest is to have from its next boot. `address` with prefix; `interface` only where it has several."""

    address: str
    gateway: str = ""
    resolvers: tuple[str, ...] = ()  # none: the resolvers stay as they are
    search: tuple[str, ...] = ()
    interface: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def family(self) -> str:
        return "inet6" if ipaddress.ip_interface(self.address).version == 6 else "inet"


@dataclass(frozen=True)
class AddressConfig:
    """What a guest has now, and by whose file. `kind`: ifupdown | networkd | other (`detail` says what)."""

    kind: str
    interface: str = ""
    addresses: tuple[str, ...] = ()
    gateway: str = ""
    resolvers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    where: str = ""  # the file that configures the interface
    detail: str = ""  # netplan | NetworkManager | wicked | network.service | unknown
    renderer: str = ""  # what netplan writes its files for: networkd | NetworkManager, "" where it does not show
    interfaces: tuple[str, ...] = ()  # network cards
    stacked: str = ""  # the interface is a bridge, bond or vlan on top of a card
    resolv_link: str = ""  # target of /etc/resolv.conf; "" where it is a plain file or absent
    cloud_init: bool = False
    files: dict[str, str] = field(default_factory=dict)  # ifupdown: its files and their text; networkd: drop-ins

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def as_new(self) -> NewAddress:
        """The same address for another machine: *take over*. Raises ValueError where there is none."""
        if not self.addresses:
            raise ValueError("there is no address to take over")
        return NewAddress(self.addresses[0], self.gateway, self.resolvers, self.search)


_LOOK = r"""
section() { printf '\n== %s\n' "$1"; }
section link; ip -j -d link show
section addr; ip -j addr show scope global
section route; ip -j route show default
section route6; ip -j -6 route show default
section resolvlink; [ -L /etc/resolv.conf ] && readlink /etc/resolv.conf
section resolv; cat /etc/resolv.conf 2>/dev/null
section active; for unit in systemd-networkd NetworkManager wicked network; do
  systemctl -q is-active $unit && echo $unit; done
section networkd; for file in /run/systemd/netif/links/*; do
  [ -f "$file" ] && echo "${file##*/} $(sed -n 's/^NETWORK_FILE=//p' "$file")"; done
section netplan; ls /etc/netplan/*.yaml /run/netplan/*.yaml 2>/dev/null
section cloudinit; command -v cloud-init
section ifquery; command -v ifquery >/dev/null && ifquery --state 2>/dev/null
section end
"""


def read_config(connection: Connection) -> AddressConfig:
    """What the guest has now. Raises `CommandFailed` or `Unreachable`."""
    text = connection.run(_LOOK, timeout=30).text
    parts = dict(re.findall(r"^== (\w+)\n(.*?)(?=^== |\Z)", text, re.MULTILINE | re.DOTALL))
    links, addresses = _json(parts, "link"), _json(parts, "addr")
    default = min(_json(parts, "route") or _json(parts, "route6"), key=_metric, default={})
    cards = tuple(link["ifname"] for link in links if _is_card(link))
    own = {entry["ifname"]: _addresses(entry) for entry in addresses if entry.get("ifname") != "lo"}
    interface = default.get("dev") or next((name for name in own if own[name]), "") or next(iter(cards), "")
    link = next((entry for entry in links if entry["ifname"] == interface), {})
    resolv = parts.get("resolv", "")
    common: dict[str, Any] = {
        "interface": interface,
        "addresses": own.get(interface, ()),
        "gateway": default.get("gateway", ""),
        "resolvers": tuple(re.findall(r"^\s*nameserver\s+(\S+)", resolv, re.MULTILINE)),
        "search": _search(resolv),
        "interfaces": cards,
        "stacked": link.get("linkinfo", {}).get("info_kind", "") if link and not _is_card(link) else "",
        "resolv_link": parts.get("resolvlink", "").strip(),
        "cloud_init": bool(parts.get("cloudinit", "").strip()),
    }
    return _with_kind(connection, parts, str(link.get("ifindex", "")), common)


def _with_kind(connection: Connection, parts: dict[str, str], index: str, common: dict[str, Any]) -> AddressConfig:
    active = parts.get("active", "").split()
    by_networkd = dict(line.split(None, 1) for line in parts.get("networkd", "").splitlines() if "/" in line)
    where = by_networkd.get(index, "").strip() if "systemd-networkd" in active else ""
    if parts.get("netplan", "").strip():
        first = parts["netplan"].split()[0]
        return AddressConfig("other", detail="netplan", renderer=_renderer(active, where), where=first, **common)
    if where:
        return AddressConfig("networkd", where=where, files=_read(connection, [f"{_in_etc(where)}.d/*.conf"]), **common)
    files = _ifupdown_files(connection)
    raised = {line.partition("=")[0] for line in parts.get("ifquery", "").split()}
    stanza = next((path for path, text in files.items() if _has_stanza(text, common["interface"])), "")
    if stanza and (raised or "NetworkManager" not in active):
        return AddressConfig("ifupdown", where=stanza, files=files, **common)
    # In this order: “network” is another name of the other two on SUSE, and has files of its own on Red Hat.
    for unit, detail, place in _OTHERS:
        if unit in active:
            return AddressConfig("other", detail=detail, where=place.format(**common), **common)
    return AddressConfig("other", detail="unknown", **common)


def _renderer(active: Sequence[str], by_networkd: str) -> str:
    """Told by who has the interface; one that runs and has it not leaves it to the other."""
    if by_networkd or active == ["systemd-networkd"]:
        return "networkd"
    return "NetworkManager" if "NetworkManager" in active else ""


def networkd_text(new: NewAddress, config: AddressConfig) -> str:
    """A whole .network file."""
    names = new.interface or " ".join(_patterns(config.interface))
    lines = [COMMENT, "[Match]", f"Name={names}"]
    if not new.interface:
        lines.append("Type=ether")  # not the VLANs on top of the card
    lines += ["", "[Network]", f"Address={new.address}"]
    lines += [f"Gateway={new.gateway}"] if new.gateway else []
    lines += [f"DNS={resolver}" for resolver in new.resolvers or config.resolvers]
    search = new.search or config.search
    lines += [f"Domains={' '.join(search)}"] if search else []
    return "\n".join([*lines, ""])


def networkd_path(config: AddressConfig) -> str:
    """The file that configures the card now; in /etc, where it hides one of the same name in /run or /usr/lib."""
    return _in_etc(config.where)


def ifupdown_texts(new: NewAddress, config: AddressConfig) -> dict[str, str]:
    """The files that change and the main one, with their new text: the card's old stanzas gone, the new one last."""
    main = "/etc/network/interfaces"
    if new.interface:
        gone, name, start = {config.interface, new.interface, LOGICAL}, new.interface, f"auto {new.interface}"
    else:
        gone, name = {config.interface, *config.interfaces, LOGICAL}, LOGICAL
        pattern = "/e[nt]*/1" if fnmatch(config.interface or "eth", "e[nt]*") else config.interface
        start = f"auto {pattern}={LOGICAL}"
    texts = {path: _without(text, gone) for path, text in config.files.items()}
    lines = [COMMENT, start, f"iface {name} {new.family} static", f"    address {new.address}"]
    lines += [f"    gateway {new.gateway}"] if new.gateway else []
    resolvers, search = new.resolvers or config.resolvers, new.search or config.search
    lines += [f"    dns-nameservers {' '.join(resolvers)}"] if resolvers else []
    lines += [f"    dns-search {' '.join(search)}"] if search else []
    texts[main] = texts.get(main, "").rstrip("\n") + "\n\n" + "\n".join(lines) + "\n"
    return {path: text for path, text in texts.items() if path == main or text != config.files[path]}


def resolv_text(new: NewAddress, old: str) -> str:
    """resolv.conf with the new resolvers; its options stay."""
    kept = [line for line in old.splitlines() if line.split()[:1] in (["options"], ["sortlist"])]
    search = " ".join(new.search or _search(old))
    lines = [f"search {search}"] if search else []
    lines += [f"nameserver {resolver}" for resolver in new.resolvers]
    return "\n".join([*lines, *kept, ""])


def _patterns(interface: str) -> tuple[str, ...]:
    covered = not interface or any(fnmatch(interface, pattern) for pattern in _PATTERNS)
    return _PATTERNS if covered else (*_PATTERNS, interface)


def _search(resolv: str) -> tuple[str, ...]:
    """The search list of a resolv.conf: its last line counts."""
    return tuple(" ".join(_SEARCH.findall(resolv)[-1:]).split())


def _in_etc(where: str) -> str:
    return f"/etc/systemd/network/{where.rpartition('/')[2]}"


def _json(parts: dict[str, str], name: str) -> list[dict[str, Any]]:
    text = parts.get(name, "").strip()
    found = json.loads(text) if text else []
    return [entry for entry in found if entry.get("ifname") or entry.get("dev")]


def _metric(route: dict[str, Any]) -> int:
    return int(route.get("metric", 0))


def _addresses(entry: dict[str, Any]) -> tuple[str, ...]:
    return tuple(f"{one['local']}/{one['prefixlen']}" for one in entry.get("addr_info", ()) if "local" in one)


def _is_card(link: dict[str, Any]) -> bool:
    """A network card: ethernet with nothing below it. A container's veth under a card's name counts as one."""
    kind = link.get("linkinfo", {}).get("info_kind", "")
    named = any(fnmatch(link["ifname"], pattern) for pattern in _PATTERNS)
    return link.get("link_type") == "ether" and (not kind or (kind == "veth" and named))


def _ifupdown_files(connection: Connection) -> dict[str, str]:
    """/etc/network/interfaces and every file that it takes in, in the order of reading."""
    files = _read(connection, ["/etc/network/interfaces"])
    waiting = list(files)
    while waiting:
        patterns = []
        for line in files[waiting.pop(0)].splitlines():
            words = line.split()
            if words[:1] in (["source"], ["source-directory"]):
                patterns += [f"{word}/*" if words[0] == "source-directory" else word for word in words[1:]]
        found = _read(connection, [word if word[0] == "/" else f"/etc/network/{word}" for word in patterns])
        waiting += [path for path in found if path not in files]
        files = {**found, **files}
    return files


def _read(connection: Connection, patterns: list[str]) -> dict[str, str]:
    """Text of the files that match; a pattern with anything but path characters and globs is quoted whole."""
    safe = [word if re.fullmatch(r"[\w./*?\[\]@:+-]+", word) else shlex.quote(word) for word in patterns]
    if not safe:
        return {}
    script = f'for file in {" ".join(safe)}; do [ -f "$file" ] && echo "$file $(base64 -w0 "$file")"; done; :'
    result = connection.run(script, check=True)
    return {path: _decoded(data) for path, _, data in (line.partition(" ") for line in result.text.splitlines())}


def _decoded(data: str) -> str:
    return base64.b64decode(data).decode("utf-8", "surrogateescape")


def _has_stanza(text: str, interface: str) -> bool:
    return bool(re.search(rf"^\s*iface\s+({re.escape(interface)}|{LOGICAL})\s", text, re.MULTILINE))


def _without(text: str, names: set[str]) -> str:
    """The text without the stanzas and `auto` words of these interfaces; all else stays byte by byte."""
    kept: list[str] = []
    dropping = False
    for line in re.findall(r"(?:.*\\\n)*.*\n|.+\Z", text):
        words = line.replace("\\\n", " ").split()
        keyword = words[0] if words else ""
        if keyword in _KEYWORDS or keyword.startswith("allow-"):
            dropping = keyword in ("iface", "mapping") and bool(names.intersection(words[1:2]))
            if keyword == "auto" or keyword.startswith("allow-"):
                line = _without_words(line, words, names)
        elif line.strip() == COMMENT:
            continue
        elif line.lstrip().startswith("#") or not line.strip():
            kept.append(line)
            continue
        if not dropping:
            kept.append(line)
    return "".join(kept)


def _without_words(line: str, words: list[str], names: set[str]) -> str:
    left = [word for word in words[1:] if word not in names and word.rpartition("=")[2] not in names]
    if len(left) == len(words) - 1:
        return line
    return f"{words[0]} {' '.join(left)}\n" if left else ""
