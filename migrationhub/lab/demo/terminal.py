"""What the demo says in the terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime

Say = Callable[[str], None]


class Teller:
    """Lines with the clock and the seconds since the demo began."""

    def __init__(self, write: Say) -> None:
        self.write = write
        self.began = time.monotonic()

    def say(self, text: str) -> None:
        now = datetime.now().astimezone()
        self.write(f"{now:%H:%M:%S} {time.monotonic() - self.began:6.1f} s  {text}")

    def head(self, text: str) -> None:
        self.write("")
        self.write(text)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in plain characters; a cell may have several lines."""
    cells = [[cell.split("\n") for cell in row] for row in [head, *rows]]
    widths = [max(len(line) for row in cells for line in row[column]) for column in range(len(head))]
    lines = []
    for number, row in enumerate(cells):
        for line in range(max(len(cell) for cell in row)):
            words = [
                (cell[line] if line < len(cell) else "").ljust(width) for cell, width in zip(row, widths, strict=True)
            ]
            lines.append("  ".join(words).rstrip())
        lines.append("  ".join("-" * width for width in widths) if number == 0 else "")
    return "\n".join(lines).rstrip()


def amount(size: float) -> str:
    """Bytes as a person reads them."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def seconds(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.1f} s"
