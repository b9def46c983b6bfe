"""Whether two directory trees are equal in everything that a migration must keep."""

from __future__ import annotations

import fnmatch
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from migrationhub.lab.state import LabProblem

KINDS = (
    *("missing", "extra", "type", "content", "size", "mode", "owner", "mtime", "device"),
    *("link target", "hard links", "xattr", "acl"),
)
KEPT = 10  # differences of each kind that are kept; all are counted
# Fields of `find -printf`, each ended by NUL: any byte may be in a name or a link target.
FIELDS = ("path", "type", "mode", "user", "group", "size", "mtime", "link", "links", "device", "inode")
FORMAT = r"%p\0%y\0%m\0%U\0%G\0%s\0%T@\0%l\0%n\0%D\0%i\0"
# Kept by the file system itself, not by who copies.
FILE_SYSTEM_ATTRIBUTES = (b"btrfs.", b"system.posix_acl_", b"system.nfs4_acl")


@dataclass(frozen=True)
class Difference:
    kind: str
    path: str  # bytes that are not UTF-8 as \xnn
    source: str = ""
    target: str = ""


@dataclass
class TreeVerdict:
    """What differs. `counts` has every kind, also those with 0; `differences` the first of each kind."""

    compared: int = 0  # entries of the source, ignored ones left out
    hashed: int = 0  # regular files whose content was compared
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    differences: list[Difference] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Equal, and there was something to compare."""
        return self.compared > 0 and not any(self.counts.values())

    def add(self, kind: str, path: bytes, source: object = "", target: object = "") -> None:
        self.counts[kind] += 1
        if self.counts[kind] <= KEPT:
            self.differences.append(Difference(kind, _printable(path), _printable(source), _printable(target)))

    def as_dict(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "compared": self.compared,
            "hashed": self.hashed,
            "counts": {kind: count for kind, count in self.counts.items() if count},
            "differences": [vars(difference) for difference in self.differences],
        }

    def __str__(self) -> str:
        if self.ok:
            return f"{self.compared} entries are equal, {self.hashed} of them by content"
        if not self.compared:
            return "there is nothing to compare on the source"
        counts = ", ".join(f"{count} {kind}" for kind, count in self.counts.items() if count)
        first = "; ".join(f"{d.kind} {d.path}: {d.source} | {d.target}" for d in self.differences[:5])
        return f"{self.compared} entries compared: {counts}. First: {first}"


@dataclass(frozen=True)
class Entry:
    type: bytes
    mode: bytes
    user: bytes
    group: bytes
    size: bytes
    mtime: bytes
    link: bytes
    links: int
    node: tuple[bytes, bytes]  # device, inode


@dataclass
class Tree:
    """One side, read by the tools. Paths are bytes, relative to the root."""

    entries: dict[bytes, Entry]
    ignored_parents: set[bytes]  # directories that hold an ignored entry: their mtime says nothing
    hashes: dict[bytes, bytes]
    devices: dict[bytes, bytes]
    attributes: dict[bytes, set[bytes]]  # by the name as the tool escapes it
    acls: dict[bytes, set[bytes]]

    def groups(self) -> dict[bytes, frozenset[bytes]]:
        """For each hard-linked file the names, among those compared, that share its inode."""
        by_node: dict[tuple[bytes, bytes], list[bytes]] = {}
        for path, entry in self.entries.items():
            if entry.type != b"d" and entry.links > 1:
                by_node.setdefault(entry.node, []).append(path)
        return {path: frozenset(names) for names in by_node.values() for path in names}


def compare_trees(
    source_root: Path, target_root: Path, paths: Sequence[str] = (".",), ignore: Sequence[str] = ()
) -> TreeVerdict:
    """Compare `paths` below both roots.

    `ignore` names what is left out, relative to the root: a path with all below it, or a shell pattern (`*` also
    matches “/”). Sparseness, inode numbers and the sizes of directories are not compared, nor is the mtime of a
    directory that holds something ignored.
    """
    ignored = _matcher(ignore)
    with ThreadPoolExecutor(2) as pool:
        source, target = pool.map(lambda root: _read(root, paths, ignored), (source_root, target_root))
    verdict = TreeVerdict(compared=len(source.entries), hashed=len(source.hashes))
    for path in sorted(source.entries.keys() - target.entries.keys()):
        verdict.add("missing", path, source.entries[path].type, "")
    for path in sorted(target.entries.keys() - source.entries.keys()):
        verdict.add("extra", path, "", target.entries[path].type)
    loose = source.ignored_parents | target.ignored_parents
    for path in sorted(source.entries.keys() & target.entries.keys()):
        _compare_entry(verdict, path, source, target, with_mtime=path not in loose)
    groups, others = source.groups(), target.groups()
    for path in sorted((groups.keys() | others.keys()) & source.entries.keys() & target.entries.keys()):
        if groups.get(path) != others.get(path):
            verdict.add("hard links", path, *(b", ".join(sorted(g.get(path, ()))) for g in (groups, others)))
    for kind, left, right in (("xattr", source.attributes, target.attributes), ("acl", source.acls, target.acls)):
        for name in sorted(left.keys() | right.keys()):
            a, b = left.get(name, set()), right.get(name, set())
            if a != b:
                verdict.add(kind, name, b", ".join(sorted(a - b)), b", ".join(sorted(b - a)))
    return verdict


def _compare_entry(verdict: TreeVerdict, path: bytes, source: Tree, target: Tree, *, with_mtime: bool) -> None:
    a, b = source.entries[path], target.entries[path]
    if a.type != b.type:
        verdict.add("type", path, a.type, b.type)
        return
    if a.type != b"l" and a.mode != b.mode:
        verdict.add("mode", path, a.mode, b.mode)
    if (a.user, a.group) != (b.user, b.group):
        verdict.add("owner", path, a.user + b":" + a.group, b.user + b":" + b.group)
    if with_mtime and a.mtime != b.mtime:
        verdict.add("mtime", path, a.mtime, b.mtime)
    if a.type == b"l" and a.link != b.link:
        verdict.add("link target", path, a.link, b.link)
    if a.type == b"f" and a.size != b.size:
        verdict.add("size", path, a.size, b.size)
    elif a.type == b"f" and source.hashes.get(path) != target.hashes.get(path):
        verdict.add("content", path, source.hashes.get(path, b"?"), target.hashes.get(path, b"?"))
    if source.devices.get(path) != target.devices.get(path):
        verdict.add("device", path, source.devices.get(path, b""), target.devices.get(path, b""))


# -- reading one side -------------------------------------------------------------------------------------------


def _read(root: Path, paths: Sequence[str], ignored: Callable[[bytes], bool]) -> Tree:
    entries, parents = _find(root, paths, ignored)
    first: dict[tuple[bytes, bytes], bytes] = {}  # one name of each file is hashed
    for path, entry in entries.items():
        if entry.type == b"f":
            first.setdefault(entry.node, path)
    hashes = _hash(root, first.values())
    return Tree(
        entries,
        parents,
        {path: hashes[first[entry.node]] for path, entry in entries.items() if entry.type == b"f"},
        _devices(root, [path for path, entry in entries.items() if entry.type in b"bc"]),
        _blocks(_each(root, entries, "getfattr", "-h", "-d", "-m", "-", "-e", "hex", "--"), _attribute),
        _blocks(_each(root, _without_links(entries), "getfacl", "-n", "-p", "--skip-base", "--"), _acl),
    )


def _find(root: Path, paths: Sequence[str], ignored: Callable[[bytes], bool]) -> tuple[dict[bytes, Entry], set[bytes]]:
    entries: dict[bytes, Entry] = {}
    parents: set[bytes] = set()
    for start in paths:
        if not os.path.lexists(root / start):
            continue  # then all of it is missing or extra
        output = _tool(root, "find", os.path.join(".", start), "-printf", FORMAT)  # noqa: PTH118  keeps “./-x”
        fields = output.split(b"\0")[:-1]
        for position in range(0, len(fields), len(FIELDS)):
            path, *rest = fields[position : position + len(FIELDS)]
            path = os.path.normpath(path)
            if ignored(path):
                parents.add(os.path.dirname(path) or b".")  # noqa: PTH120  bytes
                continue
            kind, mode, user, group, size, mtime, link, links, device, inode = rest
            node = (device, inode)
            entries[path] = Entry(kind, mode, user, group, size, mtime, link, int(links), node)
    return entries, parents


def _hash(root: Path, paths: Iterable[bytes]) -> dict[bytes, bytes]:
    output = _each(root, paths, "sha256sum", "-z", "--")
    return {line[66:]: line[:64] for line in output.split(b"\0") if line}


def _devices(root: Path, paths: list[bytes]) -> dict[bytes, bytes]:
    output = _each(root, paths, "stat", r"--printf=%t,%T %n\0", "--")
    return {path: numbers for numbers, _, path in (line.partition(b" ") for line in output.split(b"\0") if line)}


def _without_links(entries: Mapping[bytes, Entry]) -> list[bytes]:
    return [path for path, entry in entries.items() if entry.type != b"l"]  # a link has no ACL of its own


def _blocks(output: bytes, keep: Callable[[bytes], bool]) -> dict[bytes, set[bytes]]:
    """Blocks of getfattr and getfacl: “# file: name”, lines, an empty line."""
    found: dict[bytes, set[bytes]] = {}
    for block in output.split(b"\n\n"):
        lines = block.strip(b"\n").split(b"\n")
        if lines[0].startswith(b"# file: "):
            kept = {line for line in lines[1:] if line and keep(line)}
            if kept:
                found[lines[0][8:]] = kept
    return found


def _attribute(line: bytes) -> bool:
    return not line.startswith(FILE_SYSTEM_ATTRIBUTES)


def _acl(line: bytes) -> bool:
    return not line.startswith(b"#")  # owner and mode are compared by themselves


def _each(root: Path, paths: Iterable[bytes], *command: str) -> bytes:
    """Run a tool over many names, as many at a time as fit."""
    with tempfile.TemporaryFile() as names:
        for path in paths:
            names.write(path + b"\0")
        if not names.tell():
            return b""
        names.seek(0)
        return _tool(root, "xargs", "-0", "-r", *command, stdin=names.fileno())


def _tool(root: Path, *command: str, stdin: int = subprocess.DEVNULL) -> bytes:
    done = subprocess.run(
        command,
        cwd=root,
        env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C"},
        stdin=stdin,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise LabProblem(
            f"{command[0]} in {root} ended with status {done.returncode}: {_printable(done.stderr.strip()[-500:])}",
            "Verification reads a whole tree: see that the host is off and that we may read all of it.",
            code="lab.verify",
        )
    return done.stdout


def _matcher(ignore: Sequence[str]) -> Callable[[bytes], bool]:
    patterns = []
    for word in ignore:
        name = os.fsencode(word.strip("/"))
        pattern = fnmatch.translate(name.decode("latin-1")).encode("latin-1") if re.search(r"[*?[]", word) else None
        body = pattern.removesuffix(rb"\z").removesuffix(rb"\Z") if pattern else re.escape(name)
        patterns.append(body + rb"(?:/.*)?")
    expression = re.compile(b"|".join(patterns) or rb"(?!)", re.DOTALL)
    return lambda path: expression.fullmatch(path) is not None


def _printable(value: object) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
