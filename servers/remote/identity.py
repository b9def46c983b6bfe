"""The source's identity on the target, as chosen at cutover: host keys, machine id, host name.

Everything is written for the next boot; our own access keeps its own host key. The identity is brought to the
target while the source is on (`stage`), in a file of ours that only root reads and no sync touches, and put in place
when the source is off (`apply`). The private host keys pass through the hub's memory only: the record names the
copies that the target keeps of its old ones, never their content.
"""

from __future__ import annotations

import base64
import json
import re
import shlex
from dataclasses import dataclass, field

from migrationhub.lib.findings import Finding, Level, Problem
from servers.remote.base import Connection
from servers.remote.file_changes import KEPT, NewFile, Record, apply_changes, read_states, undo_changes

__all__ = [
    "NAME",
    "Choice",
    "Identity",
    "Record",
    "apply",
    "capture",
    "discard",
    "not_applicable",
    "prove",
    "shown_after_boot",
    "stage",
    "staged",
    "undo",
    "verify",
]

NAME = "identity"
STAGED = f"{KEPT}/source-identity.json"
_HOST_KEY = re.compile(r"/etc/ssh/ssh_host_\w+_key(\.pub)?")
_MACHINE_ID = "/etc/machine-id"
_DBUS_ID = "/var/lib/dbus/machine-id"
_HOSTNAME = "/etc/hostname"
_HOSTS = "/etc/hosts"
_CLOUD_INIT = "/etc/cloud/cloud.cfg.d/99-keep-hostname.cfg"


@dataclass(frozen=True)
class Choice:
    """What is taken over; the rest stays the target's own."""

    host_keys: bool = True
    machine_id: bool = True
    host_name: bool = True


@dataclass(frozen=True)
class Identity:
    """What makes a machine that machine. `host_keys`: path to content, private keys included."""

    host_keys: dict[str, bytes] = field(default_factory=dict, repr=False)
    machine_id: str = ""
    host_name: str = ""

    @property
    def public_keys(self) -> tuple[str, ...]:
        """The host keys as "type base64": what the target shows after its next boot."""
        public = [data for path, data in self.host_keys.items() if path.endswith(".pub")]
        return tuple(sorted(" ".join(data.decode("ascii", "replace").split()[:2]) for data in public))

    def to_bytes(self) -> bytes:
        """All of it, private keys included: for a file that only root reads."""
        keys = {path: base64.b64encode(data).decode() for path, data in self.host_keys.items()}
        return json.dumps({"host_keys": keys, "machine_id": self.machine_id, "host_name": self.host_name}).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Identity:
        said = json.loads(data)
        keys = {path: base64.b64decode(text) for path, text in said["host_keys"].items()}
        return cls(keys, said["machine_id"], said["host_name"])


def not_applicable(connection: Connection) -> str:
    """Why this machine has no identity of its own to take over; "" where it has."""
    if connection.endpoint.manager == "supervisord":
        return "The host is a directory on a shared machine: it has no identity of its own to take over."
    return ""


def capture(source: Connection, choice: Choice = Choice()) -> Identity:
    """Read the source's identity, as far as it is chosen. Raises `Problem` where a part of it is not there."""
    if reason := not_applicable(source):
        raise Problem(reason, "Skip this act on such hosts.", code="identity.not_applicable")
    name = source.endpoint.name
    paths = source.run("ls -d /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub 2>/dev/null; :", check=True).text
    wanted = [path for path in paths.split() if _HOST_KEY.fullmatch(path)] if choice.host_keys else []
    states = read_states(source, [*wanted, _MACHINE_ID, _HOSTNAME])
    keys = {path: states[path].data for path in wanted if states[path].kind == "file"}
    if choice.host_keys and not any(path.endswith("_key") for path in keys):
        raise Problem(
            f"{name} has no host keys in /etc/ssh.", "Leave the host keys out of the choice.", code="identity.host_keys"
        )
    machine_id = states[_MACHINE_ID].data.decode("ascii", "replace").strip()
    if choice.machine_id and not re.fullmatch(r"[0-9a-f]{32}", machine_id):
        raise Problem(
            f"{_MACHINE_ID} of {name} is not a machine id of 32 hexadecimal digits.",
            "Leave the machine id out of the choice, or set it there with systemd-machine-id-setup.",
            code="identity.machine_id",
        )
    host_name = states[_HOSTNAME].data.decode("utf-8", "replace").strip()
    if choice.host_name and not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", host_name):
        raise Problem(
            f"{_HOSTNAME} of {name} says “{host_name[:64]}”, which is not a host name.",
            "Leave the host name out of the choice, or correct it there.",
            code="identity.host_name",
        )
    return Identity(keys, machine_id if choice.machine_id else "", host_name if choice.host_name else "")


def stage(target: Connection, identity: Identity) -> None:
    """Keep the source's identity on the target until the source is off; nothing there changes. Safe to repeat."""
    if reason := not_applicable(target):
        raise Problem(reason, "Skip this act on such hosts.", code="identity.not_applicable")
    target.run(["mkdir", "-p", "-m", "0700", "--", KEPT], check=True)
    target.put(identity.to_bytes(), STAGED, mode=0o600)


def staged(target: Connection) -> Identity:
    """What `stage` left there. Raises `Problem` where there is none."""
    state = read_states(target, [STAGED])[STAGED]
    if state.kind != "file":
        raise Problem(
            f"{target.endpoint.name} holds no identity of its source: {STAGED} is not there.",
            "It is brought there before the services are stopped; was the target made anew since? "
            "Take the identity out of the choice, or bring it there by hand.",
            code="identity.not_staged",
        )
    return Identity.from_bytes(state.data)


def discard(target: Connection) -> None:
    """Forget what `stage` brought, where it is not needed any more."""
    target.run(["rm", "-f", "--", STAGED], check=True)


def apply(target: Connection, identity: Identity) -> Record:
    """Write the identity for the target's next boot; safe to repeat. Raises `Problem`."""
    if reason := not_applicable(target):
        raise Problem(reason, "Skip this act on such hosts.", code="identity.not_applicable")
    return apply_changes(target, NAME, _changes(target, identity), secret=True, note=identity.host_name)


def undo(target: Connection, record: Record) -> None:
    """Bring the target's own identity back, for its next boot. Raises `RemoteProblem`."""
    undo_changes(target, record)


def verify(target: Connection, identity: Identity) -> list[Finding]:
    """Do the target's files hold this identity? Read back; one finding."""
    subject = target.endpoint.name
    changes = _changes(target, identity)
    states = read_states(target, list(changes))
    for path, new in changes.items():
        same = states[path].kind == "absent" if new.content is None else states[path].data == new.content
        if not same:
            text = f"{path} of {subject} is not the source's."
            return [Finding(Level.BLOCKING, "identity.differs", text, "Take the identity over again.", path)]
    return [Finding(Level.READY, "identity.written", f"{subject} has the source's identity.", subject=subject)]


def _changes(target: Connection, identity: Identity) -> dict[str, NewFile]:
    changes: dict[str, NewFile] = {}
    if identity.host_keys:
        # A key of a type that the source does not have would be shown beside the source's and look like an attack.
        mine = target.run("ls -d /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub 2>/dev/null; :", check=True).text
        changes |= {path: NewFile(None) for path in mine.split() if _HOST_KEY.fullmatch(path)}
        for path, data in identity.host_keys.items():
            changes[path] = NewFile(data, 0o644 if path.endswith(".pub") else 0o600)
    if identity.machine_id:
        changes[_MACHINE_ID] = NewFile(f"{identity.machine_id}\n".encode(), 0o444)
        if target.run(f"[ -f {_DBUS_ID} ] && [ ! -L {_DBUS_ID} ]").rc == 0:
            changes[_DBUS_ID] = changes[_MACHINE_ID]
    if identity.host_name:
        changes |= _names(target, identity.host_name)
        if target.run(f"[ -d {_CLOUD_INIT.rpartition('/')[0]} ]").rc == 0:
            # Else a boot brings back the name that the platform gave it.
            changes[_CLOUD_INIT] = NewFile(b"preserve_hostname: true\n")
    return changes


def _names(target: Connection, host_name: str) -> dict[str, NewFile]:
    """/etc/hostname, and the old name in /etc/hosts on loopback addresses."""
    states = read_states(target, [_HOSTNAME, _HOSTS])
    old = states[_HOSTNAME].data.decode("utf-8", "replace").strip()
    hosts = states[_HOSTS].data.decode("utf-8", "surrogateescape")
    changes = {_HOSTNAME: NewFile(f"{host_name}\n".encode())}
    if old and old != host_name:
        word = rf"(?<![\w.-]){re.escape(old)}(?![\w-])"
        lines = [
            re.sub(word, host_name, line) if re.match(r"\s*(127\.|::1\s)", line) else line
            for line in hosts.splitlines(keepends=True)
        ]
        text = "".join(lines)
        if text != hosts:
            changes[_HOSTS] = NewFile(text.encode("utf-8", "surrogateescape"))
    return changes


def prove(target: Connection, identity: Identity, *, port: int, address: str) -> list[Finding]:
    """Does the running machine have this identity: in the kernel, in its files, and in what its sshd on `port` shows?

    Asked from inside, so that no firewall hides the answer. One READY finding, or what differs.
    """
    subject = target.endpoint.name
    wrong = [finding for finding in verify(target, identity) if finding.level is not Level.READY]
    if identity.host_name:
        now = target.run("cat /proc/sys/kernel/hostname", check=True).text.strip()
        if now != identity.host_name:
            text = f"{subject} calls itself {now}, not {identity.host_name}."
            wrong.append(Finding(Level.BLOCKING, "identity.host_name", text, "Restart it, then look again.", subject))
    if identity.host_keys:
        wrong += _unlike_keys(target, identity, port, address)
    if wrong:
        return wrong
    text = f"{subject} has the source's identity and shows it."
    return [Finding(Level.READY, "identity.proven", text, subject=subject)]


def _unlike_keys(target: Connection, identity: Identity, port: int, address: str) -> list[Finding]:
    subject = target.endpoint.name
    result = target.run(f"ssh-keyscan -T 5 -p {int(port)} -- {shlex.quote(address)} 2>/dev/null", timeout=40)
    lines = [line for line in result.text.splitlines() if line and not line.startswith("#")]
    shown = {" ".join(line.split()[1:3]) for line in lines}
    if not shown:
        text = f"{subject}: no SSH server shows a host key on port {port}."
        act = f"Look with systemctl status ssh why it does not run on port {port}, then look again."
        return [Finding(Level.BLOCKING, "identity.no_sshd", text, act, subject)]
    if strange := sorted(shown - set(identity.public_keys)):
        kinds = ", ".join(line.split()[0] for line in strange)
        text = f"{subject} shows a host key on port {port} that is not the source's ({kinds})."
        act = "Look in /etc/ssh/sshd_config which HostKey it names; restart its SSH server, then look again."
        return [Finding(Level.BLOCKING, "identity.host_key", text, act, subject)]
    return []


def shown_after_boot(connection: Connection) -> tuple[str, ...]:
    """The host keys in a machine's files, as "type base64": what its sshd shows from its next start."""
    lines = connection.run("cat /etc/ssh/ssh_host_*_key.pub", check=True).text.splitlines()
    return tuple(sorted(" ".join(line.split()[:2]) for line in lines if line.strip()))
