"""Two directories that stand for whole machines, and one sync between them without a network in between."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from servers.movers.rsync import config
from servers.movers.rsync.layout import Layout
from servers.movers.rsync.views import without_second_views
from servers.movers.rsync.walk import Mount, parse_mountinfo
from tests.servers.movers.test_rsync_lists import move

SSH = """#!/bin/sh
while [ "$1" != target ]; do shift; done; shift
SSH_ORIGINAL_COMMAND="$*" exec /bin/sh {job}/serve.sh {job}
"""


@dataclass
class Two:
    """Two directories that stand for whole machines, with the kernel's own word on what is mounted in them."""

    base: Path

    def root(self, side: str) -> Path:
        return self.base / side

    def mount(self, *arguments: object) -> None:
        subprocess.run(["mount", *map(str, arguments)], check=True)

    def mounts(self, side: str) -> list[Mount]:
        root, lines = str(self.root(side)), []
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            words = line.split(" ")
            if words[4] == root or words[4].startswith(root + "/"):
                words[4] = words[4][len(root) :] or "/"
                lines.append(" ".join(words))
        return parse_mountinfo("\n".join(lines).encode())

    def sync(self, silence: int = 0, **changes: Any) -> str:
        """The first sync of a whole system, with the real programs and without a network in between. "" where it ended
        well, else its status and what it says."""
        source, target = self.mounts("old"), self.mounts("new")
        job = without_second_views(move(kind="initial", scope="system", **changes), source, target)
        places = [
            Layout(str(self.root(side)), f"{self.base}/job-{side}", f"{self.base}/m/{side}", "u") for side in SIDES
        ]
        for place, files in zip(
            places,
            (
                config.source_files(job, places[0], source, "t"),
                config.target_files(job, places[1], target, source, "t"),
            ),
            strict=True,
        ):
            Path(place.job).mkdir()
            for name, data in files.items():
                (Path(place.job) / name).write_bytes(data)
            if silence:
                with (Path(place.job) / "config").open("a") as config_file:
                    config_file.write(f"SILENCE={silence}\n")
        ssh = self.base / "bin/ssh"
        ssh.parent.mkdir(exist_ok=True)
        ssh.write_text(SSH.format(job=places[1].job))
        ssh.chmod(0o755)
        done = subprocess.run(
            ["sh", f"{places[0].job}/source.sh", places[0].job],
            env={"PATH": f"{ssh.parent}:{os.environ['PATH']}"},
            capture_output=True,
            check=False,
        )
        if done.returncode == 0:
            return ""
        return f"{done.returncode}: {(Path(places[0].job) / 'error').read_text() or done.stderr.decode()}"


SIDES = ("old", "new")


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    for side in SIDES:
        (tmp_path / side).mkdir()
    yield Two(tmp_path)
    for side in (*SIDES, *(f"raw-{side}" for side in SIDES)):
        subprocess.run(["umount", "-R", "-l", str(tmp_path / side)], check=False, stderr=subprocess.DEVNULL)
