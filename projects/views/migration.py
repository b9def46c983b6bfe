"""One server's way through the seven steps."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from projects.access import migration_for
from projects.models import Migration

from .contexts.live import page
from .contexts.migration import migration_page


@require_safe
def migration(request: HttpRequest, pk: int) -> HttpResponse:
    found = migration_for(request, pk)
    return page(
        request,
        "migration.html",
        lambda: migration_page(request, found),
        project=found.project,
        migrations=Migration.objects.filter(pk=pk),
        alive=found.state == Migration.State.OPEN,
        zone=found.wave.time_zone if found.wave else "",
    )
