"""Walks, exclusions and lists: the shell programs run here, on this machine's own sh, find and coreutils."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from migrationhub.lib.findings import Problem
from servers.movers.base import Freeze, MoveJob
from servers.movers.rsync import config
from servers.movers.rsync.exclusions import BASE_WRITTEN, MACHINE, OURS, exclusions, left_out
from servers.movers.rsync.layout import layout, program, safe, scope_paths
from servers.movers.rsync.walk import Mount, look_again, parse_mountinfo, plan, rsync_rules, shell_function
from servers.remote.access import EXCLUDED_PATHS
from servers.remote.base import Endpoint

MOUNTINFO = rb"""22 27 0:21 / /proc rw - proc proc rw
27 1 254:0 / / rw,relatime - overlay overlay rw
28 27 254:1 / /data\040disk rw shared:7 - xfs /dev/vdb rw
29 27 0:40 / /mnt/share rw - nfs4 server:/x rw
30 27 0:41 / /run rw - tmpfs tmpfs rw
31 30 254:2 /sub /run/host rw - ext4 /dev/vdc rw
32 27 254:3 / /boot rw - ext4 /dev/vda1 rw
"""


def move(**changes: object) -> MoveJob:
    source = Endpoint("a", "1.2.3.4", host_keys=("ssh-ed25519 AAAA",))
    values: dict[str, object] = {"kind": "delta", "source": source, "target": source, "migration_key": "m", **changes}
    return MoveJob(work_key="k", connect=lambda _: None, **values)  # type: ignore[arg-type,return-value]


def supervised(directory: str) -> Endpoint:
    return Endpoint("p", "127.0.0.1", port=2222, manager="supervisord", directory=directory)


# -- exclusions -----------------------------------------------------------------------------------------------


def test_every_exclusion_has_a_reason_and_ours_are_all_there() -> None:
    for exclusion in exclusions("system", ["/var/cache/apt"]):
        assert exclusion.reason
    assert set(EXCLUDED_PATHS) <= {exclusion.pattern for exclusion in OURS}
    assert not {exclusion.pattern for exclusion in exclusions("paths", [])} & {e.pattern for e in MACHINE}


@pytest.mark.parametrize(
    "path",
    [
        "/proc/1", "/boot/vmlinuz", "/lib/modules/6.1", "/usr/lib/modules/6.1/x", "/etc/fstab",
        "/etc/network/interfaces", "/etc/machine-id", "/etc/ssh/ssh_host_rsa_key", "/etc/hostname", "/etc/resolv.conf",
        "/etc/netplan/1.yaml",
        "/etc/migrationhub/sshd_config", "/var/lib/migrationhub/x",
        "/etc/systemd/system/migrationhub-access.service",
        "/etc/systemd/system/multi-user.target.wants/migrationhub-access.service",
        "/etc/udev/rules.d/70-persistent-net.rules",
        "/etc/lvm/lvm.conf", "/etc/crypttab", "/etc/dracut.conf.d/x", "/var/lib/cloud/instance",
        "/.migrationhub-snapshot/x",
    ],
)  # fmt: skip
def test_what_belongs_to_the_machine_stays(path: str) -> None:
    assert left_out(path, [exclusion.pattern for exclusion in exclusions("system", [])])


@pytest.mark.parametrize(
    "path", ["/etc/ssh/sshd_config", "/etc/passwd", "/srv/boot", "/usr/lib/python3", "/home/run/x"]
)
def test_what_belongs_to_the_data_moves(path: str) -> None:
    assert not left_out(path, [exclusion.pattern for exclusion in exclusions("system", [])])


@pytest.mark.parametrize("pattern", ["", "/", "a/b", "/a//b", "/a/../b"])
def test_patterns_that_say_nothing_are_refused(pattern: str) -> None:
    with pytest.raises(Problem, match="Exclusion"):
        exclusions("system", [pattern])


def test_base_written_and_machine_do_not_overlap() -> None:
    machine = [exclusion.pattern for exclusion in (*MACHINE, *OURS)]
    assert not [path for path in BASE_WRITTEN if left_out(path, machine)]


# -- walks ----------------------------------------------------------------------------------------------------


def test_local_file_systems_are_walked_and_no_others() -> None:
    mounts = parse_mountinfo(MOUNTINFO)
    walk = plan([], mounts, ["/proc", "/run", "/boot"])
    assert [start for start, _ in walk.starts] == [".", "./data disk"]
    assert "/mnt/share" in walk.skipped and "/run/host" not in walk.skipped
    # Over an excluded directory nothing is walked, whatever is mounted below it.
    inside = plan(["/data disk/deep"], mounts, [])
    assert [start for start, _ in inside.starts] == ["./data disk/deep"]
    assert inside.starts[0][1] == next(mount.label for mount in mounts if mount.point == "/data disk")


def run_walk(
    tmp_path: Path, skipped: list[str], mounts: tuple[Mount, ...] = (), scope: tuple[str, ...] = ()
) -> list[list[bytes]]:
    script = shell_function(plan(scope, mounts, skipped))
    result = subprocess.run(
        ["sh", "-c", f"{script}\nwalk 1 m1"],
        cwd=tmp_path,
        capture_output=True,
        check=True,
        env={"LC_ALL": "C", **os.environ},
    )
    return sorted(record.split(b"//", 3) for record in result.stdout.split(b"\0") if record)


def test_records_hold_any_name_and_say_what_they_must(tmp_path: Path) -> None:
    (tmp_path / "odd\nname [x]*").write_text("four")
    (tmp_path / "link").symlink_to("to//where\nit is")
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone/inside").touch()
    (tmp_path / "keep.bak").touch()
    records = {record[0]: record for record in run_walk(tmp_path, ["/gone", "*.bak"])}
    assert records.keys() == {b".", b"./odd\nname [x]*", b"./link"}
    assert records[b"./link"][3] == b"to//where\nit is"
    kind, _, size, uid, _, mtime = records[b"./odd\nname [x]*"][2].split()
    assert (kind, size) == (b"f", b"4") and uid == str(os.geteuid()).encode() and b"." in mtime
    assert records[b"./link"][1].startswith(b"!m1 "), "younger than the moment: it counts as changed"


def test_a_mount_point_with_wildcards_in_its_name_is_a_literal(tmp_path: Path) -> None:
    for name in ("[ab]", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    found = {record[0] for record in run_walk(tmp_path, [], (Mount("/", "ext4", "l"), Mount("/[ab]", "nfs", "n")))}
    assert b"./a/file" in found and b"./[ab]/file" not in found


@pytest.mark.parametrize("scope", [(), ("/srv",), ("/srv", "/srv/a/b"), ("/srv/a", "/srv/other")])
def test_file_systems_inside_each_other_are_all_listed_and_once(tmp_path: Path, scope: tuple[str, ...]) -> None:
    for name in ("srv", "srv/a", "srv/a/b", "srv/a/b/c", "srv/other", "srv/ab"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    points = ("/", "/srv", "/srv/a", "/srv/a/b/c", "/srv/other")
    found = [record[0] for record in run_walk(tmp_path, [], tuple(Mount(p, "ext4", p) for p in points), scope)]
    named = [tmp_path / path.strip("/") for path in scope or ("/",)]
    there = {inside for path in named for inside in (path, *path.rglob("*"))}
    assert sorted(found) == sorted(
        b"." if path == tmp_path else f"./{path.relative_to(tmp_path)}".encode() for path in there
    )


PATTERNS = ("/data/*.tmp", "/data/pg/wal/*", "/data/*old*", "*.bak", "lost+found", "/opt/x", "/data/a-b_c,d=e@f~g")


def test_rsync_goes_where_the_walk_goes(tmp_path: Path) -> None:
    """By rules instead of names: not a path more, which would overwrite the target's own, and not one less."""
    patterns = [*PATTERNS, *(e.pattern for e in exclusions("system", [])), *BASE_WRITTEN]
    tree = tmp_path / "tree"
    names = [name.lstrip("/").replace("*", middle) for name in patterns for middle in ("", "x", ".x", "y/z")]
    places = [*names, *(f"data/{name}" for name in names), *(f"{name}/in" for name in names)]
    places += [
        "data/pg/wal/deep/1",
        "data/sub/x.tmp",
        "data/a.tmp.keep",
        "data/x/old",
        "data/.bak",
        "opt/xy",
        "opt/y x",
    ]
    for place in places:
        for path in (tree / place).parent, tree / place:
            if not any(one.is_file() for one in (path, *path.parents)):
                path.mkdir(parents=True, exist_ok=True)
        if not any(one.is_file() for one in (tree / place).parents):
            (tree / place / "file").touch()
    for scope in ([], ["/data", "/opt"]):
        walk = plan(scope, [], patterns)
        rules = rsync_rules(walk)
        assert rules is not None
        (tmp_path / "rules").write_text("".join(f"- {rule}\n" for rule in rules))
        walked = subprocess.run(
            ["sh", "-c", f"{shell_function(walk)}\nwalk 1 m"], cwd=tree, capture_output=True, check=True
        ).stdout
        expected = {record.split(b"//")[0].removeprefix(b"./") for record in walked.split(b"\0") if record} - {b"."}
        command = ["rsync", "-naR" if scope else "-na", f"--filter=merge {tmp_path / 'rules'}", "--out-format=%n"]
        named = [f"{tree}/.{path}" for path in scope] or [f"{tree}/"]
        out = subprocess.run([*command, *named, f"{tmp_path}/to/"], capture_output=True, check=True).stdout
        sent = {line.rstrip(b"/") for line in out.splitlines() if not line.startswith(b"created ")} - {b"."}
        assert sent - {b"./"} == expected and len(expected) > 50


@pytest.mark.parametrize("pattern", ["/a?", "/a[bc]", "/a\\*b", "/with space", "a**b", "/é", "/data", "/#x*"])
def test_what_find_and_rsync_may_read_differently_is_sent_by_name(pattern: str) -> None:
    assert rsync_rules(plan(["/data/files"], [], [pattern])) is None


# -- lists ----------------------------------------------------------------------------------------------------


def shell(tmp_path: Path, script: str) -> bytes:
    for name in ("common.sh", "lists.sh"):
        (tmp_path / name).write_text(program(name))
    head = f"JOB={tmp_path} STATE={tmp_path} WORK={tmp_path} HOST=here\n. ./common.sh\n. ./lists.sh\n"
    result = subprocess.run(["sh", "-euc", head + script], cwd=tmp_path, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout


def write(path: Path, *records: str) -> None:
    path.write_bytes(b"".join(record.encode() + b"\0" for record in sorted(records)))


def test_a_clock_that_was_set_back_is_noticed(tmp_path: Path) -> None:
    write(tmp_path / "last", "a//x//f//")
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()

    def unusable(moment: int, uptime: int, boot_id: str) -> bytes:
        (tmp_path / "last.meta").write_text(f"{moment} {uptime} {boot_id}\n")
        return shell(tmp_path, f"MOMENT=100000 UPTIME=5000 BOOT={boot}\nunusable last").strip()

    assert unusable(99000, 4000, boot) == b""
    assert b"set back" in unusable(100100, 4000, boot)  # in the future
    assert b"set back" in unusable(99900, 4000, boot)  # ten seconds of uptime, one of the clock
    assert unusable(99900, 900000, "another-boot") == b""
    (tmp_path / "last.meta").unlink()
    assert b"no list" in shell(tmp_path, "MOMENT=1 UPTIME=1 BOOT=b\nunusable last")


def test_changed_is_what_differs_and_what_was_young(tmp_path: Path) -> None:
    write(
        tmp_path / "last", "same//l 1 1 5//f//", "old//!m1 l 2 1 5//f//", "gone//l 3 1 5//f//", "new ino//l 4 1 5//f//"
    )
    write(tmp_path / "now", "same//l 1 1 5//f//", "old//l 2 1 5//f//", "new ino//l 9 1 5//f//", "came//l 5 1 5//f//")
    assert shell(tmp_path, "changed last now") == b"came\0gone\0new ino\0old\0"


def test_hard_link_groups_do_not_depend_on_inodes(tmp_path: Path) -> None:
    write(
        tmp_path / "list",
        "b/x//!m l 7 3 5.1//f 644 0 1 1 5.1//",
        "a//l 7 3 5.1//f 644 0 1 1 5.1//",
        "b/é\ny//l 7 3 5.1//f 644 0 1 1 5.1//",
        "alone//l 8 1 5.1//f 644 0 1 1 5.1//",
        "b//l 9 2 5.1//d 755 0 1 1 5.1//",
        "s//l 3 2 5.1//l 777 1 1 1 5.1//x//f y//",
    )
    assert shell(tmp_path, "links list") == "a//a\0b/x//a\0b/é\ny//a\0".encode()


def settled(tmp_path: Path, meanwhile: str) -> tuple[set[bytes], set[bytes]]:
    """Paths that count as changed in a list made now, and once it has settled; `meanwhile` runs in between."""
    tree, work = tmp_path / "tree", tmp_path / "work"
    for directory in (tree, work, tree / "dir"):
        directory.mkdir()
    for name in ("-rf", "odd\nname [x]"):
        (tree / name).write_text(name)
    (tree / "link").symlink_to("to//!where x")
    walks = shell_function(plan([], [], [])) + look_again() + "flush() { :; }\n"
    (tmp_path / "walk.sh").write_text(walks)
    lists = shell(
        tmp_path,
        f". ./walk.sh\nTREE={tree} WORK={work} ID=id\nmoment; manifest walk list; cat list; printf 'then\\0'\n"
        f"(cd {tree} && {{ {meanwhile}\n}})\nsettle list; cat list",
    )
    before, _, after = lists.partition(b"then\0")
    records = after.split(b"\0")[:-1]
    assert records == sorted(records), "a list must stay sorted"
    paths = [{record.split(b"//")[0] for record in one.split(b"\0") if b"//!id." in record} for one in (before, after)]
    return paths[0], paths[1]


def test_what_was_too_young_settles_when_nothing_happens_to_it(tmp_path: Path) -> None:
    young, left = settled(tmp_path, ":")
    assert young == {b".", b"-rf", b"odd\nname [x]", b"dir", b"link"} and left == set()


@pytest.mark.whole
@pytest.mark.parametrize("meanwhile", ["printf x >>dir/../-rf", "rm link", "mv dir other", "chmod 600 ./-rf"])
def test_what_changed_before_it_settled_still_counts_as_changed(tmp_path: Path, meanwhile: str) -> None:
    young, left = settled(tmp_path, meanwhile)
    assert left == young


def test_the_two_seconds_are_no_longer_than_two(tmp_path: Path) -> None:
    """A second more, as whole seconds would have it, and every sync would send again what the last one brought."""
    assert shell(tmp_path, "two_seconds_before 170000000905; echo; two_seconds_before 170000000199") == (
        b"1700000007.05\n1699999999.99"
    )


def test_a_changed_link_brings_its_group_along(tmp_path: Path) -> None:
    write(tmp_path / "links.all", "l:7//a", "l:7//d/x", "l:7//d/\x01\x02odd", "l:8//p", "l:8//q")
    write(tmp_path / "send.changed", "d/x", "z")
    assert shell(tmp_path, "whole_groups; cat send.named") == b"a\0d/\x01\x02odd\0d/x\0z\0"


@pytest.mark.parametrize(("count", "expected"), [(0, 0), (1, 1), (5001, 5001 * 5002 // 2)])
def test_numbers_are_summed(tmp_path: Path, count: int, expected: int) -> None:
    assert int(shell(tmp_path, f"seq {count} | total")) == expected
    assert int(shell(tmp_path, "printf '9999999999999\\n9999999999999\\n' | total")) == 19999999999998


def test_removals_make_room_first_but_programs_go_last(tmp_path: Path) -> None:
    write(tmp_path / "remove", "srv/a", "usr/bin/x", "etc/y", "usr/share/doc/z/f", "var/l")
    write(tmp_path / "s.shared", "usr/share/doc/z//l 777//../other")
    write(tmp_path / "t.shared", "usr/share/doc/z//d 755//", "usr//d 755//")
    out = shell(tmp_path, "order_removals; cat remove.early; printf '|'; cat remove.late")
    assert out == b"srv/a\0usr/share/doc/z/f\0var/l\0|etc/y\0usr/bin/x\0"


# -- layout and configuration -----------------------------------------------------------------------------------


def test_names_of_keys_are_safe_and_stay_different() -> None:
    assert safe("plain-1.2") == "plain-1.2"
    keys = ["a:b", "a/b", "a b", "../x", "x" * 300, "ü"]
    names = [safe(key) for key in keys]
    assert len(set(names)) == len(keys)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-x") and len(name) < 80 for name in names)


def test_scope_and_directories() -> None:
    assert scope_paths(move(scope="system")) == ()
    assert scope_paths(move(scope="paths", paths=("srv/a", "/srv/a/b/", "/opt"))) == ("/srv/a", "/opt")
    for paths in ((), ("/",), ("../x",), ("a//b",)):
        with pytest.raises(Problem):
            scope_paths(move(scope="paths", paths=paths))
    host = supervised("/var/lab/p")
    place = layout(move(source=host), host)
    assert place.job == "/var/lab/p/run/migrationhub/k" and place.state.startswith("/var/lab/p/var/lib/migrationhub/m/")
    with pytest.raises(Problem, match="system"):
        scope_paths(move(source=host))


def test_no_secret_is_in_any_file_and_odd_addresses_are_refused() -> None:
    secret = Endpoint("a", "1.2.3.4", password="hunter2", private_key="KEY", host_keys=("ssh-ed25519 AAAA",))
    job = move(source=secret, target=secret)
    files = config.source_files(job, layout(job, secret), [], "t") | config.target_files(
        job, layout(job, secret), [], [], "t"
    )
    assert not [name for name, data in files.items() if b"hunter2" in data or b"KEY" in data]
    odd = Endpoint("a", "1.2.3.4\nProxyCommand x")
    with pytest.raises(Problem, match="address"):
        config.source_files(move(target=odd), layout(move(), secret), [], "t")


@pytest.mark.parametrize("shell_name", ["dash", "bash"])
def test_all_programs_are_whole_shell(tmp_path: Path, shell_name: str) -> None:
    if not shutil.which(shell_name):
        pytest.skip(f"{shell_name} is not installed")
    freeze = Freeze("snapshot-btrfs", {"subvolume": "/it's"})
    job = move(freeze=freeze, exclusions=("/a b/c'd",))
    files = config.source_files(job, layout(job, job.source), parse_mountinfo(MOUNTINFO), "t")
    files["serve.sh"] = program("serve.sh").encode()
    for name in ("state.sh", "end.sh", "preflight.sh"):
        files[name] = program(name).encode()
    scripts = [name for name in files if name.endswith(".sh") or name == "config"]
    for name in scripts:
        checked = subprocess.run([shell_name, "-n"], input=files[name], capture_output=True, check=False)
        assert checked.returncode == 0 and not checked.stderr, (name, checked.stderr)


def test_the_final_sync_freezes_nothing_and_leaves_out_nothing_of_the_database() -> None:
    freeze = Freeze("postgresql", {"data": "/var/lib/pg"})
    for kind, expected in (("delta", True), ("final", False)):
        job = move(kind=kind, freeze=freeze)
        files = config.source_files(job, layout(job, job.source), [], "t")
        assert (b"backup_label" in files["walk.sh"]) is expected
        assert (b"FREEZE=postgresql" in files["config"]) is expected


@pytest.mark.parametrize(
    ("last", "full"),
    [
        ({}, "first"),
        ({"manifest": "x", "generation": 1}, "changed from outside"),
        ({"generation": 2}, "left no list"),
        ({"manifest": "x", "generation": 2}, ""),
    ],
)
def test_why_everything_is_compared(last: dict[str, object], full: str) -> None:
    job = move(last_sync=last, generation=2)
    text = config.target_files(job, layout(job, job.source), [], [], "t")["config"].decode()
    line = next(line for line in text.splitlines() if line.startswith("FULL="))
    assert full in line and (full or line == "FULL=''")
