"""Tests of the ledger, of people and of whole migrations once more on PostgreSQL, in a throw-away cluster."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BIN = Path("/usr/lib/postgresql/15/bin")
# What two people, or two processes, do at once, and what the database itself forbids.
LOCKS_AND_TRIGGERS = (
    "tests/audit/test_append_only.py",
    "tests/servers/test_runs.py",
    "tests/projects/test_races.py",
    "tests/projects/test_approvals.py",
    "tests/projects/test_defects.py",
    "tests/lib/test_together.py",
)
WHOLE_MIGRATIONS = (
    "tests/projects/test_workflow.py",
    "tests/projects/test_dead_ends.py",
    "tests/projects/test_break_glass.py",
    "tests/projects/notify/test_dealing.py",
    "tests/projects/views/test_migration.py",
)


@pytest.fixture
def cluster() -> Iterator[str]:
    """A PostgreSQL cluster on a Unix socket; its URL."""
    directory = Path(tempfile.mkdtemp(prefix="mh-pg-", dir="/tmp"))
    user = "postgres" if os.geteuid() == 0 else None
    if user:
        entry = pwd.getpwnam(user)
        os.chown(directory, entry.pw_uid, entry.pw_gid)

    def run(*argv: str) -> None:
        subprocess.run(argv, user=user, group=user, extra_groups=[] if user else None, check=True, capture_output=True)

    data = str(directory / "data")
    run(str(BIN / "initdb"), "-D", data, "-A", "trust", "-U", "hub", "--no-sync")
    options = f"-k {directory} -c listen_addresses= -c fsync=off"
    run(str(BIN / "pg_ctl"), "-D", data, "-w", "-l", str(directory / "log"), "-o", options, "start")
    try:
        run(str(BIN / "createdb"), "-h", str(directory), "-U", "hub", "hub")
        yield f"postgres://hub@/hub?host={directory}"
    finally:
        run(str(BIN / "pg_ctl"), "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.postgres
@pytest.mark.parametrize(
    "tests",
    [
        pytest.param(LOCKS_AND_TRIGGERS, id="locks-and-triggers"),
        pytest.param(WHOLE_MIGRATIONS, id="whole-migrations", marks=pytest.mark.full),
    ],
)
def test_the_same_on_postgresql(cluster: str, tests: tuple[str, ...]) -> None:
    environment = {**os.environ, "DATABASE_URL": cluster}
    for name in ("MIGRATIONHUB_VAR", "MIGRATIONHUB_TEST_VAR"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
