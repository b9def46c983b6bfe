"""No sentence without a next act: every problem that `servers` raises and every blocking finding has one."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from migrationhub.lib import findings
from servers.platforms.vme import answers
from servers.remote import base

SERVERS = Path(findings.__file__).parents[2] / "servers"
PROBLEMS = {
    name
    for module in (findings, base, answers)
    for name, thing in vars(module).items()
    if isinstance(thing, type) and issubclass(thing, findings.Problem)
}


def silent(call: ast.Call) -> bool:
    """Whether the call makes a problem or a blocking finding without a next act."""
    name = call.func.id if isinstance(call.func, ast.Name) else ""
    if name in PROBLEMS:
        position = 1
    elif name == "Finding" and call.args and "BLOCKING" in ast.unparse(call.args[0]):
        position = 3
    else:
        return False
    named = next((word.value for word in call.keywords if word.arg == "act"), None)
    act = call.args[position] if len(call.args) > position else named
    return act is None or (isinstance(act, ast.Constant) and not act.value)


def test_every_problem_has_a_next_act() -> None:
    assert {"Problem", "Unreachable", "PlatformProblem", "Ambiguous"} <= PROBLEMS
    found = [
        f"{path.relative_to(SERVERS)}:{node.lineno}"
        for path in SERVERS.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and silent(node)
    ]
    assert found == []


@pytest.mark.parametrize("code", ["Problem('x')", "Unreachable('x', '')", "Finding(Level.BLOCKING, 'c', 'x')"])
def test_one_without_is_found(code: str) -> None:
    (statement,) = ast.parse(code).body
    assert isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call) and silent(statement.value)
