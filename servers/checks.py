"""What a person asks for outside a migration: check a server, check a platform, accept or refuse a host key."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from migrationhub.audit.record import record
from migrationhub.lib.findings import Problem
from servers import runs
from servers.models import Change, HostKey, Platform, Run, Server
from servers.operations.check import reached
from servers.platforms import platform as client_for
from servers.platforms.base import Platform as PlatformClient
from servers.remote import hostkeys
from servers.remote.hostkeys import FoundKey

# From which a key is decided: by a button, which stands beside those that wait; and by its line in known_hosts, with
# which a person takes an earlier word back. A key that moved to the new server is nobody's to accept.
WAITING = (HostKey.State.OFFERED,)
NAMED = (*WAITING, HostKey.State.ACCEPTED, HostKey.State.REFUSED, HostKey.State.RETIRED)


def request_server_check(server: Server, *, user: User | None) -> Run:
    """Host keys, log-in, facts; what is found lands in the server's row."""
    return runs.request(
        f"check.server.{server.pk}",
        "host_check",
        title=f"Check {server.name}",
        parameters={"server": server.pk},
        server=server,
        user=user,
    )


def request_platform_check(platform: Platform, *, user: User | None, wanted: Sequence[dict[str, Any]] = ()) -> Run:
    """What this account can do there; the findings land in the platform's row.

    `wanted`: what is planned on it, each {"label", "production", and the fields of an InstanceSpec}: networks,
    plan, image, storage and the name's being free are looked at for each.
    """
    return runs.request(
        f"check.platform.{platform.pk}",
        "platform_check",
        title=f"Check {platform.name}",
        parameters={"platform": platform.pk, "wanted": list(wanted), "reached": reached(platform)},
        user=user,
    )


def platform_client(platform: Platform) -> PlatformClient:
    """For the choices of a form. Network I/O: never inside a transaction."""
    return client_for(platform.kind, platform.access())


def accept_host_key(key_id: int, *, user: User, project_id: int | None = None) -> None:
    """Accept one key that waits; an accepted key of the same type is retired: a machine has one of each."""
    with transaction.atomic():
        _accept(_key(key_id), user, project_id, WAITING)


def refuse_host_key(key_id: int, *, user: User, project_id: int | None = None) -> None:
    with transaction.atomic():
        _decide(_key(key_id), HostKey.State.REFUSED, user, project_id, WAITING)


def _key(key_id: int) -> HostKey:
    return HostKey.objects.select_related("server").get(pk=key_id)


def _accept(key: HostKey, user: User, project_id: int | None, states: Sequence[str]) -> None:
    # First: two people who accept two keys of one machine at the same moment come one after the other.
    findings = [f for f in key.server.findings if not f["code"].startswith("hostkey.")]
    Server.objects.filter(pk=key.server_id).update(findings=findings)
    _decide(key, HostKey.State.ACCEPTED, user, project_id, states)
    HostKey.objects.filter(server=key.server, key_type=key.key_type, state=HostKey.State.ACCEPTED).exclude(
        pk=key.pk
    ).update(state=HostKey.State.RETIRED, decided_at=timezone.now(), decided_by=user)
    request_server_check(key.server, user=user)


def _decide(key: HostKey, state: str, user: User, project_id: int | None, states: Sequence[str]) -> None:
    """`states`: from which it is decided. A page that was drawn before somebody else decided changes nothing.

    `project_id`: of the project in which it was decided, for its audit trail; a machine knows no projects.
    """
    before = key.state
    decided = HostKey.objects.filter(pk=key.pk, state=before, state__in=states).update(
        state=state, decided_at=timezone.now(), decided_by=user
    )
    if not decided:
        raise _decided_before(key)
    record(
        f"hostkey.{state}",
        key,
        actor=user,
        project_id=project_id,
        before={"state": before},
        after={"state": state, "server": key.server.name, "fingerprint": key.fingerprint},
    )
    Change.bump()


def _decided_before(key: HostKey) -> Problem:
    now = HostKey.objects.select_related("decided_by").get(pk=key.pk)
    if now.state == HostKey.State.MOVED:
        return Problem(
            f"The host key {key.fingerprint} went from {key.server} to its new server: it is not accepted here again.",
            "Two machines must not have one identity: find out on the console which one shows it.",
            code="hostkey.moved",
        )
    by = f" by {now.decided_by.get_full_name() or now.decided_by.get_username()}" if now.decided_by else ""
    return Problem(
        f"The host key {key.fingerprint} of {key.server} was {now.state}{by} in the meantime; nothing is changed.",
        f"Look at {key.server}'s page. If that was wrong, compare the key at the machine's console and paste its line"
        " as known_hosts.",
        code="hostkey.decided",
    )


def accept_known_hosts(
    servers: Iterable[Server], text: str, *, user: User, project_id: int | None = None
) -> list[tuple[Server, str]]:
    """Accept what a known_hosts text says of these servers; for each server, what came of it in words."""
    told = []
    for server in servers:
        names = {server.name, hostkeys.known_hosts_name(server.address, server.port)}
        try:
            found = {key.fingerprint: key for keys in hostkeys.parse_known_hosts(text, names).values() for key in keys}
            words = _accept_all(server, list(found.values()), user, project_id)
        except Problem as problem:
            words = f"{problem.text} {problem.act}".strip()
        told.append((server, words or f"No line for {' or '.join(sorted(names))}."))
    return told


@transaction.atomic
def _accept_all(server: Server, found: list[FoundKey], user: User, project_id: int | None) -> str:
    """All of them or none, in words; "" where there is none."""
    for kind in sorted({entry.type for entry in found}):
        same = [entry.fingerprint for entry in found if entry.type == kind]
        if len(same) > 1:
            raise Problem(
                f"There are {len(same)} different {kind} keys for {server}: {', '.join(same)}. None is accepted.",
                "A machine has one of each type: leave only the line that its console confirms.",
                code="hostkey.two",
            )
    for entry in found:
        key, _ = HostKey.objects.get_or_create(
            server=server,
            fingerprint=entry.fingerprint,
            defaults={"key_type": entry.type, "public": entry.base64, "origin": "known_hosts"},
        )
        _accept(key, user, project_id, NAMED)
    return f"Accepted: {', '.join(entry.fingerprint for entry in found)}." if found else ""
