"""What a btrfs snapshot does not hold: other subvolumes, on a file system of this machine's own kernel."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from migrationhub.lib.findings import Finding, Level
from servers.movers.base import Freeze, MoveJob
from servers.movers.rsync import config, preflight_data, preflight_freeze
from servers.movers.rsync.layout import Layout, program
from servers.movers.rsync.outcome import consistency
from servers.movers.rsync.state import Look, parse_lines, parse_look
from servers.movers.rsync.walk import LOCAL_TYPES, parse_mountinfo
from servers.progress import Consistency
from servers.remote.base import Connection, Endpoint, Result

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("mkfs.btrfs", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"),
    reason="btrfs can only be mounted by root",
)
HOST = Endpoint("db", "192.0.2.1", host_keys=("ssh-ed25519 AAAA",))
# As SUSE has it: “var” is a subvolume of its own, mounted inside; “inner” is one that needs no mount.
SET_UP = """
set -e
truncate -s 300M disk; mkfs.btrfs -q disk; mkdir fs raw; mount -o loop disk raw
device=$(findmnt -n -o SOURCE raw)
for name in root root/inner root/empty var; do btrfs -q subvolume create raw/$name; done
mount -o subvol=root $device fs; mkdir fs/var; mount -o subvol=var $device fs/var
echo before | tee fs/conf fs/inner/file >fs/var/file
"""
POSTGRES = "mkdir -p {0}/global; touch {0}/global/pg_control {0}/postmaster.pid"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    try:
        done = subprocess.run(["sh", "-c", SET_UP], cwd=tmp_path, capture_output=True, text=True, check=False)
        if "mount" in done.stderr and done.returncode:
            pytest.skip(f"btrfs cannot be mounted here: {done.stderr}")
        assert done.returncode == 0, done.stderr
        yield tmp_path
    finally:
        for name in ("fs/var", "fs", "raw"):
            subprocess.run(["umount", "-l", tmp_path / name], capture_output=True, check=False)


class Local:
    """A connection to this machine."""

    endpoint = HOST

    def run(self, command: str, *, stdin: bytes = b"", **_: Any) -> Result:
        done = subprocess.run(["sh", "-c", command], input=stdin, capture_output=True, check=False)
        return Result(done.returncode, done.stdout, done.stderr)


def job(place: Path, **changes: Any) -> MoveJob:
    def connect(_: Endpoint) -> Connection:
        raise AssertionError("nothing is asked")

    freeze = Freeze("snapshot-btrfs", {"subvolume": f"{place}/fs"})
    one = MoveJob("k", "initial", HOST, HOST, connect, "m1", "paths", (f"{place}/fs",), freeze=freeze)
    return replace(one, **changes)


WRITES_MEANWHILE = """#!/bin/sh
case "$*" in *--server*) ;; *) for file in conf inner/file var/file; do echo after >{fs}/$file; done ;; esac
exec {rsync} "$@"
"""
SSH = """#!/bin/sh
while [ "$1" != target ]; do shift; done; shift
SSH_ORIGINAL_COMMAND="$*" exec /bin/sh {job}/serve.sh {job}
"""


def copied(job: MoveJob, place: Path) -> Look:
    """One sync with the programs themselves; both ends are on this machine, and the application goes on writing."""
    wanted = {"/", f"{place}/fs", f"{place}/fs/var"}
    mounts = [mount for mount in parse_mountinfo(Path("/proc/self/mountinfo").read_bytes()) if mount.point in wanted]
    here = Layout("/", f"{place}/job-here", f"{place}/state/m1/g", "u")
    there = Layout(f"{place}/target", f"{place}/job-there", f"{place}/target/state/m1/g", "u")
    files = {here: config.source_files(job, here, mounts, "t")}
    files[there] = config.target_files(job, there, [], mounts, "t")
    for layout, contents in files.items():
        for directory in (layout.job, layout.state):
            Path(directory).mkdir(parents=True)
        for name, data in contents.items():
            Path(layout.job, name).write_bytes(data)
    programs = place / "programs"
    programs.mkdir()
    (programs / "ssh").write_text(SSH.format(job=there.job))
    (programs / "rsync").write_text(WRITES_MEANWHILE.format(fs=f"{place}/fs", rsync=shutil.which("rsync")))
    for path in programs.iterdir():
        path.chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    subprocess.run(["sh", f"{here.job}/source.sh", here.job], env=environment, capture_output=True, check=False)
    look = parse_look(Local().run(f"sh -s {here.job}", stdin=program("state.sh").encode()).out)
    assert not list((place / "fs").glob(".migrationhub*")), "no snapshot stays"
    return look


def found(job: MoveJob) -> dict[str, Finding]:
    """Findings about data and freeze by their codes, from what this machine tells."""
    arguments = [
        "/",
        "source",
        "1",
        "127.0.0.1",
        " ".join(sorted(LOCAL_TYPES)),
        "--",
        *(f".{one}" for one in job.paths),
    ]
    script = program("preflight.sh")
    said = subprocess.run(["sh", "-s", *arguments], input=script.encode(), capture_output=True, check=True).stdout
    fields = parse_lines(said)
    findings = [*preflight_data.databases(job, fields), *preflight_freeze.freeze(job, Local(), fields)]  # type: ignore[arg-type]
    return {one.code: one for one in findings}


def test_other_subvolumes_are_copied_live_and_said_to_be(place: Path) -> None:
    one = job(place)
    live = found(one)["freeze.live"]
    assert live.level == Level.WARNING and live.text.endswith(f": {place}/fs/inner, {place}/fs/var."), live
    look = copied(one, place)
    assert look.rc == 0, look.error
    files = [(Path(f"{place}/target{place}/fs") / name).read_text() for name in ("conf", "inner/file", "var/file")]
    assert files == ["before\n", "after\n", "after\n"]
    (note,) = look.notes
    assert note == f"In no snapshot, so copied live: {place}/fs/var, {place}/fs/inner."
    assert consistency(one, look) == Consistency.SNAPSHOT, "nothing there that must be of one moment"


@pytest.mark.parametrize("where", ["var/lib", "inner"])
def test_a_database_on_another_subvolume_is_refused_and_makes_a_live_copy(place: Path, where: str) -> None:
    one, data = job(place), f"{place}/fs/{where}/pg"
    subprocess.run(["sh", "-c", POSTGRES.format(data)], check=True)
    said = found(one)["database.live"]
    assert said.level == Level.BLOCKING and data in said.text and "subvolume" in said.act, said
    look = copied(one, place)
    assert look.rc == 0, look.error
    assert consistency(one, look) == Consistency.LIVE
    assert any(f"in no snapshot ({data})" in note for note in look.notes), look.notes


def test_a_database_in_the_snapshot_is_consistent(place: Path) -> None:
    one = job(place, exclusions=(f"{place}/fs/var",))
    subprocess.run(["sh", "-c", POSTGRES.format(f"{place}/fs/pg")], check=True)
    said = found(one)
    assert said["database.consistent"].level == Level.READY and "database.live" not in said
    assert said["freeze.live"].text.endswith(f": {place}/fs/inner."), "not what is left out"
    look = copied(one, place)
    assert look.rc == 0, look.error
    assert consistency(one, look) == Consistency.SNAPSHOT


def test_a_snapshot_of_nothing_that_is_copied_is_refused(place: Path) -> None:
    one = job(place, paths=(f"{place}/fs/var",))
    said = found(one)["freeze.snapshot"]
    assert said.level == Level.BLOCKING and "lies in the subvolume" in said.text, said
    look = copied(one, place)
    assert look.rc == 75 and "lies in the subvolume" in look.error
