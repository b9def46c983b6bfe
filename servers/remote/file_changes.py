"""Files of a machine's configuration changed for its next boot, with what is needed to change them back.

Before the first write, every file that is to change is kept beside under /var/lib/migrationhub/<name>/ together
with a list of them and a program that brings them back (`undo_command`). Applying again keeps the oldest state, so
that a repeated run does not take its own work for the original.
"""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from servers.remote.base import Connection, RemoteProblem

KEPT = "/var/lib/migrationhub"

# One line for each path: path, link target, kind, mode, owner, content.
_STATES = r"""for path; do
  if [ -L "$path" ]; then printf '%s\t%s\tlink\t777\t0:0\t' "$path" "$(readlink "$path")"
  elif [ -f "$path" ]; then
    printf '%s\t\tfile\t' "$path"
    stat --printf '%a\t%u:%g\t' "$path"
    base64 -w0 "$path"
  else printf '%s\t\tabsent\t644\t0:0\t' "$path"; fi
  echo
done"""


@dataclass(frozen=True)
class FileState:
    """One path as it was: `kind` is absent, file or link. `content` is base64, None where it is kept there only."""

    path: str
    kind: str = "absent"
    mode: int = 0o644
    owner: str = "0:0"
    link: str = ""
    content: str | None = None
    kept: str = ""  # where the machine keeps its copy

    @property
    def data(self) -> bytes:
        return base64.b64decode(self.content or "")


@dataclass(frozen=True)
class Record:
    """What was changed, for the undo. JSON by `as_dict`; holds no content of files that are secret."""

    name: str
    before: tuple[FileState, ...]
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, "note": self.note, "before": [asdict(state) for state in self.before]}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Record:
        states = tuple(FileState(**state) for state in data["before"])
        return cls(data["name"], states, data.get("note", ""))


@dataclass(frozen=True)
class NewFile:
    """What a path is to be: content and mode, or, with content None, absent."""

    content: bytes | None
    mode: int = 0o644


def read_states(connection: Connection, paths: Sequence[str]) -> dict[str, FileState]:
    """What each path is now, with its content, in one round trip."""
    if not paths:
        return {}
    result = connection.run(["sh", "-c", _STATES, "sh", *paths], check=True)
    states = {}
    for line in result.text.splitlines():
        path, link, kind, mode, owner, content = line.split("\t")  # configuration paths hold no tab or newline
        states[path] = FileState(path, kind, int(mode, 8), owner, link, content)
    return states


def apply_changes(
    connection: Connection, name: str, changes: Mapping[str, NewFile], *, secret: bool = False, note: str = ""
) -> Record:
    """Make every path what it is to be, the old ones kept. Safe to repeat after a crash in the middle.

    `secret`: the record names the kept copies but does not carry their content. Raises `RemoteProblem`.
    """
    directory = f"{KEPT}/{name}"
    earlier = _kept_record(connection, directory)
    known = {state.path for state in earlier.before} if earlier else set()
    states = read_states(connection, [path for path in changes if path not in known])
    before = list(earlier.before) if earlier else []
    for state in states.values():
        kept = f"{directory}/{len(before)}" if state.kind == "file" else ""
        content = None if secret else state.content
        before.append(FileState(state.path, state.kind, state.mode, state.owner, state.link, content, kept))
    record = Record(name, tuple(before), note)
    _keep(connection, directory, record, [state for state in before if state.kept and state.path not in known])
    for path, new in changes.items():
        if new.content is None:
            connection.run(["rm", "-f", "--", path], check=True)
        else:
            connection.run(["mkdir", "-p", "-m", "0755", "--", path.rpartition("/")[0] or "/"], check=True)
            connection.put(new.content, path, mode=new.mode)
    return record


def undo_changes(connection: Connection, record: Record) -> None:
    """Bring back every path of the record exactly; doing it again changes nothing.

    Raises `RemoteProblem` naming what is missing.
    """
    directory = shlex.quote(f"{KEPT}/{record.name}")
    if connection.run(f"[ ! -d {directory} ] && [ -d {directory}.undone ]").rc == 0:
        return
    for state in record.before:
        path = shlex.quote(state.path)
        if state.kind == "absent":
            connection.run(f"rm -f -- {path}", check=True)
        elif state.kind == "link":
            connection.run(f"ln -sfnT -- {shlex.quote(state.link)} {path}", check=True)
        elif state.content is not None:
            connection.put(state.data, state.path, mode=state.mode)
            connection.run(["chown", state.owner, "--", state.path], check=True)
        else:
            _restore_kept(connection, state)
    done = f"rm -rf -- {directory}.undone; [ ! -d {directory} ] || mv -T -- {directory} {directory}.undone"
    connection.run(done, check=True)


def undo_command(name: str) -> str:
    """The undo as one line for the machine itself, where no connection of ours reaches it; nothing where nothing
    was changed, as `undo.sh` is written before the first change. Leaves a status other than 0 and a sentence where a
    kept copy is gone."""
    directory = shlex.quote(f"{KEPT}/{name}")
    return f"if [ -e {directory}/undo.sh ]; then sh {directory}/undo.sh; fi"


def _undo_program(record: Record) -> str:
    directory = shlex.quote(f"{KEPT}/{record.name}")
    lines = ["set -eu", f"d={directory}"]
    for state in record.before:
        path, kept = shlex.quote(state.path), shlex.quote(state.kept)
        if state.kind == "absent":
            lines.append(f"rm -f -- {path}")
        elif state.kind == "link":
            lines.append(f"ln -sfnT -- {shlex.quote(state.link)} {path}")
        else:
            gone = shlex.quote(f"The kept copy {state.kept} of {state.path} is gone.")
            lines.append(f"[ -f {kept} ] || {{ echo {gone} >&2; exit 3; }}")
            lines.append(f"cp -a -- {kept} {path}.new")
            lines.append(f"mv -fT -- {path}.new {path}")
    return "\n".join([*lines, 'rm -rf -- "$d.undone"', 'mv -T -- "$d" "$d.undone"', "sync", ""])


def _restore_kept(connection: Connection, state: FileState) -> None:
    path, kept = shlex.quote(state.path), shlex.quote(state.kept)
    script = f"[ -f {kept} ] || exit 3; cp -a -- {kept} {path}.new && mv -fT -- {path}.new {path}"
    rc = connection.run(script).rc
    if rc == 3:
        raise RemoteProblem(
            f"{connection.endpoint.name}: the kept copy {state.kept} of {state.path} is gone.",
            f"Bring {state.path} back by hand, from a backup of the machine.",
            code="undo.copy_gone",
        )
    if rc != 0:
        raise RemoteProblem(
            f"{connection.endpoint.name}: {state.path} could not be brought back from {state.kept}.",
            "Check free space and rights there, then undo again.",
            code="undo.failed",
        )


def _kept_record(connection: Connection, directory: str) -> Record | None:
    state = read_states(connection, [f"{directory}/record.json"])[f"{directory}/record.json"]
    return Record.from_dict(json.loads(state.data)) if state.kind == "file" else None


def _keep(connection: Connection, directory: str, record: Record, fresh: list[FileState]) -> None:
    """Copies first, then the list: a list never names a copy that is not there."""
    connection.run(["mkdir", "-p", "-m", "0700", "--", KEPT, directory], check=True)
    copies = [f"cp -a -- {shlex.quote(state.path)} {shlex.quote(state.kept)}" for state in fresh]
    if copies:
        connection.run(" && ".join([*copies, "sync"]), check=True)
    connection.put(json.dumps(record.as_dict()).encode(), f"{directory}/record.json", mode=0o600)
    connection.put(_undo_program(record).encode("utf-8", "surrogateescape"), f"{directory}/undo.sh", mode=0o600)
