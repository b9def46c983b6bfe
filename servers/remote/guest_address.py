"""The guest's own address, gateway and resolvers, written for its next boot and undone from a record.

Only files change: the connection that asks for it stays up, and the machine takes the address when it is powered
on again on the other network. What writes the network there is respected; what is not known is a finding.
"""

from __future__ import annotations

import ipaddress

from migrationhub.lib.findings import Finding, Level, Problem
from servers.remote.base import Connection
from servers.remote.file_changes import NewFile, Record, apply_changes, read_states, undo_changes
from servers.remote.guest_network import (
    AddressConfig,
    NewAddress,
    ifupdown_texts,
    networkd_path,
    networkd_text,
    read_config,
    resolv_text,
)

__all__ = [
    "NAME",
    "AddressConfig",
    "NewAddress",
    "Record",
    "apply",
    "current",
    "named_in",
    "not_applicable",
    "plan",
    "plan_by_hand",
    "undo",
    "unsuitable",
    "validate",
    "verify_file",
]

NAME = "guest-address"
_CLOUD_INIT = "/etc/cloud/cloud.cfg.d/99-disable-network-config.cfg"
# How the address is set for the next start, by what configures the network.
_HOW = {
    "ifupdown": "in {where}, with the card matched by a pattern such as /e[nt]*/1 instead of its name",
    "networkd": "in {where}, with the card matched by a pattern such as en* instead of its MAC address",
    "netplan": "in {where} (addresses, routes, nameservers), with the card matched by name instead of its MAC address",
    "NetworkManager": "with nmcli connection modify <name> ipv4.method manual ipv4.addresses … ipv4.gateway … "
    "ipv4.dns … 802-3-ethernet.mac-address ''",
    "wicked": "in {where} (its routes are in ifroute files beside it)",
    "network.service": "in {where}, without HWADDR",
    "unknown": "where its network is configured, which does not show from here",
}
_CHOOSE = (
    "choose “Set by hand” as guest address in the server's profile, and set it for the next start once the final delta "
    "is done"
)
# Where the known ways of configuring a network keep their addresses.
_PLACES = (
    "/etc/network",
    "/etc/netplan",
    "/etc/systemd/network",
    "/etc/NetworkManager",
    "/etc/sysconfig",
    "/etc/wicked",
    "/etc/dhcpcd.conf",
)


def not_applicable(connection: Connection) -> str:
    """Why the guest's address cannot be set on this machine at all; "" where it can."""
    if connection.endpoint.manager == "supervisord":
        return "The host is a directory on a shared machine: it has no network configuration of its own."
    return ""


def current(connection: Connection) -> AddressConfig:
    """What the guest has now, and what configures it. Raises `RemoteProblem`."""
    return read_config(connection)


def validate(new: NewAddress) -> dict[str, str]:
    """Messages by field; empty: the address can be used."""
    wrong: dict[str, str] = {}
    try:
        if "/" not in new.address:
            raise ValueError
        address = ipaddress.ip_interface(new.address)
    except ValueError:
        wrong["address"] = f"“{new.address}” is not an address with its prefix, such as 192.0.2.10/24."
        return wrong
    network = address.network
    special = {network.network_address, network.broadcast_address} if address.version == 4 else {network[0]}
    if network.num_addresses > 2 and address.ip in special:
        wrong["address"] = f"{address.ip} is the network's or broadcast address of {network}, not a machine's."
    if new.gateway:
        try:
            gateway = ipaddress.ip_address(new.gateway)
            link_local = gateway.version == 6 and gateway.is_link_local
            if gateway.version != address.version or not (gateway in network or link_local):
                wrong["gateway"] = f"{new.gateway} is not in the network {network} of the address."
            elif gateway == address.ip:
                wrong["gateway"] = f"{new.gateway} is the address of the machine itself."
        except ValueError:
            wrong["gateway"] = f"“{new.gateway}” is not an IP address."
    for resolver in new.resolvers:
        try:
            ipaddress.ip_address(resolver)
        except ValueError:
            wrong["resolvers"] = f"“{resolver}” is not an IP address."
    for word in (*new.search, new.interface):
        if any(not (character.isalnum() or character in "-._") for character in word):
            wrong["search" if word in new.search else "interface"] = f"“{word}” is not a name."
    return wrong


def plan(connection: Connection, new: NewAddress) -> list[Finding]:
    """What `apply` would do, and what keeps it from being right. Changes nothing."""
    subject = connection.endpoint.name
    if reason := not_applicable(connection):
        return [Finding(Level.READY, "guest_address.not_applicable", f"Not applicable: {reason}", subject=subject)]
    findings = [
        Finding(Level.BLOCKING, f"guest_address.{field}", text, "Correct it in the profile or the plan.", field)
        for field, text in validate(new).items()
    ]
    config = current(connection)
    findings += unsuitable(config, new, subject)
    if not new.resolvers and not config.resolv_link:
        text = f"No resolvers are given: {subject} keeps {', '.join(config.resolvers) or 'none'}."
        findings.append(
            Finding(Level.WARNING, "guest_address.resolvers", text, "Check that they answer in production.", subject)
        )
    if not any(finding.level is Level.BLOCKING for finding in findings):
        text = f"{subject}: {config.interface} gets {new.address} at the next boot, in {config.where} ({config.kind})."
        findings.insert(0, Finding(Level.READY, "guest_address.ready", text, subject=subject))
    return findings


def plan_by_hand(connection: Connection, new: NewAddress) -> list[Finding]:
    """What a person is to set, and where and when, instead of `apply`. Changes nothing."""
    subject = connection.endpoint.name
    findings = [
        Finding(Level.BLOCKING, f"guest_address.{field}", text, "Correct it in the profile or the plan.", field)
        for field, text in validate(new).items()
    ]
    wanted = [new.address, f"gateway {new.gateway}" if new.gateway else ""]
    wanted.append(f"resolvers {', '.join(new.resolvers)}" if new.resolvers else "")
    text = f"The profile says that the address of {subject} is set by hand: {', '.join(filter(None, wanted))}."
    act = (
        f"Set it {_how(current(connection))}, once the final delta is done: before that, the clone would leave the "
        "migration network at its next restart. Step 6 looks for it before the move."
    )
    return [*findings, Finding(Level.WARNING, "guest_address.by_hand", text, act, subject)]


def named_in(connection: Connection, new: NewAddress) -> list[str]:
    """Files of the guest's network configuration that name the address. Raises `RemoteProblem`."""
    address = new.address.split("/")[0]
    result = connection.run(["grep", "-rlwisF", "-e", address, "--", *_PLACES], timeout=30)
    return [line for line in result.text.splitlines() if line.startswith("/")]


def apply(connection: Connection, new: NewAddress) -> Record:
    """Write the new address for the next boot; safe to repeat. Raises `Problem` for what `plan` calls blocking."""
    blocking = [finding for finding in plan(connection, new) if finding.level is Level.BLOCKING]
    if reason := not_applicable(connection):
        raise Problem(reason, "Skip this act on such hosts.", code="guest_address.not_applicable")
    if blocking:
        raise Problem(blocking[0].text, blocking[0].act, code=blocking[0].code)
    changes = _changes(connection, current(connection), new)
    return apply_changes(connection, NAME, changes, note=new.address)


def undo(connection: Connection, record: Record) -> None:
    """Bring the old files back, for the next boot. Raises `RemoteProblem`."""
    undo_changes(connection, record)


def verify_file(connection: Connection, new: NewAddress) -> list[Finding]:
    """Do the files on the machine say what `apply` writes? Read back, nothing taken from memory."""
    subject = connection.endpoint.name
    config = current(connection)
    changes = _changes(connection, config, new) if config.kind in ("ifupdown", "networkd") else {}
    if not changes:
        text = f"{subject} is not configured by ifupdown or systemd-networkd (now: {config.detail or config.kind})."
        act = "Look what changed on the machine since the address was planned."
        return [Finding(Level.BLOCKING, "guest_address.kind", text, act, subject)]
    states = read_states(connection, list(changes))
    findings = []
    for path, wanted in changes.items():
        is_right = states[path].kind == "absent" if wanted.content is None else states[path].data == wanted.content
        if not is_right:
            text = f"{subject}: {path} does not say what is needed for {new.address}."
            act = "Set the guest address again; look who else writes the file."
            findings.append(Finding(Level.BLOCKING, "guest_address.file", text, act, path))
    if not findings:
        text = f"{subject}: {', '.join(changes)} say {new.address} for the next boot."
        findings.append(Finding(Level.READY, "guest_address.written", text, subject=subject))
    return findings


def unsuitable(config: AddressConfig, new: NewAddress, subject: str) -> list[Finding]:
    """What of the guest's network keeps its address from being set by `apply`; two ways out with each."""
    findings = []
    by_hand = f"{_CHOOSE}, {_how(config)}"
    if config.kind == "other":
        what = "what is not known here" if config.detail == "unknown" else config.detail
        text = f"The network of {subject} is configured by {what}; the address cannot be set from here."
        act = f"Let ifupdown or systemd-networkd configure it; or {by_hand}."
        findings.append(Finding(Level.BLOCKING, "guest_address.kind", text, act, subject))
    if config.stacked:
        text = f"{config.interface} of {subject} is a {config.stacked}, not a network card."
        act = f"Put the address on the card itself; or {by_hand}."
        findings.append(Finding(Level.BLOCKING, "guest_address.stacked", text, act, subject))
    if len(config.interfaces) > 1 and not new.interface:
        text = f"{subject} has {len(config.interfaces)} network cards: {', '.join(config.interfaces)}."
        act = f"Take the cards away that it does not need; or {by_hand}."
        findings.append(Finding(Level.BLOCKING, "guest_address.interfaces", text, act, "interface"))
    if not new.resolvers and config.resolv_link:
        text = f"No resolvers are given, and those of {subject} are made at each boot ({config.resolv_link})."
        act = f"Enter the resolvers of production in the plan; or {_CHOOSE}, with its resolvers."
        findings.append(Finding(Level.BLOCKING, "guest_address.resolvers", text, act, "resolvers"))
    if new.interface and new.interface not in config.interfaces:
        text = f"{subject} has no network card {new.interface}; it has {', '.join(config.interfaces) or 'none'}."
        findings.append(Finding(Level.BLOCKING, "guest_address.interfaces", text, "Name one that it has.", "interface"))
    return findings


def _how(config: AddressConfig) -> str:
    return _HOW[config.detail or config.kind].format(where=config.where)


def _changes(connection: Connection, config: AddressConfig, new: NewAddress) -> dict[str, NewFile]:
    """Every path that must have a certain content, whether it has it already or not."""
    changes: dict[str, NewFile] = {}
    if config.kind == "networkd":
        changes[networkd_path(config)] = NewFile(networkd_text(new, config).encode())
        changes |= {path: NewFile(None) for path in config.files}  # drop-ins would add to it
    else:
        for path, text in ifupdown_texts(new, config).items():
            changes[path] = NewFile(text.encode("utf-8", "surrogateescape"))
    if new.resolvers and not config.resolv_link:
        old = read_states(connection, ["/etc/resolv.conf"])["/etc/resolv.conf"]
        changes["/etc/resolv.conf"] = NewFile(resolv_text(new, old.data.decode("utf-8", "replace")).encode())
    if config.cloud_init:  # else it writes the network of the instance's creation again
        changes[_CLOUD_INIT] = NewFile(b"network: {config: disabled}\n")
    return changes
