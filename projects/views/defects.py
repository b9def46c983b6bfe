"""Defects of a project: the list, one of them, raising one, and what is pressed on it."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from migrationhub.lib.reading import whole
from projects import attachments
from projects import defects as verbs
from projects.access import RUN, application_for, may_sign, project_for, require, role_in, wave_for
from projects.errors import NotReady
from projects.forms.defects import DefectForm, assignees, members_of
from projects.models import Attachment, Defect
from projects.readers import may_see

from .acts import number, perform, person
from .contexts.live import page
from .setup_common import carried_out, posted

PAGE = 100
# What a state is drawn as, and what its button says.
SIGNS = {"open": "failed", "in_work": "running", "mended": "relook", "verified": "done", "rejected": "cancelled"}
LABELS = {
    Defect.State.OPEN: "Open it again",
    Defect.State.IN_WORK: "Take it into work",
    Defect.State.MENDED: "Mended",
    Defect.State.VERIFIED: "Verified: it works",
    Defect.State.REJECTED: "Reject it",
}


@require_safe
def defects(request: HttpRequest, slug: str) -> HttpResponse:
    """Unsettled ones first and by default; `?show=all` for all of them."""
    project = project_for(request, slug)
    everything = request.GET.get("show") == "all"
    rows = Defect.objects.visible_to(request.user).filter(project=project)
    shown = rows if everything else rows.filter(state__in=Defect.UNSETTLED)
    shown = shown.select_related("application", "wave", "step__migration__source", "assignee", "raised_by")
    found = list(shown.worst_first()[: PAGE + 1])

    return page(
        request,
        "defects.html",
        lambda: {
            "rows": [(each, SIGNS[each.state]) for each in found[:PAGE]],
            "everything": everything,
            "all": rows.count(),
            "blocking": rows.holding().count(),
            "more": len(found) > PAGE,
        },
        project=project,
    )


def defect_new(request: HttpRequest, wave_pk: int, application_pk: int) -> HttpResponse:
    wave, application = wave_for(request, wave_pk), application_for(request, application_pk, wave=wave_pk)
    if application.project_id != wave.project_id:
        raise Http404
    if not (may_sign(application, request.user) or role_in(wave.project, request.user) in RUN):
        require(wave.project, request.user, RUN)
    form = DefectForm(posted(request), wave=wave, application=application)

    def save() -> None:
        verbs.raise_defect(form.draft(), user=person(request))

    acceptance = reverse("acceptance", args=[wave.pk, application.pk])
    if request.method == "POST" and form.is_valid() and carried_out(form, save):
        messages.success(request, f"“{form.cleaned_data['title']}” is raised. Who runs the migration sees it now.")
        return redirect(acceptance)
    context = {
        "form": form,
        "title": f"Something does not work in {application}",
        "trail": [(wave.project.name, reverse("progress", args=[wave.project.slug])), (str(application), acceptance)],
        "submit": "Raise the defect",
        "cancel": acceptance,
        "zone": wave.time_zone,
    }
    return render(request, "defect_new.html", context)


def _defect(request: HttpRequest, pk: int) -> Defect:
    """The defect, for whoever may see its application; everybody else finds nothing."""
    rows = Defect.objects.visible_to(request.user)
    return get_object_or_404(
        rows.select_related(
            "project",
            "application__owner",
            "wave",
            "step__migration__source",
            "assignee",
            "raised_by",
            "changed_by",
            "mended_by",
            "decision",
        ),
        pk=pk,
    )


@require_safe
def defect(request: HttpRequest, pk: int) -> HttpResponse:
    found = _defect(request, pk)
    user = person(request)
    moves = verbs.may_move(found, user)
    concerned = found.raised_by_id == user.pk or may_sign(found.application, user)
    may_change = not found.is_settled and (role_in(found.project, user) in RUN or concerned)
    return page(
        request,
        "defect.html",
        lambda: {
            "defect": found,
            "sign_of": SIGNS[found.state],
            "moves": [(to, LABELS[Defect.State(to)], to in verbs.WITH_REASON or found.is_settled) for to in moves],
            "may_change": may_change,
            "may_attach": not found.is_settled and attachments.may_attach(found, user),
            "files": list(Attachment.objects.standing().filter(defect=found)),
            "members": assignees(found.application, found.wave_id) if may_change else (),
            "lost": found.assignee is not None and not may_see(found.application, found.wave_id, found.assignee),
            "severities": Defect.Severity.choices,
        },
        project=found.project,
        zone=found.wave.time_zone,
    )


@require_POST
def defect_move(request: HttpRequest, pk: int) -> HttpResponse:
    found = _defect(request, pk)
    to = request.POST.get("to", "")
    return perform(
        request,
        lambda: verbs.move(
            pk,
            user=person(request),
            to=to,
            reason=request.POST.get("reason", ""),
            seen=request.POST.get("seen_state", ""),
        ),
        f"{found} is {dict(Defect.State.choices).get(to, to).lower()} now.",
        reverse("defect", args=[pk]),
    )


@require_POST
def defect_change(request: HttpRequest, pk: int) -> HttpResponse:
    found = _defect(request, pk)

    def act() -> None:
        verbs.change(
            pk,
            user=person(request),
            severity=request.POST.get("severity", ""),
            assignee=_member(request, found),
            reason=request.POST.get("reason", ""),
            seen=number(request, "seen_version") if request.POST.get("seen_version") else 0,
        )

    return perform(request, act, f"{found} is changed.", reverse("defect", args=[pk]))


def _member(request: HttpRequest, found: Defect) -> User | None:
    value = request.POST.get("assignee", "")
    if not value:
        return None
    member = User.objects.filter(pk__in=members_of(found.project_id), pk=whole(value) or 0).first()
    if member is None:
        raise NotReady([f"assignee={value[:40]}: not a member of {found.project}."])
    return member
