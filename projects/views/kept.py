"""What was typed into a form that was refused: kept for the page that follows, drawn into that form again, once.

It lies in the person's session, so nobody else sees it, and ends with it.
"""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

KEY = "kept"
TEXTS = ("comment", "reason", "why", "note", "link")
ROW = ("title", "severity", "step")  # of a defect that is raised with a rejection: `defect_title`, …
MOST, ROWS = 20_000, 20  # characters of a text, rows: enough to shorten what was too long


def keep(request: HttpRequest, back: str) -> None:
    """`back`: the page that the person is led to."""
    texts = {name: _text(request.POST[name]) for name in TEXTS if request.POST.get(name, "").strip()}
    columns = [request.POST.getlist(f"defect_{name}") for name in ROW]
    rows = [
        {name: _text(column[number]) for name, column in zip(ROW, columns, strict=True) if number < len(column)}
        for number in range(min(len(columns[0]), ROWS))
    ]
    typed = {**texts, **({"rows": rows} if any(row["title"].strip() for row in rows) else {})}
    if typed:
        request.session[KEY] = {"form": request.path, "page": _path(back), "typed": typed}


def forget(request: HttpRequest) -> None:
    """The form was taken: what it held before is of no use any more."""
    if request.session.get(KEY, {}).get("form") == request.path:
        del request.session[KEY]


def take(request: HttpRequest) -> dict[str, dict[str, Any]]:
    """What was kept for this page, by the address of its form. Whoever reads it has it: the next page has nothing."""
    found = request.session.get(KEY)
    if not found or found["page"] != request.path:
        return {}
    del request.session[KEY]
    return {found["form"]: found["typed"]}


def _text(typed: str) -> str:
    return typed[:MOST].replace("\0", "")


def _path(address: str) -> str:
    return address.partition("#")[0].partition("?")[0]
