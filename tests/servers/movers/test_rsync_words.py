"""What rsync and our programs say, and what it means: exit codes, progress, states, failures."""

from __future__ import annotations

import base64
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from servers.movers import mover
from servers.movers.base import Freeze, MoveJob
from servers.movers.rsync import exitcodes
from servers.movers.rsync.layout import program
from servers.movers.rsync.outcome import consistency, failure_words, sync_facts
from servers.movers.rsync.progress_parse import parse
from servers.movers.rsync.state import PHASES, Look, parse_look
from servers.progress import Consistency, SyncFacts
from servers.remote.base import Endpoint

# -- exit codes -----------------------------------------------------------------------------------------------


def test_only_success_is_acceptable_for_the_final_sync() -> None:
    assert [code for code in range(256) if exitcodes.acceptable(code, final=True)] == [0]


def test_only_success_and_vanished_files_are_acceptable_for_a_live_one() -> None:
    assert [code for code in range(256) if exitcodes.acceptable(code, final=False)] == [0, 24]


def test_the_program_on_the_source_is_told_the_same_table() -> None:
    assert exitcodes.tolerated(final=False) == "24"
    assert exitcodes.tolerated(final=True) == ""


def test_every_status_of_rsync_has_a_cause_and_a_next_act() -> None:
    known = {0, 1, 2, 3, 4, 5, 6, 10, 11, 12, 13, 14, 15, 16, 19, 20, 21, 22, 23, 24, 25, 30, 35, 127, 255}
    assert known <= exitcodes.TABLE.keys()
    for row in exitcodes.TABLE.values():
        assert row.text.endswith(".") and (row.code == 0 or row.act.endswith("."))


@pytest.mark.parametrize(
    ("code", "said", "name"),
    [
        (11, 'rsync: write failed on "/srv/x": No space left on device (28)', "target.full"),
        (12, "Connection refused", "target.refused"),
        (255, "Host key verification failed.", "target.host-key"),
        (73, "Permission denied (publickey).", "target.key"),
        (
            73,
            "db could not list the target: the connection failed (ssh, status 255): no reason was given.",
            "ssh.failed",
        ),
        (78, "sort: write failed: No space left on device", "mover.space"),  # ours, on the source
        (23, "permission denied", "rsync.partial"),
        (137, "", "mover.signal"),
        (99, "", "mover.unknown"),
    ],
)
def test_causes_are_told_apart(code: int, said: str, name: str) -> None:
    row = exitcodes.meaning(code, said)
    assert row.name == name and row.text and row.act
    assert not row.live and not row.final


# -- progress -------------------------------------------------------------------------------------------------

RUNNING = "\r     32,768   0%    0.00kB/s    0:00:00  \r  1048576  33%    2.50MB/s    0:00:01 (xfr#2, to-chk=4/9)"
ENDED = """\r      3145728 100%   10.00MB/s    0:00:00 (xfr#3, to-chk=0/9)

Number of files: 9 (reg: 5, dir: 4)
Number of regular files transferred: 3
Total file size: 5000000 bytes
Total transferred file size: 3145728 bytes
Total bytes sent: 123456
Total bytes received: 99
"""


def test_progress_in_the_middle_and_at_the_end() -> None:
    middle = parse(RUNNING, size_total=3145728, names=9)
    assert (middle.size, middle.size_total, middle.entries, middle.entries_total) == (1048576, 3145728, 5, 9)
    assert middle.rate == 2.5 * 1024**2 and middle.transferred == 2 and not middle.ended
    end = parse(RUNNING + ENDED, size_total=3145728, names=9)
    assert end.ended and end.sent == 123456 and end.transferred == 3
    assert end.size == end.size_total == 3145728 and end.entries == end.entries_total == 9


def test_progress_of_nothing_and_of_a_cut_line() -> None:
    assert parse("").size == 0
    assert parse("  12 50% 1.00kB/s 0:00:00 (xfr#1, to-c").transferred == 0
    grown = parse("  5000  50%  1.00kB/s 0:00:00 ", size_total=100)
    assert grown.size_total == 5000, "a file that grew makes no progress beyond the whole"


# -- states ---------------------------------------------------------------------------------------------------


def lines(**fields: bytes) -> bytes:
    names = {name.replace("__", ".").replace("_", "-") if name != "as_of" else name: v for name, v in fields.items()}
    return b"".join(name.encode() + b" " + base64.b64encode(value) + b"\n" for name, value in names.items())


def test_a_look_tells_the_furthest_phase_and_all_passes() -> None:
    look = parse_look(
        lines(
            boot=b"b1",
            directory=b"yes",
            life=b"alive",
            phases=b"comparing\ncopying\nproving\ncopying\n",
            out_1=ENDED.encode(),
            total_1=b"3145728\n",
            entries_1=b"9\n",
            out_2=RUNNING.encode(),
            notes=b"one\none\ntwo\n",
        )
    )
    assert look.phase == "proving" and look.running and not look.ended and look.touched_target
    assert [one.ended for one in look.passes] == [True, False]
    assert look.notes == ("one", "two")


@pytest.mark.parametrize(
    ("fields", "running", "ended"),
    [
        ({"boot": b"b"}, False, False),
        ({"boot": b"b", "directory": b"yes"}, False, False),
        ({"boot": b"b", "directory": b"yes", "life": b"alive"}, True, False),
        ({"boot": b"b", "directory": b"yes", "life": b"dead"}, False, True),
        ({"boot": b"b", "directory": b"yes", "life": b"alive", "rc": b"0\n"}, False, True),
    ],
)
def test_only_the_directory_is_believed(fields: dict[str, bytes], running: bool, ended: bool) -> None:
    look = parse_look(lines(**fields))
    assert (look.running, look.ended) == (running, ended)


def test_what_is_no_answer_is_refused() -> None:
    for output in (b"", b"Welcome to this machine!\n", b"life YWxpdmU=\n"):
        with pytest.raises(ValueError, match=r"boot id|our programs"):
            parse_look(output)


def test_any_byte_may_be_in_a_path() -> None:
    look = parse_look(lines(boot=b"b", discarded__head=b"a\nb\0\xff\0", discarded__count=b"2", config__head=b"etc/x\0"))
    assert look.discarded == ("a\nb", "\\xff") and look.discarded_count == 2 and look.config_changed == ("/etc/x",)


# -- outcome --------------------------------------------------------------------------------------------------

JOB = MoveJob("k", "delta", Endpoint("a", "1.2.3.4"), Endpoint("b", "1.2.3.5"), lambda _: None, "m")  # type: ignore[arg-type,return-value]


def job(kind: str, method: str) -> MoveJob:
    return MoveJob("k", kind, JOB.source, JOB.target, JOB.connect, "m", freeze=Freeze(method))


@pytest.mark.parametrize(
    ("kind", "method", "live", "expected"),
    [
        ("initial", "none", False, Consistency.LIVE),
        ("delta", "postgresql", False, Consistency.FROZEN),
        ("delta", "postgresql", True, Consistency.LIVE),
        ("delta", "snapshot-btrfs", False, Consistency.SNAPSHOT),
        ("delta", "stop", False, Consistency.STOPPED),
        ("final", "postgresql", False, Consistency.STOPPED),
    ],
)
def test_consistency_is_never_claimed(kind: str, method: str, live: bool, expected: Consistency) -> None:
    assert consistency(job(kind, method), Look("b", True, live=live)) == expected


def test_facts_survive_json() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    facts = sync_facts(job("delta", "none"), Look("b", True, rc=0, as_of=moment, ended_at=moment, notes=("n",)))
    assert SyncFacts.from_dict(facts.as_dict()) == facts and facts.manifest == "k"


def test_failures_are_sentences_with_a_next_act() -> None:
    words = failure_words(Look("b", True, rc=72, error="find: './x': Permission denied"))
    assert words["code"] == "manifest.walk" and "./x" in words["reason"] and words["reason"].endswith(".")
    assert failure_words(Look("b", True, life="dead"))["code"] == "mover.killed"


# -- programs -------------------------------------------------------------------------------------------------


def test_the_registry_names_what_there_is() -> None:
    assert mover("rsync").capabilities(JOB).deltas
    with pytest.raises(Exception, match=r"no mover named 'teleport'.*rsync"):
        mover("teleport")


def function(name: str) -> str:
    found = re.search(rf"^{name}\(\) {{.*?^}}$", program("source.sh"), re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[0]


@pytest.mark.parametrize(("options", "seconds"), [("--ignore-times", 600), ("--checksum", 700), ("-x --checksum", 700)])
def test_a_file_that_is_hashed_in_silence_has_its_time(tmp_path: Path, options: str, seconds: int) -> None:
    """rsync sends nothing while it hashes for --checksum: with three seconds a dry run of one 12 GiB file failed."""
    records = ("d//d 755//", "d/a//f 644 1048576000 1700000000.5//", "b//f 600 7 1700000000.5//", "l//l a//")
    (tmp_path / "s.shared").write_text("".join(f"{record}\0" for record in records))
    script = f"SILENCE=600\n{function('sizes')}\n{function('silence')}\nsilence {options}"
    told = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert int(told.stdout) == seconds and told.stderr == ""


def test_phases_of_the_programs_are_in_the_order() -> None:
    directory = Path(exitcodes.__file__).with_name("programs")
    told = [
        line.split()[1]
        for file in directory.glob("*.sh")
        for line in file.read_text().splitlines()
        if line.strip().startswith("phase ")
    ]
    assert told and set(told) <= set(PHASES)
