"""Every pass by break-glass of a project: who, when, why, and what a second person said."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from projects.access import project_for, role_in

from .contexts.break_glass import pass_list
from .contexts.live import page


@require_safe
def break_glass_list(request: HttpRequest, slug: str) -> HttpResponse:
    """Of the applications that this person may see, newest first."""
    project = project_for(request, slug)
    role = role_in(project, request.user)
    return page(
        request, "break_glass_list.html", lambda: {**pass_list(request.user, project), "role": role}, project=project
    )
