"""What outlives a restart of the stand-in: its state, and the journal of changing requests."""

from __future__ import annotations

import json
import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Json = dict[str, Any]
EMPTY: Json = {
    "next": {},
    "instances": {},
    "processes": [],
    "requests": {},
    "snapshots": {},
    "tokens": [],
    "pending": {},
}


class Store:
    """State as one JSON file, written by rename. Hold `lock` while reading or changing `state`."""

    def __init__(self, directory: Path) -> None:
        self.lock = threading.RLock()
        self.path = directory / "state.json"
        self.journal = Journal(directory / "journal.jsonl")
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.state: Json = json.loads(json.dumps(EMPTY))
        if self.path.exists():
            self.state |= json.loads(self.path.read_text())

    def save(self) -> None:
        with self.lock:
            new = self.path.with_suffix(".new")
            handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)  # tokens are in it
            with os.fdopen(handle, "w") as file:
                json.dump(self.state, file, indent=1)
            new.replace(self.path)

    def next_id(self, kind: str, first: int, step: int = 3) -> int:
        with self.lock:
            value = int(self.state["next"].get(kind, first))
            self.state["next"][kind] = value + step
            return value


def hosts_by_instance(directory: Path) -> dict[str, str]:
    """Instance name → the lab's name of the host behind it, of a stand-in that keeps its state in `directory`.

    The two differ where a source already has the name.
    """
    path = directory / "state.json"
    instances = json.loads(path.read_text())["instances"] if path.exists() else {}
    return {record["name"]: record["host"] for record in instances.values()}


class Journal:
    """One line per changing request as it was decided, one per act as it ended."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()

    def write(self, **entry: Any) -> None:
        line = json.dumps({"at": datetime.now(UTC).isoformat(), **entry})
        with self._lock, self.path.open("a") as file:
            file.write(line + "\n")
            file.flush()


def read_journal(path: Path) -> list[Json]:
    """All lines of a journal; a last one that a crash cut short is left out."""
    if not path.exists():
        return []
    entries = []
    for line in path.read_text().splitlines():
        try:
            entries.append(json.loads(line))
        except ValueError:
            continue
    return entries


def effective(path: Path) -> list[Json]:
    """The requests that changed something: at, work_key, method, path, act, instance."""
    return [entry for entry in read_journal(path) if entry.get("kind") == "request" and entry.get("effective")]


def repeated_keys(path: Path) -> list[str]:
    """Work keys under which more than one effective act was asked; [] is as it should be."""
    seen: set[str] = set()
    twice: list[str] = []
    for entry in effective(path):
        key = str(entry.get("work_key") or "")
        if key and key in seen and key not in twice:
            twice.append(key)
        seen.add(key)
    return twice
