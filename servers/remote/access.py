"""Our own access to a target: an sshd that does not live in the tree that a sync replaces.

On systemd hosts it is a second sshd on port 2299 with its own unit, configuration, host key and keys, all left
out of every sync by name (`EXCLUDED_PATHS`). On supervisord hosts the host's own sshd is used and only our key
is added. Scripts open, show and close it, so that user data, execution requests and consoles can do the same.
"""

from __future__ import annotations

import base64
import gzip
import re
import shlex
import textwrap

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from migrationhub.lib.findings import Finding, Level, Problem
from servers.remote import access_scripts as scripts
from servers.remote.base import AuthenticationFailed, Connect, Connection, Endpoint, RemoteProblem
from servers.remote.reach import Reach, from_hub

MARK = "migrationhub-access"
TRANSFER_MARK = "migrationhub-transfer"
UNIT = "migrationhub-access.service"
PORT = 2299  # on systemd hosts
SUPERVISORD_PORT = 2222
CONFIG = "/etc/migrationhub"

# What is ours on a target: no sync may write, delete or compare it.
EXCLUDED_PATHS: tuple[str, ...] = (
    CONFIG,
    f"/etc/systemd/system/{UNIT}",
    f"/etc/systemd/system/multi-user.target.wants/{UNIT}",
    f"/etc/pam.d/{MARK}",
    "/run/migrationhub",
    "/var/lib/migrationhub",
)

_KEY_LINE = re.compile(r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)) ([A-Za-z0-9+/]+={0,2})(?:[ \t].*)?")
_HOST_KEY_LINE = re.compile(rf"^{MARK}-host-key: ({_KEY_LINE.pattern})\s*$", re.MULTILINE)


def access_port(manager: str) -> int:
    return SUPERVISORD_PORT if manager == "supervisord" else PORT


def new_key_pair(comment: str) -> tuple[str, str]:
    """A new ed25519 pair: the private key as OpenSSH text, the public one as a line of authorized_keys."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return private, f"{public} {comment}".strip()


def endpoint(
    name: str,
    address: str,
    *,
    private_key: str,
    host_keys: tuple[str, ...],
    manager: str = "systemd",
    directory: str = "/",
    username: str = "root",
) -> Endpoint:
    """Where a target is reached by our own access."""
    return Endpoint(
        name=name,
        address=address,
        port=access_port(manager),
        username=username,
        private_key=private_key,
        host_keys=host_keys,
        manager=manager,
        directory=directory,
    )


def user_data(public_key: str, *, manager: str = "systemd", directory: str = "") -> str:
    """The script that opens the access; right as user data, execution request and console paste, any number of times.

    On supervisord hosts it works on `directory`, or on HOME where none is given. Raises `Problem` for a key that
    is not one line of authorized_keys.
    """
    text = scripts.OPEN_SUPERVISORD if manager == "supervisord" else scripts.OPEN_SYSTEMD
    return _filled(text, manager, directory, KEY=f"{_bare_key(public_key)} {MARK}")


def console_lines(public_key: str, *, manager: str = "systemd", directory: str = "") -> list[str]:
    """The same script as lines of at most 76 characters for a person to paste into a console, as root."""
    packed = gzip.compress(user_data(public_key, manager=manager, directory=directory).encode(), mtime=0)
    body = textwrap.wrap(base64.b64encode(packed).decode(), 76)
    return ["base64 -d <<END | gunzip | sh", *body, "END"]


def read_back_script(*, manager: str = "systemd", directory: str = "") -> str:
    """Prints the public host key and the port of our access, each as a labelled line."""
    if manager == "supervisord":
        return _filled(
            scripts.READ_BACK, manager, directory, HOSTKEY="$home/etc/ssh/ssh_host_ed25519_key.pub", SHOWKEY="cat"
        )
    return _filled(
        scripts.READ_BACK, manager, directory, HOSTKEY=f"{CONFIG}/ssh_host_ed25519_key", SHOWKEY="ssh-keygen -y -f"
    )


def parse_read_back(text: str) -> tuple[str, ...]:
    """The host keys ("type base64") in what `read_back_script` printed, whatever surrounds them. Raises `Problem`."""
    keys = tuple(dict.fromkeys(f"{found[2]} {found[3]}" for found in _HOST_KEY_LINE.finditer(text)))
    if not keys:
        seen = " ".join(text.split())[-200:] or "nothing"
        raise Problem(
            f"The machine did not show the host key of its access; it printed: {seen}.",
            "Run the line for the console on the machine, as root, and try again.",
            code="access.no_host_key",
            lasting=False,
        )
    return keys


def removal_script(*, manager: str = "systemd", directory: str = "") -> str:
    """Closes the access and removes everything of ours. Returns at once; the end comes a second or two later.

    Safe to run over the access itself: on systemd hosts a transient unit does the work.
    """
    text = scripts.CLOSE_SUPERVISORD if manager == "supervisord" else scripts.CLOSE_SYSTEMD
    return _filled(text, manager, directory)


def proven_removed(endpoint: Endpoint, connect: Connect | None = None, *, timeout: float = 5.0) -> Finding:
    """One look whether the access is gone: on systemd hosts only a refused TCP connection is a proof.

    On supervisord hosts the sshd is the host's own, so the proof is that it refuses our key (`connect` is needed).
    """
    if endpoint.manager == "supervisord":
        return _login_refused(endpoint, connect)
    where = f"{endpoint.address} port {endpoint.port}"
    attempt = from_hub(endpoint.address, endpoint.port, timeout=timeout)
    if attempt.reach is Reach.REFUSED:
        return _ready(endpoint, f"{where} refuses connections: our access is gone.")
    if attempt.reach is Reach.OPEN:
        return _open(endpoint, f"{where} still accepts connections.", "Run the removal of the access again.")
    return _open(
        endpoint,
        f"{where} {attempt.words}, which does not prove that the access is gone.",
        "Look whether the machine is on and reachable from the hub, then try again.",
    )


def authorize_transfer(connection: Connection, public_key: str, command: str) -> None:
    """Let the holder of `public_key` run `command` on this target whatever it asks for, and nothing else.

    `command` is a line for the login shell; it sees what was asked for in SSH_ORIGINAL_COMMAND.
    """
    quoted = command.replace('"', '\\"')
    bare = _bare_key(public_key)
    kept = [line for line in _transfer_lines(connection) if bare not in line]
    kept.append(f'restrict,command="{quoted}" {bare} {TRANSFER_MARK}')
    _put_lines(connection, kept)


def revoke_transfer(connection: Connection, public_key: str) -> None:
    """Take the forced command of `public_key` away again; nothing happens where it is not there."""
    bare = _bare_key(public_key)
    lines = _transfer_lines(connection)
    kept = [line for line in lines if not (bare in line and line.endswith(TRANSFER_MARK))]
    if kept != lines:
        _put_lines(connection, kept)


def _base(endpoint: Endpoint) -> str:
    return endpoint.directory.rstrip("/") if endpoint.manager == "supervisord" else ""


def _keys_path(endpoint: Endpoint) -> str:
    if endpoint.manager == "supervisord":
        return f"{_base(endpoint)}/.ssh/authorized_keys"
    return f"{CONFIG}/transfer_keys"


def _transfer_lines(connection: Connection) -> list[str]:
    path = _keys_path(connection.endpoint)
    result = connection.run(f"[ ! -e {shlex.quote(path)} ] || cat {shlex.quote(path)}", check=True)
    return [line for line in result.text.splitlines() if line.strip()]


def _put_lines(connection: Connection, lines: list[str]) -> None:
    connection.put("".join(f"{line}\n" for line in lines).encode(), _keys_path(connection.endpoint), mode=0o600)


def _filled(text: str, manager: str, directory: str, **values: str) -> str:
    home = shlex.quote(directory) if directory else "${HOME:?}" if manager == "supervisord" else "/"
    marks = {"MARK": MARK, "TRANSFER": TRANSFER_MARK, "UNIT": UNIT, "CONFIG": CONFIG, "LABEL": MARK, "HOME": home}
    for name, value in {**marks, "PORT": str(access_port(manager)), **values}.items():
        text = text.replace(f"@{name}@", value)
    return text


def _bare_key(public_key: str) -> str:
    """Type and base64 of a public key, without its comment: nothing else gets into a script or a key file."""
    match = _KEY_LINE.fullmatch(public_key.strip())
    if match is None:
        raise Problem(
            f"The public key {public_key.strip()[:40]!r} is not one line such as “ssh-ed25519 AAAA… comment”.",
            "Give the public half of an ed25519, RSA or ECDSA key pair.",
            code="access.public_key",
        )
    return f"{match[1]} {match[2]}"


def _login_refused(endpoint: Endpoint, connect: Connect | None) -> Finding:
    if connect is None:
        raise ValueError("on a supervisord host the proof needs `connect`")
    where = f"{endpoint.address} port {endpoint.port}"
    try:
        connect(endpoint).close()
    except AuthenticationFailed:
        return _ready(endpoint, f"{where} refuses our key: our access is gone.")
    except RemoteProblem as problem:
        return _open(endpoint, f"{problem.text} That does not prove that the access is gone.", problem.act)
    return _open(endpoint, f"{where} still accepts our key.", "Run the removal of the access again.")


def _ready(endpoint: Endpoint, text: str) -> Finding:
    return Finding(Level.READY, "access.removed", text, subject=endpoint.name)


def _open(endpoint: Endpoint, text: str, act: str) -> Finding:
    return Finding(Level.BLOCKING, "access.open", text, act, subject=endpoint.name)
