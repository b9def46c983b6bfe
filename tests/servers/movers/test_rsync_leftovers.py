"""What a sync leaves behind when it is cut off: its programs on the target, and what it did without saying so."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from servers.movers.base import MoveJob
from servers.movers.rsync import config, outcome, state
from servers.movers.rsync.layout import Layout, program
from servers.remote.base import Endpoint
from tests.patience import wait_until

# As sshd does it: the command is in a session of its own and goes on when whoever asked for it is gone.
SSH = """#!/bin/sh
while [ "$1" != target ]; do shift; done; shift
export SSH_ORIGINAL_COMMAND="$*" PATH="{base}/on-target:$PATH"
{{ setsid /bin/sh {job}/serve.sh {job} 2>{base}/errors.$$; echo $? >{base}/status.$$; }} | cat
cat {base}/errors.$$ >&2
exit "$(cat {base}/status.$$)"
"""


@dataclass
class Sync:
    source: Path
    process: subprocess.Popen[bytes]

    def told(self, name: str) -> str:
        path = self.source / name
        return path.read_text("utf-8", "replace").strip() if path.exists() else ""

    def ended(self) -> str:
        """Its status, and its words where it failed."""
        self.process.wait(120)
        return self.told("rc") if self.told("rc") == "0" else f"{self.told('rc')}: {self.told('error')}"

    def cancel(self) -> None:
        done = subprocess.run(
            ["sh", "-s", self.source, "20", ""], input=program("end.sh").encode(), capture_output=True, check=True
        )
        assert not done.stderr, done.stderr


@dataclass
class Sides:
    """Two trees, the real programs of both sides, and a connection that may end without its command."""

    base: Path
    begun: list[Sync] = field(default_factory=list)

    def tree(self, side: str) -> Path:
        return self.base / side / "srv/data"

    def names(self, side: str) -> list[str]:
        return sorted(path.name for path in self.tree(side).iterdir())

    def slow(self, side: str, name: str, body: str) -> None:
        """A program on one side that takes its time, as on a slow disk."""
        path = self.base / f"on-{side}" / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def start(self, key: str, kind: str, last: str = "") -> Sync:
        endpoint = Endpoint("old", "192.0.2.1", host_keys=("ssh-ed25519 AAAA",))
        job = MoveJob(
            work_key=key,
            connect=lambda _: None,  # type: ignore[arg-type,return-value]
            kind=kind,
            source=endpoint,
            target=replace(endpoint, name="new"),
            migration_key="m",
            scope="paths",
            paths=("srv/data",),
            last_sync={"manifest": last, "generation": 1} if last else {},
        )
        source, target = (
            Layout(str(self.base / side), f"{self.base}/job-{side}-{key}", f"{self.base}/state/{side}/1", "u")
            for side in ("old", "new")
        )
        for place, files in (
            (source, config.source_files(job, source, [], "t")),
            (target, config.target_files(job, target, [], [], "t")),
        ):
            Path(place.job).mkdir()
            for name, data in files.items():
                (Path(place.job) / name).write_bytes(data)
        self.slow("source", "ssh", SSH.format(base=self.base, job=target.job).partition("\n")[2])
        with (Path(source.job) / "log").open("wb") as log:
            process = subprocess.Popen(
                ["/bin/sh", f"{source.job}/source.sh", source.job],
                env={"PATH": f"{self.base}/on-source:{os.environ['PATH']}"},
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        threading.Thread(target=process.wait, daemon=True).start()  # so that it is no zombie when it has ended
        self.begun.append(Sync(Path(source.job), process))
        return self.begun[-1]


@pytest.fixture
def sides(tmp_path: Path) -> Iterator[Sides]:
    sides = Sides(tmp_path)
    for name in ("old/srv/data/x", "new", "on-source", "on-target"):
        (tmp_path / name).mkdir(parents=True)
    for number in range(5):
        (sides.tree("old") / "x" / f"f{number}").write_text(str(number))
    (sides.tree("old") / "keep").write_text("k")
    assert sides.start("k1", "initial").ended() == "0"
    time.sleep(2.1)  # what is younger than two seconds is looked at twice
    yield sides
    for sync in sides.begun:
        sync.cancel()


def files_of(sides: Sides, side: str) -> list[Path]:
    return sorted((sides.tree(side) / "x").iterdir())


def test_a_removal_that_went_on_takes_nothing_that_came_later(sides: Sides) -> None:
    """Its sync was cancelled; the files are on the source again and are sent by the next one."""
    for path in files_of(sides, "old"):
        path.unlink()
    sides.slow("target", "rm", 'case "$*" in *srv/data/x*) sleep 6 ;; esac\nexec /bin/rm "$@"')
    sync = sides.start("k2", "delta", "k1")
    wait_until(lambda: sync.told("phases").endswith("copying"))
    time.sleep(1)
    sync.cancel()
    (sides.base / "on-target/rm").unlink()
    for number in range(5):
        (sides.tree("old") / "x" / f"f{number}").write_text("again")
    assert sides.start("k3", "delta", "k1").ended() == "0"
    time.sleep(7)
    assert [path.read_text() for path in files_of(sides, "new")] == ["again"] * 5


def test_a_list_that_still_runs_does_not_disturb_the_next_sync(sides: Sides) -> None:
    (sides.tree("old") / "keep").write_text("changed")
    sides.slow("target", "find", '/usr/bin/find "$@"\ncase "$*" in *printf*) sleep 5 ;; esac')
    sync = sides.start("k2", "final", "k1")
    wait_until(lambda: (sides.base / "state/new/1/work/walked").exists())
    time.sleep(1)
    sync.cancel()
    again = sides.start("k3", "final", "k1")  # the old list ends while the new one is made
    assert again.ended() == "0", again.told("error")
    assert (sides.tree("new") / "keep").read_text() == "changed"


def test_what_was_removed_before_a_cancel_was_changed_by_nobody_else(sides: Sides) -> None:
    for path in files_of(sides, "old"):
        path.unlink()
    sides.slow("target", "rm", '/bin/rm "$@"\ncase "$*" in *srv/data/x*) sleep 5 ;; esac')
    sync = sides.start("k2", "delta", "k1")
    wait_until(lambda: files_of(sides, "new") == [])
    sync.cancel()
    (sides.base / "on-target/rm").unlink()
    again = sides.start("k3", "delta", "k1")
    assert again.ended() == "0" and again.told("work/discarded.count") == "0"


def test_what_an_unrecorded_sync_sent_was_changed_by_nobody_else(sides: Sides) -> None:
    """Both came to their end and nobody heard of it; the one after them is compared with the first."""
    for key, text in (("k2", "second"), ("k3", "third")):
        (sides.tree("old") / f"of {key}").write_text(text)
        assert sides.start(key, "delta", "k1").ended() == "0"
    (sides.tree("new") / "theirs").write_text("of somebody who uses the clone")
    again = sides.start("k4", "delta", "k1")
    assert again.ended() == "0" and again.told("work/discarded.head").strip("\0") == "srv/data/theirs"
    (sides.tree("new") / "of k3").write_text("changed on the clone")
    after = sides.start("k5", "delta", "k4")
    assert after.ended() == "0" and after.told("work/discarded.head").strip("\0") == "srv/data/of k3"
    assert (sides.tree("new") / "of k3").read_text() == "third"


def test_a_program_that_nobody_reaped_is_dead(sides: Sides) -> None:
    """As on a machine whose first process asks nobody how it ended: a container with sshd alone."""
    sync = sides.start("k2", "delta", "k1")
    assert sync.ended() == "0"
    (sync.source / "rc").unlink()  # it was killed before its end
    body = "read -r stat </proc/$$/stat; set -- ${stat##*) }; echo $$ ${20} $(cat /proc/sys/kernel/random/boot_id)"
    body = f"{body} >{sync.source}/pid.new; mv {sync.source}/pid.new {sync.source}/pid; exec sleep 60"
    (sync.source / "pid").unlink()
    with subprocess.Popen(["sh", "-c", body], start_new_session=True) as killed:
        wait_until((sync.source / "pid").exists)
        assert life(sync) == "alive"
        os.kill(killed.pid, signal.SIGKILL)
        wait_until(lambda: ") Z " in Path(f"/proc/{killed.pid}/stat").read_text())
        assert life(sync) == "dead"
        began = time.monotonic()
        sync.cancel()
        assert time.monotonic() - began < 15, "it waited for the dead"


def life(sync: Sync) -> str:
    shown = subprocess.run(
        ["sh", "-s", sync.source], input=program("state.sh").encode(), capture_output=True, check=True
    )
    return state.parse_look(shown.stdout).life


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_lists_that_cannot_be_written_are_no_fault_of_the_target(sides: Sides) -> None:
    """The source's file system became read-only after an error on its disk."""
    kept = sides.base / "state/old/1"
    subprocess.run(["mount", "--bind", kept, kept], check=True)
    subprocess.run(["mount", "-o", "remount,ro,bind", kept], check=True)
    try:
        said = sides.start("k2", "delta", "k1").ended()
    finally:
        subprocess.run(["umount", kept], check=True)
    assert said == f"78: {kept} cannot be written."


def test_the_word_of_a_shell_that_failed_is_in_its_log() -> None:
    log = "./source.sh: 28: cannot create /var/x: Read-only file system"
    words = outcome.failure_words(state.Look(boot="b", exists=True, rc=70, log=log))
    assert words["code"] == "mover.program" and log in words["reason"]
