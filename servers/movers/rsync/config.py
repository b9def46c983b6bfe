"""The files of a job directory: configuration, programs and the walk, for the source and for the target."""

from __future__ import annotations

import hashlib
import re
import shlex
from typing import Any

from migrationhub.lib.findings import Problem
from servers.movers.base import MoveJob
from servers.movers.rsync import exclusions as ex
from servers.movers.rsync import snapshots
from servers.movers.rsync.exitcodes import tolerated
from servers.movers.rsync.layout import Layout, program, safe, scope_paths
from servers.movers.rsync.walk import Mount, Walk, foreign_points, look_again, plan, rsync_rules, shell_function
from servers.remote.base import Endpoint

Files = dict[str, bytes]
# Seconds after which a silent rsync counts as hung: a target that writes its memory out to a slow disk may hold rsync
# up for minutes, and what is ended too early is only begun again.
SILENCE = 600
SOURCE_PROGRAMS = ("common.sh", "source.sh", "lists.sh", "freeze.sh", "snapshots.sh")


def source_files(job: MoveJob, here: Layout, mounts: list[Mount], token: str) -> Files:
    """Everything that the program on the source needs but its key. `mounts` of the source."""
    out = _postgresql_patterns(job, ex.POSTGRESQL_OUT) if freeze_method(job) == "postgresql" else []
    walk = plan(scope_paths(job), mounts, [*_patterns(job), *_base_written(job), *out])
    lines = [
        *_common(job, here, job.source),
        _set("TOLERATED", tolerated(final=job.kind == "final")),
        _set("BANDWIDTH", str(max(0, job.bandwidth))),
        _set("SILENCE", str(SILENCE)),
        _set("PROOF", job.proof),
        _set("FREEZE", freeze_method(job)),
        # A leading “./” brings the attributes of the root itself along.
        _set("PREFIX", "./" if job.scope == "system" else "/"),
        *_freeze_settings(job),
    ]
    functions = shell_function(walk) + _flush(walk, here) + _points(job, mounts) + _everything(job)
    rules = rsync_rules(walk)
    base = [path.lstrip("/") for path in _base_written(job)]
    return {
        "try": token.encode(),
        "config": "".join(lines).encode("utf-8", "surrogateescape"),
        "walk.sh": functions.encode("utf-8", "surrogateescape"),
        **({} if rules is None else {"rules": "".join(f"- {rule}\n" for rule in rules).encode()}),
        "base-written": "".join(f"{path}\0" for path in base).encode(),
        "ssh_config": _ssh_config(job.target, here).encode(),
        "known_hosts": "".join(f"migrationhub-target {key}\n" for key in job.target.host_keys).encode(),
        **{name: program(name).encode() for name in SOURCE_PROGRAMS},
    }


def target_files(job: MoveJob, here: Layout, mounts: list[Mount], source_mounts: list[Mount], token: str) -> Files:
    """Everything that the program on the target needs."""
    skipped = [*_patterns(job), *_base_written(job), *foreign_points(source_mounts)]
    frozen = freeze_method(job) == "postgresql"
    before = plan(
        scope_paths(job), mounts, [*skipped, *(_postgresql_patterns(job, ex.POSTGRESQL_LAST) if frozen else [])]
    )
    after = plan(
        scope_paths(job), mounts, [*skipped, *(_postgresql_patterns(job, ex.POSTGRESQL_OUT) if frozen else [])]
    )
    walks = shell_function(before, "walk_before") + shell_function(after, "walk_after") + _flush(after, here)
    return {
        "try": token.encode(),
        "config": "".join(_common(job, here, job.target)).encode("utf-8", "surrogateescape"),
        "walk.sh": walks.encode("utf-8", "surrogateescape"),
        **{name: program(name).encode() for name in ("common.sh", "serve.sh")},
    }


def freeze_method(job: MoveJob) -> str:
    """How this sync makes the data consistent; for the final one everything is stopped, so nothing is to be frozen."""
    return "none" if job.kind == "final" else job.freeze.method


def _common(job: MoveJob, here: Layout, endpoint: Endpoint) -> list[str]:
    last = str(job.last_sync.get("manifest") or "")
    same = int(job.last_sync.get("generation") or 0) == job.generation
    full = ""
    if not job.last_sync:
        full = "the first sync"
    elif not same:
        full = "the target was changed from outside since the last sync"
    elif not last:
        full = "the last sync left no list"
    return [
        _set("ID", safe(job.work_key)),
        _set("LAST", last),
        _set("FULL", full),
        _set("KIND", job.kind),
        _set("ROOT", here.root),
        _set("STATE", here.state),
        _set("HOST", endpoint.name),
    ]


def _patterns(job: MoveJob) -> list[str]:
    return [exclusion.pattern for exclusion in ex.exclusions(job.scope, job.exclusions)]


def _base_written(job: MoveJob) -> list[str]:
    """What is sent last and stands outside the proof. Of named directories, what base writes inside one of them; an
    entry that is named itself, or in which a named one lies, is data like any other."""
    if job.scope == "system":
        return list(ex.BASE_WRITTEN)
    named = ["/" + path.strip("/") for path in job.paths]
    return [
        entry
        for entry in ex.BASE_WRITTEN
        if any(entry.startswith(f"{path}/") for path in named)
        and not any(path == entry or path.startswith(f"{entry}/") for path in named)
        and not ex.left_out(entry, _patterns(job))
    ]


def _set(name: str, value: str) -> str:
    return f"{name}={shlex.quote(value)}\n"


def _flush(walk: Walk, here: Layout) -> str:
    starts = " ".join(shlex.quote(start) for start, _ in walk.starts)
    return (
        f"{look_again()}flush() {{\n  (cd {shlex.quote(here.root)} && sync -f {starts}) 2>/dev/null || sync\n}}\n"
        f"starts() {{\n  printf '%s\\n' {starts}\n}}\n"
        f'missing() {{\n  for start in {starts}; do [ -e "$start" ] || echo "${{start#.}}"; done\n}}\n'
    )


def _everything(job: MoveJob) -> str:
    """A shell function that names to rsync, by directories and rules, all that is walked: ten thousands of single
    names cost rsync more than finding the files."""
    paths = [shlex.quote(f"./{path.lstrip('/')}") for path in scope_paths(job)]
    named = " ".join(["-R", *(f'"${{TREE%/}}/"{path}' for path in paths)]) if paths else '"${TREE%/}/"'
    return f'everything() {{ # command\n  "$@" --filter="merge $JOB/rules" {named} target:./\n}}\n'


def _points(job: MoveJob, mounts: list[Mount]) -> str:
    if freeze_method(job) not in snapshots.METHODS:
        return ""
    return snapshots.shell_functions(job, mounts, _patterns(job))


def _postgresql_data(job: MoveJob) -> str:
    """The data directory from the host's root, with a leading slash."""
    data = "/" + str(job.freeze.options.get("data", "")).strip("/")
    directory = job.source.directory.rstrip("/")
    if job.source.manager == "supervisord" and data.startswith(directory + "/"):
        data = data[len(directory) :]
    if data == "/" or "//" in data or ".." in data.split("/"):
        raise Problem(
            "The freeze method “postgresql” needs the data directory.",
            'Set "data" in the profile, for example /var/lib/postgresql/15/main.',
            code="freeze.data",
        )
    return data


def _postgresql_patterns(job: MoveJob, names: tuple[str, ...]) -> list[str]:
    data = ex.literal(_postgresql_data(job))
    return [f"{data}/{name}" for name in names]


def _freeze_settings(job: MoveJob) -> list[str]:
    if freeze_method(job) == "postgresql":
        slot = "migrationhub_" + hashlib.sha256(job.work_key.encode()).hexdigest()[:16]
        return [*postgresql_settings(job), _set("PG_SLOT", slot)]
    if freeze_method(job) in snapshots.METHODS:
        return [_set(name, value) for name, value in snapshots.settings(job).items()]
    return []


def postgresql_settings(job: MoveJob) -> list[str]:
    """Shell assignments of how to log in to the database. Raises `Problem` where the profile does not say enough."""
    options: dict[str, Any] = job.freeze.options
    supervised = job.source.manager == "supervisord"
    host = str(options.get("host") or (job.source.address if supervised else ""))
    if supervised and "/" in host:  # a directory of sockets, below the host's own
        host = f"{job.source.directory.rstrip('/')}/{host.removeprefix(job.source.directory).strip('/')}"
    return [
        _set("PG_DATA", _postgresql_data(job).lstrip("/")),
        # Root becomes this user; anybody else logs in as this role all the same.
        _set("PG_USER", str(options.get("user") or "postgres")),
        _set("PG_ROLE", str(options.get("role") or options.get("user") or "postgres")),
        _set("PG_PORT", str(int(options.get("port") or 5432))),
        _set("PG_HOST", host),
        _set("PG_DATABASE", str(options.get("database") or "postgres")),
        _set("PG_BIN", str(options.get("bin") or "/usr/bin")),
    ]


def _ssh_config(target: Endpoint, here: Layout) -> str:
    for value in (target.address, target.username):
        if not re.fullmatch(r"[A-Za-z0-9._:%@+-]+", value):
            raise Problem(
                f"{target.name}: {value!r} is no address or user that ssh can be given.",
                "Correct the target's address and user.",
                code="rsync.target_address",
            )
    return f"""Host target
  HostName {target.address}
  Port {int(target.port)}
  User {target.username}
  IdentityFile {here.job}/key
  IdentitiesOnly yes
  HostKeyAlias migrationhub-target
  UserKnownHostsFile {here.job}/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  CheckHostIP no
  BatchMode yes
  PreferredAuthentications publickey
  ConnectTimeout 15
  ServerAliveInterval 10
  ServerAliveCountMax 4
  Compression no
  ControlMaster no
  ControlPath none
  LogLevel INFO
"""
