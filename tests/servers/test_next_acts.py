"""Whatever blocks or fails says what to do next."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import servers
from servers.operations import guest_address
from servers.operations.base import Job
from servers.operations.probe import verdict
from servers.progress import State
from servers.remote import base as remote

ROOT = Path(servers.__file__).parent
PROBLEMS = {name for name, found in vars(remote).items() if isinstance(found, type) and issubclass(found, Exception)}


def calls(tree: ast.AST) -> Iterator[tuple[ast.Call, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node, str(getattr(node.func, "id", getattr(node.func, "attr", "")))


def without_act(call: ast.Call, position: int) -> bool:
    given = [word.value for word in call.keywords if word.arg == "act"]
    act = call.args[position] if len(call.args) > position else given[0] if given else None
    return act is None or (isinstance(act, ast.Constant) and not act.value)


def silent(source: str) -> list[int]:
    """Lines of problems and findings that are made without a next act."""
    lines = []
    for call, name in calls(ast.parse(source)):
        if name.endswith("Problem") or name in PROBLEMS:
            wrong = without_act(call, 1)
        elif name == "Finding":
            level = ast.unparse(call.args[0]) if call.args else ""
            wrong = level != "Level.READY" and without_act(call, 3)
        else:
            continue
        if wrong:
            lines.append(call.lineno)
    return lines


def test_every_problem_and_finding_is_made_with_a_next_act() -> None:
    files = sorted(ROOT.rglob("*.py"))
    assert len(files) > 100
    found = {str(file.relative_to(ROOT)): lines for file in files if (lines := silent(file.read_text()))}
    assert found == {}


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("raise Problem('It broke.')", [1]),
        ("raise Problem('It broke.', '')", [1]),
        ("raise Unreachable('It is silent.', code='x')", [1]),
        ("Finding(Level.BLOCKING, 'x', 'It is full.')", [1]),
        ("Finding(Level.READY, 'x', 'All is well.')", []),
        ("raise Problem('It broke.', act='Mend it.')", []),
    ],
)
def test_the_walk_sees_what_lacks_one(source: str, lines: list[int]) -> None:
    assert silent(source) == lines


def test_a_target_that_is_gone_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    target = SimpleNamespace(name="clone", placement=SimpleNamespace(platform="VME"))
    monkeypatch.setattr(guest_address, "instance_of", lambda job: None)
    monkeypatch.setattr(Job, "server", lambda self, name: target)
    progress = guest_address.switched_off(object.__new__(Job), "Set", "undo", ())
    assert progress is not None and progress.state == State.FAILED
    assert "VME knows no instance of clone any more." in progress.reason
    assert progress.reason.endswith("or start the initial migration again, which makes a new clone.")


def test_a_probe_that_must_pass_says_what_to_do() -> None:
    outcomes = {"1": {"passed": False, "reason": "Port 80 refuses connections."}}
    asked = {"place": "target", "must_pass": True}
    assert verdict(asked, outcomes, {}).reason == (
        "0 of 1 probes passed. Port 80 refuses connections."
        " Mend the cause, or correct the probe on the page of its plan, then retry."
    )
    only_asked = verdict({**asked, "must_pass": False}, outcomes, {})
    assert only_asked.state == State.SUCCEEDED and only_asked.reason.endswith("refuses connections.")
