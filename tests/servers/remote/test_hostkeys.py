"""Host keys: scanned from a real sshd, read from known_hosts, compared by fingerprint."""

from __future__ import annotations

import base64
import hashlib
import hmac
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from migrationhub.lib.findings import Problem
from servers.remote import hostkeys
from servers.remote.base import TimedOut, Unreachable


def made(path: Path, kind: str) -> tuple[str, str]:
    """A key of ssh-keygen: its public line, its fingerprint as ssh-keygen prints it."""
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(path)], check=True)
    shown = subprocess.run(["ssh-keygen", "-lf", f"{path}.pub"], check=True, capture_output=True, text=True)
    return " ".join(Path(f"{path}.pub").read_text().split()[:2]), shown.stdout.split()[1]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    directory = tmp_path_factory.mktemp("keys")
    return {kind: made(directory / kind, kind) for kind in ("ed25519", "ecdsa")}


def hashed(name: str) -> str:
    salt = b"0123456789abcdefghij"
    digest = hmac.new(salt, name.encode(), hashlib.sha1).digest()
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


def test_fingerprint_is_that_of_ssh_keygen(keys: dict[str, tuple[str, str]]) -> None:
    for line, fingerprint in keys.values():
        assert hostkeys.fingerprint(line.split()[1]) == fingerprint


@pytest.mark.parametrize("text", ["not base64!", "AAAA*", "ü"])
def test_what_is_not_base64_is_refused(text: str) -> None:
    with pytest.raises(Problem, match="not base64"):
        hostkeys.fingerprint(text)


def test_type_must_be_the_one_inside_the_key(keys: dict[str, tuple[str, str]]) -> None:
    key = keys["ed25519"][0].split()[1]
    for kind in ("ssh-rsa", "ssh-dss", ""):
        with pytest.raises(Problem, match="said to be"):
            hostkeys.found_key(kind, key)


def test_known_hosts_by_name_port_pattern_and_hash(keys: dict[str, tuple[str, str]]) -> None:
    one, two = keys["ed25519"][0], keys["ecdsa"][0]
    text = "\n".join(
        [
            "# a comment",
            f"db.shop.lab,10.0.0.5 {one} root@db",
            f"[db.shop.lab]:2222 {two}",
            f"{hashed('web.shop.lab')} {one}",
            f"*.files.lab,!old.files.lab {two}",
            f"@cert-authority db.shop.lab {two}",
            "db.shop.lab ssh-ed25519 broken",
            "db.shop.lab",
        ]
    )
    names = ["db.shop.lab", "10.0.0.5", "[db.shop.lab]:2222", "web.shop.lab", "a.files.lab", "old.files.lab", "d"]
    found = {name: [key.line for key in found] for name, found in hostkeys.parse_known_hosts(text, names).items()}
    assert found == {
        "db.shop.lab": [one],
        "10.0.0.5": [one],
        "[db.shop.lab]:2222": [two],
        "web.shop.lab": [one],
        "a.files.lab": [two],
        "old.files.lab": [],
        "d": [],
    }


def test_revoked_key_is_left_out_even_where_another_line_accepts_it(keys: dict[str, tuple[str, str]]) -> None:
    one, two = keys["ed25519"][0], keys["ecdsa"][0]
    text = f"@revoked * {one}\ndb {one}\ndb {two}\n"
    assert [key.line for key in hostkeys.parse_known_hosts(text, ["db"])["db"]] == [two]


def test_names_are_those_of_known_hosts() -> None:
    assert hostkeys.known_hosts_name("db") == "db"
    assert hostkeys.known_hosts_name("10.0.0.5", 2222) == "[10.0.0.5]:2222"


@pytest.mark.lab
def test_scan_of_many_tells_keys_and_problems_in_order(process_module_host: Callable[..., object]) -> None:
    host = process_module_host("keys")
    place = (host.endpoint.address, host.endpoint.port)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        places = [("127.0.0.1", 1), place, silent.getsockname()]
        found = hostkeys.scan_many(places, timeout=1)
    assert [(one.address, one.port) for one in found] == places
    assert isinstance(found[0].problem, Unreachable) and "refused" in found[0].problem.text
    assert {key.line for key in found[1].keys} == set(host.host_keys()) and found[1].problem is None
    assert isinstance(found[2].problem, TimedOut) and not found[2].problem.lasting
