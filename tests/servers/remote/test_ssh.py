"""SSH against real sshds: what works, and each refusal in words."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from servers.remote.base import (
    AuthenticationFailed,
    CommandFailed,
    Connection,
    Endpoint,
    HostKeyChanged,
    HostKeyUnknown,
    RemoteProblem,
    TimedOut,
    Unreachable,
)
from servers.remote.ssh import Pool, SSHConnection, connect
from tests.patience import wait_until

SECRET = "correct-horse-battery"


@pytest.fixture(scope="module")
def endpoint(process_module_host: Callable[..., object]) -> Endpoint:
    return process_module_host("ssh").endpoint


@pytest.fixture(scope="module")
def connection(endpoint: Endpoint) -> Iterator[Connection]:
    found = connect(endpoint)
    yield found
    found.close()


def new_key(path: Path, kind: str, passphrase: str = "", form: str = "RFC4716") -> tuple[str, str]:
    argv = ["ssh-keygen", "-q", "-t", kind, "-m", form, "-N", passphrase, "-f", str(path)]
    subprocess.run(argv, check=True)
    return path.read_text(), Path(f"{path}.pub").read_text()


# -- commands -----------------------------------------------------------------------------------------------


def test_status_outputs_and_input(connection: Connection) -> None:
    result = connection.run("cat; echo err >&2; exit 7", stdin=b"a\0b\xff\n")
    assert (result.rc, result.out, result.err, result.truncated) == (7, b"a\0b\xff\n", b"err\n", False)


def test_words_reach_the_command_as_they_are(connection: Connection) -> None:
    words = ["a b", "$HOME", "'\"", "new\nline", "*", "", "ü", b"\xff\xfe".decode("utf-8", "surrogateescape")]
    shown = connection.run(["printf", "%s\\0", *words]).out
    assert shown == b"\0".join(word.encode("utf-8", "surrogateescape") for word in words) + b"\0"


def test_large_input_and_output_at_once(connection: Connection) -> None:
    data = os.urandom(1 << 20) * 12
    assert connection.run("cat", stdin=data, limit=len(data)).out == data


def test_input_that_the_command_does_not_read(connection: Connection) -> None:
    result = connection.run("head -c 3", stdin=b"x" * (8 << 20))
    assert (result.rc, result.out) == (0, b"xxx")


def test_output_is_cut_at_the_cap_and_the_command_still_ends(connection: Connection) -> None:
    result = connection.run("seq 1 400000; seq 1 400000 >&2; exit 3", limit=1000)
    assert (result.rc, len(result.out), len(result.err), result.truncated) == (3, 1000, 1000, True)


def test_no_output_is_lost_at_the_end(connection: Connection) -> None:
    for _ in range(10):
        assert connection.run("seq 1 20000; exit 1").out.endswith(b"\n20000\n")


def test_command_that_is_killed_does_not_pass_for_a_good_one(connection: Connection) -> None:
    assert connection.run("kill -9 $$").rc in (-1, 137)  # 137: told by a log-in shell that stayed above it


def test_child_in_the_background_does_not_hold_the_command(connection: Connection) -> None:
    began = time.monotonic()
    assert connection.run("sleep 50 & echo started").out == b"started\n"
    assert time.monotonic() - began < 40


def test_check_names_command_status_and_what_it_said(connection: Connection) -> None:
    with pytest.raises(CommandFailed, match=r"ls /nonexistent.*status 2.*No such file") as caught:
        connection.run(["ls", "/nonexistent"], check=True)
    assert caught.value.result.rc == 2


def test_many_commands_at_once_on_one_connection(connection: Connection) -> None:
    with ThreadPoolExecutor(24) as threads:
        results = threads.map(lambda n: connection.run(f"sleep 0.05; echo {n}").text.strip(), range(24))
    assert list(results) == [str(n) for n in range(24)]


def test_command_time_out_names_the_command_and_spoils_the_connection(endpoint: Endpoint) -> None:
    found = connect(endpoint)
    assert isinstance(found, SSHConnection)
    began = time.monotonic()
    with pytest.raises(TimedOut, match=r"sleep 30.*within 0\.5 s"):
        found.run("sleep 30", timeout=0.5)
    assert time.monotonic() - began < 20
    assert not found.usable
    found.close()


def test_connection_that_breaks_is_unreachable_not_a_status(endpoint: Endpoint) -> None:
    found = connect(endpoint)
    with pytest.raises(Unreachable, match="broke") as caught:
        found.run(
            'p=$$; until [ "$(cat /proc/$p/comm)" = sshd ]; do p=$(ps -o ppid= -p $p | tr -d " "); done\n'
            "kill -9 $p; sleep 5"
        )
    assert not caught.value.lasting
    with pytest.raises(Unreachable):
        found.run("true")


# -- files --------------------------------------------------------------------------------------------------


def test_file_is_written_whole_with_its_mode(connection: Connection, endpoint: Endpoint) -> None:
    path = f"{endpoint.directory}/tmp/with blank"
    data = b"\0\xff" * 200_000
    connection.put(data, path, mode=0o640)
    connection.put(data + b"!", path, mode=0o640)
    assert connection.get(path) == data + b"!"
    assert connection.run(["stat", "-c", "%a", path]).text.strip() == "640"
    assert connection.run(f"ls -A {endpoint.directory}/tmp | grep -c 'with blank'").text.strip() == "1"


def test_file_larger_than_the_limit_is_a_problem(connection: Connection, endpoint: Endpoint) -> None:
    connection.put(b"x" * 100, f"{endpoint.directory}/tmp/large")
    with pytest.raises(RemoteProblem, match="larger than the 99 bytes"):
        connection.get(f"{endpoint.directory}/tmp/large", limit=99)


def test_put_where_it_cannot_be_leaves_nothing(connection: Connection, endpoint: Endpoint) -> None:
    with pytest.raises(CommandFailed):
        connection.put(b"x", f"{endpoint.directory}/nowhere/file")
    with pytest.raises(CommandFailed):
        connection.put(b"x", f"{endpoint.directory}/tmp")  # a directory is not replaced
    assert connection.run(f"ls -A {endpoint.directory} | grep '^[.]tmp[.]'").text == ""


# -- refusals -----------------------------------------------------------------------------------------------


def test_unknown_host_key_is_shown_with_its_fingerprint(endpoint: Endpoint) -> None:
    with pytest.raises(HostKeyUnknown, match=r"shows \S+ SHA256:\S{43}"):
        connect(replace(endpoint, host_keys=()))


def test_changed_host_key_names_both_fingerprints(endpoint: Endpoint, tmp_path: Path) -> None:
    other = " ".join(new_key(tmp_path / "k", "ed25519")[1].split()[:2])
    with pytest.raises(HostKeyChanged) as caught:
        connect(replace(endpoint, host_keys=(other,)))
    assert caught.value.text.count("SHA256:") == 2 and "Nothing was sent" in caught.value.text


def test_any_accepted_key_is_enough_whatever_kind_is_preferred(endpoint: Endpoint, tmp_path: Path) -> None:
    other = " ".join(new_key(tmp_path / "k", "rsa")[1].split()[:2])
    for key in endpoint.host_keys:
        connect(replace(endpoint, host_keys=(other, key))).close()


@pytest.mark.parametrize(
    ("kind", "form", "passphrase"),
    [("ed25519", "RFC4716", SECRET), ("ecdsa", "PEM", SECRET), ("rsa", "PEM", ""), ("rsa", "RFC4716", SECRET)],
)
def test_keys_of_every_kind_log_in(
    connection: Connection, endpoint: Endpoint, tmp_path: Path, kind: str, form: str, passphrase: str
) -> None:
    private, public = new_key(tmp_path / "k", kind, passphrase, form)
    connection.run(f"cat >> {endpoint.directory}/.ssh/authorized_keys", stdin=public.encode(), check=True)
    own = replace(endpoint, private_key=private, passphrase=passphrase or None)
    connect(own).close()
    connect(replace(own, passphrase=passphrase or "superfluous")).close()
    if passphrase:
        for wrong in ("wrong-passphrase", None):
            with pytest.raises(AuthenticationFailed, match="passphrase") as caught:
                connect(replace(own, passphrase=wrong))
            assert SECRET not in str(caught.value) and private[40:80] not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["garbage", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----"]
)
def test_what_is_no_private_key_is_told(endpoint: Endpoint, text: str) -> None:
    with pytest.raises(AuthenticationFailed, match="not a private key"):
        connect(replace(endpoint, private_key=text))


def test_wrong_key_and_nothing_to_log_in_with(endpoint: Endpoint, tmp_path: Path) -> None:
    with pytest.raises(AuthenticationFailed, match=r"private key of .* was refused"):
        connect(replace(endpoint, private_key=new_key(tmp_path / "k", "ed25519")[0]))
    with pytest.raises(AuthenticationFailed, match="neither key nor password"):
        connect(replace(endpoint, private_key=None))


def test_password_where_sshd_takes_none(endpoint: Endpoint) -> None:
    with pytest.raises(AuthenticationFailed, match=r"does not take the password.*publickey") as caught:
        connect(replace(endpoint, private_key=None, password=SECRET))
    assert SECRET not in str(caught.value)


def test_nobody_listens_and_no_such_name(endpoint: Endpoint) -> None:
    with pytest.raises(Unreachable, match="Connection refused"):
        connect(replace(endpoint, port=1))
    with pytest.raises(Unreachable, match="does not resolve"):
        connect(replace(endpoint, address="nowhere.invalid"))


@contextlib.contextmanager
def answering(text: bytes) -> Iterator[int]:
    """A port that accepts, says `text` and then nothing more."""
    server, held = socket.create_server(("127.0.0.1", 0)), []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                link = server.accept()[0]
                link.sendall(text)
                held.append(link)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield server.getsockname()[1]
    finally:
        server.close()
        for link in held:
            link.close()


@pytest.mark.parametrize("text", [b"", b"SSH-2.0-hangs\r\n"])
def test_host_that_accepts_and_hangs_times_out(endpoint: Endpoint, text: bytes) -> None:
    with answering(text) as port:
        began = time.monotonic()
        with pytest.raises(TimedOut, match=r"no SSH server answered within 2 s") as caught:
            connect(replace(endpoint, address="127.0.0.1", port=port), banner_timeout=2)
    assert time.monotonic() - began < 15 and not caught.value.lasting


def test_port_of_something_else_is_told(endpoint: Endpoint) -> None:
    with answering(b"220 mail.shop.lab ESMTP\r\n" * 120) as port, pytest.raises(Unreachable, match="SSH server"):
        connect(replace(endpoint, address="127.0.0.1", port=port), banner_timeout=2)


def test_secrets_are_in_no_representation() -> None:
    secret = Endpoint("h", "a", password=SECRET, private_key=SECRET, passphrase=SECRET, become_password=SECRET)
    assert SECRET not in repr(secret)


# -- kept connections ---------------------------------------------------------------------------------------


def test_pool_keeps_replaces_and_forgets(endpoint: Endpoint) -> None:
    pool = Pool()
    try:
        with ThreadPoolExecutor(6) as threads:
            first, *others = threads.map(lambda _: pool.connect(endpoint), range(6))
        assert all(other is first for other in others)
        with pytest.raises(TimedOut):
            first.run("sleep 30", timeout=0.3)
        second = pool.connect(endpoint)
        assert second is not first and second.run("true").rc == 0
        second.close()
        third = pool.connect(endpoint)
        assert third is not second
        pool.forget(endpoint)
        assert pool.connect(endpoint) is not third
    finally:
        pool.close()


def test_pool_closes_what_nobody_uses(endpoint: Endpoint) -> None:
    pool = Pool(idle=0.05)
    found = pool.connect(endpoint)
    with ThreadPoolExecutor(1) as threads:
        gate = Path(endpoint.directory or "") / "tmp/gate"
        busy = threads.submit(found.run, f"until [ -e {gate} ]; do sleep 0.05; done; echo done")
        try:
            wait_until(lambda: found.busy)  # type: ignore[attr-defined]
            time.sleep(0.1)
            assert pool.connect(endpoint) is found  # in use: not idle
        finally:
            gate.touch()
        assert busy.result().text == "done\n"
    time.sleep(0.1)
    assert pool.connect(endpoint) is not found
    assert isinstance(found, SSHConnection) and not found.usable
    pool.close()


def test_host_that_is_not_reached_holds_nobody_else_up(endpoint: Endpoint) -> None:
    began = threading.Event()

    def make(one: Endpoint) -> Connection:
        began.set()
        return connect(one, banner_timeout=60)

    pool = Pool(make)
    with ThreadPoolExecutor(1) as threads:
        with answering(b"") as port:
            slow = threads.submit(pool.connect, replace(endpoint, address="127.0.0.1", port=port))
            assert began.wait(60)
            assert pool.connect(endpoint).run("true").rc == 0
            assert not slow.done()
        with pytest.raises(RemoteProblem):  # the other end closed it
            slow.result()
    pool.close()
