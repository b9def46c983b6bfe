"""Findings about how the data is made consistent: each method is tried as far as that changes nothing."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from migrationhub.lib.findings import Finding, Level, Problem
from servers.movers.base import MoveJob
from servers.movers.rsync.config import postgresql_settings, snapshot_subvolume
from servers.movers.rsync.preflight_machine import Fields
from servers.remote.base import Connection

METHODS = ("none", "postgresql", "snapshot-btrfs", "stop")

_POSTGRESQL = """
as_owner() {
  if [ "$(id -u)" != 0 ] || [ "$PG_USER" = root ]; then "$@"
  else setpriv --reuid="$PG_USER" --regid="$(id -gn "$PG_USER")" --init-groups -- "$@"; fi
}
[ -x "$PG_BIN/psql" ] && psql=$PG_BIN/psql || psql=psql
cd /
set -- -U "$PG_ROLE" -p "$PG_PORT" ${PG_HOST:+-h "$PG_HOST"} -d "$PG_DATABASE"
as_owner timeout 20 "$psql" -X -q -A -t -F ' ' "$@" -c "
  SELECT current_setting('server_version_num'), current_setting('wal_level'),
         current_setting('max_replication_slots')::int - (SELECT count(*) FROM pg_replication_slots),
         (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
         pg_is_in_recovery(), current_setting('data_directory')"
"""

_BTRFS = """
command -v btrfs >/dev/null || { echo no-tool; exit; }
command -v unshare >/dev/null || { echo no-unshare; exit; }
[ "$(stat -f -c %T "$1" 2>/dev/null)" = btrfs ] || { echo no-btrfs; exit; }
[ "$(stat -c %i "$1")" = 256 ] || { echo no-subvolume; exit; }
unshare -m true 2>/dev/null || { echo no-namespace; exit; }
echo ok
"""

_BTRFS_REFUSALS = {
    "no-tool": ("has no btrfs program", "Install btrfs-progs there."),
    "no-unshare": ("has no unshare program", "Install util-linux there."),
    "no-btrfs": ("has no btrfs at {subvolume}", "Choose another way to make the data consistent."),
    "no-subvolume": ("has no subvolume at {subvolume}, only a directory", "Name the subvolume that holds it."),
    "no-namespace": ("allows no private mounts", "Use a credential that is root, on a machine that allows them."),
}


def freeze(job: MoveJob, connection: Connection, source: Fields) -> Iterator[Finding]:
    method = job.freeze.method
    if method not in METHODS:
        yield _blocking(
            "freeze.unsupported",
            f"“{method}” is no way to make data consistent that is supported.",
            "Choose postgresql, snapshot-btrfs, stop or none in the profile.",
        )
    elif method == "postgresql" and job.kind != "final":
        yield _postgresql(job, connection)
    elif method == "snapshot-btrfs" and job.kind != "final":
        yield _btrfs(job, connection)


def _postgresql(job: MoveJob, connection: Connection) -> Finding:
    try:
        settings = "".join(postgresql_settings(job))
    except Problem as problem:
        return _blocking(problem.code, problem.text, problem.act)
    result = connection.run(settings + _POSTGRESQL, timeout=40)
    words = result.text.split(None, 5)
    if result.rc != 0 or len(words) < 6:
        said = " ".join(result.error_text.split())[-300:] or "nothing"
        return _blocking(
            "freeze.login",
            f"psql on {job.source.name} could not ask PostgreSQL for its settings; it said: {said}.",
            "Correct user, port and host of the freeze in the profile; local login must need no password.",
        )
    version, level, slots, superuser, standby, directory = words
    refusal = _postgresql_refusal(version, level, slots, superuser, standby)
    if refusal:
        return _blocking("freeze.postgresql", f"PostgreSQL on {job.source.name} {refusal[0]}.", refusal[1])
    data = str(job.freeze.options.get("data", "")).strip("/")
    if not directory.strip().rstrip("/").endswith(data):
        return _blocking(
            "freeze.data",
            f"PostgreSQL on that port has its data in {directory.strip()}, not in /{data}.",
            "Correct the data directory or the port of the freeze in the profile.",
        )
    return Finding(Level.READY, "freeze.postgresql", f"PostgreSQL on {job.source.name} can be put into backup mode.")


def _postgresql_refusal(version: str, level: str, slots: str, superuser: str, standby: str) -> tuple[str, str] | None:
    if int(version) < 100000:
        return f"is version {version}; 10 or newer is needed", "Choose “stop” in the profile."
    if level == "minimal":
        return "has wal_level = minimal", "Set wal_level = replica and restart it, or choose “stop” in the profile."
    if int(slots) < 1:
        return "has no free replication slot", "Raise max_replication_slots, or choose “stop” in the profile."
    if superuser != "t":
        return "does not let this user start a backup", "Use the database's superuser."
    if standby == "t":
        return "is a standby", "Freeze the primary, or choose “stop” in the profile."
    return None


def _btrfs(job: MoveJob, connection: Connection) -> Finding:
    subvolume = snapshot_subvolume(job)
    result = connection.run(f"sh -s {shlex.quote(subvolume)}", stdin=_BTRFS.encode(), timeout=20)
    answer = result.text.strip()
    if answer == "ok":
        return Finding(Level.READY, "freeze.snapshot", f"{job.source.name} can take a snapshot of {subvolume}.")
    text, act = _BTRFS_REFUSALS.get(answer, ("did not tell whether it can take a snapshot", "Look at the machine."))
    return _blocking("freeze.snapshot", f"{job.source.name} {text.format(subvolume=subvolume)}.", act)


def _blocking(code: str, text: str, act: str) -> Finding:
    return Finding(Level.BLOCKING, code, text, act)
