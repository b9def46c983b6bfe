"""Planning: every server and what it waits for; the plan of one server; its probes."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.db.models import Exists
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from projects import planning as verbs
from projects.access import PLAN, READ_ALL, migration_for, project_for
from projects.forms.plan import PlanForm, offered, services_seen
from projects.forms.probe import PARAMETERS, ProbeForm
from projects.lanes import lanes_for
from projects.models import Migration, Project, Step
from projects.steps import MODULES
from servers.models import Probe

from .setup_common import Trail, carried_out, form_page, list_page, may_plan, person, posted, pressed, trail_of


@require_GET
def planning(request: HttpRequest, slug: str) -> HttpResponse:
    project = project_for(request, slug, READ_ALL)
    rows = list(
        project.migrations.filter(state=Migration.State.OPEN)
        .select_related("source", "wave", "application", "profile")
        .prefetch_related("steps")
        .order_by("wave__number", "source__name")
    )
    missing = missing_of(rows)
    shown = [(row, missing.get(row.pk, []), row.pk not in missing) for row in rows]
    return list_page(request, "setup/planning.html", project, rows=shown)


def missing_of(migrations: list[Migration]) -> dict[int, list[str]]:
    """What keeps each server from its first step, in words; nothing for those that have begun it."""
    planned = [row for row in migrations if row.steps.all()]
    found = {row.pk: ["Not planned yet."] for row in migrations if not row.steps.all()}
    for lane in lanes_for(planned):
        if lane.state(Step.Kind.INITIAL) in (Step.State.WAITING, Step.State.READY):
            found[lane.migration.pk] = [unmet.text for unmet in MODULES[Step.Kind.INITIAL].unmet(lane)]
    return found


def plan_trail(project: Project, *more: tuple[str, str]) -> Trail:
    return trail_of(project, ("Planning", reverse("planning", args=[project.slug])), *more)


def needed(project: Project) -> list[tuple[str, str]]:
    """What must be entered before a server can be planned: words and where."""
    rows = offered(project)
    pages = {"application": "application-new", "profile": "profile-new", "wave": "wave-new"}
    has = Project.objects.annotate(**{f"has_{name}": Exists(rows[name]) for name in pages}).get(pk=project.pk)
    return [
        (f"There is no {name} yet", reverse(page, args=[project.slug]))
        for name, page in pages.items()
        if not getattr(has, f"has_{name}")
    ]


def plan(request: HttpRequest, pk: int) -> HttpResponse:
    migration = migration_for(request, pk, PLAN if request.method == "POST" else READ_ALL)
    form = PlanForm(posted(request), migration=migration)

    def save() -> None:
        verbs.plan_server(migration=migration, values=form.values(), user=person(request))

    if request.method == "POST" and form.is_valid() and carried_out(form, save):
        messages.success(request, f"{migration} is planned into {form.cleaned_data['wave']}.")
        for remark in remarks(migration, form.cleaned_data["services"]):
            messages.warning(request, remark)
        return redirect("plan", pk)
    project = migration.project
    return form_page(
        request,
        form,
        title=f"Plan {migration}",
        trail=plan_trail(project),
        project=project,
        template="setup/plan.html",
        migration=migration,
        may_plan=may_plan(request, project),
        services=services_seen(migration.source),
        probes=migration.source.probes.all(),
        probe_kinds=Probe.Kind.choices,
        needed=needed(project),
    )


def remarks(migration: Migration, services: list[str]) -> list[str]:
    """What a person should know about a plan just saved, none of it a reason to refuse it."""
    seen = {name.removesuffix(".service") for name in services_seen(migration.source)}
    said = [
        f"Service {name} was not among those that ran on {migration} when it was last looked at."
        for name in services
        if seen and name.removesuffix(".service") not in seen
    ]
    if not services:
        said.append("No service is named: whatever writes on the source goes on until it is shut down.")
    return said


@require_POST
def plan_remove(request: HttpRequest, pk: int) -> HttpResponse:
    migration = migration_for(request, pk, PLAN)
    pressed(
        request,
        lambda: verbs.remove_from_wave(migration=migration, user=person(request)),
        f"{migration} is out of its wave.",
    )
    return redirect("planning", migration.project.slug)


def probe_new(request: HttpRequest, pk: int) -> HttpResponse:
    migration = migration_for(request, pk, PLAN)
    kind = (request.POST if request.method == "POST" else request.GET).get("kind", "")
    if kind not in PARAMETERS:
        messages.error(request, f"Kind of probe “{kind}” is not known. Choose one of those below.")
        return redirect("plan", pk)
    return _probe(request, migration, kind, None)


def probe_of(request: HttpRequest, pk: int) -> tuple[Probe, Migration]:
    """A probe by its source's migration that this person plans; 404 for everybody outside."""
    probe = get_object_or_404(Probe.objects.select_related("server"), pk=pk)
    newest = get_object_or_404(
        Migration.objects.visible_to(request.user).filter(source=probe.server).order_by("-pk")[:1]
    )
    return probe, migration_for(request, newest.pk, PLAN)


def probe_edit(request: HttpRequest, pk: int) -> HttpResponse:
    probe, migration = probe_of(request, pk)
    return _probe(request, migration, probe.kind, probe)


def _probe(request: HttpRequest, migration: Migration, kind: str, row: Probe | None) -> HttpResponse:
    form = ProbeForm(posted(request), server=migration.source, kind=kind, row=row)

    def save() -> None:
        verbs.save_probe(migration=migration, probe=row, values=form.row_values(), user=person(request))

    if request.method == "POST" and form.is_valid() and carried_out(form, save):
        messages.success(request, f"Probe {form.cleaned_data['name']} is saved.")
        return redirect("plan", migration.pk)
    words: Any = Probe.Kind(kind).label
    trail = plan_trail(migration.project, (str(migration), reverse("plan", args=[migration.pk])))
    title = f"{'Change' if row else 'New'} probe: {words}"
    return form_page(request, form, title=title, trail=trail, project=migration.project)


@require_POST
def probe_remove(request: HttpRequest, pk: int) -> HttpResponse:
    probe, migration = probe_of(request, pk)
    name = probe.name
    pressed(
        request,
        lambda: verbs.remove_probe(migration=migration, probe=probe, user=person(request)),
        f"Probe {name} is removed.",
    )
    return redirect("plan", migration.pk)
