"""What a newer version of its template would bring into a step's checklist, and the button that takes it."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse

from projects import checklists, list_versions
from projects.access import PLAN, migration_for
from projects.models import Step

from .acts import perform, person
from .setup_common import zoned


def step_checklist(request: HttpRequest, pk: int) -> HttpResponse:
    step = get_object_or_404(Step.objects.select_related("template"), pk=pk)
    migration = migration_for(request, step.migration_id, PLAN)
    step.migration = migration
    if request.method == "POST":
        name = step.get_kind_display().lower()
        return perform(
            request,
            lambda: list_versions.take(pk, user=person(request), seen=request.POST.get("revision", "")),
            f"The checklist of {name} has the new items; what was answered stays.",
            reverse("migration", args=[migration.pk]),
        )
    found = list_versions.difference(step)
    context = {
        "project": migration.project,
        "migration": migration,
        "step": step,
        "found": found,
        "seen": checklists.mark(found.template),
        "is_newest": step.template_id == found.template.pk,
        "unmet": list_versions.unmet(step),
        "is_uat": step.kind == Step.Kind.UAT,
    }
    return zoned(request, "list_version.html", migration.project, context)
