"""Images are built once, before anybody waits for them, and are what they are wherever they are built."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path

import pytest
from django.core.management import call_command

from migrationhub.lab.images import Images
from migrationhub.lab.network import run
from migrationhub.lab.state import Lab
from migrationhub.management.commands import lab as command


def test_nothing_is_built_where_debian_hosts_do_not_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "choose", lambda lab: ("process", "they need root"))
    monkeypatch.setattr(Images, "image", lambda self, name: pytest.fail(f"{name} was built"))
    call_command("lab", "images")
    assert "no images are needed: they need root" in capsys.readouterr().err


@pytest.mark.nspawn
def test_what_is_there_is_not_built_again(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("lab", "images")
    there = sorted(path.name for path in Images(Lab().cache).images.iterdir())
    capsys.readouterr()
    call_command("lab", "images")
    assert "building" not in capsys.readouterr().err
    assert sorted(path.name for path in Images(Lab().cache).images.iterdir()) == there


@pytest.mark.nspawn
@pytest.mark.full
def test_the_database_has_its_own_port_whoever_listens_on_the_machine(tmp_path: Path) -> None:
    """A build shares the machine's network, where the package takes the next port that is free."""
    cache = Lab().cache
    mine = Images(tmp_path)
    mine.images.mkdir()
    for name in ("bootstrap", "base"):  # what it stands on, from the cache
        with Images(cache).image(name) as root:
            run(["cp", "-a", "--reflink=auto", str(root), str(mine.path(name))])
    with closing(socket.create_server(("127.0.0.1", 5432))), mine.image("shop-db") as root:
        assert "port = 5433" in (root / "etc/postgresql/15/main/postgresql.conf").read_text()
        assert "port = 5432" in (root / "etc/postgresql/15/main/conf.d/shop.conf").read_text()
