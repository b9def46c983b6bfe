"""Host keys: shown by a machine, read from known_hosts, named by their fingerprint."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import socket
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import paramiko

from migrationhub.lib.findings import Problem
from servers.remote.base import RemoteProblem, TimedOut, Unreachable

# What we ask for, one connection each: a server answers with one key per negotiation.
ALGORITHMS: tuple[tuple[str, ...], ...] = (
    ("ssh-ed25519",),
    ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    ("rsa-sha2-512", "rsa-sha2-256"),
)
TYPES = frozenset({"ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"})


@dataclass(frozen=True)
class FoundKey:
    """One host key: its type, the key in base64 and its fingerprint as OpenSSH prints it."""

    type: str
    base64: str
    fingerprint: str

    @property
    def line(self) -> str:
        """As `Endpoint.host_keys` holds it: "type base64"."""
        return f"{self.type} {self.base64}"


def fingerprint(key: str) -> str:
    """ "SHA256:…" of a key given in base64, as `ssh-keygen -l` prints it; `Problem` where it is not base64."""
    try:
        raw = base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        raise Problem(
            f"Host key “{key[:20]}…” is not base64.",
            "Give the key as ssh-keyscan prints it: type and base64.",
            code="hostkey.malformed",
        ) from None
    return "SHA256:" + base64.b64encode(hashlib.sha256(raw).digest()).decode().rstrip("=")


def found_key(kind: str, key: str) -> FoundKey:
    """A key checked for its form: the type inside the base64 must be the one it is said to be."""
    mark = fingerprint(key)
    raw = base64.b64decode(key)
    length = int.from_bytes(raw[:4], "big")
    inner = raw[4 : 4 + length].decode("ascii", "replace")
    if kind not in TYPES or inner != kind:
        raise Problem(
            f"Host key {mark} is said to be {kind or 'of no type'}, but is {inner[:40] or 'none'}.",
            "Give an ed25519, ecdsa or rsa key as ssh-keyscan prints it.",
            code="hostkey.malformed",
        )
    return FoundKey(kind, key, mark)


def _ask(address: str, port: int, algorithms: tuple[str, ...], timeout: float) -> FoundKey | None:
    """The key of one kind; None where the machine has none of that kind."""
    where = f"{address} port {port}"
    try:
        sock = socket.create_connection((address, port), timeout=timeout)
    except TimeoutError:
        raise TimedOut(
            f"{where}: no answer to a TCP connection within {timeout:g} s.",
            "Check that the machine is on and that no firewall drops the connection.",
            code="ssh.timeout",
            lasting=False,
        ) from None
    except OSError as error:
        raise Unreachable(
            f"{where}: no TCP connection: {error.strerror or error}.",
            "Check address and port, and that sshd runs there.",
            code="ssh.unreachable",
            lasting=False,
        ) from error
    transport = paramiko.Transport(sock)
    try:
        transport.banner_timeout = transport.handshake_timeout = timeout
        transport.get_security_options().key_types = algorithms
        transport.start_client(timeout=timeout)
        key = transport.get_remote_server_key()
        return found_key(key.get_name(), key.get_base64())
    except paramiko.ssh_exception.IncompatiblePeer:
        return None  # no key of this kind
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise TimedOut(
            f"{where}: accepts connections, but no SSH server answered within {timeout:g} s: {error}.",
            "Check that the port is sshd's and that the machine is not hanging.",
            code="ssh.timeout",
            lasting=False,
        ) from error
    finally:
        transport.close()


def scan(address: str, port: int = 22, timeout: float = 10.0) -> list[FoundKey]:
    """The host keys that a machine shows (ed25519, ecdsa, rsa). Raises `Unreachable` or `TimedOut`.

    The keys are what the network says they are: a person compares the fingerprints before they are accepted.
    """
    found = [_ask(address, port, algorithms, timeout) for algorithms in ALGORITHMS]
    return [key for key in found if key is not None]


@dataclass(frozen=True)
class Scanned:
    """What a scan of one machine brought: its keys, or the problem in words."""

    address: str
    port: int
    keys: tuple[FoundKey, ...] = ()
    problem: RemoteProblem | None = None


def scan_many(places: Sequence[tuple[str, int]], timeout: float = 10.0, *, workers: int = 16) -> list[Scanned]:
    """`scan` of many at once, in the order given; a machine that fails does not keep the others back."""

    def one(place: tuple[str, int]) -> Scanned:
        try:
            return Scanned(*place, keys=tuple(scan(*place, timeout=timeout)))
        except RemoteProblem as problem:
            return Scanned(*place, problem=problem)

    if not places:
        return []
    with ThreadPoolExecutor(max_workers=min(workers, len(places))) as threads:
        return list(threads.map(one, places))


def _hashed_match(pattern: str, name: str) -> bool:
    """A hashed entry of known_hosts: "|1|salt|HMAC-SHA1 of the name"."""
    try:
        _, version, salt, digest = pattern.split("|")
        raw_salt, raw_digest = base64.b64decode(salt), base64.b64decode(digest)
    except (ValueError, binascii.Error):
        return False
    made = hmac.new(raw_salt, name.encode(), hashlib.sha1).digest()
    return version == "1" and hmac.compare_digest(made, raw_digest)


def _wildcard_match(pattern: str, name: str) -> bool:
    """OpenSSH's patterns: `*` and `?` alone are special, so brackets of "[name]:port" are not."""
    if not pattern:
        return not name
    if pattern[0] == "*":
        return any(_wildcard_match(pattern[1:], name[cut:]) for cut in range(len(name) + 1))
    return bool(name) and pattern[0] in ("?", name[0]) and _wildcard_match(pattern[1:], name[1:])


def _host_field_matches(field: str, name: str) -> bool:
    if field.startswith("|"):
        return _hashed_match(field, name)
    patterns = [pattern.lower() for pattern in field.split(",")]
    if any(pattern.startswith("!") and _wildcard_match(pattern[1:], name) for pattern in patterns):
        return False
    return any(_wildcard_match(pattern, name) for pattern in patterns if not pattern.startswith("!"))


def known_hosts_name(address: str, port: int = 22) -> str:
    """A machine's name as known_hosts writes it: "[name]:port" where the port is not 22."""
    return address if port == 22 else f"[{address}]:{port}"


def parse_known_hosts(text: str, names: Iterable[str]) -> dict[str, list[FoundKey]]:
    """The keys that known_hosts holds for each of `names` (`known_hosts_name`), hashed entries included.

    A revoked key is left out even where another line accepts it; certificate authorities and lines that
    cannot be read are passed over.
    """
    wanted = {name: name.lower() for name in names}
    found: dict[str, list[FoundKey]] = {name: [] for name in wanted}
    revoked: dict[str, set[str]] = {name: set() for name in wanted}
    for line in text.splitlines():
        words = line.split()
        marker = words.pop(0) if words and words[0].startswith("@") else ""
        if len(words) < 3 or words[0].startswith("#") or marker not in ("", "@revoked"):
            continue
        try:
            key = found_key(words[1], words[2])
        except Problem:
            continue
        for name, lowered in wanted.items():
            if not _host_field_matches(words[0], lowered):
                continue
            if marker:
                revoked[name].add(key.base64)
            elif key not in found[name]:
                found[name].append(key)
    return {name: [key for key in keys if key.base64 not in revoked[name]] for name, keys in found.items()}
