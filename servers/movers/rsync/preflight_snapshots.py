"""Findings about snapshots: asked of the source's own tools as far as that changes nothing."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from migrationhub.lib.findings import Finding, Level, Problem
from servers.movers.base import MoveJob
from servers.movers.rsync import snapshots
from servers.movers.rsync.exclusions import exclusions
from servers.movers.rsync.layout import program
from servers.movers.rsync.preflight_data import inside, open_databases, size
from servers.movers.rsync.preflight_machine import Fields
from servers.movers.rsync.views import without_second_views
from servers.movers.rsync.walk import parse_mountinfo
from servers.remote.base import Connection

_SMALL = 0.05  # of a volume: a snapshot with less room than this fills up quickly
_CROWDED = 0.10  # of a pool: ZFS gets slow, and a full pool stops the application

_REFUSALS = {
    "no-tool": ("has no {tool} program", "Install {package} there."),
    "no-unshare": ("has no unshare program", "Install util-linux there."),
    "no-btrfs": ("has no btrfs at {subvolume}", "Choose another way to make the data consistent."),
    "no-subvolume": ("has no subvolume at {subvolume}, only a directory", "Name the subvolume that holds it."),
    "no-namespace": ("allows no private mounts", "Use a credential that is root, on a machine that allows them."),
}
# All: what lies in no snapshot, then lines “subvolume …”, “volume …” or “pool …”, and what the tool itself says to a
# trial.
_COMMON = """
cd "$(mktemp -d)" || exit 1
trap 'rm -rf "$PWD"' EXIT
for tool in unshare findmnt mountpoint mount; do command -v $tool >/dev/null || { echo no-unshare; exit; }; done
unshare -m true 2>/dev/null || { echo no-namespace; exit; }
: >live.points; : >volumes; : >datasets; : >dataset.points
"""
_BTRFS = """
command -v btrfs >/dev/null || { echo no-tool; exit; }
[ "$(stat -f -c %T "$SUBVOLUME" 2>/dev/null)" = btrfs ] || { echo no-btrfs; exit; }
[ "$(stat -c %i "$SUBVOLUME")" = 256 ] || { echo no-subvolume; exit; }
: >covered.points
scope_points plan_subvolume
(cd "$SUBVOLUME" && timeout 20 find . -xdev -mindepth 1 -type d -inum 256 -print0 2>/dev/null) >inside
[ $? != 124 ] || echo unsure
nested_subvolumes <inside | live_nested
sort -u live.points | sed 's/^/live /'
sed 's/^/subvolume /' covered.points
"""
_LVM = """
command -v lvcreate >/dev/null || { echo no-tool; exit; }
scope_points plan_volume
sed 's/^/live /' live.points
sort -u -k 1,2 volumes | while read -r group volume bytes free extent number point; do
  size=$(snapshot_size "$group" "$bytes" "$free" "$extent" volumes)
  echo "volume $group/$volume $bytes $free ${size:-0} $(of_mount FSTYPE "$point") $point"
  [ -n "$size" ] || continue
  set -- -s -n "${SNAPSHOT_MARK}_$number" -L "${size}b" "$group/$volume"
  said=$(lvcreate --test -y -q -q "$@" 2>&1 </dev/null) ||
    echo "refused $group/$volume $(printf %s "$said" | grep -v 'TEST MODE' | tr '\\n' ' ' | head -c 300)"
done
"""
_ZFS = """
command -v zfs >/dev/null || { echo no-tool; exit; }
scope_points plan_dataset
sed 's/^/live /' live.points
sed 's#/.*##' datasets | sort -u | while read -r pool; do
  echo "pool $pool $(zpool list -H -p -o size,free "$pool" | tr '\\t' ' ')"
done
"""
_METHODS = {
    "snapshot-btrfs": ("btrfs", "btrfs-progs", _BTRFS),
    "snapshot-lvm": ("lvcreate", "lvm2", _LVM),
    "snapshot-zfs": ("zfs", "zfsutils-linux", _ZFS),
}
_COVER = "Name the subvolume that holds it in the profile, or choose freeze or stop there."


@dataclass(frozen=True)
class Volume:
    name: str
    bytes: int
    free: int  # bytes of its group
    room: int  # bytes that its snapshot would get; 0: none
    type: str  # of the file system
    point: str


@dataclass(frozen=True)
class Pool:
    name: str
    bytes: int
    free: int


def findings(job: MoveJob, connection: Connection, source: Fields) -> Iterator[Finding]:
    """Whether the method's snapshots can be taken, how much room they have, and what they do not cover."""
    if job.source.manager == "supervisord":
        yield _blocking(
            f"{job.source.name} is a directory of another machine, whose file systems are not its own to snapshot.",
            "Choose freeze or stop in the profile.",
        )
        return
    job = without_second_views(job, parse_mountinfo(source.get("mounts", b"")), ())
    method = job.freeze.method
    tool, package, script = _METHODS[method]
    try:
        text = _asked(job, connection, source, script)
    except Problem as problem:
        yield Finding(Level.BLOCKING, problem.code, problem.text, problem.act)
        return
    lines = [line.partition(" ") for line in text.splitlines()]
    answer = lines[0][0] if lines else ""
    if not answer or answer in _REFUSALS:
        yield _refused(job, answer, tool=tool, package=package, subvolume=snapshots.subvolume(job))
        return
    said: dict[str, list[str]] = {}
    for head, _, rest in lines:
        said.setdefault(head, []).append(rest)
    if method == "snapshot-btrfs":
        yield from _btrfs(job, said)
    elif method == "snapshot-lvm":
        yield from _lvm(job, [_volume(rest) for rest in said.get("volume", ())], said.get("refused", ()))
    else:
        pools = (rest.split() for rest in said.get("pool", ()))
        yield from _zfs(job, [Pool(name, int(whole), int(free)) for name, whole, free in pools])
    if said.keys() & {"subvolume", "volume", "pool"}:
        yield from _uncovered(job, source, said.get("live", ()))


def _asked(job: MoveJob, connection: Connection, source: Fields, script: str) -> str:
    mounts = parse_mountinfo(source.get("mounts", b""))
    patterns = [one.pattern for one in exclusions(job.scope, job.exclusions)]
    values = {**snapshots.settings(job), "STATE": "/nonexistent/x", "ID": "preflight", "FREEZE": job.freeze.method}
    known = "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
    known += "PATH=${PATH:+$PATH:}/usr/local/sbin:/usr/sbin:/sbin LC_ALL=C\nexport PATH LC_ALL\n"
    functions = snapshots.shell_functions(job, mounts, patterns) + program("snapshots.sh")
    text = (known + functions + _COMMON + script).encode("utf-8", "surrogateescape")
    return connection.run("sh -s", stdin=text, timeout=60).text


def _volume(rest: str) -> Volume:
    name, whole, free, room, kind, point = rest.split(" ", 5)
    return Volume(name, int(whole), int(free), int(room), kind, point)


def _lvm(job: MoveJob, volumes: Sequence[Volume], refusals: Sequence[str]) -> Iterator[Finding]:
    name = job.source.name
    if not volumes:
        yield _blocking(
            f"Nothing of what is copied from {name} lies on an LVM volume.",
            "Choose another way to make the data consistent.",
        )
        return
    for one in volumes:
        group = one.name.partition("/")[0]
        if one.type == "btrfs":
            yield _blocking(
                f"{one.point} on {name} is btrfs on LVM: two copies of one btrfs cannot be mounted side by side.",
                "Choose the btrfs snapshot in the profile.",
            )
        elif not one.room:
            yield _blocking(
                f"The volume group {group} on {name} has too little room for a snapshot of {one.name}: "
                f"{size(one.free)} free.",
                "Extend the volume group, give a smaller size in the profile, or choose another way.",
            )
        else:
            yield _room(job, one)
    for refusal in refusals:
        volume, _, words = refusal.partition(" ")
        yield _blocking(f"LVM on {name} refuses a snapshot of {volume}: {words.strip()}.", "See what it says.")
    if len(volumes) > 1:
        yield _moments(job, "volumes", [one.name for one in volumes], "LVM takes one snapshot after another")


def _room(job: MoveJob, volume: Volume) -> Finding:
    words = (
        f"{job.source.name} can take a snapshot of {volume.name}, with room for {size(volume.room)} of changes "
        f"({volume.room * 100 // volume.bytes} % of it)"
    )
    if volume.room < volume.bytes * _SMALL:
        return Finding(
            Level.WARNING,
            "freeze.room",
            f"{words}: where more is written during the copy, the sync fails.",
            "Extend the volume group, or sync when little is written.",
            volume.point,
        )
    return Finding(Level.READY, "freeze.snapshot", f"{words}.", "", volume.point)


def _zfs(job: MoveJob, pools: Sequence[Pool]) -> Iterator[Finding]:
    if not pools:
        yield _blocking(
            f"Nothing of what is copied from {job.source.name} lies on ZFS.",
            "Choose another way to make the data consistent.",
        )
        return
    for pool in pools:
        words = f"{job.source.name} can take snapshots in the pool {pool.name}; {size(pool.free)} are free"
        if pool.free < pool.bytes * _CROWDED:
            yield Finding(
                Level.WARNING,
                "freeze.room",
                f"{words}: what is written during the copy needs room of its own.",
                "Make room in the pool, or sync when little is written.",
                pool.name,
            )
        else:
            yield Finding(Level.READY, "freeze.snapshot", f"{words}.", "", pool.name)
    if len(pools) > 1:
        yield _moments(job, "pools", [pool.name for pool in pools], "ZFS takes those of one pool at one moment only")


def _moments(job: MoveJob, kind: str, names: Sequence[str], why: str) -> Finding:
    return Finding(
        Level.WARNING,
        "freeze.moments",
        f"The snapshots of the {kind} {', '.join(names)} on {job.source.name} are not of one moment: {why}.",
        "Where one application uses several of them, choose freeze or stop in the profile.",
        job.source.name,
    )


def _uncovered(job: MoveJob, source: Fields, live: Sequence[str]) -> Iterator[Finding]:
    """Mount points of the scope without a snapshot, and databases there."""
    if live:
        yield Finding(
            Level.WARNING,
            "freeze.live",
            f"In no snapshot, so copied live from {job.source.name}: {', '.join(live)}.",
            "Make sure that nothing there must be of one moment.",
            job.source.name,
        )
    points = {mount.point for mount in parse_mountinfo(source.get("mounts", b"")) if mount.local}.union(live)
    if job.freeze.method == "snapshot-btrfs":
        points.add(snapshots.subvolume(job))
    for name, directory in open_databases(job, source):
        holder = max((point for point in points if inside(directory, point)), key=len, default="/")
        if holder in live:
            yield Finding(
                Level.BLOCKING,
                "database.live",
                f"{name} in {directory} would be copied while it is open: it lies on {holder}, of which"
                f" {job.freeze.method} takes no snapshot, and the copy may not start.",
                _COVER if job.freeze.method == "snapshot-btrfs" else "Choose freeze or stop in the profile.",
                directory,
            )
        else:
            words = f"{name} in {directory} is copied by {job.freeze.method}."
            yield Finding(Level.READY, "database.consistent", words, "", directory)


def _btrfs(job: MoveJob, said: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    subvolume = snapshots.subvolume(job)
    if "subvolume" not in said:
        yield _blocking(
            f"Nothing of what is copied from {job.source.name} lies in the subvolume {subvolume}.",
            "Name the subvolume that holds it, or choose another way to make the data consistent.",
        )
        return
    yield Finding(Level.READY, "freeze.snapshot", f"{job.source.name} can take a snapshot of {subvolume}.")
    if "unsure" in said:
        yield Finding(
            Level.WARNING,
            "freeze.nested",
            f"Whether other subvolumes lie inside {subvolume} on {job.source.name} could not be found out in time.",
            "Look at “btrfs subvolume list”: what lies in another subvolume is copied live.",
            job.source.name,
        )


def _refused(job: MoveJob, answer: str, **names: str) -> Finding:
    text, act = _REFUSALS.get(answer, ("did not tell whether it can take a snapshot", "Look at the machine."))
    return _blocking(f"{job.source.name} {text.format(**names)}.", act.format(**names))


def _blocking(text: str, act: str) -> Finding:
    return Finding(Level.BLOCKING, "freeze.snapshot", text, act)
