"""The verification must see every difference that a migration can make; each is made by hand here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from migrationhub.lab import verify_orders, verify_trees
from migrationhub.lab.process_table import wait_for
from migrationhub.lab.programs import __file__ as programs
from migrationhub.lab.state import LabProblem
from migrationhub.lab.verify import compare_orders, compare_trees

MAKETREE = Path(programs).with_name("maketree.py")


def copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", source, target], check=True)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("original")
    subprocess.run([sys.executable, MAKETREE, root / "srv", "60"], check=True)
    return root


@pytest.fixture
def pair(original: Path, tmp_path: Path) -> tuple[Path, Path]:
    copy(original, tmp_path / "target")
    return original, tmp_path / "target"


def test_a_true_copy_is_equal_in_everything(pair: tuple[Path, Path]) -> None:
    verdict = compare_trees(*pair)
    assert verdict.ok, str(verdict)
    assert verdict.compared > 120
    assert verdict.hashed > 80
    assert verdict.as_dict()["counts"] == {}


def keep_time(path: Path, change: Callable[[], object]) -> None:
    """Change without a trace in mtime, as a careless copy would."""
    before = {place: place.lstat() for place in (path, path.parent) if os.path.lexists(place)}
    change()
    for place, status in before.items():
        if os.path.lexists(place):
            times = (status.st_atime_ns, status.st_mtime_ns)
            os.utime(place, ns=times, follow_symlinks=False)


def alter(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.chmod(path.stat().st_mode | 0o200)
    mode = path.stat().st_mode
    path.write_bytes(data)
    path.chmod(mode)


def content(root: Path) -> Path:
    path = root / "srv/links/hard0"
    keep_time(path, lambda: alter(path))
    return path


def missing(root: Path) -> Path:
    path = next(Path(root / "srv/odd names").glob("new*"))
    keep_time(path, path.unlink)
    return path


def extra(root: Path) -> Path:
    path = root / "srv/links/of a tester"
    keep_time(path, lambda: path.write_text("x"))
    return path


def size(root: Path) -> Path:
    path = root / "srv/sparse/hole0"
    keep_time(path, lambda: os.truncate(path, 5))
    return path


def mode(root: Path) -> Path:
    path = root / "srv/links/fifo"
    path.chmod(0o600)
    return path


def mtime(root: Path) -> Path:
    path = root / "srv/links/relative"
    os.utime(path, ns=(1, path.stat(follow_symlinks=False).st_mtime_ns + 1), follow_symlinks=False)
    return path


def link_target(root: Path) -> Path:
    path = root / "srv/links/dangling"

    def change() -> None:
        path.unlink()
        path.symlink_to("elsewhere")

    keep_time(path, change)
    return path


def type_(root: Path) -> Path:
    path = root / "srv/links/fifo"

    def change() -> None:
        path.unlink()
        path.touch(0o640)

    keep_time(path, change)
    return path


def hard_links(root: Path) -> Path:
    path = root / "srv/links/hard1-second"

    def change() -> None:
        shutil.copy2(path, path.with_name("copy"))
        path.with_name("copy").rename(path)

    keep_time(path, change)
    return path


def xattr(root: Path) -> Path:
    path = root / "srv/attributes/xattr0"
    os.removexattr(path, "user.empty")
    return path


def acl(root: Path) -> Path:
    path = root / "srv/attributes/acl"
    subprocess.run(["setfacl", "-m", "u:12345:-w-", path], check=True)
    return path


CHANGES = [content, missing, extra, size, mode, mtime, link_target, type_, hard_links, xattr, acl]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_each_difference_is_seen_and_named(change: Callable[[Path], Path], pair: tuple[Path, Path]) -> None:
    path = change(pair[1])
    verdict = compare_trees(*pair)
    kind = change.__name__.rstrip("_").replace("_", " ")
    assert not verdict.ok
    counted = {name: count for name, count in verdict.counts.items() if count}
    assert set(counted) == {kind}
    name = os.fsencode(path.relative_to(pair[1])).decode("utf-8", "backslashreplace")
    named = {difference.path.replace("\\012", "\n") for difference in verdict.differences}
    assert name in named, str(verdict)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away and sets capabilities")
def test_owner_capability_and_device_are_seen(pair: tuple[Path, Path]) -> None:
    source, target = pair
    os.chown(target / "srv/privileged/owner", 1, 1)
    subprocess.run(["setcap", "-r", target / "srv/privileged/capability"], check=True)
    verdict = compare_trees(source, target)
    assert {name: count for name, count in verdict.counts.items() if count} == {"owner": 1, "xattr": 1}
    assert "security.capability" in next(d.source for d in verdict.differences if d.kind == "xattr")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_another_device_number_is_seen(tmp_path: Path) -> None:
    for side, minor in (("a", 3), ("b", 5)):
        (tmp_path / side).mkdir()
        os.mknod(tmp_path / side / "null", 0o600 | 0o020000, os.makedev(1, minor))
        os.utime(tmp_path / side / "null", (1, 1))
        os.utime(tmp_path / side, (1, 1))
    verdict = compare_trees(tmp_path / "a", tmp_path / "b")
    assert [(d.kind, d.path, d.source, d.target) for d in verdict.differences] == [("device", "null", "1,3", "1,5")]


def test_what_is_ignored_is_left_out_with_its_parents_time(pair: tuple[Path, Path]) -> None:
    source, target = pair
    (target / "srv/links/host.key").write_text("its own")
    (target / "srv/links/far/journal").mkdir()
    (target / "srv/links/far/journal/1").touch()
    assert not compare_trees(source, target).ok
    verdict = compare_trees(source, target, ignore=["srv/links/far/journal", "/srv/*.key"])
    assert verdict.ok, str(verdict)
    # A pattern does not match half a name.
    assert not compare_trees(source, target, ignore=["srv/links/far/jour", "srv/links/host"]).ok


def test_only_the_paths_asked_for_are_compared(pair: tuple[Path, Path]) -> None:
    content(pair[1])
    assert compare_trees(*pair, paths=["srv/attributes", "srv/odd names"]).ok
    assert not compare_trees(*pair, paths=["srv/links"]).ok


def test_nothing_to_compare_is_not_equal(tmp_path: Path) -> None:
    assert not compare_trees(tmp_path, tmp_path, paths=["srv"]).ok


def test_differences_are_counted_beyond_those_kept(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for number in range(50):
        (tmp_path / "a" / f"f{number}").touch()
    verdict = compare_trees(tmp_path / "a", tmp_path / "b")
    assert verdict.counts["missing"] == 50
    assert len([d for d in verdict.differences if d.kind == "missing"]) == 10


def test_a_tool_that_fails_is_a_sentence_with_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(LabProblem, match=r"find in .* ended with status 1: .*gone"):
        verify_trees._tool(tmp_path, "find", "gone")


# -- orders -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def databases(process_module_host, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:  # type: ignore[no-untyped-def]
    """A source whose orders were written for a while and stopped, and a true copy of its root."""
    host = process_module_host("verify-db", "shop-db", interval="0.01")
    log = host.root / "var/log/orders.log"
    assert wait_for(lambda: log.exists() and "order 100" in log.read_text(), 60), log.read_text()
    host.stop()
    target = tmp_path_factory.mktemp("copied") / "root"
    copy(host.root, target)
    return host.root, target


DATA = "srv/postgresql"
postgres = pytest.mark.postgres


def run_sql(root: Path, statements: str) -> None:
    """Change a cluster as its server would: start it, run, stop it, put the files back."""
    data = root / DATA
    with verify_orders._Postmaster(data, verify_orders.POSTGRES_BIN) as server:
        for statement in statements.split(";"):
            server.ask("shop", statement)
        server.run("pg_ctl", "-D", str(server.data), "-w", "-m", "fast", "stop")
        shutil.rmtree(data)
        copy(server.data, data)


@postgres
def test_a_copied_database_is_equal(databases: tuple[Path, Path]) -> None:
    verdict = compare_orders(*databases, DATA)
    assert verdict.ok, str(verdict)
    assert verdict.source.last >= 100
    assert verdict.source.last == verdict.source.rows
    assert verdict.source.state == verdict.target.state == "shut down"
    assert verdict.source.amcheck == "clean"
    assert verdict.source.tables["public.pgbench_accounts"][0] == 100_000
    assert compare_trees(*databases, [DATA]).ok  # the roots were not written to


@postgres
def test_what_a_clone_wrote_or_lost_is_seen(databases: tuple[Path, Path], tmp_path: Path) -> None:
    source, target = databases[0], tmp_path / "root"
    copy(databases[1], target)
    run_sql(
        target,
        "DELETE FROM orders WHERE number = 7;"
        "INSERT INTO orders SELECT max(number) + 1, 'the clone', now(), 1 FROM orders;"
        "UPDATE pgbench_accounts SET abalance = 5 WHERE aid = 77",
    )
    verdict = compare_orders(source, target, DATA)
    assert not verdict.ok
    assert verdict.target.missing == [7]
    assert verdict.target.foreign == 1
    assert verdict.target.last == verdict.source.last + 1
    assert verdict.differing == ["public.orders", "public.pgbench_accounts"]


@postgres
def test_a_lost_last_order_is_seen(databases: tuple[Path, Path], tmp_path: Path) -> None:
    source, target = databases[0], tmp_path / "root"
    copy(databases[1], target)
    run_sql(target, "DELETE FROM orders WHERE number = (SELECT max(number) FROM orders)")
    verdict = compare_orders(source, target, DATA)
    assert not verdict.ok
    assert verdict.target.last == verdict.source.last - 1
    assert not verdict.target.missing  # nothing is missing below it, so the last number must tell


@postgres
def test_a_damaged_page_is_seen(databases: tuple[Path, Path], tmp_path: Path) -> None:
    target = tmp_path / "root"
    copy(databases[1], target)
    with verify_orders._Postmaster(target / DATA, verify_orders.POSTGRES_BIN) as server:
        (file,) = server.ask("shop", "SELECT pg_relation_filepath('pgbench_accounts_pkey')")
    with (target / DATA / file).open("r+b") as pages:
        pages.seek(5 * 8192 + 4000)
        pages.write(b"damage")
    verdict = compare_orders(databases[0], target, DATA)
    assert not verdict.ok
    assert "pgbench_accounts_pkey" in verdict.target.amcheck
    assert verdict.source.amcheck == "clean"


@postgres
def test_a_cluster_that_does_not_start_is_a_sentence_with_its_log(databases: tuple[Path, Path], tmp_path: Path) -> None:
    target = tmp_path / "root"
    copy(databases[1], target)
    (target / DATA / "global/pg_control").write_bytes(b"\0" * 8192)
    with pytest.raises(LabProblem, match=r"pg_controldata|pg_ctl"):
        compare_orders(databases[0], target, DATA)
    with pytest.raises(LabProblem, match="no data directory of PostgreSQL"):
        compare_orders(databases[0], target, "srv/mysql")
