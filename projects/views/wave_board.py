"""The wave board."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from projects.access import wave_for
from projects.models import Migration

from .contexts.board import board
from .contexts.live import page


@require_safe
def wave_board(request: HttpRequest, pk: int) -> HttpResponse:
    wave = wave_for(request, pk)
    migrations = Migration.objects.visible_to(request.user).filter(wave=wave)
    return page(
        request,
        "wave_board.html",
        lambda: board(request, wave, migrations),
        project=wave.project,
        migrations=migrations,
        zone=wave.time_zone,
    )
