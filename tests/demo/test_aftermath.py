"""What is looked at from outside: the journal of the platform, ports, and what the stand-in's hook compares."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from migrationhub.lab.demo import verification
from migrationhub.lab.demo.aftermath import acts, refused
from migrationhub.lab.state import Lab


def journal(path: Path, *entries: tuple[str, str, str]) -> Path:
    lines: list[dict[str, Any]] = [
        {"kind": "request", "effective": True, "act": act, "name": name, "work_key": key} for act, name, key in entries
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


GOOD = (("create", "files", "m3.1"), ("resize", "files", "m3.2"), ("create", "shop-db", "m1.1"))


def test_one_create_and_one_resize_hold(tmp_path: Path) -> None:
    assert acts(journal(tmp_path / "j", *GOOD), "files")["ok"] is True


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("create", "files-2", "m3.9"), "2 create"),
        (("resize", "files", "m3.9"), "2 resize"),
        (("stop", "shop-db", "m1.1"), "used twice: m1.1"),
    ],
)
def test_a_second_act_or_a_repeated_key_does_not(tmp_path: Path, more: tuple[str, str, str], words: str) -> None:
    told = acts(journal(tmp_path / "j", *GOOD, more), "files")
    assert told["ok"] is False
    assert words in told["said"]


def test_a_server_without_instance_does_not_hold(tmp_path: Path) -> None:
    assert acts(journal(tmp_path / "j", *GOOD), "shop-web")["ok"] is False


def test_a_port_is_closed_only_where_the_machine_refuses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert refused("127.0.0.1", port)["ok"] is False
    assert refused("127.0.0.1", port)["ok"] is True


@pytest.mark.parametrize(
    ("instance", "source"),
    [("shop-db", "shop-db"), ("shop-web-2", "shop-web"), ("files-vm7", "files"), ("other", "other")],
)
def test_an_instance_belongs_to_the_source_that_it_is_named_after(instance: str, source: str) -> None:
    assert verification.source_name(instance) == source


def test_the_hook_is_a_program_that_gets_instance_and_host(tmp_path: Path) -> None:
    lab = Lab("unit", tmp_path / "with space")
    verification.install(lab, tmp_path / "out")
    hook = lab.dir / "vme/hooks/before-resize"
    assert subprocess.run(["sh", "-n", hook]).returncode == 0
    # Without a lab it fails, and that is seen: nothing is written that could pass for a comparison.
    done = subprocess.run([hook, "files", "files-vm1"], capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert "is not up" in done.stderr
    assert verification.read(tmp_path / "out") == {}
