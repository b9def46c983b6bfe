"""Files changed and changed back exactly: links, absent ones, modes, and a crash in the middle."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from servers.remote import file_changes
from servers.remote.base import CommandFailed, Endpoint, Result
from servers.remote.file_changes import NewFile, Record, apply_changes, read_states, undo_changes, undo_command


class Local:
    """A connection to this machine, for paths below a temporary directory; `fail_at` breaks one of its writes."""

    endpoint = Endpoint("here", "127.0.0.1")

    def __init__(self, fail_at: str = "") -> None:
        self.fail_at = fail_at

    def run(self, command: str | Sequence[str], *, check: bool = False, **_: Any) -> Result:
        text = command if isinstance(command, str) else shlex.join(command)
        done = subprocess.run(["sh", "-c", text], capture_output=True)
        result = Result(done.returncode, done.stdout, done.stderr)
        if check and result.rc:
            raise CommandFailed(result.error_text, result=result)
        return result

    def put(self, data: bytes, path: str, *, mode: int = 0o600) -> None:
        if self.fail_at and path.endswith(self.fail_at):
            raise ConnectionError("cut")
        fresh = Path(f"{path}.fresh")
        fresh.write_bytes(data)
        fresh.chmod(mode)
        fresh.replace(path)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(file_changes, "KEPT", str(tmp_path / "kept"))
    etc = tmp_path / "etc with space"
    etc.mkdir()
    (etc / "plain").write_bytes(b"old \xff\n")
    (etc / "plain").chmod(0o640)
    (etc / "link").symlink_to("../somewhere else")
    (etc / "gone").write_text("deleted by the change")
    return etc


def seen(tree: Path) -> dict[str, Any]:
    return {
        entry.name: str(entry.readlink()) if entry.is_symlink() else (entry.read_bytes(), entry.stat().st_mode)
        for entry in tree.iterdir()
    }


def changes(tree: Path) -> dict[str, NewFile]:
    new = {
        "plain": NewFile(b"new"),
        "link": NewFile(b"a file now"),
        "fresh": NewFile(b"made", 0o600),
        "gone": NewFile(None),
    }
    return {str(tree / name): file for name, file in new.items()}


@pytest.mark.parametrize("secret", [False, True])
def test_undo_brings_everything_back_exactly(tree: Path, secret: bool) -> None:
    before, here = seen(tree), Local()
    record = apply_changes(here, "work", changes(tree), secret=secret)
    assert set(seen(tree)) == {"plain", "link", "fresh"}
    assert (tree / "plain").read_bytes() == b"new"
    assert not (tree / "link").is_symlink()
    assert (tree / "fresh").stat().st_mode & 0o777 == 0o600
    stored = json.loads(json.dumps(record.as_dict()))
    assert (str(stored).count("b2xk") == 0) is secret  # base64 of “old”
    undo_changes(here, Record.from_dict(stored))
    assert seen(tree) == before
    undo_changes(here, record)
    assert seen(tree) == before


@pytest.mark.parametrize("secret", [False, True])
def test_the_machine_itself_can_undo_with_one_line(tree: Path, secret: bool) -> None:
    before, here = seen(tree), Local()
    nothing = here.run(undo_command("work"), check=True)
    assert nothing.out == b""
    record = apply_changes(here, "work", changes(tree), secret=secret)
    here.run(undo_command("work"), check=True)
    assert seen(tree) == before
    here.run(undo_command("work"), check=True)  # once more
    undo_changes(here, record)  # from the hub too
    assert seen(tree) == before


def test_the_machines_own_undo_names_a_kept_copy_that_is_gone(tree: Path, tmp_path: Path) -> None:
    here = Local()
    record = apply_changes(here, "work", changes(tree))
    kept = next(state.kept for state in record.before if state.path.endswith("plain"))
    Path(kept).unlink()
    with pytest.raises(CommandFailed, match=f"The kept copy {kept} of .*plain is gone"):
        here.run(undo_command("work"), check=True)


@pytest.mark.parametrize("fail_at", ["/plain", "/link", "/fresh"])
def test_apply_after_a_crash_in_the_middle_keeps_the_original(tree: Path, fail_at: str) -> None:
    before = seen(tree)
    with pytest.raises(ConnectionError):
        apply_changes(Local(fail_at), "work", changes(tree))
    record = apply_changes(Local(), "work", changes(tree))
    undo_changes(Local(), record)
    assert seen(tree) == before


@pytest.mark.parametrize("fail_at", ["record.json", "undo.sh"])
def test_a_crash_before_the_first_change_leaves_nothing_to_undo(tree: Path, fail_at: str) -> None:
    before = seen(tree)
    with pytest.raises(ConnectionError):
        apply_changes(Local(fail_at), "work", changes(tree))
    Local().run(undo_command("work"), check=True)
    assert seen(tree) == before


def test_second_change_adds_to_the_first(tree: Path) -> None:
    before, here = seen(tree), Local()
    apply_changes(here, "work", {str(tree / "plain"): NewFile(b"new")})
    record = apply_changes(here, "work", {str(tree / "plain"): NewFile(b"newer"), str(tree / "gone"): NewFile(b"x")})
    undo_changes(here, record)
    assert seen(tree) == before


def test_work_after_an_undo_starts_afresh(tree: Path) -> None:
    here = Local()
    undo_changes(here, apply_changes(here, "work", changes(tree)))
    (tree / "plain").write_bytes(b"changed by its owner")
    undo_changes(here, apply_changes(here, "work", changes(tree)))
    assert (tree / "plain").read_bytes() == b"changed by its owner"


def test_states_of_nothing() -> None:
    assert read_states(Local("never"), []) == {}
