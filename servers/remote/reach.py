"""One TCP connect, from the hub or from inside a machine, and what came of it in a word and in a sentence's part."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from servers.remote.base import Connection


class Reach(StrEnum):
    OPEN = "open"  # somebody accepted
    REFUSED = "refused"  # something there, or a firewall, said no at once
    SILENT = "silent"  # no answer in time
    UNREACHABLE = "unreachable"  # no route
    UNKNOWN = "unknown"  # the attempt itself could not be made


@dataclass(frozen=True)
class Attempt:
    reach: Reach
    words: str  # "refuses connections", "gives no answer within 3 s", …


def from_hub(address: str, port: int, *, timeout: float = 5.0) -> Attempt:
    """Connect from the hub and close at once. Time-out in seconds."""
    try:
        socket.create_connection((address, port), timeout=timeout).close()
    except ConnectionRefusedError:
        return _attempt(Reach.REFUSED, timeout)
    except TimeoutError:
        return _attempt(Reach.SILENT, timeout)
    except OSError as error:
        if error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
            return _attempt(Reach.UNREACHABLE, timeout)
        return Attempt(Reach.UNKNOWN, f"could not be tried from the hub ({error.strerror or error})")
    return _attempt(Reach.OPEN, timeout)


# bash opens /dev/tcp itself, so nothing must be installed; all attempts run side by side.
_INSIDE = r"""seconds=$1; shift
command -v bash >/dev/null && command -v timeout >/dev/null || { echo 'missing'; exit 0; }
n=0
while [ $# -gt 1 ]; do
  ( said=$(timeout "$seconds" bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$1" "$2" 2>&1); rc=$?
    echo "$n $rc $(echo "$said" | tail -n 1)" ) &
  n=$((n + 1)); shift 2
done
wait"""


def from_inside(connection: Connection, places: Sequence[tuple[str, int]], *, timeout: float = 3.0) -> list[Attempt]:
    """Connect from inside a machine to each (address, port), all at the same time; answers in the same order.

    Raises `RemoteProblem` where the machine itself cannot be asked.
    """
    if not places:
        return []
    words = [word for address, port in places for word in (address, str(port))]
    command = ["sh", "-c", _INSIDE, "sh", f"{timeout:g}", *words]
    result = connection.run(command, timeout=timeout + 15, root=False)
    if result.text.strip() == "missing" or result.rc != 0:
        missing = Attempt(Reach.UNKNOWN, "could not be tried from inside: bash and timeout are needed there")
        return [missing] * len(places)
    found = {int(number): (int(rc), said) for number, rc, said in _lines(result.text)}
    return [_inside(*found.get(number, (1, "")), timeout) for number in range(len(places))]


def _lines(text: str) -> list[tuple[str, str, str]]:
    rows = (line.split(" ", 2) for line in text.splitlines())
    return [(row[0], row[1], row[2]) for row in rows if len(row) == 3 and row[0].isdigit() and row[1].isdigit()]


def _inside(rc: int, said: str, timeout: float) -> Attempt:
    if rc == 0:
        return _attempt(Reach.OPEN, timeout)
    if rc == 124 or "timed out" in said:
        return _attempt(Reach.SILENT, timeout)
    if "refused" in said:
        return _attempt(Reach.REFUSED, timeout)
    if "No route" in said or "unreachable" in said:
        return _attempt(Reach.UNREACHABLE, timeout)
    return Attempt(Reach.UNKNOWN, f"could not be tried from inside ({said.rpartition(': ')[2] or f'status {rc}'})")


def _attempt(reach: Reach, timeout: float) -> Attempt:
    words = {
        Reach.OPEN: "accepts connections",
        Reach.REFUSED: "refuses connections",
        Reach.SILENT: f"gives no answer within {timeout:g} s",
        Reach.UNREACHABLE: "cannot be reached (no route)",
    }
    return Attempt(reach, words[reach])
