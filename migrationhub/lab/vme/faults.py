"""Faults that only tests order: kept in `faults.json`, set by POST /lab/faults or by writing the file."""

from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path
from typing import Any

Json = dict[str, Any]


class Faults:
    """A list of orders, each `{"kind", "method", "path" (regular expression), "times", "seconds", …}`.

    Kinds of answers: `500`, `429` (with `retry_after`), `503`, `html` (a proxy's page, `status` 502 unless given),
    `bare` (no body at all, `status` 404 unless given),
    `refused` (success: false, `status` 200 unless given, `msg`, `errors`), `slow` (`delay` s, then as usual),
    `cut_before` (closed, nothing done), `cut_after` (done, then closed), `expire` (all tokens end). Kind `act` makes
    an act of name `act` end in failure with `message`. `times` counts down (1 unless given); `seconds` from the
    order on is the other way to end it.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / "faults.json"
        self._lock = threading.Lock()

    def order(self, faults: list[Json]) -> None:
        with self._lock:
            now = time.time()
            self._write(
                [{**fault, "until": now + fault["seconds"]} if "seconds" in fault else fault for fault in faults]
            )

    def answer(self, method: str, path: str) -> Json | None:
        """The fault for this request, counted down."""
        return self._take(
            lambda fault: (
                fault["kind"] != "act"
                and fault.get("method", method) == method
                and re.search(fault.get("path", ""), path) is not None
            )
        )

    def act(self, name: str) -> Json | None:
        return self._take(lambda fault: fault["kind"] == "act" and fault.get("act") == name)

    def _take(self, fits: Any) -> Json | None:
        with self._lock:
            faults = self._read()
            for fault in faults:
                over = fault.get("times", 1) <= 0 or fault.get("until", time.time() + 1) < time.time()
                if over or not fits(fault):
                    continue
                if "until" not in fault:
                    fault["times"] = fault.get("times", 1) - 1
                    self._write(faults)
                return dict(fault)
        return None

    def _read(self) -> list[Json]:
        try:
            found = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return []
        return found if isinstance(found, list) else []

    def _write(self, faults: list[Json]) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(faults))
        new.replace(self.path)
