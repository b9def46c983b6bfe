"""Proof that a clone is isolated: from inside it, production cannot be reached, and production does not know it.

A connect that fails proves something only where it could have succeeded: the clone's own port is the control for
the attempt itself, and the hub's connect to the same place tells whether anybody answers there at all.
"""

from __future__ import annotations

from collections.abc import Sequence

from migrationhub.lib.findings import Finding, Level
from servers.remote import dns
from servers.remote.base import Connection
from servers.remote.reach import Attempt, Reach, from_hub, from_inside

_ACT = "Put the clone on a network without a way to production before anybody tests on it."


def not_applicable(connection: Connection) -> str:
    """Why isolation cannot hold on this machine at all; "" where it can."""
    if connection.endpoint.manager == "supervisord":
        return "The host is a directory on a shared machine: it has no network of its own."
    return ""


def prove(connection: Connection, targets: Sequence[tuple[str, int]], *, timeout: float = 3.0) -> list[Finding]:
    """One finding for each production (address, port): blocking where the clone gets through.

    A warning where nobody answers there, so that the failed connect proves nothing. Without targets the finding
    is a warning too. Raises `RemoteProblem` where the clone cannot be asked.
    """
    name = connection.endpoint.name
    if reason := not_applicable(connection):
        return [Finding(Level.READY, "isolation.not_applicable", f"Not applicable: {reason}", subject=name)]
    if not targets:
        text = f"No place in production is known that {name} must not reach."
        act = "Record the source's listening ports, or name an address and port."
        return [Finding(Level.WARNING, "isolation.nothing_tried", text, act, name)]
    control, *attempts = from_inside(connection, [("127.0.0.1", connection.endpoint.port), *targets], timeout=timeout)
    if control.reach is not Reach.OPEN:
        text = (
            f"The isolation of {name} cannot be proven: even its own port {connection.endpoint.port} {control.words}."
        )
        return [Finding(Level.BLOCKING, "isolation.unproven", text, "Install bash and coreutils there.", name)]
    return [_finding(name, target, attempt, timeout) for target, attempt in zip(targets, attempts, strict=True)]


def prove_name(
    server: str, port: int, zone: str, name: str, transient: str, *, rtype: str = "A", timeout: float = 5.0
) -> Finding:
    """Production's name server must not give the clone's transient address for the name."""
    try:
        now = dns.look_up(server, zone, name, rtype, port=port, timeout=timeout)
    except dns.DnsProblem as problem:
        return Finding(Level.BLOCKING, problem.code, problem.text, problem.act, name)
    if transient in now.values:
        text = f"{server} answers {name} with {transient}, the clone's transient address: production would use it."
        return Finding(Level.BLOCKING, "isolation.name", text, f"Take {transient} out of that record.", name)
    text = f"{server} does not know {transient} as {name} (it says {', '.join(now.values) or 'nothing'})."
    return Finding(Level.READY, "isolation.name", text, subject=name)


def _finding(name: str, target: tuple[str, int], attempt: Attempt, timeout: float) -> Finding:
    where = f"{target[0]} port {target[1]}"
    if attempt.reach is Reach.OPEN:
        text = f"{name} reaches production: from inside it, {where} accepts connections."
        return Finding(Level.BLOCKING, "isolation.open", text, _ACT, where)
    if attempt.reach is Reach.UNKNOWN:
        text = f"The isolation of {name} cannot be proven: {where} {attempt.words}."
        return Finding(Level.BLOCKING, "isolation.unproven", text, "Name an IP address and a port.", where)
    from_here = from_hub(*target, timeout=timeout)
    if from_here.reach is not Reach.OPEN:
        text = f"For the hub too, {where} {from_here.words}: that {name} does not get through proves little."
        act = "Check that the source runs and answers the hub, then prove it again."
        return Finding(Level.WARNING, "isolation.no_answer", text, act, where)
    text = f"From inside {name}, {where} {attempt.words}; the hub reaches it."
    return Finding(Level.READY, "isolation.closed", text, subject=where)
