"""Which file systems a sync walks, and the `find` commands that list them.

A record of a manifest is `path//local//shared//link target` and ends with NUL: the path has no “//” in it, so any
byte is possible in names. `local` (file system, inode, links, ctime) means something on one machine only;
`shared` (type, mode, size, uid, gid, mtime) must agree between source and target.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from servers.movers.rsync.exclusions import find_terms, left_out, literal

# File systems on the machine's own disks. Everything else (network, kernel, memory, fuse, images) is left out;
# “/” is walked whatever it is.
LOCAL_TYPES = frozenset(
    [
        "ext2",
        "ext3",
        "ext4",
        "xfs",
        "btrfs",
        "zfs",
        "jfs",
        "reiserfs",
        "f2fs",
        "nilfs2",
        "bcachefs",
        "vfat",
        "exfat",
        "ntfs",
        "ntfs3",
    ]
)

# Patterns of which find and rsync have the same notion. rsync's reading of a backslash depends on what is around it.
_PLAIN = re.compile(r"/?[A-Za-z0-9._+@:~,=*-]+(/[A-Za-z0-9._+@:~,=*-]+)*")
_OCTAL = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    point: str  # decoded with surrogateescape
    type: str
    label: str  # stays the same while the same file system is mounted there
    device: str = ""  # “major:minor”: the same for all mounts of a file system; "" where it is not known
    root: str = "/"  # the directory of the file system that is seen here
    bound: bool = False  # a directory that was mounted once more, not the root of a file system or a subvolume

    @property
    def local(self) -> bool:
        return self.point == "/" or self.type in LOCAL_TYPES


def parse_mountinfo(text: bytes) -> list[Mount]:
    """Mounts of /proc/self/mountinfo by mount point; of several on one point the last (the visible one)."""
    mounts: dict[str, Mount] = {}
    for line in text.splitlines():
        left, separator, right = line.partition(b" - ")
        fields, source = left.split(), right.split()
        if not separator or len(fields) < 5 or len(source) < 2:
            continue
        point, root = _decoded(fields[4]), _decoded(fields[3])
        label = hashlib.sha256(source[0] + b"\0" + source[1] + b"\0" + fields[3]).hexdigest()[:10]
        mounts.pop(point, None)
        kind = source[0].decode("ascii", "replace")
        bound = root != _subvolume(source, root) if kind == "btrfs" else root != "/"
        mounts[point] = Mount(point, kind, label, fields[2].decode("ascii", "replace"), root, bound)
    return list(mounts.values())


def _decoded(field: bytes) -> str:
    return _OCTAL.sub(lambda found: bytes([int(found[1], 8)]), field).decode("utf-8", "surrogateescape")


def _subvolume(source: Sequence[bytes], root: str) -> str:
    """The subvolume that a mount of btrfs shows, or shows a part of; old kernels do not tell."""
    found = [option[7:] for option in b",".join(source[2:]).split(b",") if option.startswith(b"subvol=")]
    return _decoded(found[0]) if found else root


@dataclass(frozen=True)
class Walk:
    """Where find starts (paths from the root, "." or "./srv", with the label of the file system) and what it skips."""

    starts: tuple[tuple[str, str], ...]
    skipped: tuple[str, ...]  # patterns
    mount_points: tuple[str, ...] = ()  # each walked for itself
    foreign: tuple[str, ...] = ()  # mounted from elsewhere, not walked, but met on the way


def plan(scope_paths: Sequence[str], mounts: Sequence[Mount], skipped: Iterable[str]) -> Walk:
    """The walk over the scope: one start for each named directory and for each local file system below one.

    `scope_paths` are absolute; () means everything. `mounts` is empty on hosts whose directory is one tree.
    """
    patterns = list(skipped)
    met = [mount.point for mount in mounts if not mount.local and not left_out(_above(mount.point), patterns)]
    mounts = [mount for mount in mounts if mount.point == "/" or not left_out(mount.point, patterns)]
    wanted = [path.rstrip("/") or "/" for path in scope_paths] or ["/"]
    starts: dict[str, str] = {}
    for path in wanted:
        starts[path] = _label(path, mounts)
    for mount in mounts:
        if mount.local and any(below(mount.point, path) for path in wanted):
            starts[mount.point] = mount.label
    foreign = [literal(mount.point) for mount in mounts if not mount.local]
    return Walk(
        tuple(sorted(("." if path == "/" else f".{path}", label) for path, label in starts.items())),
        tuple(dict.fromkeys([*patterns, *foreign])),
        tuple(path for path in starts if path != "/"),
        tuple(met),
    )


def foreign_points(mounts: Iterable[Mount]) -> tuple[str, ...]:
    """Patterns of what is mounted from elsewhere: the other side must leave these paths alone too."""
    return tuple(literal(mount.point) for mount in mounts if not mount.local)


def shell_function(walk: Walk, name: str = "walk") -> str:
    """A shell function `walk SINCE MARK`: all records, unsorted, of the tree below the working directory.

    Records with a ctime after SINCE (seconds since 1970, with a fraction) carry “!MARK ”, which no other manifest
    has: the next comparison takes them for changed.
    """
    lines = [f"{name}() {{ # seconds, mark"]
    for start, label in walk.starts:
        # Only those below this one: what leads here must not be left out, or nothing below it would be listed.
        others = [literal(point) for point in walk.mount_points if below(point, start[1:] or "/")]
        terms = find_terms([*walk.skipped, *others])
        skip = ["(", *terms, ")", "-prune", "-o"] if terms else []
        words = " ".join(shlex.quote(word) for word in [start, *skip])
        lines.append(f"  find {words} \\\n{_print_terms(label)}")
    met = " ".join(shlex.quote(f".{point}") for point in walk.foreign if "\n" not in point)
    lines += ["}", "foreign() {", f"  printf '%s\\n' {met}" if met else "  :", "}"]
    return "\n".join(lines) + "\n"


def rsync_rules(walk: Walk) -> list[str] | None:
    """Exclusions with which a recursive rsync goes where the walk goes; None where that cannot be said exactly."""
    if not all(_PLAIN.fullmatch(pattern) and "**" not in pattern for pattern in walk.skipped):
        return None
    if any(left_out(start[1:], walk.skipped) for start, _ in walk.starts if start != "."):
        return None
    # In a path, a “*” of find's crosses “/”; a name has none.
    return [pattern.replace("*", "**") if "/" in pattern else pattern for pattern in walk.skipped]


def look_again() -> str:
    """LOOK_AGAIN, a program for `sh -c … look SINCE PATH…`: records without a label of what has not changed since."""
    cases = []
    for kind, size in (("-type d ", "0"), ("", "%s")):
        cases.append(f"{kind}-printf '%p//%i %n %C@//%y %m {size} %U %G %T@//%l\\0'")
    find = f'find "$@" -maxdepth 0 ! -newerct "@$since" \\( {" -o ".join(cases)} \\)'
    return f"LOOK_AGAIN={shlex.quote(f'since=$1; shift; exec {find}')}\n"


def _print_terms(label: str) -> str:
    # The size of a directory says nothing about its content and differs between file systems.
    local = f"{label} %i %n %C@"
    cases = []
    for since, mark in (('-newerct "@$1"', '!"$2" '), ("", "")):
        for kind, size in (("-type d", "0"), ("", "%s")):
            test = " ".join(part for part in (since, kind) if part)
            form = f"'%p//'{mark and _marked(mark)}'{local}//%y %m {size} %U %G %T@//%l\\0'"
            cases.append(f"\\( {test} -printf {form} \\)" if test else f"-printf {form}")
    return "    " + " -o \\\n    ".join(cases)


def _marked(mark: str) -> str:
    return "'!'\"$2\"' '" if mark else ""


def _label(path: str, mounts: Sequence[Mount]) -> str:
    holders = [mount for mount in mounts if path == mount.point or below(path, mount.point)]
    return max(holders, key=lambda mount: len(mount.point)).label if holders else "tree"


def _above(point: str) -> str:
    return point.rpartition("/")[0] or "/"


def below(path: str, directory: str) -> bool:
    return path != directory and path.startswith(directory.rstrip("/") + "/")
