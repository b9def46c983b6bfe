"""The first page after logging in."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from projects.models import Migration

from .contexts.live import page
from .contexts.overview import overview as build


@require_safe
def overview(request: HttpRequest) -> HttpResponse:
    migrations = Migration.objects.visible_to(request.user)
    return page(request, "overview.html", lambda: build(request.user), migrations=migrations, every=5)
