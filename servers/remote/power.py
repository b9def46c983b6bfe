"""Power of a machine: asked for in order, and its end proven by absence."""

from __future__ import annotations

import errno
import os
import secrets
import shlex
import socket
import struct
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum

from migrationhub.lib.findings import Problem
from servers.remote.base import Connection, Endpoint, Result

_TRY = 1.5  # seconds for one TCP connection, banner or echo
_PAUSE = 0.3  # seconds between rounds that are answered at once
_ROUNDS = 2  # at least, however short the period
_WORKERS = 24

# `run/boot_id` is new at each start of a process host; where a host has none, its sshd's start tells starts apart.
_DIRECTORY_BOOT = r"""
if [ -s "$d/run/boot_id" ]; then cat "$d/run/boot_id"; exit; fi
pid=$(cat "$d/run/sshd.pid") && stat=$(cat "/proc/$pid/stat") || exit 1
set -f; set -- ${stat##*) }
printf '%s-%s-%s\n' "$(cat /proc/sys/kernel/random/boot_id)" "$pid" "${20}"
"""


@dataclass(frozen=True)
class AbsenceProof:
    """Whether a machine is gone, and the sentence that says what was seen."""

    absent: bool
    text: str
    heard: bool = False  # something there answered; else it is only not proven gone


class _Sign(StrEnum):
    """What one look at a port or at the address brought."""

    BANNER = "answers as an SSH server"
    OPEN = "accepts connections"
    REFUSED = "refuses connections"
    SILENT = "gives no answer"
    NO_ROUTE = "is not found on its network"
    UNKNOWN = "could not be tried"
    ECHO = "answers an echo request"


_LIFE = {_Sign.BANNER, _Sign.OPEN, _Sign.REFUSED, _Sign.ECHO}


def boot_id(connection: Connection) -> str:
    """One word that differs after each start of the machine."""
    endpoint = connection.endpoint
    if endpoint.manager == "supervisord":
        script = f"d={shlex.quote(endpoint.directory.rstrip('/'))}\n{_DIRECTORY_BOOT}"
        result = connection.run(script, root=False, timeout=20, check=True)
    else:
        result = connection.run(["cat", "/proc/sys/kernel/random/boot_id"], root=False, timeout=20, check=True)
    found = result.text.strip()
    if not found:
        raise Problem(
            f"{endpoint.name} does not tell when it was started.",
            "Look at /proc/sys/kernel/random/boot_id on the machine.",
            code="power.boot_id",
        )
    return found


def shut_down(connection: Connection) -> None:
    """Ask for an orderly power off; returns before it happens."""
    _order(connection, "poweroff", "shut down")


def reboot(connection: Connection) -> None:
    """Ask for an orderly restart; returns before it happens."""
    _order(connection, "reboot", "restart")


def _order(connection: Connection, word: str, act: str) -> None:
    endpoint = connection.endpoint
    if endpoint.manager == "supervisord":
        command = [f"{endpoint.directory.rstrip('/')}/sbin/{word}"]
    else:
        command = ["systemctl", "--no-block", "--no-wall", word]
    result: Result = connection.run(command, timeout=30)
    # -1: the session was ended by what was asked for, before the status came.
    if result.rc not in (0, -1):
        said = " ".join(result.error_text.split())[-300:] or f"status {result.rc}"
        raise Problem(
            f"{endpoint.name} does not {act}: {said}.",
            f"Check that {endpoint.username} may do that there, or use the machine's console.",
            code=f"power.{word}",
        )


def absent(endpoint: Endpoint, ports: Sequence[int], *, seconds: float = 4.0) -> AbsenceProof:
    """Is the machine gone? Looks for `seconds` at its SSH port, at `ports` and (where allowed) at its echo.

    Gone means that nothing accepted a connection in all that time. A machine that accepts but says nothing hangs:
    it is not gone. On a machine of its own a refusal of any port or an echo comes from a kernel that still runs;
    on a process host the address is the hub's own, where only a refusal shows that nobody listens.
    """
    wanted = sorted({endpoint.port, *ports})
    began, rounds = time.monotonic(), 0
    seen: dict[int, _Sign] = {}
    with ThreadPoolExecutor(min(_WORKERS, len(wanted) + 1)) as threads:
        while rounds < _ROUNDS or time.monotonic() - began < seconds:
            started = time.monotonic()
            echo = threads.submit(_echo, endpoint)
            seen = dict(zip(wanted, threads.map(lambda port: _knock(endpoint, port), wanted), strict=True))
            present = _present(endpoint, seen, echo.result())
            if present:
                return AbsenceProof(False, present, heard=bool(_LIFE & {*seen.values(), echo.result()}))
            rounds += 1
            time.sleep(max(0.0, _PAUSE - (time.monotonic() - started)))
    kinds = ", ".join(f"port {port} {sign.value}" for port, sign in list(seen.items())[:6])
    more = f" and {len(seen) - 6} more" if len(seen) > 6 else ""
    return AbsenceProof(
        True,
        f"{endpoint.name} ({endpoint.address}) is gone: for {time.monotonic() - began:.0f} s nothing accepted a "
        f"connection ({kinds}{more}).",
    )


def _present(endpoint: Endpoint, seen: dict[int, _Sign], echo: _Sign) -> str:
    """The sentence that says why the machine is not proven gone; "" where this look shows nothing of it."""
    name, own_machine = f"{endpoint.name} ({endpoint.address})", endpoint.manager != "supervisord"
    if seen[endpoint.port] is _Sign.OPEN:
        return f"{name} accepts connections on port {endpoint.port} without a word: it hangs, it is not off."
    for port, sign in seen.items():
        if sign in (_Sign.BANNER, _Sign.OPEN):
            return f"{name} is there: port {port} {sign.value}."
        if sign is _Sign.UNKNOWN:
            return f"{name}: port {port} could not be tried from the hub, which proves nothing; check its network."
        if not own_machine and sign is not _Sign.REFUSED:
            return f"{name}: port {port} {sign.value}; a process that hangs may hold it."
    refused = [port for port, sign in seen.items() if sign is _Sign.REFUSED]
    if own_machine and refused:
        return f"{name} still runs: port {refused[0]} refuses connections, which only a running machine does."
    if own_machine and echo is _Sign.ECHO:
        return f"{name} still runs: it {echo.value}, though no port accepts."
    return ""


def _knock(endpoint: Endpoint, port: int) -> _Sign:
    try:
        with socket.create_connection((endpoint.address, port), timeout=_TRY) as link:
            if port != endpoint.port:
                return _Sign.OPEN
            try:
                return _Sign.BANNER if link.recv(4).startswith(b"SSH-") else _Sign.OPEN
            except OSError:
                return _Sign.OPEN
    except ConnectionRefusedError:
        return _Sign.REFUSED
    except TimeoutError:
        return _Sign.SILENT
    except OSError as error:
        # Without any route of its own the hub sees nothing of anybody: that proves nothing.
        gone = (errno.EHOSTUNREACH, errno.ECONNRESET, errno.EHOSTDOWN)
        return _Sign.NO_ROUTE if error.errno in gone else _Sign.UNKNOWN


def _echo(endpoint: Endpoint) -> _Sign:
    """One ICMP echo, IPv4; silence where the hub may not send any."""
    if endpoint.manager == "supervisord":
        return _Sign.SILENT
    mark = secrets.token_bytes(16)
    for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
        try:
            with socket.socket(socket.AF_INET, kind, socket.IPPROTO_ICMP) as link:
                link.settimeout(_TRY)
                link.sendto(_echo_request(mark), (endpoint.address, 0))
                deadline = time.monotonic() + _TRY
                while (left := deadline - time.monotonic()) > 0:
                    link.settimeout(left)
                    packet = link.recv(2048)
                    # The request itself is seen too on loopback: an echo reply has type 0.
                    header = 20 if kind == socket.SOCK_RAW else 0
                    if packet[header : header + 1] == b"\0" and mark in packet:
                        return _Sign.ECHO
                return _Sign.SILENT
        except TimeoutError:
            return _Sign.SILENT
        except PermissionError:
            continue
        except OSError:
            return _Sign.SILENT
    return _Sign.SILENT


def _echo_request(mark: bytes) -> bytes:
    head = struct.pack("!BBHHH", 8, 0, 0, os.getpid() & 0xFFFF, 1)
    total = sum(struct.unpack(f"!{(len(head) + len(mark)) // 2}H", head + mark))
    total = (total >> 16) + (total & 0xFFFF)
    total += total >> 16
    return struct.pack("!BBHHH", 8, 0, ~total & 0xFFFF, os.getpid() & 0xFFFF, 1) + mark
