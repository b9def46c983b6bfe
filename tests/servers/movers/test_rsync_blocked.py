"""A source whose services are blocked for good is synced again: the block is ours and stays where it was written."""

from __future__ import annotations

from pathlib import Path

from tests.servers.movers.two import Two, two

__all__ = ["two"]  # the fixture

BLOCKED = "etc/systemd/system.control"


def link(root: Path, name: str) -> Path:
    path = root / BLOCKED / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to("/dev/null")
    return path


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_the_lasting_block_is_not_copied_and_the_targets_own_is_left_to_it(two: Two) -> None:
    old, new = two.root("old"), two.root("new")
    for kind in ("service", "socket", "timer", "path"):
        link(old, f"orders.{kind}")
    limit = "orders.service.d/50-MemoryMax.conf"
    (old / BLOCKED / limit).parent.mkdir()
    (old / BLOCKED / limit).write_text("[Service]\nMemoryMax=1G\n")
    supervised = "etc/supervisor.d/zz-migrationhub-blocked.ini"
    (old / supervised).parent.mkdir()
    (old / supervised).write_text("[program:orders]\n")
    (old / "etc/supervisor.d/orders.ini").write_text("[program:orders]\n")
    kept = link(new, "kept.service")

    assert two.sync() == ""
    assert names(new / BLOCKED) == ["kept.service", "orders.service.d"]
    assert kept.is_symlink()
    assert (new / BLOCKED / limit).read_text() == "[Service]\nMemoryMax=1G\n"
    assert names(new / "etc/supervisor.d") == ["orders.ini"]
