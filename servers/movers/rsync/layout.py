"""Where the files of a sync are on a host."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib import resources

from migrationhub.lib.findings import Problem
from servers.movers.base import MoveJob
from servers.remote.base import Endpoint

_SAFE = re.compile(r"[^A-Za-z0-9.-]+")


def program(name: str) -> str:
    """The text of one of the shell programs that run on hosts."""
    return resources.files(__package__).joinpath("programs", name).read_text(encoding="utf-8")


def safe(key: str) -> str:
    """A key as a name of a file and of a unit; different keys stay different."""
    name = _SAFE.sub("-", key)[:60].strip(".-")
    return name if name == key else f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Layout:
    root: str  # of the host: "/" or its directory, without a trailing slash otherwise
    job: str  # directory of this sync, gone after a reboot
    state: str  # lists that are kept between the syncs to one target in one generation
    unit: str


def layout(job: MoveJob, endpoint: Endpoint) -> Layout:
    """The directories of `job` on one of its two hosts. Raises `Problem` for a directory that ssh cannot be told."""
    supervised = endpoint.manager == "supervisord"
    base = endpoint.directory.rstrip("/") if supervised else ""
    if supervised and not re.fullmatch(r"(/[A-Za-z0-9._@+-]+)+", base):
        raise Problem(
            f"{endpoint.name}: the directory {endpoint.directory!r} has a character that ssh cannot carry.",
            "Use a directory of letters, digits, dots, hyphens and underscores.",
            code="rsync.directory",
        )
    name = safe(job.work_key)
    generation = f"{safe(job.target.name)}-{job.generation}"
    return Layout(
        root=base or "/",
        job=f"{base}/run/migrationhub/{name}",
        state=f"{base}/var/lib/migrationhub/{safe(job.migration_key)}/{generation}",
        unit=f"migrationhub-{name}",
    )


def scope_paths(job: MoveJob) -> tuple[str, ...]:
    """The named directories from the host's root, with a leading slash; () for the whole system."""
    if job.scope == "system":
        if "supervisord" in (job.source.manager, job.target.manager):
            raise Problem(
                "The whole system cannot be copied from or to a host that is a directory of another machine.",
                "Choose the scope “paths” in the profile.",
                code="rsync.scope",
            )
        return ()
    paths = tuple(dict.fromkeys("/" + path.strip("/") for path in job.paths))
    for path in paths:
        if path == "/" or ".." in path.split("/") or "//" in path or "\0" in path:
            raise Problem(
                f"{path!r} is no directory that can be copied by itself.",
                "Name directories such as /srv/data in the profile.",
                code="rsync.paths",
            )
    if not paths:
        raise Problem(
            "The scope is “paths” and no path is named.", "Name directories in the profile.", code="rsync.paths"
        )
    outer = [path for path in paths if not any(path.startswith(other + "/") for other in paths)]
    return tuple(outer)
