"""Cells of a CSV that somebody opens in a spreadsheet."""

from __future__ import annotations

from typing import Any

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def cell(value: Any) -> str:
    """As text. What a spreadsheet would take for a formula is marked as text: a server may be named by anybody."""
    text = "" if value is None else str(value)
    if text.startswith(FORMULA) and not _is_number(text):
        return f"'{text}"
    return text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
