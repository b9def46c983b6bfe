"""Directories that a host shows at two places: bind mounts, and file systems that hold one another's subvolumes.

Each file is copied once, at one place, and the other place is left alone on both sides: a list of it would name the
live files a second time, where no exclusion fits. Exclusions hold for the files, wherever they are seen.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from servers.movers.base import MoveJob
from servers.movers.rsync.exclusions import BASE_WRITTEN, exclusions, left_out, literal
from servers.movers.rsync.layout import scope_paths
from servers.movers.rsync.walk import Mount, below


@dataclass(frozen=True)
class View:
    """The same files at two places of one host."""

    hidden: str  # where they are left alone
    shown: str  # where they are copied
    mounted: bool  # something is mounted at `hidden` itself


def without_second_views(job: MoveJob, source: Sequence[Mount], target: Sequence[Mount]) -> MoveJob:
    """The job with what its two hosts' second views leave out, for both sides the same."""
    own = job.exclusions
    added = [*left_out_by_views(job, source), *left_out_by_views(job, target)]
    return replace(job, exclusions=tuple(dict.fromkeys([*own, *added]))) if added else job


def left_out_by_views(job: MoveJob, mounts: Sequence[Mount]) -> list[str]:
    """Patterns for one host: its second views, and the exclusions as they read at the other place of each view."""
    scope = scope_paths(job)
    machine = [one.pattern for one in exclusions(job.scope, ())]
    profile = [one.pattern for one in exclusions(job.scope, job.exclusions)[len(machine) :]]
    machine += BASE_WRITTEN if job.scope == "system" else ()
    found: list[str] = []
    for view in second_views(job, mounts):
        hidden = _hidden(view, scope, [*machine, *profile])
        found += [_whole(path) for path in hidden]
        # What belongs to the machine does so under its other name as well; who leaves out a bind mount in the profile
        # means that place and not what it shows.
        found += _translated([*machine, *profile], view.hidden, view.shown, itself=machine)
        if view.hidden not in hidden:
            found += _translated([*machine, *profile], view.shown, view.hidden, itself=[*machine, *profile])
    return list(dict.fromkeys(found))


def second_views(job: MoveJob, mounts: Sequence[Mount]) -> list[View]:
    """All pairs of places that show the same files, of the host's own disks."""
    patterns = [one.pattern for one in exclusions(job.scope, job.exclusions)]
    # What lies in a directory that is left out as a whole, such as /run, says nothing of the files that it shows.
    usable = [mount for mount in mounts if mount.local and not _in_passing(mount, patterns)]
    named = _named(job)
    views: dict[View, None] = {}
    for number, inner in enumerate(usable):
        for other, outer in enumerate(usable):
            place = _place(inner, outer, mounts)
            if number == other or place is None:
                continue
            inner_first = _rank(inner, number, named) < _rank(outer, other, named)
            if inner.point == "/" or (inner_first and place != "/"):  # whatever else: the root is the root
                views[View(place, inner.point, place == outer.point)] = None
            else:
                views[View(inner.point, place, True)] = None
    return list(views)


def _place(inner: Mount, outer: Mount, mounts: Sequence[Mount]) -> str | None:
    """Where the tree of one mount is seen inside another's, None where it is not."""
    if not inner.device or inner.device != outer.device or inner.root.endswith("//deleted"):
        return None
    if inner.root != outer.root and not below(inner.root, outer.root):
        return None
    rest = inner.root[len(outer.root.rstrip("/")) :]
    place = (outer.point.rstrip("/") + rest).rstrip("/") or "/"
    covering = (mount.point for mount in mounts if below(mount.point, outer.point))
    return None if any(point == place or below(place, point) for point in covering) else place


def _rank(mount: Mount, number: int, named: Sequence[str]) -> tuple[bool, bool, int, bool, int]:
    """The lowest of two mounts is where the files are copied: where the job names them; not at a bind mount; of file
    systems in each other the inner one, which is what a file system table mounts where it belongs; the earlier."""
    wanted = mount.point != "/" and any(_within(path, mount.point) for path in named)
    depth = 0 if mount.bound else mount.root.rstrip("/").count("/")
    return not wanted, mount.bound and mount.point != "/", -depth, mount.point != "/", number


def _named(job: MoveJob) -> list[str]:
    """What the freeze of any sync of this move is about must be copied under that name, in the final one too."""
    options = job.freeze.options
    names = [options.get("data"), options.get("subvolume")]
    return ["/" + str(name).strip("/") for name in names if str(name or "").strip("/")]


def _in_passing(mount: Mount, patterns: Sequence[str]) -> bool:
    return mount.point != "/" and left_out(posixpath.dirname(mount.point), patterns)


def _hidden(view: View, scope: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """What is left out of a view's second place: all of it where the first is in the scope, or left out itself."""
    if not scope or left_out(view.shown, patterns) or any(_within(view.shown, path) for path in scope):
        return [view.hidden]
    if view.shown == "/" and not any(_within(path, view.hidden) for path in scope):
        return [view.hidden]  # the live system is nobody's data, unless somebody names it by just this place
    inside = [path for path in scope if below(path, view.shown)]
    return [view.hidden.rstrip("/") + path[len(view.shown.rstrip("/")) :] for path in inside]


def _translated(patterns: Sequence[str], here: str, there: str, *, itself: Sequence[str]) -> Iterator[str]:
    """The patterns about what is below `here`, and those of `itself` about that very place, as they read `there`."""
    names = [name for name in here.split("/") if name]
    for pattern in patterns:
        parts = pattern.strip("/").split("/")
        if not pattern.startswith("/") or len(parts) < len(names):
            continue
        if not all(fnmatchcase(name, part) for name, part in zip(names, parts, strict=False)):
            continue
        rest = parts[len(names) :]
        if rest:
            yield "/".join([literal(there).rstrip("/"), *rest])
        elif pattern in itself and there != "/":
            yield _whole(there)


def _whole(path: str) -> str:
    """As a pattern; a blank at its end would be taken for one of whoever wrote the profile."""
    return f"{literal(path[:-1])}[{path[-1]}]" if path[-1].isspace() else literal(path)


def _within(path: str, directory: str) -> bool:
    return path == directory or below(path, directory)
