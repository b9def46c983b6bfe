"""Figures of a bench: medians over the rounds, as JSON and as a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from migrationhub.lab.bench.sides import Measured

SIDES = ("ours", "theirs")


@dataclass
class Case:
    """What was measured of one case: for each side a copy per round, in the order of the rounds."""

    name: str
    ours: list[Measured] = field(default_factory=list)
    theirs: list[Measured] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """`ours` and `theirs` are medians in seconds, `ratio` is ours to theirs; `did` tells what each side did."""
        seconds = {side: median(one.seconds for one in getattr(self, side)) for side in SIDES}
        return {
            "name": self.name,
            **{side: round(value, 3) for side, value in seconds.items()},
            "ratio": round(seconds["ours"] / seconds["theirs"], 2),
            "did": {side: _did(getattr(self, side)) for side in SIDES},
        }


def _did(copies: Sequence[Measured]) -> dict[str, Any]:
    parts = list(dict.fromkeys(name for one in copies for name in one.parts))
    counts = list(dict.fromkeys(name for one in copies for name in one.counts))
    return {
        "seconds": [round(one.seconds, 3) for one in copies],
        "bytes sent": int(median(one.bytes_sent for one in copies)),
        "files sent": int(median(one.files_sent for one in copies)),
        **{name: int(median(one.counts.get(name, 0) for one in copies)) for name in counts},
        "parts": {name: round(median(one.parts.get(name, 0.0) for one in copies), 3) for name in parts},
    }


def write(path: Path, cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Write the figures whole or not at all; returns what was written."""
    figures = [case.as_dict() for case in cases]
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n")
    new.replace(path)
    return figures


def table(figures: Sequence[dict[str, Any]]) -> list[str]:
    """Lines for the terminal: seconds and ratio, then what each side did."""
    width = max(len(one["name"]) for one in figures)
    lines = [f"{'':{width}}  {'ours':>9}  {'theirs':>9}  {'ratio':>6}"]
    lines += [
        f"{one['name']:{width}}  {one['ours']:7.2f} s  {one['theirs']:7.2f} s  {one['ratio']:6.2f}" for one in figures
    ]
    for one in figures:
        lines += ["", one["name"]]
        for side in SIDES:
            did = one["did"][side]
            numbers = ", ".join(f"{value:,} {name}" for name, value in did.items() if isinstance(value, int))
            spread = f"{min(did['seconds']):.2f} to {max(did['seconds']):.2f} s in {len(did['seconds'])} rounds"
            lines.append(f"  {side}: {spread}; {numbers}")
            if parts := did["parts"]:
                lines.append("    " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in parts.items()))
    return lines
