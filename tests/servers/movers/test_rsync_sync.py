"""Initial, delta and final sync between real hosts: what each must bring, take away and refuse."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from migrationhub.lab.verify import compare_trees
from servers.movers.rsync.mover import RsyncMover
from servers.progress import Consistency, Progress, State
from servers.remote.ssh import connect
from tests.fixtures_lab import ProcessHost
from tests.servers.movers.conftest import Pair
from tests.servers.movers.drive import drive, succeed

pytestmark = pytest.mark.lab

# Everything whose name, kind or attribute a copy can lose.
TREE = r"""
mkdir -p srv/data/dir/deep "srv/data/with space" srv/data/lib srv/data/etc && cd srv/data || exit 1
printf one >a; printf two >"with space/b c"; printf x >"$(printf 'line\nbreak')"; printf y >"$(printf 'byte\377')"
printf z >'#comment'; printf z >'-rf'; printf q >'back\slash*[x]?'; printf l >'a//b' 2>/dev/null || :
ln a dir/hard; ln a dir/deep/hard2; printf s >solo; ln -s nowhere dangling; ln -s 'a//b d 755' odd-link
ln -s dir link-to-dir; mkfifo fifo; truncate -s 3M sparse; printf end >>sparse
printf acl >acl; setfacl -m u:1:r acl; setfattr -n user.colour -v blue acl; chmod 4750 solo
mkdir empty way roam; printf r >roam/r; printf x >way/x
mkdir -p d1/x 'd2 ['/y; printf f >f1; ln -s f1 l1; printf 1 >d1/x/1; printf 2 >'d2 ['/y/2
touch -d '2001-02-03 04:05:06.123456789' dir; touch -d 2030-01-01 future
"""


@pytest.fixture(scope="module")
def pair(make_pair: Callable[..., Pair]) -> Pair:
    pair = make_pair("tree")
    result = pair.source.execute(TREE)
    assert result.rc == 0, result.err
    seen: list[Progress] = []
    pair.last = drive(pair.job("initial"), seen=seen)[1]
    assert pair.last.state == State.SUCCEEDED, pair.last.reason
    assert_never_backwards(seen)
    return pair


def assert_never_backwards(seen: list[Progress]) -> None:
    from servers.movers.rsync.state import PHASES

    for before, after in pairwise(seen):
        assert after.bytes_done >= before.bytes_done and after.files_done >= before.files_done
        assert PHASES.index(after.phase) >= PHASES.index(before.phase)
        assert after.rate is None or after.rate >= 0


def assert_equal(pair: Pair) -> None:
    verdict = compare_trees(pair.source.root, pair.target.root, ["srv/data"], [])
    assert verdict.ok, verdict


def shell(host: ProcessHost, script: str) -> str:
    result = host.execute(f"cd srv/data && {{ {script}\n}}")
    assert result.rc == 0, result.err
    return result.out


def test_first_sync_brings_everything(pair: Pair) -> None:
    assert_equal(pair)
    sync = pair.last.sync
    assert sync.full and sync.consistency == Consistency.LIVE and sync.kind == "initial"
    assert sync.files_sent == 16 and sync.bytes_sent > 3 << 20
    # No key is left, on neither side, and nothing but ours was written outside the scope.
    assert not list(pair.source.root.glob("run/migrationhub/*/key"))
    assert "migrationhub-transfer" not in (pair.target.root / ".ssh/authorized_keys").read_text()
    assert sorted(path.name for path in (pair.target.root / "srv").iterdir()) == ["data"]


def test_delta_brings_only_what_changed(pair: Pair) -> None:
    """Also what size and time do not show: a write through mmap, an edit in place with the old time put back."""
    shell(
        pair.source,
        "touch -r solo .t; printf S | dd of=solo conv=notrunc status=none; touch -r .t solo; rm .t;"
        "python3 -c \"import mmap; f = open('sparse', 'r+b'); m = mmap.mmap(f.fileno(), 0); m[100:105] = b'mmaps'\";"
        "mv dir renamed; rm 'with space/b c'; rm -r empty; printf new >renamed/new; setfattr -n user.colour -v red acl",
    )
    sync = pair.sync("delta").sync
    assert_equal(pair)
    assert not sync.full and sync.discarded_count == 0
    assert sync.bytes_sent < 1 << 20, "the delta sent unchanged data"
    assert shell(pair.target, "head -c 105 sparse | tail -c 5; printf ' '; cat solo") == "mmaps S"


def marked(pair: Pair) -> set[bytes]:
    """Paths that were younger than two seconds at the last list of the source: they will be sent once more."""
    name = f"{pair.last.sync.manifest}.source"
    (file,) = pair.source.root.glob(f"var/lib/migrationhub/{pair.key}/*/{name}")
    return {record.split(b"//")[0] for record in file.read_bytes().split(b"\0") if b"//!" in record}


HOLDER = """
import mmap, pathlib, time
with open("srv/mapped/file", "r+b") as file:
    page = mmap.mmap(file.fileno(), 0)
page[0:1] = b"1"  # the page is dirty from now on
pathlib.Path("holding").touch()
while not pathlib.Path("write").exists():
    time.sleep(0.05)
page[1:2] = b"2"  # without a sync in between: neither ctime nor mtime moves
pathlib.Path("written").touch()
"""


@pytest.fixture
def own_disk(pair: Pair, tmp_path: Path) -> Iterator[Path]:
    """A file system on the source that nobody else on this machine syncs."""
    image, place, account = tmp_path / "disk", pair.source.root / "srv/mapped", pair.source.backend.account
    with image.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    place.mkdir()
    subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=True)
    try:
        (place / "lost+found").rmdir()
        os.chown(place, account.uid, account.gid)
        yield place
    finally:
        pair.source.execute("touch write; sleep 0.3; rm -f holding write written")
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="a file system can only be mounted by root")
def test_a_write_through_a_dirty_page_is_seen(pair: Pair, own_disk: Path) -> None:
    pair.source.write("srv/mapped/file", "................")
    pair.source.write("holder.py", HOLDER)
    pair.source.execute(
        "nohup python3 holder.py >/dev/null 2>&1 & until [ -e holding ]; do sleep 0.05; done; sleep 2.5"
    )
    mapped = {"paths": ("srv/mapped",), "migration_key": "move-mapped"}
    first = succeed(pair.job("initial", **mapped, last_sync={}))
    assert (pair.target.root / "srv/mapped/file").read_text().startswith("1.")
    pair.source.execute("touch write; until [ -e written ]; do sleep 0.05; done")
    sync = succeed(pair.job("delta", **mapped, last_sync=first.sync.as_dict())).sync
    assert not sync.full
    assert (pair.target.root / "srv/mapped/file").read_text().startswith("12")


def test_what_a_tester_changed_is_taken_away_and_counted(pair: Pair) -> None:
    """The source has not changed since: a look at the source alone would find nothing to do."""
    if marked(pair):
        pair.sync("delta")
    shell(
        pair.target,
        "touch -r a .t; printf ONE >a; touch -r .t a; rm .t; printf extra >extra;"
        "mkdir -p mine/deep; printf m >mine/deep/m;"
        "rm solo; mv roam moved; ln -s /etc/passwd out; chmod 600 acl; rm link-to-dir; ln -s / link-to-dir",
    )
    sync = pair.sync("delta").sync
    assert_equal(pair)
    assert sync.discarded_count == len(sync.discarded)
    discarded = {path.removeprefix("srv/data/") for path in sync.discarded}
    assert {"a", "extra", "mine", "mine/deep", "mine/deep/m", "solo", "moved", "out", "acl"} <= discarded
    assert not discarded & {"", "fifo", "sparse", "future"}, "what nobody touched is counted"


def test_removals_do_not_go_through_links(pair: Pair) -> None:
    """The source removes dir/x; on the target a tester made dir a link to a directory that holds another x."""
    pair.target.write("outside/x", "precious")
    shell(pair.source, "rm way/x")
    shell(pair.target, 'rm -r way; ln -s "$HOST_DIR/outside" way')
    pair.sync("delta")
    assert (pair.target.root / "outside/x").read_text() == "precious"
    assert_equal(pair)


def test_kinds_change(pair: Pair) -> None:
    """A directory becomes a file and a link, a file and a link become directories; with children on the target."""
    shell(
        pair.source,
        "rm -r d1 'd2 [' f1 l1; printf d1 >d1; ln -s d1 'd2 ['; mkdir f1 l1; printf 1 >f1/1; printf 1 >l1/1",
    )
    shell(pair.target, "printf mine >d1/x/mine; printf mine >'d2 ['/mine")
    pair.sync("delta")
    assert_equal(pair)


def test_two_seconds_and_a_clock_that_steps_back(pair: Pair) -> None:
    """What changed within two seconds of a list counts as changed; an older list than its clock is of no use."""
    assert pair.sync("delta").sync.files_sent <= 4, "more than what changed was sent"
    assert not marked(pair), "nothing was younger than two seconds"
    job = pair.job("delta")
    memo, _ = drive(job, until=lambda progress: progress.next_act == "start")
    program = Path(RsyncMover()._source(job).layout.job) / "source.sh"
    text, look = program.read_text(), "\nfirst_round\n"
    assert text.count(look) == 1
    now = pair.source.root / "srv/data/now"  # written just before the list, however long a busy machine takes to start
    program.write_text(text.replace(look, f"\nprintf now >'{now}'{look}"))
    pair.last = succeed(job, memo)
    assert marked(pair) == {b"srv/data", b"srv/data/now"}
    # Hours ahead of now, as if the clock had been set back since.
    (meta,) = pair.source.root.glob(f"var/lib/migrationhub/{pair.key}/*/{pair.last.sync.manifest}.source.meta")
    moment, uptime, boot = meta.read_text().split()
    meta.write_text(f"{int(moment) + 360000} {uptime} {boot}\n")
    sync = pair.sync("delta").sync
    assert sync.full and "clock of tree-old was set back" in sync.notes[-1]


@pytest.mark.parametrize("lose", ["source", "target", "generation"])
def test_without_both_lists_everything_is_compared(pair: Pair, lose: str) -> None:
    """After a revert, a restore or an unknown contact nothing that a list says can be relied on."""
    shell(pair.target, "touch -r a .t; printf TWO >a; touch -r .t a; rm .t; printf extra >extra")
    if lose == "generation":
        pair.generation += 1
    else:
        for file in getattr(pair, lose).root.glob(f"var/lib/migrationhub/*/*/*.{lose}"):
            file.unlink()
    sync = pair.sync("delta").sync
    assert sync.full and sync.notes
    assert_equal(pair)


def test_final_sync_proves_equality(pair: Pair) -> None:
    shell(pair.target, "printf tester >>a; printf t >t")
    pair.sync("delta")
    shell(pair.source, "printf last >last; mv renamed again")
    seen: list[Progress] = []
    _, progress = drive(pair.job("final", proof="checksum"), seen=seen)
    assert progress.state == State.SUCCEEDED, progress.reason
    assert progress.sync.consistency == Consistency.STOPPED and progress.sync.proof == "checksum"
    assert_never_backwards(seen)
    assert progress.result["target_in_receive_mode"], "what starts now would change what was proven"
    assert_equal(pair)
    shell(pair.source, "printf later >>last; rm -r again")  # something ran after it: it is done again
    assert pair.sync("final").result["target_in_receive_mode"]
    assert_equal(pair)


def test_both_sides_changed_in_the_same_second(pair: Pair) -> None:
    """As jobs at the full minute do: for rsync alone the same second is near enough."""
    shell(pair.source, "mkdir -p minute; ln -sfn a minute/link; touch -h -d '2026-01-01 03:00:00.1' minute/link minute")
    pair.sync("delta")
    shell(pair.target, "touch -h -d '2026-01-01 03:00:00.7' minute/link minute")
    pair.sync("final")
    assert_equal(pair)


def test_final_sync_fails_where_the_sides_stay_different(pair: Pair) -> None:
    """Something writes on the source all the time: equality cannot be proven and the path is named."""
    pair.source.execute(
        "nohup sh -c 'while [ ! -e stop ]; do date +%N >srv/data/busy; sleep 0.05; done' >/dev/null 2>&1 &"
    )
    try:
        _, progress = drive(pair.job("final", proof="manifest"))
    finally:
        pair.source.execute("touch stop; sleep 0.2; rm stop")
    assert progress.state == State.FAILED and progress.code == "proof.failed"
    assert "srv/data/busy" in progress.reason


@pytest.mark.parametrize(("name", "rules"), [("acl", ""), ("unruly", "- unruly\n")])
def test_proof_finds_what_lists_do_not_hold(pair: Pair, monkeypatch: pytest.MonkeyPatch, name: str, rules: str) -> None:
    """An attribute that differs on the target, put there between the copy and the proof, is found by the dry run.

    Also where the rules by which it goes through everything leave the file out: it saw too few files, so it is
    believed no longer.
    """
    shell(pair.source, f"touch {name}")
    pair.sync("delta")
    original = RsyncMover._start

    def start(self: RsyncMover, job: object, memo: dict[str, object]) -> dict[str, object]:
        source = self._source(job)  # type: ignore[arg-type]
        programs = source.read("source.sh").decode()
        change = f"setfattr -n user.colour -v green {pair.target.root}/srv/data/{name}"
        source.write("source.sh", programs.replace("\n  prove\n", f"\n  {change}\n  prove\n").encode())
        source.write("rules", source.read("rules") + rules.encode())
        return original(self, job, memo)  # type: ignore[arg-type]

    monkeypatch.setattr(RsyncMover, "_start", start)
    _, progress = drive(pair.job("final"))
    assert progress.state == State.FAILED and progress.code == "proof.failed", progress
    assert name in progress.reason


@pytest.mark.parametrize("full", [False, True])
def test_exclusions_of_the_profile_hold_on_both_sides(pair: Pair, full: bool) -> None:
    if full:
        pair.generation += 1  # sent by rules, not by names
    shell(pair.source, "mkdir -p skip/me; printf s >skip/me/s; printf b >x.bak; printf k >keep")
    shell(pair.target, "mkdir -p skip; printf t >skip/t; printf t >y.bak")
    sync = pair.sync("delta", exclusions=("/srv/data/skip", "*.bak")).sync
    assert sync.full == full
    assert shell(pair.target, "ls skip *.bak keep") == "keep\ny.bak\n\nskip:\nt\n"
    shell(pair.source, "rm -r skip x.bak")
    shell(pair.target, "rm -r skip y.bak")


def test_a_named_directory_that_is_gone_empties_nothing(pair: Pair) -> None:
    (pair.source.root / "srv/data").rename(pair.source.root / "srv/away")
    try:
        _, progress = drive(pair.job("delta"))
    finally:
        (pair.source.root / "srv/away").rename(pair.source.root / "srv/data")
    assert progress.state == State.FAILED and progress.code == "manifest.walk"
    assert "/srv/data" in progress.reason
    assert (pair.target.root / "srv/data/a").exists()


def test_a_directory_that_cannot_be_read_is_no_empty_directory(pair: Pair) -> None:
    if pair.source.endpoint.username == "root":
        pytest.skip("root can read everything")
    shell(pair.source, "mkdir secret; printf s >secret/s")
    pair.sync("delta")
    shell(pair.source, "chmod 0 secret")
    try:
        found = {f.code: f for f in RsyncMover().preflight(pair.job("delta"))}
        _, progress = drive(pair.job("delta"))
    finally:
        shell(pair.source, "chmod 755 secret")
    assert "secret" in found["files.unreadable"].text
    assert progress.state == State.FAILED and "secret" in progress.reason
    assert (pair.target.root / "srv/data/secret/s").exists(), "what could not be read was removed"


def test_the_key_of_a_sync_starts_nothing_else(pair: Pair) -> None:
    """The forced command receives and lists; it sends nothing back and runs nothing."""
    job = pair.job("delta")
    memo, _ = drive(job, until=lambda progress: progress.next_act == "start")
    directory = next(path for path in pair.source.root.glob("run/migrationhub/*") if (path / "key").exists())
    config = directory / "ssh_config"

    def asked(command: str) -> str:
        result = pair.source.execute(f"ssh -F {config} target {command}")
        assert result.rc != 0
        return result.err

    assert "refused" in asked("id")
    assert "refused" in asked("'rsync --server --sender -logDtpr . ./'")
    assert "refused" in asked("'rsync --server -logDtpr . /tmp/'")
    assert "refused" in asked("'rsync --server -logDtpr . ./; id'")
    assert "refused" in asked("'before; id'")
    assert re.fullmatch(r"[0-7]*600", oct((directory / "key").stat().st_mode)[2:])
    drive(job, memo)
    assert not (directory / "key").exists()
    with_key = Path(pair.target.root / ".ssh/authorized_keys").read_text()
    assert "migrationhub-transfer" not in with_key
    assert connect(pair.target.endpoint)  # our own key is still there
