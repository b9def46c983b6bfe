"""What a machine says is given its cause and the next act; what it does not say is not guessed."""

from __future__ import annotations

import pytest

from servers.remote.causes import cause_of


@pytest.mark.parametrize(
    ("said", "status", "cause", "act"),
    [
        ("mkdir: cannot create directory '/x': Read-only file system", 1, "a file system is read-only", "writable"),
        ("sort: write failed: /var/x: No space left on device", 2, "a file system is full", "Free space"),
        ("cat: /etc/shadow: Permission denied", 1, "a right is missing", "root or may use sudo"),
        ("chown: changing ownership: Operation not permitted", 1, "a right is missing", "root or may use sudo"),
        ("sh: 1: rsync: not found", 127, "a program is missing", "Install"),
        ("Unit shop.service not found.", 5, "", "the cause that it names"),
        ("", 1, "", "the cause that it names"),
    ],
)
def test_the_cause_is_named_and_what_to_do(said: str, status: int, cause: str, act: str) -> None:
    named, next_act = cause_of(said, status)
    assert named == cause and act in next_act and next_act.endswith("then retry.")
