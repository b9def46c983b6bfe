"""Findings about how the data is made consistent: each method is tried as far as that changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

from migrationhub.lib.findings import Finding, Level, Problem
from servers.movers.base import MoveJob
from servers.movers.rsync import preflight_snapshots, snapshots
from servers.movers.rsync.config import postgresql_settings
from servers.movers.rsync.preflight_machine import Fields
from servers.remote.base import Connection

METHODS = ("none", "postgresql", *snapshots.METHODS, "stop")

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


def freeze(job: MoveJob, connection: Connection, source: Fields) -> Iterator[Finding]:
    method = job.freeze.method
    if method not in METHODS:
        yield _blocking(
            "freeze.unsupported",
            f"“{method}” is no way to make data consistent that is supported.",
            f"Choose {', '.join(METHODS[1:])} or none in the profile.",
        )
    elif method == "postgresql" and job.kind != "final":
        yield _postgresql(job, connection)
    elif method in snapshots.METHODS and job.kind != "final":
        yield from preflight_snapshots.findings(job, connection, source)


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


def _blocking(code: str, text: str, act: str) -> Finding:
    return Finding(Level.BLOCKING, code, text, act)
