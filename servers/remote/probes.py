"""Probes: the same question asked on the source, on the clone and on the target, answered yes, no or not known.

`passed` is None where the question could not be put (no SSH, no route, no resolver): that is never a yes. An
answer says what was observed and expected, and where it is no, why and what to look at.
"""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import dns.exception
import dns.name
import dns.rcode
import dns.rdatatype

from migrationhub.lib.findings import Problem
from servers.remote.base import Connection, Endpoint, TimedOut
from servers.remote.dns_exchange import ask
from servers.remote.probes_fields import KINDS, validate
from servers.remote.probes_http import HttpFailed, Request, get
from servers.remote.reach import Reach, from_hub, from_inside

__all__ = ["KINDS", "PLACES", "Probe", "ProbeOutcome", "run", "validate"]

PLACES = ("source", "clone", "target")
_OUTPUT_LIMIT = 64 << 10  # bytes kept of a command's output
_SHOWN = 300  # characters of what was observed


@dataclass(frozen=True)
class Probe:
    """`parameters` by kind as `validate` describes them; `timeout` in seconds for all, 10 by default."""

    kind: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    places: tuple[str, ...] = PLACES
    name: str = ""

    def applies(self, place: str) -> bool:
        return place in self.places


@dataclass(frozen=True)
class ProbeOutcome:
    passed: bool | None  # None: could not be determined
    observed: str
    expected: str
    reason: str  # "" when passed, else a sentence with the next act
    at: datetime
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "at": self.at.isoformat()}


@dataclass(frozen=True)
class _Look:
    """What one kind of probe saw, before time is added."""

    passed: bool | None
    observed: str
    expected: str
    reason: str = ""


@dataclass(frozen=True)
class _Place:
    endpoint: Endpoint
    connection: Connection | None
    address: str
    resolver: str


def run(
    probe: Probe,
    *,
    endpoint: Endpoint,
    connection: Connection | None = None,
    address: str = "",
    resolver: str = "",
) -> ProbeOutcome:
    """One look. `address` is where the service is asked (default: the endpoint's), `resolver` "address[:port]".

    `connection` is needed for units, commands and TCP from inside; without one they are not determined. Never
    raises for what the machine does or does not do.
    """
    at, began = datetime.now(UTC), time.monotonic()
    look = _asked(probe, _Place(endpoint, connection, address or endpoint.address, resolver))
    return ProbeOutcome(
        look.passed, _short(look.observed), look.expected, look.reason, at, round(time.monotonic() - began, 3)
    )


def _asked(probe: Probe, place: _Place) -> _Look:
    wrong = validate(probe.kind, probe.parameters)
    if wrong:
        said = " ".join(f"{name}: {message}" for name, message in wrong.items())
        return _Look(None, "", "", f"The probe cannot run as it is written. {said}")
    try:
        return _KINDS[probe.kind](probe.parameters, place)
    except Problem as problem:
        return _Look(None, "", _expected(probe), f"{problem.text} {problem.act}".strip())


def _unit(parameters: Mapping[str, Any], place: _Place) -> _Look:
    unit, timeout = str(parameters["unit"]), _seconds(parameters)
    if place.endpoint.manager == "supervisord":
        return _program(unit.removesuffix(".service"), _connected(place), timeout)
    command = ["systemctl", "show", "--property=LoadState,ActiveState,SubState,Result", "--", unit]
    result = _connected(place).run(command, timeout=timeout)
    expected = f"{unit} is active"
    state = dict(line.split("=", 1) for line in result.text.splitlines() if "=" in line)
    if result.rc != 0 or "ActiveState" not in state:
        said = _line(result.error_text)
        reason = f"systemctl does not say how {unit} is: {said}. Check the name of the unit."
        return _Look(None, said, expected, reason)
    # An unknown unit says Result=success: only LoadState and ActiveState count.
    if state["LoadState"] == "not-found":
        return _Look(False, "not found", expected, f"There is no unit {unit}. Check its name, or install it.")
    observed = f"{state['ActiveState']} ({state['SubState']})"
    if state["ActiveState"] == "active":
        return _Look(True, observed, expected)
    why = f", its last result is {state['Result']}" if state["Result"] not in ("", "success") else ""
    return _Look(False, observed, expected, f"{unit} is {observed}{why}. Look at: journalctl -u {unit}")


def _program(program: str, connection: Connection, timeout: float) -> _Look:
    """The same under supervisord, by the host's own configuration."""
    config = f"{connection.endpoint.directory.rstrip('/')}/etc/supervisord.conf"
    result = connection.run(["supervisorctl", "-c", config, "status", program], timeout=timeout)
    expected, said = f"{program} is RUNNING", _line(result.text or result.error_text)
    if "no such process" in said:
        return _Look(False, "not found", expected, f"supervisord has no program {program}. Check its name.")
    words = result.text.split()
    if len(words) < 2 or words[0] != program:
        reason = f"supervisorctl does not say how {program} is: {said}. Check that supervisord runs."
        return _Look(None, said, expected, reason)
    if words[1] == "RUNNING":
        return _Look(True, words[1], expected)
    return _Look(False, words[1], expected, f"{program} is {words[1]}. Look into its log and start it.")


def _tcp(parameters: Mapping[str, Any], place: _Place) -> _Look:
    port, timeout, inside = int(parameters["port"]), _seconds(parameters, 5.0), parameters.get("from") == "inside"
    host = str(parameters.get("host") or ("127.0.0.1" if inside else place.address))
    where = f"{host} port {port}" + (" from inside" if inside else "")
    if inside:
        attempt = from_inside(_connected(place), [(host, port)], timeout=timeout)[0]
    else:
        attempt = from_hub(host, port, timeout=timeout)
    expected = f"{where} accepts connections"
    if attempt.reach is Reach.OPEN:
        return _Look(True, attempt.words, expected)
    determined = attempt.reach in (Reach.REFUSED, Reach.SILENT)
    act = "Check that the service runs and listens on that address, and the firewalls in between."
    if not determined:
        act = "Check the address and the network between; nothing is known about the service."
    return _Look(False if determined else None, attempt.words, expected, f"{where} {attempt.words}. {act}")


def _http(parameters: Mapping[str, Any], place: _Place) -> _Look:
    scheme = str(parameters.get("scheme", "http"))
    request = Request(
        address=place.address,
        port=int(parameters.get("port", 443 if scheme == "https" else 80)),
        scheme=scheme,
        path=str(parameters.get("path", "/")),
        host=str(parameters.get("host", "")),
        verify=bool(parameters.get("verify", True)),
        ca=str(parameters.get("ca", "")),
        follow=bool(parameters.get("follow", False)),
        timeout=_seconds(parameters),
    )
    status, text = int(parameters.get("status", 200)), str(parameters.get("text", ""))
    expected = f"status {status}" + (f" and the text “{text}”" if text else "")
    where = f"{scheme}://{request.host or place.address}:{request.port}{request.path} at {place.address}"
    try:
        answer = get(request)
    except HttpFailed as failed:
        act = "Check that the service runs, its address and its port."
        return _Look(False if failed.determined else None, str(failed), expected, f"{where} {failed}. {act}")
    observed = f"status {answer.status}" + (f", to {answer.location}" if answer.location else "")
    if answer.status != status:
        return _Look(
            False,
            f"{observed}: {_line(answer.text)}",
            expected,
            f"{where} answers with status {answer.status}, not {status}. Look into the service's log.",
        )
    if text and text not in answer.text:
        part = f"the first {len(answer.text)} characters" if answer.truncated else "the page"
        return _Look(
            False,
            f"{observed}: {_line(answer.text)}",
            expected,
            f"{where} answers, but “{text}” is not in {part}. Look at the page, or correct the probe's text.",
        )
    return _Look(True, observed + (f", “{text}” found" if text else ""), expected)


def _dns(parameters: Mapping[str, Any], place: _Place) -> _Look:
    name, rtype = str(parameters["name"]), str(parameters.get("rtype", "A"))
    values = {_plain(value.replace("{address}", place.address)) for value in parameters.get("values", ())}
    expected = f"{name} {rtype} " + (", ".join(sorted(values)) or "has an answer")
    server = str(parameters.get("server") or place.resolver)
    if not server:
        return _Look(None, "", expected, "No resolver is known for this place. Enter one in the probe or the network.")
    host, port = _address_and_port(server)
    answer = ask(host, port, dns.name.from_text(name), rtype, _seconds(parameters, 5.0), recurse=True)
    code = dns.rcode.to_text(answer.rcode())
    if code not in ("NOERROR", "NXDOMAIN"):
        return _Look(
            None, code, expected, f"The resolver {server} answers {code}. Check that it may be asked for {name}."
        )
    wanted = dns.rdatatype.from_text(rtype)
    found = {_plain(one.to_text()) for rrset in answer.answer if rrset.rdtype == wanted for one in rrset}
    observed = ", ".join(sorted(found)) or ("no such name" if code == "NXDOMAIN" else "no record")
    if found and (not values or found == values):
        return _Look(True, observed, expected)
    return _Look(
        False,
        observed,
        expected,
        f"{server} says: {observed}. Check the record, and how long the old one may be kept (TTL).",
    )


def _command(parameters: Mapping[str, Any], place: _Place) -> _Look:
    command, status = str(parameters["command"]), int(parameters.get("status", 0))
    output, match = str(parameters.get("output", "")), str(parameters.get("match", "contains"))
    timeout = _seconds(parameters, 30.0)
    expected = f"status {status}" + (f" and output that {_VERBS[match]} “{output}”" if output else "")
    if place.endpoint.manager == "supervisord":
        command = f"cd {shlex.quote(place.endpoint.directory)} && {{ {command}\n}}"
    try:
        result = _connected(place).run(
            command, timeout=timeout, limit=_OUTPUT_LIMIT, root=bool(parameters.get("root", False))
        )
    except TimedOut as problem:
        if problem.code != "ssh.timeout.command":
            raise
        return _Look(False, f"no result within {timeout:g} s", expected, f"{problem.text} {problem.act}")
    observed, said = f"status {result.rc}: {_line(result.text or result.error_text)}", _line(result.error_text)
    if result.rc != status:
        said = said or _line(result.text) or "nothing"
        reason = f"The command ended with status {result.rc}, not {status}. It said: {said}"
        return _Look(False, observed, expected, reason)
    if output and not _matches(result.text, output, match):
        cut = " (cut)" if result.truncated else ""
        return _Look(False, observed, expected, f"The output{cut} is not as expected: {_line(result.text) or 'empty'}")
    return _Look(True, observed, expected)


_KINDS: dict[str, Callable[[Mapping[str, Any], _Place], _Look]] = {
    "unit": _unit,
    "tcp": _tcp,
    "http": _http,
    "dns": _dns,
    "command": _command,
}
_VERBS = {"contains": "contains", "equals": "is", "regex": "matches"}


def _connected(place: _Place) -> Connection:
    if place.connection is None:
        raise Problem(
            f"There is no SSH connection to {place.endpoint.name}.", "Check its connection first.", code="probe.no_ssh"
        )
    return place.connection


def _seconds(parameters: Mapping[str, Any], default: float = 10.0) -> float:
    return float(parameters.get("timeout", default))


def _matches(text: str, wanted: str, match: str) -> bool:
    if match == "equals":
        return text.strip() == wanted.strip()
    return bool(re.search(wanted, text, re.MULTILINE)) if match == "regex" else wanted in text


def _address_and_port(server: str) -> tuple[str, int]:
    host, colon, port = server.rpartition(":")
    return (host, int(port)) if colon and host.count(":") == 0 else (server, 53)


def _plain(value: str) -> str:
    return value.strip().rstrip(".").lower()


def _expected(probe: Probe) -> str:
    return " ".join(str(value) for value in probe.parameters.values())[:_SHOWN]


def _line(text: str) -> str:
    return _short(" ".join(text.split()))


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
