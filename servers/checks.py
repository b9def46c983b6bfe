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
from servers.platforms import platform as client_for
from servers.platforms.base import Platform as PlatformClient
from servers.remote import hostkeys


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
        parameters={"platform": platform.pk, "wanted": list(wanted)},
        user=user,
    )


def platform_client(platform: Platform) -> PlatformClient:
    """For the choices of a form. Network I/O: never inside a transaction."""
    return client_for(platform.kind, platform.access())


def accept_host_key(key_id: int, *, user: User) -> None:
    """Accept one key; an accepted key of the same type is retired: a machine has one of each."""
    key = HostKey.objects.select_related("server").get(pk=key_id)
    with transaction.atomic():
        HostKey.objects.filter(server=key.server, key_type=key.key_type, state=HostKey.State.ACCEPTED).exclude(
            pk=key.pk
        ).update(state=HostKey.State.RETIRED, decided_at=timezone.now(), decided_by=user)
        _decide(key, HostKey.State.ACCEPTED, user)
        findings = [f for f in key.server.findings if not f["code"].startswith("hostkey.")]
        Server.objects.filter(pk=key.server_id).update(findings=findings)
        request_server_check(key.server, user=user)


def refuse_host_key(key_id: int, *, user: User) -> None:
    with transaction.atomic():
        _decide(HostKey.objects.select_related("server").get(pk=key_id), HostKey.State.REFUSED, user)


def _decide(key: HostKey, state: str, user: User) -> None:
    before = key.state
    HostKey.objects.filter(pk=key.pk).update(state=state, decided_at=timezone.now(), decided_by=user)
    record(
        f"hostkey.{state}",
        key,
        actor=user,
        before={"state": before},
        after={"state": state, "server": key.server.name, "fingerprint": key.fingerprint},
    )
    Change.bump()


def accept_known_hosts(servers: Iterable[Server], text: str, *, user: User) -> list[tuple[Server, str]]:
    """Accept what a known_hosts text says of these servers; for each server, what came of it in words."""
    told = []
    for server in servers:
        names = {server.name, hostkeys.known_hosts_name(server.address, server.port)}
        try:
            found = [key for keys in hostkeys.parse_known_hosts(text, names).values() for key in keys]
        except Problem as problem:
            told.append((server, f"{problem.text} {problem.act}".strip()))
            continue
        if not found:
            told.append((server, f"No line for {' or '.join(sorted(names))}."))
            continue
        for entry in found:
            key, _ = HostKey.objects.get_or_create(
                server=server,
                fingerprint=entry.fingerprint,
                defaults={"key_type": entry.type, "public": entry.base64, "origin": "known_hosts"},
            )
            accept_host_key(key.pk, user=user)
        told.append((server, f"Accepted: {', '.join(entry.fingerprint for entry in found)}."))
    return told
