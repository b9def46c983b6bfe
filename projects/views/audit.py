"""The audit trail of a project, and for staff that of everything."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from projects import trail
from projects.access import READ_ALL, project_for, role_in
from projects.models import Project

from .setup_common import trail_of

AT_ONCE = 50
PAGES = {
    "projects.migration": "migration",
    "projects.wave": "wave-board",
    "projects.approval": "approval",
    "projects.breakglass": "break-glass",
    "projects.defect": "defect",
    "servers.run": "run",
}


def _scope(request: HttpRequest, slug: str) -> Project | None:
    """The project, for those who read all of it; without a name everything, for staff."""
    if slug:
        return project_for(request, slug, READ_ALL)
    if not (request.user.is_authenticated and request.user.is_staff):
        raise PermissionDenied("The trail of everything is for staff. Each project has its own, under “Set up”.")
    return None


@require_safe
def audit(request: HttpRequest, slug: str = "") -> HttpResponse:
    project = _scope(request, slug)
    zone = project.time_zone if project else "UTC"
    wanted = trail.Filter.of(request.GET)
    events = trail.events_of(project)
    page = Paginator(wanted.apply(events, zone), AT_ONCE).get_page(request.GET.get("page"))
    rows = [
        {
            "event": event,
            "word": trail.word(event.verb),
            "kind": trail.kind_word(event.object_type),
            "changes": trail.changes(event),
            "page": PAGES.get(event.object_type, "") if project else "",
            "nobody": event.actor_id is None and event.actor_name != "system",
        }
        for event in page
    ]
    query = request.GET.copy()
    query.pop("page", None)
    context = {
        "project": project,
        "trail": trail_of(project) if project else [],
        "may_plan": project is not None and role_in(project, request.user) == "lead",
        "wanted": wanted,
        "offered": trail.offered(events),
        "page": page,
        "rows": rows,
        "query": query.urlencode(),
        "zone": zone,
    }
    with timezone.override(ZoneInfo(zone)):
        return render(request, "audit.html", context)


@require_safe
def audit_csv(request: HttpRequest, slug: str = "") -> StreamingHttpResponse:
    """What the filter leaves, newest first."""
    project = _scope(request, slug)
    zone = project.time_zone if project else "UTC"
    events = trail.Filter.of(request.GET).apply(trail.events_of(project), zone)
    response = StreamingHttpResponse(trail.csv_lines(events), content_type="text/csv; charset=utf-8")
    name = project.slug if project else "all"
    response["Content-Disposition"] = f'attachment; filename="audit-{name}.csv"'
    response["Cache-Control"] = "no-store"
    return response
