"""What the pages of break-glass draw."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.db.models import QuerySet

from projects.models import BreakGlass, Project
from projects.models.project import seen_in_wave

SIGNS = {
    BreakGlass.State.UNCONFIRMED: "relook",
    BreakGlass.State.IN_ORDER: "done",
    BreakGlass.State.NOT_IN_ORDER: "failed",
}


def passes_seen(user: User | AnonymousUser, project: Project) -> QuerySet[BreakGlass]:
    """Break-glass of the applications that this person may see in its wave, newest first."""
    rows = BreakGlass.objects.filter(seen_in_wave(user), project=project)
    return rows.select_related("by", "confirmed_by", "application")


def pass_list(user: User | AnonymousUser, project: Project) -> dict[str, Any]:
    rows = list(passes_seen(user, project).select_related("by", "confirmed_by", "application", "wave"))
    return {"rows": [(made, SIGNS[BreakGlass.State(made.state)]) for made in rows], "words": words(rows)}


def words(passes: list[BreakGlass]) -> str:
    """How many there are and how many nobody has looked at: “3, 1 of them not confirmed yet”."""
    if not passes:
        return "none"
    waits = sum(made.state == BreakGlass.State.UNCONFIRMED for made in passes)
    wrong = sum(made.state == BreakGlass.State.NOT_IN_ORDER for made in passes)
    parts = [f"{waits} not confirmed yet" if waits else "", f"{wrong} not in order" if wrong else ""]
    told = ", ".join(part for part in parts if part) or "all confirmed as in order"
    return f"{len(passes)} ({told})"
