"""Files as evidence: attach, hand out, take back."""

from __future__ import annotations

from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from projects import attachments as verbs
from projects.access import migration_for
from projects.models import Attachment, ChecklistItem, Defect

from .acts import perform, person

KEPT = "The file was attached."


@require_POST
def item_attach(request: HttpRequest, pk: int) -> HttpResponse:
    item = get_object_or_404(ChecklistItem.objects.select_related("step__migration__project"), pk=pk)
    migration = migration_for(request, item.step.migration_id)
    item.step.migration = migration
    upload = request.FILES.get("file")
    return perform(
        request,
        lambda: verbs.keep(upload, on=item, user=person(request)),
        KEPT,
        reverse("migration", args=[migration.pk]),
    )


@require_POST
def defect_attach(request: HttpRequest, pk: int) -> HttpResponse:
    rows = Defect.objects.visible_to(request.user).select_related("project", "application__owner", "step")
    found = get_object_or_404(rows, pk=pk)
    upload = request.FILES.get("file")
    return perform(
        request,
        lambda: verbs.keep(upload, on=found, user=person(request)),
        KEPT,
        reverse("defect", args=[pk]),
    )


def _attachment(request: HttpRequest, pk: int) -> Attachment:
    rows = Attachment.objects.visible_to(request.user).select_related(
        "project", "item__step__migration__project", "defect__step"
    )
    return get_object_or_404(rows, pk=pk)


@require_safe
def attachment(request: HttpRequest, pk: int) -> HttpResponseBase:
    """The content, to be saved: never drawn by the browser as a page of ours."""
    found = _attachment(request, pk)
    if found.withdrawn_at is not None:
        raise Http404("This file was taken back.")
    try:
        content = found.file.open("rb")
    except FileNotFoundError:
        raise Http404(f"The content of “{found}” is not on the hub's disk any more.") from None
    kind = verbs.KINDS[verbs.ending_of(found.name)]
    answer = FileResponse(content, as_attachment=True, filename=found.name, content_type=kind.content_type)
    answer["X-Content-Type-Options"] = "nosniff"
    answer["Content-Security-Policy"] = "sandbox; default-src 'none'"
    answer["Cache-Control"] = "private, no-store"
    return answer


@require_POST
def attachment_withdraw(request: HttpRequest, pk: int) -> HttpResponse:
    found = _attachment(request, pk)
    back = (
        reverse("defect", args=[found.defect_id])
        if found.item is None
        else reverse("migration", args=[found.item.step.migration_id])
    )
    return perform(
        request,
        lambda: verbs.withdraw(found, user=person(request)),
        f"“{found}” was taken back.",
        back,
    )
