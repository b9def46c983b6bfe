"""The tag of a live region: what is drawn depends on nothing else. Unchanged costs one query and answers 204."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import Count, Q, QuerySet, Sum, Value
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.cache import patch_vary_headers

from projects.models import Action, Approval, Hold, Migration, Project, Step, StepAttempt, Wave
from projects.templatetags.hub import STALE_AFTER
from servers import lease
from servers.models import Lease, Run
from servers.models.run import OPEN

from .. import kept


@dataclass(frozen=True)
class Control:
    """Whether anything moves: without the controller, what runs is not looked at and nothing new starts."""

    down: bool
    since: datetime | None = None  # of the last sign of life; None: there was none yet


def tag_of(migrations: QuerySet[Migration]) -> str:
    """Versions, last observations and freshness of everything that pages draw of these migrations, and whether the
    controller lives: one query."""
    scope = migrations.order_by()
    ids = scope.values("pk")
    keys = Action.objects.filter(attempt__step__migration__in=ids).values("work_key")
    old = timezone.now() - timedelta(seconds=STALE_AFTER)
    stale = Q(state__in=OPEN) & (Q(observed_at__lt=old) | Q(contact_lost_since__isnull=False))
    runs = Run.objects.filter(work_key__in=keys)
    closed = Action.objects.filter(attempt__step__migration__in=ids).exclude(state__in=("planned", "running"))
    parts = [
        _part("m", Migration.objects.filter(pk__in=ids), Sum("version")),
        _part("w", Wave.objects.filter(pk__in=scope.values("wave")), Sum("version")),
        _part("s", Step.objects.filter(migration__in=ids), Sum("version")),
        _part("a", StepAttempt.objects.filter(step__migration__in=ids), Count("pk", filter=Q(finished_at=None))),
        _part("c", closed, Sum("pk")),
        _part("h", Hold.objects.filter(project__in=scope.values("project"), released_at=None), Sum("pk")),
        _part("o", _overdue(scope), Sum("pk")),
        _part("g", Approval.objects.filter(wave__in=scope.values("wave")), Sum("version")),
        _part("r", runs, Sum("version")),
        _part("f", runs.filter(stale), Sum("pk")),
        _part("l", Lease.objects.filter(lease.alive()), Sum("pk")),
    ]
    rows = parts[0].union(*parts[1:], all=True).order_by("part")
    return "-".join(f"{part}{count}.{total or 0}" for part, count, total in rows)


def _overdue(migrations: QuerySet[Migration]) -> QuerySet[Hold]:
    """Tests whose promised end is over: that comes about by itself."""
    open_ones = Hold.objects.filter(kind=Hold.Kind.UAT, project__in=migrations.values("project"), released_at=None)
    return open_ones.filter(until__lte=timezone.now())


def control_of(tag: str) -> Control:
    """What a tag says of the controller; only one that does not answer costs a query."""
    if any(part.startswith("l") and not part.startswith("l0") for part in tag.split("-")):
        return Control(down=False)
    return Control(down=True, since=Lease.objects.values_list("beat_at", flat=True).first())


def _part(name: str, rows: QuerySet[Any], total: Any) -> QuerySet[Any, Any]:
    counted = rows.order_by().values(part=Value(name)).annotate(count=Count("pk"), total=total)
    found: QuerySet[Any, Any] = counted.values_list("part", "count", "total")
    return found


def page(
    request: HttpRequest,
    template: str,
    context: Callable[[], dict[str, Any]],
    *,
    project: Project | None = None,
    migrations: QuerySet[Migration] | None = None,
    alive: bool = True,
    every: int = 3,
    zone: str = "",
) -> HttpResponse:
    """The whole page, or, where htmx asks for the live region, what of it has changed (204: nothing).

    `context` is only called when something is drawn. `alive`: something in it can still change; else the page
    is drawn without polling. Times are drawn in the project's zone.
    """
    tag = tag_of(migrations) if migrations is not None else ""
    region = "live" if getattr(request, "htmx", False) and request.GET.get("region") == "live" else ""
    if region and tag == request.GET.get("v"):
        response = HttpResponse(status=204)
    else:
        live = {"tag": tag, "every": every if alive and migrations is not None else 0, "oob": bool(region)}
        name = zone or (project.time_zone if project else "UTC")
        with timezone.override(ZoneInfo(name)):
            control = control_of(tag) if live["every"] else Control(down=False)
            values = {**context(), "project": project, "live": live, "zone": name, "control": control}
            values["kept"] = {} if region else kept.take(request)
            response = render(request, f"{template}#{region}" if region else template, values)
    patch_vary_headers(response, ["HX-Request"])
    response["Cache-Control"] = "no-store"
    return response
