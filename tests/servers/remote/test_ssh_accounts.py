"""SSH with passwords, sudo and log-in shells of all kinds: a real Debian with accounts of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from servers.remote.base import AuthenticationFailed, BecomeFailed, Endpoint, RemoteProblem
from servers.remote.ssh import connect

SECRET = "correct-horse-battery"


@pytest.fixture(scope="module")
def debian(nspawn_module_host: Callable[..., object]) -> Endpoint:
    host = nspawn_module_host("accounts")
    made = host.execute(
        "set -e; for u in admin helper nobodys talker shut; do useradd -m -s /bin/sh $u; echo $u:"
        f"{SECRET} | chpasswd; done\n"
        "usermod -s /bin/bash talker; sed -i '1i echo Welcome to $RANDOM' ~talker/.bashrc\n"
        "usermod -s /bin/true shut\n"
        "echo 'admin ALL=(ALL) ALL' > /etc/sudoers.d/admin\n"
        "echo 'talker ALL=(ALL) ALL' > /etc/sudoers.d/talker\n"
        "echo 'helper ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/helper\n"
        "chmod 0440 /etc/sudoers.d/*\n"
        "sed -i '1i PasswordAuthentication yes' /etc/ssh/sshd_config; systemctl restart ssh"
    )
    assert made.rc == 0, made.err
    return replace(host.endpoint, username="admin", private_key=None, password=SECRET)


def test_password_logs_in_and_a_wrong_one_is_refused(debian: Endpoint) -> None:
    found = connect(debian)
    assert found.run("id -un").text == "admin\n"
    found.close()
    with pytest.raises(AuthenticationFailed, match="password of admin was refused"):
        connect(replace(debian, password="wrong"))


def test_sudo_with_password_gives_the_input_to_the_command_alone(debian: Endpoint) -> None:
    found = connect(replace(debian, become="sudo", become_password=SECRET))
    result = found.run("id -un; cat", stdin=b"data\nmore")
    assert (result.out, result.err) == (b"root\ndata\nmore", b"")
    assert found.run("id -un", root=False).text == "admin\n"
    assert found.run("exit 1").rc == 1  # the command's own status, no refusal
    found.put(b"x", "/etc/by-sudo")
    assert found.run(["stat", "-c", "%U %a", "/etc/by-sudo"]).text == "root 600\n"
    assert SECRET not in found.run("cat /proc/*/cmdline 2>/dev/null | tr '\\0' ' '").text
    found.close()


def test_sudo_that_wants_no_password_does_not_get_one(debian: Endpoint) -> None:
    found = connect(replace(debian, username="helper", become="sudo", become_password="never-sent"))
    assert found.run("id -un; cat", stdin=b"data").text == "root\ndata"
    found.close()


@pytest.mark.parametrize(
    ("username", "password", "words"),
    [
        ("admin", "wrong", "password was refused"),
        ("admin", None, "asks for a password and none is given"),
        ("nobodys", SECRET, "not in the sudoers file"),
    ],
)
def test_sudo_that_refuses_is_told(debian: Endpoint, username: str, password: str | None, words: str) -> None:
    found = connect(replace(debian, username=username, become="sudo", become_password=password))
    began = time.monotonic()
    with pytest.raises(BecomeFailed, match=words):
        found.run("touch /run/must-not-be", stdin=b"data")
    assert time.monotonic() - began < 40
    assert found.run("test -e /run/must-not-be", root=False).rc == 1
    found.close()


@pytest.mark.parametrize("become", ["none", "sudo"])
def test_what_a_log_in_shell_prints_is_not_the_commands(debian: Endpoint, become: str) -> None:
    found = connect(replace(debian, username="talker", become=become, become_password=SECRET))
    assert found.run("cat; exit 3", stdin=b"data\n").out == b"data\n"
    assert found.run("head -c 9", stdin=b"x" * 9, limit=9).out == b"x" * 9  # nor does it count
    assert found.get("/etc/hostname") == b"accounts\n"
    found.close()


def test_a_log_in_that_runs_nothing_is_told(debian: Endpoint) -> None:
    found = connect(replace(debian, username="shut"))
    with pytest.raises(RemoteProblem, match="shut runs no commands"):
        found.run("true")
    found.close()
