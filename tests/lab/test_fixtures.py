"""What the tests of all parts rely on: no way outside, visible reasons, traps that are noticed, nothing left."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.conf import settings
from pytest_socket import SocketConnectBlockedError

from migrationhub.lab.hosts import HostSpec, Nic
from migrationhub.lab.process import ProcessBackend
from migrationhub.lab.process_keeper import processes_of
from migrationhub.lab.state import Lab, known_labs
from tests import conftest
from tests.fixtures_lab import ProcessHost, ProcessLab, end_abandoned_labs, watch_traps


@pytest.mark.filterwarnings("ignore:A test tried to use socket")
@pytest.mark.parametrize("address", ["192.0.2.1", "10.99.255.1", "10.164.0.1", "169.254.169.254"])
def test_there_is_no_way_outside(address: str) -> None:
    with pytest.raises(SocketConnectBlockedError):
        socket.create_connection((address, 80), timeout=1)


def test_loopback_and_unix_sockets_are_open(tmp_path: Path) -> None:
    with socket.create_server(("127.100.3.9", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=1).close()
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / "s"))
        server.listen()
        client.connect(str(tmp_path / "s"))


def test_the_directory_is_the_tests_own() -> None:
    assert str(settings.VAR_DIR) == os.environ["MIGRATIONHUB_VAR"]
    assert settings.VAR_DIR != settings.BASE_DIR / "var"


def item(marker: str) -> pytest.Item:
    return SimpleNamespace(get_closest_marker=lambda name: name == marker)  # type: ignore[return-value]


def test_a_missing_requirement_skips_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conftest, "missing_for", lambda marker: "/usr/bin/chromium")
    monkeypatch.delenv("MIGRATIONHUB_REQUIRE_ALL", raising=False)
    with pytest.raises(pytest.skip.Exception, match="browser tests need /usr/bin/chromium"):
        conftest.pytest_runtest_setup(item("browser"))
    conftest.pytest_runtest_setup(item("none of these"))


def test_a_missing_requirement_fails_where_all_are_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conftest, "missing_for", lambda marker: "systemd-nspawn")
    monkeypatch.setenv("MIGRATIONHUB_REQUIRE_ALL", "1")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(pytest.fail.Exception, match="nspawn tests need systemd-nspawn"):
        conftest.pytest_runtest_setup(item("nspawn"))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)  # a user cannot have them all
    with pytest.raises(pytest.skip.Exception):
        conftest.pytest_runtest_setup(item("nspawn"))


def test_a_trapped_command_fails_the_test_that_called_it(
    process_host: Callable[..., ProcessHost], process_lab: ProcessLab
) -> None:
    host = process_host("traps")
    with watch_traps(process_lab) as calls:
        host.execute("ls / > /dev/null")
        assert calls() == []
    with pytest.raises(AssertionError, match="touch the real machine"), watch_traps(process_lab):
        host.execute("reboot")
    with pytest.raises(AssertionError), watch_traps(process_lab):
        host.execute("reboot now")
        process_lab.delete("traps")  # the host is gone, its call is not


@pytest.mark.lab
def test_what_a_killed_session_left_is_ended_by_the_next() -> None:
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    lab = Lab(f"tp{int(dead.stdout)}-main")
    backend = ProcessBackend(lab)
    backend.create(HostSpec("left", "base", (Nic("production", lab.address("production", 9, "process")),)))
    backend.start("left")
    root, account = backend.root("left"), backend.account
    assert processes_of(root, account)
    end_abandoned_labs()
    assert not processes_of(root, account)
    assert not root.exists()
    assert not lab.dir.exists()
    assert lab.name not in {known.name for known in known_labs()}
