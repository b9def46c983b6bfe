"""Pairs of process hosts and the jobs that move data between them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from servers.movers.base import MoveJob
from servers.progress import Progress
from servers.remote.ssh import Pool
from tests.fixtures_lab import ProcessHost
from tests.servers.movers.drive import succeed

_numbers = itertools.count(1)


@dataclass
class Pair:
    """A source, a target and the syncs between them; `last` is the last sync point."""

    source: ProcessHost
    target: ProcessHost
    pool: Pool
    key: str
    paths: tuple[str, ...] = ("srv/data",)
    last: Progress | None = None
    generation: int = 1

    def job(self, kind: str, **changes: Any) -> MoveJob:
        job = MoveJob(
            work_key=f"{self.key}:{kind}:{next(_numbers)}",
            kind=kind,
            source=self.source.endpoint,
            target=self.target.endpoint,
            connect=self.pool.connect,
            migration_key=self.key,
            scope="paths",
            paths=self.paths,
            receive_mode=False,
            generation=self.generation,
            last_sync=self.last.sync.as_dict() if self.last and self.last.sync else {},
        )
        return replace(job, **changes)

    def sync(self, kind: str, **changes: Any) -> Progress:
        """A sync that must succeed; it becomes the last one."""
        self.last = succeed(self.job(kind, **changes))
        return self.last


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    kept = Pool()
    yield kept
    kept.close()


@pytest.fixture(scope="module")
def make_pair(process_module_host: Callable[..., ProcessHost], pool: Pool) -> Callable[..., Pair]:
    """Makes a pair; the target is an empty host on the migration network."""

    def make(name: str, recipe: str = "base", paths: tuple[str, ...] = ("srv/data",), **options: str) -> Pair:
        source = process_module_host(f"{name}-old", recipe, **options)
        target = process_module_host(f"{name}-new", network="migration")
        return Pair(source, target, pool, f"move-{name}", paths)

    return make
