"""One thing that waits for a person: what it says, where it leads, how urgent it is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.contrib.auth.models import User
from django.urls import reverse

from projects.models import BreakGlass, Defect


@dataclass(frozen=True)
class Waiting:
    """One thing that waits for this person."""

    text: str
    detail: str
    url: str
    label: str
    since: datetime | None = None
    until: datetime | None = None  # promised or set as the latest time for it
    urgent: bool = False
    kind: str = "do"  # decide | do | open: the group, where it is not urgent
    state: str = "ready"  # of a sign
    word: str = "Yours to do"
    where: str = ""  # wave and project
    zone: str = "UTC"  # of the wave, for `until`
    on_behalf_of: User | None = None  # who is absent, or handed it over
    together: str = ""  # title of one thing for several servers, where they are answered on one page


def second_look(made: BreakGlass, absent: User | None) -> Waiting:
    return Waiting(
        f"Break-glass of {made.application}: {made.get_gate_display().lower()}",
        f"Was it in order? {made.reason}",
        reverse("break-glass", args=[made.pk]),
        "Look",
        made.at,
        urgent=True,
        kind="decide",
        state="relook",
        word="A second person is asked",
        on_behalf_of=absent,
    )


def defect_waits(defect: Defect) -> Waiting:
    mended = defect.state == Defect.State.MENDED
    what = "to be verified" if mended else defect.get_state_display().lower()
    return Waiting(
        str(defect),
        f"{defect.get_severity_display()} ({what})",
        reverse("defect", args=[defect.pk]),
        "Verify" if mended else "Look",
        defect.changed_at if mended else defect.raised_at,
        urgent=defect.is_holding,
        kind="decide" if mended else "do",
        state="failed" if defect.is_holding else "ready",
        word="Blocking defect" if defect.is_holding else "Defect",
    )
