"""What rsync says about its own progress."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LINE = re.compile(
    r"^\s*(?P<bytes>\d+)\s+\d+%\s+(?P<rate>[\d.]+)(?P<unit>[kMGTP]?)B/s\s+\S+"
    r"(?:\s+\(xfr#(?P<files>\d+), (?:to|ir)-chk=(?P<left>\d+)/(?P<all>\d+)\))?"
)
_STATS = {
    "sent": re.compile(r"^Total bytes sent: (\d+)", re.MULTILINE),
    "transferred": re.compile(r"^Number of regular files transferred: (\d+)", re.MULTILINE),
    "size": re.compile(r"^Total transferred file size: (\d+)", re.MULTILINE),
}
_UNITS = {"": 1.0, "k": 1024.0, "M": 1024.0**2, "G": 1024.0**3, "T": 1024.0**4, "P": 1024.0**5}


@dataclass(frozen=True)
class Pass:
    """One run of rsync. `size` is file data handled, `sent` what went over the wire (0 until the end)."""

    size: int = 0
    size_total: int = 0
    entries: int = 0  # of the list that are done: files, directories and others
    entries_total: int = 0
    rate: float | None = None  # bytes of file data per second
    transferred: int = 0  # regular files
    sent: int = 0
    ended: bool = False


def parse(output: str, size_total: int = 0, names: int = 0) -> Pass:
    """A pass from the end of what rsync printed with --info=progress2 --stats --no-human-readable."""
    size, rate, transferred, entries, entries_total = 0, None, 0, 0, names
    for line in output.replace("\r", "\n").splitlines():
        found = _LINE.match(line)
        if found is None:
            continue
        size = max(size, int(found["bytes"]))
        rate = float(found["rate"]) * _UNITS[found["unit"]]
        if found["files"] is not None:
            transferred = max(transferred, int(found["files"]))
            entries_total = max(entries_total, int(found["all"]))
            entries = max(entries, int(found["all"]) - int(found["left"]))
    stats = {name: pattern.search(output) for name, pattern in _STATS.items()}
    if stats["sent"] is None:
        entries_total = max(entries_total, entries)
        return Pass(size, max(size_total, size), min(entries, entries_total), entries_total, rate, transferred)
    size = max(size, _number(stats["size"]))
    total = max(names, entries_total)
    return Pass(
        size=size,
        size_total=size,
        entries=total,
        entries_total=total,
        rate=rate,
        transferred=_number(stats["transferred"]),
        sent=_number(stats["sent"]),
        ended=True,
    )


def _number(found: re.Match[str] | None) -> int:
    return int(found[1]) if found else 0
