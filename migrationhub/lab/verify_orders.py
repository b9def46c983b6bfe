"""Whether the target's database is the source's: asked of a throw-away postmaster on a copy of each."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from migrationhub.lab.process_account import SYSTEM_PATH
from migrationhub.lab.state import LabProblem

POSTGRES_BIN = Path("/usr/lib/postgresql/15/bin")
DATABASE, SUPERUSER = "shop", "postgres"
NOT_AVAILABLE = "not available"
START_SECONDS = 120
# Everything is ours, as Debian keeps a cluster's own configuration outside its data directory.
CONFIGURATION = """\
listen_addresses = ''
port = 5432
unix_socket_directories = '{directory}'
hba_file = '{directory}/pg_hba.conf'
ident_file = '{directory}/pg_ident.conf'
ssl = off
fsync = off
archive_mode = off
autovacuum = off
max_connections = 100
shared_buffers = 64MB
"""
MISSING = """
SELECT number FROM generate_series(1, (SELECT max(number) FROM orders)) AS number
WHERE NOT EXISTS (SELECT FROM orders WHERE orders.number = number.number) ORDER BY number LIMIT 20
"""
TABLES = """
SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1
"""


@dataclass
class Database:
    """One side. `tables` maps a table to its rows and a checksum over them that does not depend on their order."""

    state: str  # of the cluster before we started it: "shut down", "in production" (was not stopped), …
    last: int
    rows: int
    missing: list[int]  # the first numbers that are not there
    foreign: int  # rows whose writer is not the source
    tables: dict[str, tuple[int, int]]
    amcheck: str  # clean | not available | what it found


@dataclass
class OrdersVerdict:
    source: Database
    target: Database
    machine_id: str  # the source's: who must have written every row
    differing: list[str] = field(default_factory=list)  # tables that are not equal

    @property
    def ok(self) -> bool:
        """The last order is the source's last, none is missing, none foreign, all tables equal, both clean."""
        return (
            self.source.last == self.target.last > 0
            and not self.target.missing
            and not self.target.foreign
            and not self.differing
            and {self.source.amcheck, self.target.amcheck} <= {"clean", NOT_AVAILABLE}
        )

    def as_dict(self) -> dict[str, Any]:
        return {"ok": self.ok, **asdict(self)}

    def __str__(self) -> str:
        s, t = self.source, self.target
        return (
            f"last order {s.last} on the source, {t.last} on the target; {len(t.missing)} missing, {t.foreign} not "
            f"written by the source; tables that differ: {', '.join(self.differing) or 'none'}; "
            f"amcheck: {s.amcheck} | {t.amcheck}"
        )


def compare_orders(
    source_root: Path,
    target_root: Path,
    data_dir: str,
    postgres_bin: Path = POSTGRES_BIN,
    *,
    database: str = DATABASE,
) -> OrdersVerdict:
    """Compare the clusters in `data_dir` below both roots. Both must be stopped."""
    machine_id = (source_root / "etc/machine-id").read_text().strip()
    with ThreadPoolExecutor(2) as pool:
        source, target = pool.map(
            lambda root: _look(root / data_dir.strip("/"), postgres_bin, database, machine_id),
            (source_root, target_root),
        )
    tables = source.tables.keys() | target.tables.keys()
    differing = sorted(name for name in tables if source.tables.get(name) != target.tables.get(name))
    return OrdersVerdict(source, target, machine_id, differing)


class _Postmaster:
    """A cluster's copy, running as the owner of its files, reached by a socket in its own directory alone."""

    def __init__(self, data: Path, programs: Path) -> None:
        self.programs = programs
        self.top = Path(tempfile.mkdtemp(prefix="mh-verify-"))
        self.data = self.top / "data"
        try:
            owner = data.stat()
            self.identity: dict[str, Any] = {}
            if os.geteuid() == 0:
                self.identity = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
            os.chown(self.top, owner.st_uid, owner.st_gid)
            subprocess.run(["cp", "-a", "--reflink=auto", data, self.data], check=True)
            self._check_version()
            (self.data / "postmaster.pid").unlink(missing_ok=True)
            (self.top / "postgresql.conf").write_text(CONFIGURATION.format(directory=self.top))
            (self.top / "pg_hba.conf").write_text("local all all trust\n")
            (self.top / "pg_ident.conf").touch()
            for path in self.top.glob("*.conf"):
                os.chown(path, owner.st_uid, owner.st_gid)
            self.state = self._state()
        except BaseException:
            shutil.rmtree(self.top, ignore_errors=True)
            raise

    def __enter__(self) -> _Postmaster:
        try:
            options = f"-c config_file={self.top}/postgresql.conf"
            control = ("-D", str(self.data), "-w", "-t", str(START_SECONDS), "-l", str(self.top / "log"))
            self.run("pg_ctl", *control, "-o", options, "start")
            deadline = time.monotonic() + START_SECONDS  # a copy made in backup mode first answers read-only
            while self.ask("postgres", "SELECT pg_is_in_recovery()") != ["f"]:
                if time.monotonic() > deadline:
                    raise LabProblem(
                        "The copy of the database does not end its recovery.", "Look at its log.", code="lab.postmaster"
                    )
                time.sleep(0.1)
        except LabProblem as problem:
            log = self.top / "log"
            last = "\n".join(log.read_text(errors="replace").splitlines()[-15:]) if log.exists() else ""
            self.__exit__()
            raise LabProblem(f"{problem.text}\n{last}", problem.act, code="lab.postmaster") from None
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if (self.data / "postmaster.pid").exists():
                self.run("pg_ctl", "-D", str(self.data), "-w", "-m", "immediate", "stop")
        finally:
            shutil.rmtree(self.top, ignore_errors=True)

    def run(self, program: str, *arguments: str) -> str:
        # Not through pipes, which a postmaster would keep open after pg_ctl has ended.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                [str(self.programs / program), *arguments],
                cwd=self.top,
                env={"PATH": SYSTEM_PATH, "LC_ALL": "C", "PGHOST": str(self.top), "PGUSER": SUPERUSER},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=900,
                **self.identity,
            )
            output.seek(0)
            said = output.read().decode("utf-8", "backslashreplace")
        if done.returncode:
            raise LabProblem(
                f"{program} on a copy of the database ended with status {done.returncode}: {said.strip()[-800:]}",
                "The copy may be damaged, or its host was not stopped: look at the database itself.",
                code="lab.verify_database",
            )
        return said

    def ask(self, database: str, query: str) -> list[str]:
        return self.run("psql", "-X", "-A", "-t", "-q", "-d", database, "-c", query).splitlines()

    def _check_version(self) -> None:
        found = (self.data / "PG_VERSION").read_text().strip()
        program = self.run("postgres", "--version").split()[2].partition(".")[0]
        if found != program:
            raise LabProblem(
                f"The data directory is of PostgreSQL {found}, the programs in {self.programs} are of {program}.",
                f"Give the programs of PostgreSQL {found}.",
                code="lab.postgres_version",
            )

    def _state(self) -> str:
        lines = self.run("pg_controldata", str(self.data)).splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("Database cluster state"))


def _look(data: Path, programs: Path, database: str, machine_id: str) -> Database:
    if not (data / "PG_VERSION").exists():
        raise LabProblem(
            f"{data} is no data directory of PostgreSQL.",
            "Give its path relative to the host's root.",
            code="lab.no_cluster",
        )
    with _Postmaster(data, programs) as server:
        last, rows = server.ask(database, "SELECT coalesce(max(number), 0), count(*) FROM orders")[0].split("|")
        foreign = f"SELECT count(*) FROM orders WHERE written_by IS DISTINCT FROM '{machine_id}'"
        return Database(
            state=server.state,
            last=int(last),
            rows=int(rows),
            missing=[int(number) for number in server.ask(database, MISSING)],
            foreign=int(server.ask(database, foreign)[0]),
            tables={name: _checksum(server, database, name) for name in server.ask(database, TABLES)},
            amcheck=_amcheck(server, database),  # last, as it installs its extension in the copy
        )


def _checksum(server: _Postmaster, database: str, table: str) -> tuple[int, int]:
    query = f"SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)), 0) FROM {table} AS t"
    rows, checksum = server.ask(database, query)[0].split("|")
    return int(rows), int(checksum)


def _amcheck(server: _Postmaster, database: str) -> str:
    if not (server.programs / "pg_amcheck").exists():
        return NOT_AVAILABLE
    try:
        server.run("pg_amcheck", "-d", database, "--install-missing", "--heapallindexed")
    except LabProblem as problem:
        return problem.text
    return "clean"
