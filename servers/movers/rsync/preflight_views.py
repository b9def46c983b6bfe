"""Findings about directories that a host shows at two places: their files are copied once."""

from __future__ import annotations

from collections.abc import Iterator

from migrationhub.lib.findings import Finding, Level
from servers.movers.base import MoveJob
from servers.movers.rsync.exclusions import exclusions, left_out
from servers.movers.rsync.layout import scope_paths
from servers.movers.rsync.views import View, left_out_by_views, second_views
from servers.movers.rsync.walk import Mount, below, parse_mountinfo

Fields = dict[str, bytes]
_FILLED = 'for one; do [ -z "$(ls -A -- "$one" 2>/dev/null)" ] || printf "%s\\0" "$one"; done'


def views(job: MoveJob, source: Fields, target: Fields) -> Iterator[Finding]:
    here, there = (parse_mountinfo(fields.get("mounts", b"")) for fields in (source, target))
    shown_twice = _left_alone(job, here)
    for view in shown_twice:
        yield Finding(
            Level.WARNING,
            "views.twice",
            f"{view.hidden} on {job.source.name} shows the files of {view.shown}: they are copied once, as the latter.",
            f"Mount {view.hidden} on {job.target.name} as well where it is needed: its fstab stays its own.",
            view.hidden,
        )
        yield from _own_inside(job, view, here)
    yield from _in_use_on_source(job, shown_twice, _left_alone(job, there))


def _left_alone(job: MoveJob, mounts: list[Mount]) -> list[View]:
    """Second views in the scope that something is mounted at, and that nothing else leaves out."""
    scope, patterns = scope_paths(job), [one.pattern for one in exclusions(job.scope, job.exclusions)]
    by_views = left_out_by_views(job, mounts)
    return [
        view
        for view in second_views(job, mounts)
        if view.mounted and left_out(view.hidden, by_views) and not left_out(view.hidden, patterns)
        if not scope or any(view.hidden == path or below(view.hidden, path) for path in scope)
    ]


def _own_inside(job: MoveJob, view: View, mounts: list[Mount]) -> Iterator[Finding]:
    hidden = {one.hidden for one in second_views(job, mounts)}
    for mount in mounts:
        if mount.local and below(mount.point, view.hidden) and mount.point not in hidden:
            yield Finding(
                Level.BLOCKING,
                "views.inside",
                f"{mount.point} is mounted inside {view.hidden}, which only shows {view.shown}: it is not copied.",
                f"Mount it below {view.shown} on {job.source.name}, or leave it out in the profile.",
                mount.point,
            )


def _in_use_on_source(job: MoveJob, known: list[View], found: list[View]) -> Iterator[Finding]:
    """What the target shows at a second place and the source has as files of its own there: one would overwrite the
    other."""
    places = [view for view in found if view.hidden not in {one.hidden for one in known}]
    if not places:
        return
    command = ["sh", "-c", _FILLED, "sh", *(view.hidden for view in places)]
    filled = job.connect(job.source).run(command, timeout=20, check=True).out
    names = {name.decode("utf-8", "surrogateescape") for name in filled.split(b"\0") if name}
    for view in places:
        if view.hidden in names:
            yield Finding(
                Level.BLOCKING,
                "views.differ",
                f"{view.hidden} on {job.target.name} only shows the files of {view.shown};"
                f" on {job.source.name} it has files of its own, which would not be copied.",
                f"Unmount {view.hidden} on {job.target.name}, also in its fstab, or leave it out in the profile.",
                view.hidden,
            )
