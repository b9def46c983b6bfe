"""Who stands in for an absent application owner."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils import timezone
from django.views.decorators.http import require_POST

from projects import stand_ins as verbs
from projects.access import PLAN, READ_ALL, project_for
from projects.forms.people import StandInForm
from projects.models import StandIn

from .setup_common import carried_out, list_page, person, posted, pressed

SIGNS = {"valid": "done", "ahead": "scheduled", "ended": "cancelled"}
WORDS = {"valid": "May sign now", "ahead": "Not yet", "ended": "Ended"}


def stand_ins(request: HttpRequest, slug: str) -> HttpResponse:
    project = project_for(request, slug, PLAN if request.method == "POST" else READ_ALL)
    form = StandInForm(posted(request), project=project)

    def save() -> None:
        verbs.appoint(project=project, **form.values("first_day", "last_day"), user=person(request))

    if request.method == "POST" and form.is_valid() and carried_out(form, save):
        who, until = form.cleaned_data["person"], form.cleaned_data["last_day"]
        messages.success(request, f"{who.get_full_name() or who} stands in until the end of {until:%-d %B}.")
        return redirect("stand-ins", slug)
    found = StandIn.objects.filter(application__project=project).select_related(
        "application", "owner", "person", "by", "ended_by"
    )
    rows = [(row, SIGNS[row.state], WORDS[row.state]) for row in found]
    with timezone.override(ZoneInfo(project.time_zone)):
        return list_page(request, "people/stand_ins.html", project, form=form, rows=rows, zone=project.time_zone)


@require_POST
def stand_in_end(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    project = project_for(request, slug, PLAN)
    found = get_object_or_404(
        StandIn.objects.select_related("application", "owner", "person"), application__project=project, pk=pk
    )
    pressed(request, lambda: verbs.end(found, user=person(request)), f"{found}: ended.")
    return redirect("stand-ins", slug)
