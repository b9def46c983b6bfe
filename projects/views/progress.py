"""A project's progress, and the same as CSV."""

from __future__ import annotations

import csv

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from migrationhub.lib.sheets import cell
from projects.access import project_for, role_in
from projects.models import Migration

from .contexts.break_glass import passes_seen
from .contexts.live import page
from .contexts.progress import HEADER, csv_rows
from .contexts.progress import progress as build


@require_safe
def progress(request: HttpRequest, slug: str) -> HttpResponse:
    project = project_for(request, slug)
    migrations = Migration.objects.visible_to(request.user).filter(project=project)
    return page(
        request,
        "progress.html",
        lambda: {**build(request.user, project, migrations), "role": role_in(project, request.user)},
        project=project,
        migrations=migrations,
    )


@require_safe
def progress_csv(request: HttpRequest, slug: str) -> HttpResponse:
    project = project_for(request, slug)
    migrations = Migration.objects.visible_to(request.user).filter(project=project)
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{project.slug}.csv"'
    writer = csv.writer(response)
    writer.writerow(HEADER)
    writer.writerows(map(cell, row) for row in csv_rows(migrations, passes_seen(request.user, project)))
    return response
