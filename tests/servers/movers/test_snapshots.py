"""What is snapshotted and shown, sizes, and the room that a snapshot gets: without a machine that has any."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from migrationhub.lib.findings import Level, Problem
from servers.movers.base import Freeze, MoveJob
from servers.movers.rsync import preflight_data, preflight_freeze, snapshots
from servers.movers.rsync.layout import program
from servers.movers.rsync.walk import Mount
from servers.remote.base import Connection, Endpoint, Result

HOST = Endpoint("db", "192.0.2.1")


def job(method: str = "snapshot-lvm", paths: tuple[str, ...] = (), source: Endpoint = HOST, **options: str) -> MoveJob:
    def connect(_: Endpoint) -> Connection:
        raise AssertionError("nothing is asked")

    scope = "paths" if paths else "system"
    return MoveJob("k", "delta", source, HOST, connect, "m1", scope, paths, freeze=Freeze(method, dict(options)))


def mounts(*points: str) -> list[Mount]:
    types = {"/proc": "proc", "/mnt/nfs": "nfs4"}
    return [Mount(point, types.get(point, "ext4"), "x") for point in points]


MOUNTS = mounts("/", "/boot", "/srv", "/srv/my files", "/var", "/proc", "/mnt/nfs")


@pytest.mark.parametrize(
    ("paths", "held"),
    [
        ((), ["/", "/srv", "/srv/my files", "/var"]),
        (("/srv/data",), ["/srv"]),  # what holds it
        (("/srv",), ["/srv", "/srv/my files"]),  # and what is mounted below it
        (("/srv/my files/x", "/etc"), ["/", "/srv/my files"]),
    ],
)
def test_what_holds_the_scope_is_snapshotted(paths: tuple[str, ...], held: list[str]) -> None:
    shown, snapshotted = snapshots.points(job(paths=paths), MOUNTS, ["/boot"])
    assert snapshotted == held
    # Parents first: each is mounted into the one before it. Kernel interfaces and network mounts are not shown.
    everything = ["/", "/srv", "/srv/my files", "/var"]
    leads_there = [point for point in everything if point == "/" or any(one.startswith(point) for one in held)]
    assert shown == (leads_there if paths else everything)


def test_a_named_subvolume_is_shown_where_it_is() -> None:
    shown, _ = snapshots.points(job("snapshot-btrfs", subvolume="srv/inner/"), MOUNTS, [])
    assert "/srv/inner" in shown
    shown, _ = snapshots.points(job("snapshot-btrfs", ("/srv/inner/x",), subvolume="srv/inner/"), MOUNTS, [])
    assert shown == ["/", "/srv", "/srv/inner"], "and what is not needed for it is not"


def test_odd_names_reach_the_shell_whole(tmp_path: Path) -> None:
    text = snapshots.shell_functions(job(), mounts("/", "/it's a $(touch x)"), [])
    script = text + 'say() { printf \'%s|%s;\' "$1" "$2"; }\nview_points say'
    said = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert said == "0|/;1|/it's a $(touch x);"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "size"),
    [("", ""), ("5G", str(5 << 30)), ("300 mib", str(300 << 20)), ("1TB", str(1 << 40)), ("20 %", "20%")],
)
def test_sizes(text: str, size: str) -> None:
    assert snapshots.size(text) == size


@pytest.mark.parametrize("text", ["0G", "101%", "5", "-1G", "5G; reboot", "much"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(Problem, match="no size of a snapshot"):
        snapshots.settings(job(size=text))


MIB = 1 << 20


@pytest.mark.parametrize(
    ("asked", "of", "free", "others", "expected"),
    [
        ("", 1000, 5000, 0, 200),  # a fifth
        ("", 1000, 100, 0, 96),  # what is free, in whole extents of 4 MiB
        ("", 1000, 400, 1000, 196),  # of a group with room for less, each gets its share
        ("", 1000, 3, 0, None),  # not one extent
        ("50%", 1000, 5000, 0, 500),
        ("50%", 1000, 400, 0, None),  # asked for and not there: not made smaller in silence
        (str(300 * MIB), 1000, 5000, 0, 300),
        (str(300 * MIB), 1000, 200, 0, None),
    ],
)
def test_the_room_of_a_snapshot(
    tmp_path: Path, asked: str, of: int, free: int, others: int, expected: int | None
) -> None:
    lines = [f"vg one {of * MIB} {free * MIB} {4 * MIB} 0 /", f"vg one {of * MIB} {free * MIB} {4 * MIB} 3 /bind"]
    if others:
        lines.append(f"vg two {others * MIB} {free * MIB} {4 * MIB} 1 /two")
    (tmp_path / "volumes").write_text("\n".join([*lines, f"vg2 one {9999 * MIB} 0 {4 * MIB} 2 /o", ""]))
    script = f"STATE=/x/y SNAPSHOT_SIZE={asked}\n{program('snapshots.sh')}\n"
    script += f"snapshot_size vg {of * MIB} {free * MIB} {4 * MIB} volumes"
    done = subprocess.run(["sh", "-uc", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert not done.stderr
    assert done.stdout.strip() == ("" if expected is None else str(expected * MIB))


def test_the_record_of_a_snapshot_that_stays_is_kept_where_there_is_no_room(tmp_path: Path) -> None:
    """Without it neither the next sync nor the end of this one would know what to remove."""
    kept = tmp_path / "snapshots"
    kept.write_text("k0 lvm vg/other\nk1 lvm vg/held\n")
    script = f"STATE={tmp_path}/1\nnote() {{ :; }}\n{program('snapshots.sh')}\n"
    script += "lvm_drop() { echo in use; return 1; }\n"
    full = script + f"ln -sfn /dev/full {tmp_path}/snapshots.new\ndrop_snapshots k1"
    subprocess.run(["sh", "-uc", full], check=True, stderr=subprocess.DEVNULL)
    assert not kept.is_symlink() and kept.read_text() == "k0 lvm vg/other\nk1 lvm vg/held\n"
    script += "lvm_drop() { :; }\ndrop_snapshots k1"
    subprocess.run(["sh", "-uc", script], check=True)
    assert kept.read_text() == "k0 lvm vg/other\n"


def test_a_host_that_is_a_directory_has_no_volumes_of_its_own() -> None:
    host = Endpoint("web", "127.0.0.9", manager="supervisord", directory="/srv/host", username="lab")
    one = job(paths=("/data",), source=host)
    (finding,) = preflight_freeze.freeze(one, None, {})  # type: ignore[arg-type]
    assert finding.level == Level.BLOCKING and "directory of another machine" in finding.text


PG = ["{}/global/pg_control", "{}/postmaster.pid"]


@pytest.mark.parametrize(
    ("files", "torn"),
    [
        (["var/lib/mysql/ibdata1"], "/var/lib/mysql"),
        (["srv/my files/mysql/ibdata1"], ""),  # a snapshot of what is mounted inside
        (["srv/x/WiredTiger"], "/srv/x"),
        ([name.format("var/lib/pg 1") for name in PG], "/var/lib/pg 1"),
        ([PG[0].format("var/lib/pg")], ""),  # stopped
        ([name.format("home/pg") for name in PG], ""),  # where a snapshot is
        (["var/.snapshots/1/snapshot/lib/mysql/ibdata1"], ""),  # of the past
    ],
)
@pytest.mark.parametrize("method", snapshots.METHODS)
def test_a_database_outside_of_the_snapshots_makes_a_live_copy(
    tmp_path: Path, method: str, files: list[str], torn: str
) -> None:
    """Whatever the tools of the method found, `live.points` names what is in no snapshot."""
    records = "".join(f"{name}//x 1 1 0.0//f 644 0 0 0 0.0//\0" for name in ["var/lib/file", *files])
    (tmp_path / "list").write_text(records)
    functions = snapshots.shell_functions(job(method), MOUNTS, ["/boot"])
    parts = [f"JOB=. STATE=./x/y ID=i FREEZE={method}", *map(program, ("common.sh", "freeze.sh", "snapshots.sh"))]
    act = 'note() { printf "%s\\n" "$1"; }\nlive_point /var; live_point /srv; live_databases list'
    script = "\n".join([*parts, functions, act])
    done = subprocess.run(["sh", "-uc", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert not done.stderr
    assert (tmp_path / "live").exists() == bool(torn), done.stdout
    assert f"({torn}): this copy is not consistent" in done.stdout if torn else not done.stdout


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("snapshot-btrfs", "live /var\nsubvolume /\n"),
        ("snapshot-lvm", f"live /var\nvolume vg/root {100 * MIB} {100 * MIB} {20 * MIB} ext4 /\n"),
        ("snapshot-zfs", f"live /var\npool tank {100 * MIB} {50 * MIB}\n"),
    ],
)
def test_a_database_outside_of_the_snapshots_is_refused_beforehand(method: str, said: str) -> None:
    mountinfo = b"1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 8:2 / /var rw - ext4 /dev/b rw\n"
    mountinfo += b"3 1 8:1 /srv/x /var/bound rw - ext4 /dev/a rw\n"  # copied once, at the place that is in a snapshot
    files = b"./var/lib/mysql/ibdata1\0./srv/x/ibdata1\0./var/cache/x/ibdata1\0./var/bound/ibdata1\0"
    one = replace(job(method), exclusions=("/var/cache",))
    asked = SimpleNamespace(run=lambda *_, **__: Result(0, said.encode(), b""))
    source = {"mounts": mountinfo, "databases": files}
    findings = [*preflight_data.databases(one, source), *preflight_freeze.freeze(one, asked, source)]
    found = {finding.subject: finding for finding in findings if finding.code.startswith("database.")}
    assert {subject: finding.level.value for subject, finding in found.items()} == {
        "/var/lib/mysql": "blocking",
        "/srv/x": "ready",
    }
    assert found["/var/lib/mysql"].act and "/var" in found["/var/lib/mysql"].text


def test_a_machine_that_tells_nothing_is_no_yes() -> None:
    silent = SimpleNamespace(run=lambda *_, **__: Result(1, b"", b""))
    for method in snapshots.METHODS:
        (finding,) = preflight_freeze.freeze(job(method), silent, {})
        assert finding.level == Level.BLOCKING and "did not tell" in finding.text
