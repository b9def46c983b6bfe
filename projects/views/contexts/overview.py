"""What waits for me, then my projects with their progress."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.db.models import Count, Exists, OuterRef, Q
from django.utils import timezone

from projects.access import Role, note_roles
from projects.models import Membership, Migration, Project, Step, Wave
from projects.waiting import waits_for_me
from projects.waiting_entry import Waiting

ROLES = {Role.LEAD: "you lead", Role.OPERATOR: "you operate", Role.OWNER: "you own", Role.MANAGER: "you read"}


@dataclass
class Counts:
    """Servers of a project by how far they are. Only a declared migration is complete."""

    complete: int = 0
    cancelled: int = 0
    attention: int = 0
    under_way: int = 0
    not_begun: int = 0

    @property
    def all(self) -> int:
        return self.complete + self.cancelled + self.attention + self.under_way + self.not_begun

    @property
    def segments(self) -> list[tuple[str, float, float]]:
        """Class, x and width in per cent, for the stacked bar."""
        parts = (("f-done", self.complete), ("f-fail", self.attention), ("f-run", self.under_way))
        made, x = [], 0.0
        for css, number in parts:
            width = 100 * number / self.all if self.all else 0
            made.append((css, round(x, 2), round(width, 2)))
            x += width
        return made

    @property
    def words(self) -> str:
        words = [
            f"{self.attention} need{'s' if self.attention == 1 else ''} attention" if self.attention else "",
            f"{self.under_way} under way" if self.under_way else "",
            f"{self.not_begun} not begun" if self.not_begun else "",
            f"{self.cancelled} cancelled" if self.cancelled else "",
        ]
        return ", ".join(word for word in words if word) or ("none left" if self.all else "no servers yet")

    @property
    def sign(self) -> tuple[str, str]:
        if self.attention:
            return "failed", "Needs attention"
        if self.all and self.complete + self.cancelled == self.all:
            return ("done", "Complete") if self.complete else ("cancelled", "Cancelled")
        return ("running", "Under way") if self.under_way or self.complete else ("waiting", "In preparation")


@dataclass
class Line:
    project: Project
    role: str
    counts: Counts
    waves: list[Wave] = field(default_factory=list)


KINDS = (("decide", "To decide"), ("do", "To do"), ("open", "Under way"))
AT_ONCE = 12  # of a group; the rest is folded


@dataclass
class Group:
    """Things that wait, of one kind."""

    key: str
    title: str
    items: list[Waiting]

    @property
    def first(self) -> list[Waiting]:
        return self.items[:AT_ONCE]

    @property
    def rest(self) -> list[Waiting]:
        return self.items[AT_ONCE:]


def counts_by_project(user: User | AnonymousUser) -> dict[int, Counts]:
    """One query, however many servers there are."""
    begun = Step.objects.filter(migration=OuterRef("pk"), started_at__isnull=False)
    stuck = Step.objects.filter(migration=OuterRef("pk"), state=Step.State.ATTENTION)
    visible = Migration.objects.visible_to(user).order_by().values("pk")
    rows = (
        Migration.objects.filter(pk__in=visible)
        .order_by()
        .annotate(begun=Exists(begun), stuck=Exists(stuck))
        .values("project_id", "state", "begun", "stuck")
        .annotate(number=Count("pk"))
    )
    counts: dict[int, Counts] = defaultdict(Counts)
    for row in rows:
        each, number = counts[row["project_id"]], row["number"]
        if row["state"] == Migration.State.COMPLETE:
            each.complete += number
        elif row["state"] == Migration.State.CANCELLED:
            each.cancelled += number
        elif row["stuck"]:
            each.attention += number
        elif row["begun"]:
            each.under_way += number
        else:
            each.not_begun += number
    return counts


def overview(user: User | AnonymousUser) -> dict[str, Any]:
    counts = counts_by_project(user)
    memberships = Membership.objects.filter(user_id=user.pk or 0).select_related("project").order_by("project__name")
    visible = Wave.objects.visible_to(user).order_by().values("pk")
    waves: dict[int, list[Wave]] = defaultdict(list)
    rows = Wave.objects.filter(pk__in=visible).annotate(
        left=Count("migrations", filter=Q(migrations__state=Migration.State.OPEN))
    )
    for wave in rows.filter(left__gt=0).select_related("project").order_by("number"):
        waves[wave.project_id].append(wave)
    now = timezone.now()
    lines = []
    for membership in memberships:
        mine = waves[membership.project_id]
        role = ROLES[Role(membership.role)]
        lines.append(Line(membership.project, role, counts[membership.project_id], mine))
    may_make = user.is_staff or any(membership.role == Role.LEAD for membership in memberships)
    roles = {membership.project_id: membership.role for membership in memberships}
    note_roles(user, roles)
    waiting = waits_for_me(user, roles)
    ahead = [wave for each in waves.values() for wave in each if wave.starts_at and wave.starts_at > now]
    return {
        "waiting": waiting,
        "groups": grouped(waiting),
        "ahead": min(ahead, key=lambda wave: wave.starts_at or now, default=None),
        "lines": lines,
        "may_make": may_make,
    }


def grouped(waiting: list[Waiting]) -> list[Group]:
    """What waits, urgent things first; groups without anything are left out."""
    calm = [item for item in waiting if not item.urgent]
    parts = [Group("urgent", "Urgent", [item for item in waiting if item.urgent])]
    parts += [Group(key, title, [item for item in calm if item.kind == key]) for key, title in KINDS]
    return [part for part in parts if part.items]
