"""A file system from elsewhere whose server is away: it is left out, and neither spoils nor holds up the sync."""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from servers.movers.rsync import exitcodes
from tests.servers.movers.two import Two, two

__all__ = ["two"]  # the fixture


@pytest.fixture
def mount_dead(two: Two) -> Iterator[Callable[..., None]]:
    """Mounts what nobody answers for; a server that is `gone` is known to be away, any other one is waited for."""
    library, waiting, points = ctypes.CDLL(None, use_errno=True), [], []

    def mount(side: str, point: str, *, gone: bool) -> None:
        root = two.root(side)
        (root / point).mkdir(parents=True)
        two.mount("--bind", root, root)
        try:
            server = os.open("/dev/fuse", os.O_RDWR)
        except OSError:
            pytest.skip("there is no FUSE here")
        options = f"fd={server},rootmode=40000,user_id=0,group_id=0".encode()
        if library.mount(b"dead", str(root / point).encode(), b"fuse", 0, options):
            pytest.skip("FUSE cannot be mounted here")
        points.append(root / point)
        if gone:
            os.close(server)
        else:
            waiting.append(server)

    yield mount
    for server in waiting:
        os.close(server)  # who still waits gets an error
    for point in points:
        subprocess.run(["umount", "-l", str(point)], check=False)


def fill(two: Two) -> None:
    for side in ("old", "new"):
        (two.root(side) / "srv").mkdir(exist_ok=True)
        (two.root(side) / "srv" / side).write_text(side)


@pytest.mark.parametrize("side", ["old", "new"])
def test_an_error_where_nothing_is_listed_is_none(two: Two, mount_dead: Callable[..., None], side: str) -> None:
    fill(two)
    mount_dead(side, "mnt/it's away", gone=True)
    assert two.sync() == ""
    assert [path.name for path in (two.root("new") / "srv").iterdir()] == ["old"]


@pytest.mark.parametrize("side", ["old", "new"])
def test_a_list_that_does_not_go_on_ends_and_names_what_is_silent(
    two: Two, mount_dead: Callable[..., None], side: str
) -> None:
    fill(two)
    mount_dead(side, "mnt/silent", gone=False)
    began = time.monotonic()
    said = two.sync(silence=2)
    assert said.startswith("81: ") and "without an answer: /mnt/silent." in said
    assert time.monotonic() - began < 30
    assert "then try again" in exitcodes.meaning(81).act and exitcodes.meaning(81, said).name == "manifest.silent"
    assert [path.name for path in (two.root("new") / "srv").iterdir()] == ["new"], "nothing was done"
    left = [
        one for one in Path("/proc").glob("[0-9]*/cmdline") if b"find" in (words := read(one)) and b"silent" in words
    ]
    assert not left, "and nobody waits on"


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_a_slow_list_is_no_silent_one(two: Two) -> None:
    """What goes on, however slowly, is waited for."""
    fill(two)
    slow = two.base / "bin/find"
    slow.parent.mkdir(exist_ok=True)
    # Each side's first list takes longer as a whole than silence is waited for.
    slow.write_text(
        f"#!/bin/sh\nmkdir {two.base}/one 2>/dev/null || mkdir {two.base}/other 2>/dev/null || pause=0\n"
        'for n in $(seq 12); do sleep ${pause:-1}; printf "srv/$n//l 1 1 1//f 644 1 0 0 1//\\0"; done\n'
    )
    slow.chmod(0o755)
    assert two.sync(silence=10) == ""


def test_only_the_sync_itself_holds_its_lock(two: Two) -> None:
    """A helper that outlived it, if only for seconds, would keep the next sync from starting."""
    fill(two)
    looking = two.base / "bin/find"
    looking.parent.mkdir(exist_ok=True)
    holders = two.base / "holders"
    look = f"/usr/bin/find -L /proc/[0-9]*/fd -maxdepth 1 -samefile {two.base}/m/old/lock 2>/dev/null"
    twice = f"{{ {look}; sleep 0.5; {look}; }} | sort | uniq -d"  # no child that is just about to start its program
    looking.write_text(f'#!/bin/sh\nsleep 0.5\n{twice} >>{holders}\nexec /usr/bin/find "$@"\n')
    looking.chmod(0o755)
    assert two.sync() == ""
    assert len({path.split("/")[2] for path in holders.read_text().split()}) == 1, holders.read_text()
