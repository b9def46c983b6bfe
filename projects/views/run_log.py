"""The log of one run."""

from __future__ import annotations

from typing import Any

from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from projects import giving_up
from projects.access import READ_ALL, RUN, require
from projects.models import Action, Migration, Project
from projects.templatetags.hub import is_stale
from servers.models import Run, RunEvent

from .acts import perform, person
from .contexts.live import page
from .contexts.migration import run_sign

LINES = 500  # the newest; a run that says more than that says it too often


def run_for(request: HttpRequest, pk: int) -> tuple[Run, Migration | None, Project]:
    """The run, and by which migration or project this person may see it. Raises Http404."""
    found = get_object_or_404(Run.objects.select_related("server", "requested_by"), pk=pk)
    visible = Migration.objects.visible_to(request.user).select_related("project", "wave", "source")
    action = Action.objects.filter(work_key=found.work_key).select_related("attempt__step").first()
    if action is not None:
        migration = get_object_or_404(visible, pk=action.attempt.step.migration_id)
        return found, migration, migration.project
    if found.server_id is not None:
        migration_of = visible.filter(Q(source=found.server_id) | Q(target=found.server_id)).first()
        if migration_of is not None:
            return found, migration_of, migration_of.project
    platform = found.parameters.get("platform")
    if platform:
        projects = Project.objects.filter(
            platforms=platform, memberships__user_id=request.user.pk or 0, memberships__role__in=READ_ALL
        )
        project = projects.first()
        if project is not None:
            return found, None, project
    raise Http404


@require_safe
def run(request: HttpRequest, pk: int) -> HttpResponse:
    found, migration, project = run_for(request, pk)
    scope = Migration.objects.filter(pk=migration.pk) if migration else Migration.objects.none()

    def context() -> dict[str, Any]:
        events = list(RunEvent.objects.filter(run=found).order_by("-pk")[:LINES])[::-1]
        total = RunEvent.objects.filter(run=found).count() if len(events) == LINES else len(events)
        tries = Run.objects.filter(work_key=found.work_key).exclude(pk=pk).order_by("number")
        percent = None
        if found.bytes_total:
            percent = min(99 if found.is_open else 100, 100 * found.bytes_done // found.bytes_total)
        return {
            "run": found,
            "sign_state": run_sign(found),
            "migration": migration,
            "events": events,
            "total": total,
            "tries": list(tries),
            "percent": percent,
            "stale": found.is_open and is_stale(found.observed_at or found.started_at),
        }

    return page(request, "run.html", context, project=project, migrations=scope, alive=found.is_open)


@require_POST
def run_give_up(request: HttpRequest, pk: int) -> HttpResponse:
    found, migration, project = run_for(request, pk)
    require(project, request.user, RUN)
    return perform(
        request,
        lambda: giving_up.give_up(found, project, user=person(request), why=request.POST.get("why", "")),
        f"“{found.title}” is given up: platform and source are asked once more, then it ends.",
        reverse("migration", args=[migration.pk]) if migration else reverse("run", args=[pk]),
    )
