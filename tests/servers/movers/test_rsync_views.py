"""Directories that a host shows twice: each file is listed once, and no exclusion is walked around."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from migrationhub.lib.findings import Level
from servers.movers.base import Freeze
from servers.movers.rsync import config, preflight_views
from servers.movers.rsync.exclusions import left_out
from servers.movers.rsync.views import left_out_by_views, second_views, without_second_views
from servers.movers.rsync.walk import Mount, parse_mountinfo
from servers.remote.base import Result
from tests.servers.movers.test_rsync_lists import move
from tests.servers.movers.two import SIDES, Two, two

__all__ = ["two"]  # the fixture


def mounts(*lines: str) -> list[Mount]:
    """Lines “device root point type [option]”."""
    text = ""
    for number, line in enumerate(lines):
        device, root, point, kind, *options = line.split()
        text += f"{number} 1 {device} {root} {point} rw - {kind} /dev/x {','.join(['rw', *options])}\n"
    return parse_mountinfo(text.encode())


def pairs(found: list[Mount], **changes: Any) -> set[tuple[str, str]]:
    return {(view.hidden, view.shown) for view in second_views(move(scope="system", **changes), found)}


SLES = (
    "0:31 /@/.snapshots/%d/snapshot / btrfs subvol=/@/.snapshots/%d/snapshot",
    "0:31 /@/.snapshots /.snapshots btrfs subvol=/@/.snapshots",
    "0:31 /@/home /home btrfs subvol=/@/home",
)


def sles(number: int) -> list[Mount]:
    return mounts(SLES[0] % (number, number), *SLES[1:])


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        # A bind mount is a second view of what lies where it always did.
        (["8:1 / / ext4", "8:1 /srv/data /export/data ext4"], {("/export/data", "/srv/data")}),
        (["8:1 / / ext4", "8:2 / /data xfs", "8:2 /www /var/www xfs"], {("/var/www", "/data/www")}),
        (["8:1 / / ext4", "8:2 / /data xfs", "8:2 / /again xfs"], {("/again", "/data")}),
        (["8:1 / / ext4", "8:1 / /mnt/root ext4"], {("/mnt/root", "/")}),
        # A subvolume belongs where the file system table mounts it, not where a mount of the whole shows it too.
        (
            ["0:9 /@ / btrfs subvol=/@", "0:9 /@home /home btrfs subvol=/@home", "0:9 / /pool btrfs subvol=/"],
            {("/pool/@", "/"), ("/pool/@home", "/home")},
        ),
        (["0:9 / / btrfs subvol=/", "0:9 /@home /home btrfs subvol=/@home"], {("/@home", "/home")}),
        (["0:9 /@ / btrfs subvol=/@", "0:9 /@/srv/a /b btrfs subvol=/@"], {("/b", "/srv/a")}),
        # The root of an image that is kept in a directory of its disk.
        (["8:1 /deploy/1 / ext4", "8:1 / /sysroot ext4"], {("/sysroot/deploy/1", "/")}),
        # Nothing is seen twice here.
        (["8:1 / / ext4", "8:2 / /srv ext4", "8:1 /srv/below /old ext4"], set()),  # covered
        (["8:1 / / ext4", "8:1 /srv /srv ext4"], set()),
        (["8:1 / / ext4", "8:1 /srv/data /run/inside ext4"], set()),  # left out as a whole
        (["0:50 / / overlay", "0:50 /a /b overlay", "0:60 /x /nfs nfs4", "0:60 / /n nfs4"], set()),  # not our disks
        (["8:1 / / ext4", "8:1 /srv/x//deleted /y ext4"], set()),
    ],
)
def test_one_of_two_places_is_where_files_are_copied(lines: list[str], expected: set[tuple[str, str]]) -> None:
    assert pairs(mounts(*lines)) == expected


def test_a_root_under_snapper_is_not_listed_among_its_own_snapshots() -> None:
    """Another number on the other side, and so the live root of the target would be what is not on the source."""
    assert pairs(sles(1)) == {("/.snapshots/1/snapshot", "/")}
    for changes in ({"scope": "system"}, {"scope": "paths", "paths": ("/.snapshots",)}):
        job = without_second_views(move(**changes), sles(1), sles(3))
        assert {"/.snapshots/1/snapshot", "/.snapshots/3/snapshot"} <= set(job.exclusions), "on both sides the same"
    patterns = config._patterns(move(scope="system"))
    assert left_out("/.snapshots/1/info.xml", patterns) and left_out("/home/.snapshots/7/snapshot/x", patterns)


def test_what_the_frozen_database_is_named_by_is_where_it_is_copied() -> None:
    found = mounts("8:1 / / ext4", "8:2 / /data xfs", "8:2 /pg /var/lib/postgresql xfs")
    assert pairs(found) == {("/var/lib/postgresql", "/data/pg")}
    freeze = Freeze("postgresql", {"data": "/var/lib/postgresql/15/main"})
    for kind in ("initial", "final"):
        assert pairs(found, freeze=freeze, kind=kind) == {("/data/pg", "/var/lib/postgresql")}


def test_exclusions_hold_in_every_view() -> None:
    kept = mounts(
        "8:1 / / ext4", "8:2 / /keep ext4", "8:2 /etc/machine-id /etc/machine-id ext4", "8:2 /log /var/log ext4"
    )
    job = move(scope="system", exclusions=("/var/log/old/*.gz", "/keep/cache"))
    found = left_out_by_views(job, kept)
    assert {"/keep/etc/machine-id", "/keep/log/wtmp", "/keep/log/old/*.gz", "/var/log"} <= set(found)
    # Whoever leaves out a bind mount means that place.
    plain = mounts("8:1 / / ext4", "8:1 /srv/data /export ext4")
    assert left_out_by_views(move(scope="system", exclusions=("/export",)), plain) == ["/export"]
    # A named directory is copied though its files are somewhere else too, without what is left out there.
    job = move(scope="paths", paths=("/export",), exclusions=("/srv/data/cache",))
    assert left_out_by_views(job, plain) == ["/export/cache"]
    assert left_out_by_views(move(scope="paths", paths=("/export", "/srv")), plain) == ["/export"]
    assert left_out_by_views(move(scope="paths", paths=("/export", "/srv/data/a")), plain) == ["/export/a"]
    etc = mounts("8:1 / / ext4", "8:1 /etc /mnt/etc ext4")
    assert "/mnt/etc/migrationhub" in left_out_by_views(move(scope="paths", paths=("/mnt",)), etc)


# -- with real mounts -----------------------------------------------------------------------------------------------

OWN = ("etc/fstab", "etc/machine-id", "etc/ssh/ssh_host_ed25519_key", "boot/vmlinuz", "etc/migrationhub/sshd_config")


def fill(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{name} of {root.name}")


def text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def test_the_live_root_is_no_old_snapshot(two: Two) -> None:
    """As SLES installs it: the root is a snapshot among others, which are all mounted inside it."""
    if not shutil.which("mkfs.btrfs"):
        pytest.skip("btrfs-progs are not installed")
    for side, number in (("old", 1), ("new", 3)):
        root, raw, image = two.root(side), two.base / f"raw-{side}", two.base / f"{side}.img"
        raw.mkdir()
        for command in (["truncate", "-s", "200M", image], ["mkfs.btrfs", "-q", image]):
            subprocess.run(command, check=True)
        two.mount("-o", "loop", image, raw)
        device = subprocess.check_output(["findmnt", "-n", "-o", "SOURCE", raw], text=True).strip()
        for subvolume in ("@", "@/.snapshots", f"@/.snapshots/{number}/snapshot", "@/.snapshots/2/snapshot"):
            (raw / subvolume).parent.mkdir(exist_ok=True)
            subprocess.run(["btrfs", "-q", "subvolume", "create", raw / subvolume], check=True)
        two.mount("-o", f"subvol=@/.snapshots/{number}/snapshot", device, root)
        (root / ".snapshots").mkdir()
        two.mount("-o", "subvol=@/.snapshots", device, root / ".snapshots")
        fill(root, *OWN, f"srv/{side}", f".snapshots/{number}/info.xml", f".snapshots/2/snapshot/{side}")
        (root / "var/lib").mkdir(parents=True)
    assert two.sync() == ""
    new = two.root("new")
    assert [text(new / name) for name in OWN] == [f"{name} of new" for name in OWN]
    assert (new / "srv/old").exists() and not (new / "srv/new").exists()
    assert sorted(path.name for path in (new / ".snapshots").iterdir()) == ["2", "3"], "its own, and nobody else's"
    assert [path.name for path in (new / ".snapshots/2/snapshot").iterdir()] == ["new"]


def test_a_second_place_is_left_alone_on_both_sides(two: Two) -> None:
    """A bind mount on the old server is a directory like any other on the new one, and the other way round."""
    for side in SIDES:
        fill(two.root(side), *OWN, "srv/data/a", "export/own", "keep/machine-id", "mnt/x", f"etc/{side}")
    old, new = two.root("old"), two.root("new")
    for root in (old, new):
        two.mount("--bind", root, root)
    two.mount("--bind", old / "srv/data", old / "export")
    two.mount("--bind", old / "keep/machine-id", old / "etc/machine-id")
    two.mount("--bind", new / "etc", new / "mnt")
    (new / "etc/extra").write_text("to be removed, once")
    assert two.sync() == ""
    assert text(new / "srv/data/a") == "srv/data/a of old"
    assert text(new / "export/own") == "export/own of new" and not (new / "export/a").exists()
    assert text(new / "keep/machine-id") == "keep/machine-id of new", "the machine's own under its other name"
    assert [text(new / name) for name in OWN] == [f"{name} of new" for name in OWN], "through a second view"
    assert text(new / "etc/old") and not (new / "etc/new").exists() and not (new / "etc/extra").exists()
    assert not (new / "etc/x").exists(), "what the source has of its own at the target's second place: preflight blocks"


def test_preflight_tells_of_second_views_and_refuses_what_would_be_lost(tmp_path: Path) -> None:
    plain = "0 1 8:1 / / rw - ext4 /dev/a rw\n"
    bound = plain + "1 1 8:1 /srv/data /export rw - ext4 /dev/a rw\n"
    inside = bound + "2 1 8:2 / /export/db rw - ext4 /dev/b rw\n"
    hosts = {False: b"", True: b"/export\0"}

    def found(source: str, target: str, filled: bool = False) -> dict[str, Level]:
        class Source:
            def run(self, command: list[str], **_: object) -> Result:
                assert command[-1] == "/export"
                return Result(0, hosts[filled], b"")

        here: Any = Source()
        job = replace(move(scope="system"), connect=lambda _: here)
        fields = ({"mounts": text.encode()} for text in (source, target))
        return {finding.code: finding.level for finding in preflight_views.views(job, *fields)}

    assert found(plain, plain) == found(plain, bound) == {}
    assert found(bound, bound) == found(bound, plain) == {"views.twice": Level.WARNING}
    assert found(inside, plain) == {"views.twice": Level.WARNING, "views.inside": Level.BLOCKING}
    assert found(plain, bound, filled=True) == {"views.differ": Level.BLOCKING}
