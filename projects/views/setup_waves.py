"""Waves, change freezes and profiles."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from projects import calendar
from projects import planning_waves as verbs
from projects.access import PLAN, READ_ALL, project_for
from projects.forms.profile import ProfileForm
from projects.forms.profile_choices import PLACE_FIELDS
from projects.forms.wave import FreezeForm, RangeForm, WaveForm
from projects.models import ChangeFreeze, Project, Wave

from .setup_common import carried_out, form_page, list_page, person, posted, pressed, trail_of


def window_of(row: Wave | ChangeFreeze) -> dict[str, str]:
    """A window in words: when and how long, and what the clocks do."""
    if not row.starts_at or not row.ends_at:
        return {}
    window = calendar.Window(row.starts_at, row.ends_at, row.time_zone)
    return {"words": calendar.window_words(window), "clocks": calendar.dst_words(window)}


@require_GET
def waves(request: HttpRequest, slug: str) -> HttpResponse:
    project = project_for(request, slug, READ_ALL)
    freezes = list(project.change_freezes.order_by("starts_at"))
    rows = [
        {
            "wave": wave,
            "window": window_of(wave),
            "clashes": [str(freeze) for freeze in freezes if touches(wave, freeze)],
        }
        for wave in project.waves.annotate(servers=Count("migrations"))
    ]
    frozen = [{"freeze": freeze, "window": window_of(freeze)} for freeze in freezes]
    return list_page(request, "setup/waves.html", project, rows=rows, frozen=frozen)


def touches(wave: Wave, freeze: ChangeFreeze) -> bool:
    if not wave.starts_at or not wave.ends_at:
        return False
    return wave.starts_at < freeze.ends_at and freeze.starts_at < wave.ends_at


def wave_new(request: HttpRequest, slug: str) -> HttpResponse:
    return _wave(request, slug, None)


def wave_edit(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    return _wave(request, slug, pk)


def _wave(request: HttpRequest, slug: str, pk: int | None) -> HttpResponse:
    project = project_for(request, slug, PLAN)
    row = get_object_or_404(project.waves, pk=pk) if pk else None
    form = WaveForm(posted(request), project=project, row=row)
    saved: list[Wave] = []

    def save() -> None:
        saved.append(verbs.save_wave(project=project, wave=row, values=form.row_values(), user=person(request)))

    if request.method == "POST" and form.is_valid() and carried_out(form, save):
        window = form.window()
        said = f" Window: {calendar.window_words(window)}." if window else " It has no window: the go alone decides."
        messages.success(request, f"{saved[0]} is saved.{said}")
        for remark in form.remarks():
            messages.warning(request, remark)
        for freeze in verbs.clashes(saved[0]):
            messages.warning(request, f"Change freeze {freeze} covers part of this window: no cutover starts in it.")
        return redirect("waves", slug)
    return _range_page(request, form, project, "Change wave" if row else "New wave")


def freeze_new(request: HttpRequest, slug: str) -> HttpResponse:
    return _freeze(request, slug, None)


def freeze_edit(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    return _freeze(request, slug, pk)


def _freeze(request: HttpRequest, slug: str, pk: int | None) -> HttpResponse:
    project = project_for(request, slug, PLAN)
    row = get_object_or_404(project.change_freezes, pk=pk) if pk else None
    form = FreezeForm(posted(request), project=project, row=row)

    def save() -> None:
        verbs.save_freeze(project=project, freeze=row, values=form.row_values(), user=person(request))

    if request.method == "POST" and form.is_valid() and carried_out(form, save):
        messages.success(request, f"Change freeze {form.cleaned_data['name']} is saved.")
        return redirect("waves", slug)
    return _range_page(request, form, project, "Change the change freeze" if row else "New change freeze")


def _range_page(request: HttpRequest, form: RangeForm, project: Project, title: str) -> HttpResponse:
    trail = trail_of(project, ("Waves", reverse("waves", args=[project.slug])))
    return form_page(request, form, title=title, trail=trail, project=project)


@require_POST
def freeze_remove(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    project = project_for(request, slug, PLAN)
    freeze = get_object_or_404(project.change_freezes, pk=pk)
    name = freeze.name
    pressed(request, lambda: verbs.remove_freeze(freeze=freeze, user=person(request)), f"{name} is removed.")
    return redirect("waves", slug)


@require_GET
def profiles(request: HttpRequest, slug: str) -> HttpResponse:
    project = project_for(request, slug, READ_ALL)
    found = project.profiles.select_related("platform").annotate(servers=Count("migrations"))
    return list_page(request, "setup/profiles.html", project, profiles=found)


def profile_new(request: HttpRequest, slug: str) -> HttpResponse:
    return _profile(request, slug, None)


def profile_edit(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    return _profile(request, slug, pk)


def _profile(request: HttpRequest, slug: str, pk: int | None) -> HttpResponse:
    """Save, or with `load` only ask the platform for the choices that depend on what is chosen so far."""
    project = project_for(request, slug, PLAN)
    row = get_object_or_404(project.profiles.select_related("platform"), pk=pk) if pk else None
    sent = request.POST if request.method == "POST" else request.GET
    loading = "load" in sent
    if request.method == "POST" and not loading:
        form = ProfileForm(request.POST, project=project, row=row)
    else:
        typed: dict[str, Any] = {name: sent[name] for name in ProfileForm.base_fields if name in sent}
        if typed:
            typed["identity"] = sent.getlist("identity")  # ticks: several values of one name
        form = ProfileForm(project=project, row=row, typed=typed, reload=loading or ("platform" in typed and not row))

    def save() -> None:
        verbs.save_profile(project=project, profile=row, values=form.row_values(), user=person(request))

    if form.is_bound and form.is_valid() and carried_out(form, save):
        messages.success(request, f"Profile {form.cleaned_data['name']} is saved.")
        return redirect("profiles", slug)
    return form_page(
        request,
        form,
        title="Change profile" if row else "New profile",
        trail=trail_of(project, ("Profiles", reverse("profiles", args=[slug]))),
        project=project,
        template="setup/profile.html",
        loaded=loading,
        notes=form.notes() if not form.is_bound else [],
        complete=all(form.choices.lists.get(name) for name in PLACE_FIELDS),
    )
