"""What a sync from snapshots needs to know of a host: which mount points it shows, and which of them it snapshots."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterable, Sequence

from migrationhub.lib.findings import Problem
from servers.movers.base import MoveJob
from servers.movers.rsync.exclusions import SNAPSHOT_NAME, find_terms, left_out, literal
from servers.movers.rsync.layout import scope_paths
from servers.movers.rsync.walk import Mount

METHODS = ("snapshot-btrfs", "snapshot-lvm", "snapshot-zfs")
_SIZE = re.compile(r"(\d{1,9})\s*(%|[MGT](?:i?B)?)", re.IGNORECASE)
_UNITS = {"M": 20, "G": 30, "T": 40}


def settings(job: MoveJob) -> dict[str, str]:
    """Variables of the programs. Raises `Problem` for a size that is none."""
    return {
        "SNAPSHOT_NAME": SNAPSHOT_NAME,
        "SNAPSHOT_MARK": "migrationhub_" + hashlib.sha256(job.migration_key.encode()).hexdigest()[:10],
        "SUBVOLUME": subvolume(job),
        "SNAPSHOT_SIZE": size(str(job.freeze.options.get("size") or "")),
    }


def subvolume(job: MoveJob) -> str:
    return "/" + str(job.freeze.options.get("subvolume") or "/").strip("/")


def size(text: str) -> str:
    """Bytes, or a share of the volume with its “%”; "" where nothing is asked for."""
    if not text.strip():
        return ""
    found = _SIZE.fullmatch(text.strip())
    if found is None or int(found[1]) == 0 or (found[2] == "%" and int(found[1]) > 100):
        raise Problem(
            f"{text!r} is no size of a snapshot.",
            "Give one such as 5G, or a share of the volume such as 20%.",
            code="freeze.size",
        )
    return f"{int(found[1])}%" if found[2] == "%" else str(int(found[1]) << _UNITS[found[2][0].upper()])


def shell_functions(job: MoveJob, mounts: Sequence[Mount], patterns: Iterable[str]) -> str:
    """`view_points` and `scope_points`, which call their argument with number and path of each mount point, and
    `walked`."""
    patterns = list(patterns)
    shown, snapshotted = points(job, mounts, patterns)
    numbers = {point: number for number, point in enumerate(shown)}
    calls = _calls("view_points", shown, numbers) + _calls("scope_points", snapshotted, numbers)
    return calls + _walked(scope_paths(job), patterns)


def points(job: MoveJob, mounts: Sequence[Mount], patterns: list[str]) -> tuple[list[str], list[str]]:
    """Mount points of the view, parents first; and those of them that hold what is copied.

    A subvolume that is to be snapshotted counts as one, also where it is only a directory of another.
    """
    local = [mount.point for mount in mounts if mount.local and not left_out(mount.point, patterns)]
    shown, places = {"/", *local}, {*local}
    if job.freeze.method == "snapshot-btrfs":
        shown.add(subvolume(job))
        places |= {point for point in (subvolume(job),) if not left_out(point, patterns)}
    wanted = scope_paths(job)
    held = {max((point for point in places if _inside(path, point)), key=len, default="/") for path in wanted}
    held |= {point for point in places if not wanted or any(_inside(point, path) for path in wanted)}
    if wanted:  # and what leads there: elsewhere, as below /run, there may be no place to show anything at
        needed = held | (shown - {*local})
        shown = {point for point in shown if any(_inside(one, point) for one in needed)}
    return sorted(shown), sorted(held)


def _calls(name: str, chosen: Iterable[str], numbers: dict[str, int]) -> str:
    lines = [f'  "$1" {numbers[point]} {shlex.quote(point)}\n' for point in chosen]
    return f"{name}() {{ # function\n{''.join(lines) or '  :' + chr(10)}}}\n"


def _walked(wanted: Sequence[str], patterns: Sequence[str]) -> str:
    """A shell function that passes on, of directories (“./srv/x” from the root, NUL), those that the sync walks and
    that hold anything."""
    names = [pattern for pattern in patterns if not pattern.startswith("/")]
    skipped = find_terms(patterns) + [word for name in names for word in ("-o", "-path", f"*/{name}/*")]
    inside: list[str] = []
    for path in wanted:
        parts = literal(path).split("/")
        leading = ["/".join([".", *parts[1:count]]) for count in range(2, len(parts) + 1)]
        inside += [word for one in (*leading, f"{leading[-1]}/*") for word in ("-o", "-path", one)]
    terms = ["-maxdepth", "0", "!", "(", *skipped, ")", *(["(", *inside[1:], ")"] if inside else []), "!", "-empty"]
    find = f'exec find "$@" {shlex.join(terms)} -print0'
    return f"walked() {{\n  xargs -0 -r sh -c {shlex.quote(find)} walked\n}}\n"


def _inside(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")
