"""The owner's page: one application in one wave."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from projects.access import application_for, wave_for
from projects.models import Migration

from .contexts.acceptance import acceptance as build
from .contexts.live import page


@require_safe
def acceptance(request: HttpRequest, wave_pk: int, application_pk: int) -> HttpResponse:
    wave, application = wave_for(request, wave_pk), application_for(request, application_pk, wave=wave_pk)
    if application.project_id != wave.project_id:
        raise Http404
    migrations = Migration.objects.filter(wave=wave, application=application).exclude(state=Migration.State.CANCELLED)
    return page(
        request,
        "acceptance.html",
        lambda: build(request, wave, application),
        project=wave.project,
        migrations=migrations,
        zone=wave.time_zone,
    )
