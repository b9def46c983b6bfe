"""Our own access: its scripts by themselves, and on a real Debian through first boot, sync, reboot and removal."""

from __future__ import annotations

import base64
import gzip
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from migrationhub.lib.findings import Level, Problem
from servers.remote import access
from servers.remote.base import AuthenticationFailed, Connection, Endpoint, RemoteProblem
from servers.remote.ssh import connect

PRIVATE, PUBLIC = access.new_key_pair("test")


# -- the scripts by themselves ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    ["", "hello", "ssh-ed25519", "ssh-ed25519 AAAA'; rm -rf /", "ssh-ed25519 AAAA\nssh-ed25519 BBBB", "ssh-dss AAAA"],
)
def test_only_one_plain_key_line_gets_into_a_script(key: str) -> None:
    with pytest.raises(Problem, match="public key"):
        access.user_data(key)


def test_comment_of_a_key_does_not_get_into_the_script() -> None:
    text = access.user_data(f"{' '.join(PUBLIC.split()[:2])} $(reboot) 'x'")
    assert "$(reboot)" not in text


@pytest.mark.parametrize("manager", ["systemd", "supervisord"])
def test_scripts_are_whole_posix_shell(manager: str) -> None:
    for text in (
        access.user_data(PUBLIC, manager=manager),
        access.read_back_script(manager=manager),
        access.removal_script(manager=manager),
    ):
        assert subprocess.run(["dash", "-n"], input=text.encode(), capture_output=True).stderr == b""
        assert not [word for word in text.split() if word.startswith("@") and word.endswith("@")]


def test_console_lines_are_short_and_carry_the_same_script() -> None:
    first, *body, last = access.console_lines(PUBLIC)
    assert max(map(len, [first, *body, last])) <= 76
    assert gzip.decompress(base64.b64decode("".join(body))).decode() == access.user_data(PUBLIC)


def test_read_back_is_found_among_other_output() -> None:
    text = "cloud-init: hello\r\nmigrationhub-access-host-key: ssh-ed25519 AAAAC3Nz comment\r\n"
    text += "migrationhub-access-port: 2299\r\n"
    assert access.parse_read_back(text) == ("ssh-ed25519 AAAAC3Nz",)


def test_read_back_without_a_key_says_what_came_instead() -> None:
    with pytest.raises(Problem, match="no such file") as caught:
        access.parse_read_back("sh: 1: no such file\n")
    assert caught.value.act


def run_script(text: str, home: Path) -> str:
    done = subprocess.run(["sh"], input=text, text=True, capture_output=True, env={"HOME": str(home), "PATH": "/bin"})
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_supervisord_host_gets_our_key_beside_its_own_and_loses_only_ours(tmp_path: Path) -> None:
    (tmp_path / "etc/ssh").mkdir(parents=True)
    (tmp_path / "etc/supervisord.conf").touch()
    (tmp_path / "etc/ssh/ssh_host_ed25519_key.pub").write_text("ssh-ed25519 AAAAhost host\n")
    keys = tmp_path / ".ssh/authorized_keys"
    keys.parent.mkdir()
    keys.write_text("ssh-ed25519 AAAAother somebody\n")
    for _ in range(2):
        run_script(access.user_data(PUBLIC, manager="supervisord"), tmp_path)
    ours = f"{' '.join(PUBLIC.split()[:2])} migrationhub-access"
    assert keys.read_text().splitlines() == ["ssh-ed25519 AAAAother somebody", ours]
    assert stat.S_IMODE(keys.stat().st_mode) == 0o600
    shown = run_script(access.read_back_script(manager="supervisord"), tmp_path)
    assert access.parse_read_back(shown) == ("ssh-ed25519 AAAAhost",)
    assert "port: 2222" in shown
    run_script(access.removal_script(manager="supervisord"), tmp_path)
    assert keys.read_text() == "ssh-ed25519 AAAAother somebody\n"
    assert not (tmp_path / "run/migrationhub").exists()
    assert not (tmp_path / "var/lib/migrationhub").exists()


def test_supervisord_script_refuses_a_home_that_is_no_host(tmp_path: Path) -> None:
    text = access.user_data(PUBLIC, manager="supervisord")
    done = subprocess.run(
        ["sh"], input=text, text=True, capture_output=True, env={"HOME": str(tmp_path), "PATH": "/bin"}
    )
    assert done.returncode == 1
    assert "not a host under supervisord" in done.stderr
    assert not (tmp_path / ".ssh").exists()


def test_only_a_refused_connection_proves_the_removal() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        there = Endpoint("t", "127.0.0.1", port=server.getsockname()[1])
        assert access.proven_removed(there).level is Level.BLOCKING
    assert access.proven_removed(there).level is Level.READY
    with socket.socket() as full:  # a backlog that is full: connections get no answer
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        hangs = Endpoint("t", "127.0.0.1", port=full.getsockname()[1])
        held = [socket.socket() for _ in range(3)]
        for one in held:
            one.setblocking(False)
            one.connect_ex((hangs.address, hangs.port))
        finding = access.proven_removed(hangs, timeout=0.5)
        for one in held:
            one.close()
    assert finding.level is Level.BLOCKING
    assert "no answer within" in finding.text


def test_on_a_supervisord_host_a_refused_key_is_the_proof() -> None:
    there = Endpoint("t", "127.0.0.1", port=2222, manager="supervisord")

    def refuses(_: Endpoint) -> Connection:
        raise AuthenticationFailed("refused")

    def silent(_: Endpoint) -> Connection:
        raise RemoteProblem("No answer.", "Look.")

    assert access.proven_removed(there, refuses).level is Level.READY
    assert access.proven_removed(there, silent).level is Level.BLOCKING


# -- on a real Debian ---------------------------------------------------------------------------------------


def ours(host: object) -> Endpoint:
    """The endpoint of our access on an nspawn host, its host key read back as the hypervisor's API would."""
    shown = host.execute(access.read_back_script()).out  # type: ignore[attr-defined]
    keys = access.parse_read_back(shown)
    address = host.endpoint.address  # type: ignore[attr-defined]
    return access.endpoint("clone", address, private_key=PRIVATE, host_keys=keys)


def opened(endpoint: Endpoint, timeout: float = 180.0) -> Connection:
    deadline = time.monotonic() + timeout
    while True:
        try:
            return connect(endpoint, connect_timeout=3)
        except RemoteProblem:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)


def boot_id(connection: Connection) -> str:
    return connection.run(["cat", "/proc/sys/kernel/random/boot_id"], check=True).text


@pytest.fixture(scope="module")
def clone(nspawn_module_host: Callable[..., object]) -> Iterator[object]:
    """A clone as the platform makes it: nothing of ours but the user data of its first boot."""
    yield nspawn_module_host("access", "debian", "migration", user_data=access.user_data(PUBLIC))


@pytest.mark.nspawn
def test_user_data_opens_the_access_at_first_boot(clone: object) -> None:
    deadline = time.monotonic() + 180
    while "host-key" not in clone.execute(access.read_back_script()).out:  # type: ignore[attr-defined]
        assert time.monotonic() < deadline, clone.execute("journalctl -n 50").out  # type: ignore[attr-defined]
        time.sleep(0.3)
    connection = opened(ours(clone))
    assert connection.run(["id", "-u"]).text == "0\n"
    modes = connection.run("stat -c '%a %U %n' /etc/migrationhub /etc/migrationhub/*").text.split("\n")
    assert "600 root /etc/migrationhub/authorized_keys" in modes
    assert "600 root /etc/migrationhub/ssh_host_ed25519_key" in modes
    connection.close()


@pytest.mark.nspawn
def test_nobody_gets_in_without_our_key(clone: object) -> None:
    stranger, _ = access.new_key_pair("stranger")
    for wrong in (
        replace(ours(clone), private_key=stranger),
        replace(ours(clone), private_key=None, password="root"),
        replace(ours(clone), username="daemon"),
        replace(clone.endpoint, port=access.PORT, host_keys=ours(clone).host_keys),  # type: ignore[attr-defined]
    ):
        with pytest.raises(AuthenticationFailed):
            connect(wrong)


@pytest.mark.nspawn
def test_opening_again_in_any_way_changes_nothing(clone: object) -> None:
    before = ours(clone)
    connection = opened(before)
    said = "migrationhub-access: open on port 2299\n"
    result = connection.run(access.user_data(PUBLIC), timeout=180)
    assert (result.rc, result.text) == (0, said), result.error_text
    for script in (access.user_data(PUBLIC), "\n".join(access.console_lines(PUBLIC))):  # by the API, in a console
        done = clone.execute(script)  # type: ignore[attr-defined]
        assert (done.rc, done.out) == (0, said), done.err
    assert connection.run(["echo", "still here"]).text == "still here\n"
    connection.close()
    assert ours(clone) == before
    opened(before, 60).close()


@pytest.mark.nspawn
def test_access_outlives_ssh_service_and_isolation(clone: object) -> None:
    """ssh.service takes /run/sshd with it when it stops; receive mode stops everything that is not base."""
    connection = opened(ours(clone))
    unit = "[Unit]\\nAllowIsolate=yes\\nRequires=basic.target\\nWants=networking.service systemd-networkd.service\\n"
    connection.run(f"printf '{unit}' >/run/systemd/system/only-base.target; systemctl daemon-reload", check=True)
    connection.run("systemctl isolate only-base.target", check=True, timeout=180)
    assert connection.run("systemctl is-active ssh.service").text == "inactive\n"
    fresh = opened(ours(clone), 60)
    assert fresh.run(["echo", "in"]).text == "in\n"
    fresh.run("systemctl default", check=True, timeout=180)
    assert fresh.run("systemctl is-active ssh.service").text == "active\n"
    fresh.close()
    connection.close()


@pytest.mark.nspawn
def test_etc_of_a_source_synced_over_it_does_not_lock_us_out(clone: object) -> None:
    """The source: root locked in shadow, no root log-in, no keys, PAM that refuses all, none of our files."""
    connection = opened(ours(clone))
    excludes = " ".join(f"--exclude={path}" for path in access.EXCLUDED_PATHS)
    script = f"""set -e
    mkdir /source; rsync -aAXH {excludes} /etc /source/
    sed -i 's/^root:[^:]*:/root:!:/' /source/etc/shadow
    echo 'PermitRootLogin no' >/source/etc/ssh/sshd_config
    for file in /source/etc/pam.d/*; do echo 'account required pam_deny.so' >$file; done
    rsync -aAXH --delete {excludes} /source/etc / ; rm -rf /source /root/.ssh"""
    connection.run(script, check=True)
    assert connection.run("cut -d: -f2 /etc/shadow | head -1").text == "!\n"
    fresh = opened(ours(clone), 60)
    before = boot_id(fresh)
    fresh.run("systemctl --no-block reboot")
    fresh.close()
    connection.close()
    deadline = time.monotonic() + 180
    while True:
        assert time.monotonic() < deadline
        try:
            after = opened(ours(clone), 5)
            if boot_id(after) != before:
                break
        except Problem:
            pass
        time.sleep(0.3)
    assert after.run("systemctl is-active migrationhub-access.service").text == "active\n"
    after.close()


def ssh_client(endpoint: Endpoint, private_key: str, directory: Path) -> list[str]:
    """The real client with a given key, without the command."""
    key, known = directory / "key", directory / "known"
    key.touch(0o600)
    key.write_text(private_key)
    name = f"[{endpoint.address}]:{endpoint.port}"
    known.write_text("".join(f"{name} {line}\n" for line in endpoint.host_keys))
    options = ["-F", "none", "-p", str(endpoint.port), "-i", str(key), "-o", f"UserKnownHostsFile={known}"]
    return ["ssh", *options, "-o", "BatchMode=yes", "-o", "LogLevel=ERROR", f"{endpoint.username}@{endpoint.address}"]


def transfer_is_forced(endpoint: Endpoint, directory: Path) -> None:
    """A transfer key runs its one command, whatever is asked for, until it is revoked."""
    private, public = access.new_key_pair("transfer")
    connection, client = opened(endpoint, 60), ssh_client(endpoint, private, directory)

    def call(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*client, *command], capture_output=True, text=True, timeout=120, input="")

    forced = 'echo "only this"; echo asked for $SSH_ORIGINAL_COMMAND'
    access.authorize_transfer(connection, public, "echo old")
    access.authorize_transfer(connection, public, forced)  # again: the new command holds, once
    assert call("cat /etc/shadow").stdout == "only this\nasked for cat /etc/shadow\n"
    assert call().stdout == "only this\nasked for\n"
    forward = [*client[:-1], "-o", "ExitOnForwardFailure=yes", "-N", "-R", "0:127.0.0.1:1", client[-1]]
    assert subprocess.run(forward, capture_output=True, timeout=120).returncode == 255
    access.revoke_transfer(connection, public)
    access.revoke_transfer(connection, public)
    assert call("true").returncode == 255
    connection.close()
    opened(endpoint, 60).close()


@pytest.mark.nspawn
def test_transfer_key_runs_only_its_command(clone: object, tmp_path: Path) -> None:
    transfer_is_forced(ours(clone), tmp_path)


@pytest.mark.nspawn
def test_removal_over_the_access_itself_ends_in_a_refused_connection(clone: object) -> None:
    endpoint = ours(clone)
    connection = opened(endpoint)
    assert access.proven_removed(endpoint).level is Level.BLOCKING
    result = connection.run(access.removal_script())
    assert result.rc == 0, result.error_text
    deadline = time.monotonic() + 180
    while access.proven_removed(endpoint).level is not Level.READY:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    connection.close()
    left = "ls -d " + " ".join(access.EXCLUDED_PATHS) + " 2>/dev/null; grep -c /run/sshd /proc/mounts"
    until = time.monotonic() + 180
    while clone.execute(left).out != "0\n":  # type: ignore[attr-defined]
        assert time.monotonic() < until, clone.execute(left).out  # type: ignore[attr-defined]
        time.sleep(0.2)
    assert clone.execute("grep -rl migrationhub-access /etc /var/lib/cloud").out == ""  # type: ignore[attr-defined]
    units = clone.execute("systemctl list-units --all --plain --no-legend 'migrationhub*'").out  # type: ignore[attr-defined]
    assert units == ""
    assert clone.execute("systemctl is-active ssh.service; ls -d /run/sshd").out == "active\n/run/sshd\n"  # type: ignore[attr-defined]


# -- on a process host --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("trap_commands")
def test_access_to_a_process_host_by_user_data_until_its_removal(
    process_host: Callable[..., object], tmp_path: Path
) -> None:
    host = process_host("access", network="migration", user_data=access.user_data(PUBLIC, manager="supervisord"))
    there = host.endpoint  # type: ignore[attr-defined]
    deadline = time.monotonic() + 180
    while "host-key" not in (shown := host.execute(access.read_back_script(manager="supervisord")).out):  # type: ignore[attr-defined]
        assert time.monotonic() < deadline, shown
        time.sleep(0.2)
    endpoint = access.endpoint(
        "clone",
        there.address,
        private_key=PRIVATE,
        host_keys=access.parse_read_back(shown),
        manager="supervisord",
        directory=there.directory,
        username=there.username,
    )
    connection = opened(endpoint, 20)
    transfer_is_forced(endpoint, tmp_path)
    assert access.proven_removed(endpoint, connect).level is Level.BLOCKING
    connection.run(access.removal_script(manager="supervisord", directory=there.directory), check=True)
    assert access.proven_removed(endpoint, connect).level is Level.READY
    connection.close()
    opened(there, 5).close()  # the host's own key still works
