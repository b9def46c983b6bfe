"""Fingerprint of a machine for sign-offs: packages and /etc, nothing that changes by itself."""

from __future__ import annotations

import shlex

from servers.remote.base import Connection

# Files below /etc that change without anybody deciding anything, or that are ours.
CHANGING = (
    "mtab",
    "resolv.conf",
    "ld.so.cache",
    "adjtime",
    "lvm/archive",  # written with each snapshot, also with those of a sync
    "lvm/backup",
    ".updated",
    ".pwd.lock",
    "migrationhub",
    "systemd/system.control",
    "supervisor.d/zz-migrationhub-blocked.ini",
    "systemd/system/migrationhub-access.service",
    "systemd/system/multi-user.target.wants/migrationhub-access.service",
    "pam.d/migrationhub-access",
)


def machine(connection: Connection) -> dict[str, str]:
    """Digests of the package list and of /etc; on a process host of its own etc alone."""
    endpoint = connection.endpoint
    etc = "/etc" if endpoint.manager == "systemd" else f"{endpoint.directory.rstrip('/')}/etc"
    skip = " ".join(
        f"! -path {shlex.quote('./' + path)} ! -path {shlex.quote('./' + path + '/*')}" for path in CHANGING
    )
    script = (
        f"cd {shlex.quote(etc)} && find . -xdev \\( -type f -o -type l \\) {skip} -print0 2>/dev/null"
        " | LC_ALL=C sort -z"
        ' | xargs -0 -r sh -c \'for f; do if [ -L "$f" ]; then printf "%s -> %s\\n" "$f" "$(readlink "$f")";'
        " else sha256sum \"$f\" 2>/dev/null; fi; done' sh | sha256sum | cut -d' ' -f1\n"
    )
    if endpoint.manager == "systemd":
        script += (
            "{ dpkg-query -W -f '${Package} ${Version} ${db:Status-Abbrev}\\n' 2>/dev/null || rpm -qa 2>/dev/null; }"
            " | LC_ALL=C sort | sha256sum | cut -d' ' -f1\n"
        )
    lines = connection.run(["sh"], stdin=script.encode(), timeout=120, check=True).text.split()
    found = {"etc": lines[0]}
    if len(lines) > 1:
        found["packages"] = lines[1]
    return found


def machine_difference(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """What differs, in words."""
    names = {"etc": "a file below /etc changed", "packages": "packages were added, removed or updated"}
    return [words for key, words in names.items() if before.get(key) != after.get(key)]
