"""Findings about the data: the scope, what cannot be read, space, and databases that are copied while open."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass

from migrationhub.lib.findings import Finding, Level
from servers.movers.base import MoveJob
from servers.movers.rsync import snapshots
from servers.movers.rsync.exclusions import exclusions, left_out
from servers.movers.rsync.preflight_machine import Fields, text
from servers.movers.rsync.walk import LOCAL_TYPES, parse_mountinfo

_RESERVE = 0.05  # of a target's file system: left free
_DATABASES = {
    "pg_control": "PostgreSQL",
    "ibdata1": "MySQL or MariaDB",
    "WiredTiger": "MongoDB",
    "dump.rdb": "Redis",
}


def scope(job: MoveJob, source: Fields) -> Iterator[Finding]:
    """The named directories are there; what is mounted from elsewhere is not copied."""
    for line in text(source, "paths").splitlines():
        kind, _, path = line.partition(" ")
        shown = path.removeprefix(".")
        if kind == "link":
            yield Finding(
                Level.BLOCKING,
                "scope.link",
                f"{shown} on {job.source.name} is a symbolic link: only the link would be copied.",
                "Name the directory that it points to.",
                shown,
            )
        else:
            yield Finding(
                Level.BLOCKING,
                "scope.absent",
                f"{shown} is not on {job.source.name}.",
                "Correct the paths in the profile, or mount what belongs there.",
                shown,
            )
    patterns = [exclusion.pattern for exclusion in exclusions(job.scope, job.exclusions)]
    for mount in parse_mountinfo(source.get("mounts", b"")):
        network = mount.type.startswith(("nfs", "cifs", "smb", "ceph", "gluster", "fuse.", "fuseblk", "9p", "virtiofs"))
        if network and not left_out(mount.point, patterns) and not mount.local:
            yield Finding(
                Level.WARNING,
                "scope.foreign",
                f"{mount.point} on {job.source.name} is mounted from elsewhere ({mount.type}) and is not copied.",
                "Mount it on the target too, where the application needs it.",
                mount.point,
            )


def unreadable(job: MoveJob, source: Fields) -> Iterator[Finding]:
    found = paths(source, "unreadable")
    if found:
        yield Finding(
            Level.BLOCKING,
            "files.unreadable",
            f"{job.source.name}: {len(found)} or more files cannot be read, such as {found[0]}.",
            "Use a credential that is root or may use sudo, or exclude them.",
            job.source.name,
        )


def databases(job: MoveJob, source: Fields) -> Iterator[Finding]:
    """Database files that nothing makes consistent: a copy of an open database may not start."""
    method = job.freeze.method
    frozen = "/" + str(job.freeze.options.get("data", "")).strip("/")
    for kind, directory in open_databases(job, source):
        if job.kind == "final":
            if kind == "PostgreSQL":
                yield Finding(
                    Level.BLOCKING,
                    "database.running",
                    f"PostgreSQL in {directory} still runs on {job.source.name}.",
                    "Stop it before the final sync.",
                    directory,
                )
        elif method in snapshots.METHODS:
            continue  # told by whoever looks what they cover
        elif method == "stop" or (method == "postgresql" and directory.endswith(frozen)):
            yield Finding(
                Level.READY, "database.consistent", f"{kind} in {directory} is copied by {method}.", "", directory
            )
        else:
            yield Finding(
                Level.WARNING,
                "database.live",
                f"{kind} in {directory} would be copied while it is open: the copy may not start.",
                "Choose freeze, snapshot or stop in the profile; acceptance tests need a consistent copy.",
                directory,
            )


def open_databases(job: MoveJob, source: Fields) -> Iterator[tuple[str, str]]:
    """Kind and directory of each database that is copied and may be open; PostgreSQL tells when it is not."""
    patterns = [exclusion.pattern for exclusion in exclusions(job.scope, job.exclusions)]
    running = {posixpath.dirname(path) for path in paths(source, "postmasters")}
    for path in paths(source, "databases"):
        kind = _DATABASES.get(posixpath.basename(path), "A database")
        directory = posixpath.dirname(path)
        if kind == "PostgreSQL":
            directory = posixpath.dirname(directory)
            if directory not in running:
                continue
        if not left_out(directory, patterns):
            yield kind, directory


@dataclass(frozen=True)
class Disk:
    point: str
    type: str
    size: int  # bytes, without what is reserved for root
    used: int
    free: int


def space(job: MoveJob, source: Fields, target: Fields) -> Iterator[Finding]:
    """Does what is used on the source fit on the target's file systems that will hold it? Bytes."""
    if job.scope != "system":
        yield from _space_of_paths(job, source, target)
        return
    holders = disks(text(target, "disks"))
    needs: dict[str, int] = {}
    for disk in disks(text(source, "disks")):
        holder = max(
            (other for other in holders if inside(disk.point, other.point)),
            key=lambda other: len(other.point),
            default=None,
        )
        if holder is not None and not left_out(disk.point, ["/boot", "/efi"]):
            needs[holder.point] = needs.get(holder.point, 0) + disk.used
    for holder in holders:
        if holder.point in needs:
            yield _fits(job, holder.point, needs[holder.point], int(holder.size * (1 - _RESERVE)))
    if not needs:
        yield _unknown(job)


def _space_of_paths(job: MoveJob, source: Fields, target: Fields) -> Iterator[Finding]:
    needs: dict[str, int] = {}
    room: dict[str, int] = {}
    for here, there in zip(places(text(source, "places")), places(text(target, "places")), strict=False):
        if here.size is None:
            yield _unknown(job)
            return
        needs[there.point] = needs.get(there.point, 0) + here.size
        # What the target has there already is replaced.
        room[there.point] = room.get(there.point, there.free) + (there.size or 0)
    if not needs:
        yield _unknown(job)
    for point, needed in needs.items():
        yield _fits(job, point, needed, int(room[point] * (1 - _RESERVE)))


def _fits(job: MoveJob, point: str, needed: int, room: int) -> Finding:
    words = f"{size(needed)} needed, {size(room)} usable on {job.target.name} in {point}"
    if needed > room:
        return Finding(
            Level.BLOCKING,
            "space.short",
            f"The data does not fit: {words}.",
            "Choose a service plan with a larger disk, or exclude what need not move.",
            point,
        )
    return Finding(Level.READY, "space.enough", f"The data fits: {words}.", "", point)


def _unknown(job: MoveJob) -> Finding:
    return Finding(
        Level.WARNING,
        "space.unknown",
        f"How much {job.source.name} has to copy could not be found out in time.",
        "Compare the sizes of the disks yourself.",
        job.target.name,
    )


@dataclass(frozen=True)
class Place:
    """A named directory: its size (None: not known in time), and the file system that holds it. Bytes."""

    size: int | None
    free: int
    point: str


def places(table: str) -> list[Place]:
    found = []
    for line in table.splitlines():
        size, free, point = line.split(" ", 2)
        found.append(Place(int(size) * 1024 if size.isdigit() else None, int(free) * 1024, point))
    return found


def disks(table: str) -> list[Disk]:
    """Local file systems of what `df -klPT` printed."""
    found = []
    for line in table.splitlines()[1:]:
        fields = line.split(None, 6)
        if len(fields) < 7 or not fields[3].isdigit() or not fields[4].isdigit():
            continue
        used, free = int(fields[3]) * 1024, int(fields[4]) * 1024
        if fields[1] in LOCAL_TYPES or fields[6] == "/":
            found.append(Disk(fields[6], fields[1], used + free, used, free))
    return found


def inside(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def paths(fields: Fields, name: str) -> list[str]:
    """Absolute paths of a NUL-separated list that find printed from the root."""
    return [
        path.decode("utf-8", "backslashreplace").removeprefix(".")
        for path in fields.get(name, b"").split(b"\0")
        if path
    ]


def size(number: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"
