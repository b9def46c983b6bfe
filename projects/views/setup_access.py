"""Credentials, platforms and name servers of a project."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from projects import planning_access as verbs
from projects.access import PLAN, READ_ALL, project_for
from projects.forms.access import FIELDS_OF, HINTS, CredentialForm, NameServerForm, PlatformForm
from projects.models import Project
from servers import checks
from servers.models import Credential

from .setup_common import (
    Trail,
    carried_out,
    check_run,
    check_tag,
    form_page,
    list_page,
    may_plan,
    person,
    posted,
    pressed,
    trail_of,
    zoned,
)


def trail_to(project: Project, title: str, name: str) -> Trail:
    return trail_of(project, (title, reverse(name, args=[project.slug])))


@require_GET
def credentials(request: HttpRequest, slug: str) -> HttpResponse:
    project = project_for(request, slug, READ_ALL)
    found = list(project.credentials.filter(internal=False).order_by("name"))
    uses = verbs.used_by(found)
    rows = [(credential, uses[credential.pk]) for credential in found]
    return list_page(request, "setup/credentials.html", project, rows=rows)


def credential_new(request: HttpRequest, slug: str) -> HttpResponse:
    """First which kind, then the fields of that kind."""
    project = project_for(request, slug, PLAN)
    kind = (request.POST if request.method == "POST" else request.GET).get("kind", "")
    trail = trail_to(project, "Credentials", "credentials")
    if kind not in FIELDS_OF:
        kinds = [(value, label, HINTS[value]) for value, label in Credential.Kind.choices]
        if request.method == "POST":
            messages.error(request, f"Kind “{kind}” is not known. Choose one of these.")
        return list_page(request, "setup/credential_kind.html", project, kinds=kinds, trail=trail)
    form = CredentialForm(posted(request), project=project, kind=kind)

    def save() -> None:
        verbs.save_credential(project=project, values=form.row_values(), user=person(request))

    if request.method == "POST" and form.is_valid() and carried_out(form, save):
        messages.success(request, f"Credential {form.cleaned_data['name']} is stored, encrypted.")
        return redirect("credentials", slug)
    title = f"New credential: {Credential.Kind(kind).label}"
    return form_page(request, form, title=title, trail=trail, project=project, note=HINTS[kind])


def credential_edit(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    project = project_for(request, slug, PLAN)
    credential = get_object_or_404(project.credentials.filter(internal=False), pk=pk)
    form = CredentialForm(posted(request), project=project, kind=credential.kind, row=credential)

    def save() -> None:
        verbs.save_credential(project=project, credential=credential, values=form.row_values(), user=person(request))

    if request.method == "POST" and form.is_valid() and carried_out(form, save):
        messages.success(request, f"Credential {credential} is changed.")
        return redirect("credentials", slug)
    uses = verbs.used_by([credential])[pk]
    return form_page(
        request,
        form,
        title=f"Change credential: {credential.get_kind_display()}",
        trail=trail_to(project, "Credentials", "credentials"),
        project=project,
        note=f"Used by {', '.join(uses)}." if uses else "Not used yet.",
    )


@require_GET
def platforms(request: HttpRequest, slug: str) -> HttpResponse:
    project = project_for(request, slug, READ_ALL)
    found = project.platforms.select_related("credential").order_by("name")
    return list_page(request, "setup/platforms.html", project, platforms=found)


def platform_new(request: HttpRequest, slug: str) -> HttpResponse:
    project = project_for(request, slug, PLAN)
    form = PlatformForm(posted(request), project=project, user=person(request))
    made = []

    def save() -> None:
        made.append(verbs.save_platform(project=project, values=form.values("secret_again"), user=person(request)))

    if request.method == "POST" and form.is_valid() and carried_out(form, save):
        messages.success(request, f"Platform {made[0]} is entered. Check it now.")
        return redirect("platform", slug, made[0].pk)
    missing = "" if form.logins.exists() else "It needs an API account: enter a credential first."
    trail = trail_to(project, "Platforms", "platforms")
    return form_page(request, form, title="New platform", trail=trail, project=project, note=missing)


def platform_edit(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    project = project_for(request, slug, PLAN)
    platform = get_object_or_404(project.platforms, pk=pk)
    form = PlatformForm(posted(request), project=project, user=person(request), row=platform)

    def save() -> None:
        verbs.save_platform(
            project=project, platform=platform, values=form.values("secret_again"), user=person(request)
        )

    if request.method == "POST" and form.is_valid() and carried_out(form, save):
        messages.success(request, f"Platform {platform} is changed.")
        return redirect("platform", slug, pk)
    trail = [*trail_to(project, "Platforms", "platforms"), (str(platform), reverse("platform", args=[slug, pk]))]
    return form_page(request, form, title="Change platform", trail=trail, project=project)


@require_GET
def platform(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    project = project_for(request, slug, READ_ALL)
    run = check_run(f"check.platform.{pk}")
    tag = check_tag(run)
    region = request.GET.get("region") == "check"
    if region and request.GET.get("v") == tag:
        get_object_or_404(project.platforms, pk=pk)
        return HttpResponse(status=204)
    found = get_object_or_404(project.platforms.select_related("credential"), pk=pk)
    context = {
        "project": project,
        "platform": found,
        "run": run,
        "tag": tag,
        "may_plan": may_plan(request, project),
        "trail": trail_to(project, "Platforms", "platforms"),
        "here": reverse("platform", args=[slug, pk]),
    }
    return zoned(request, f"setup/platform.html{'#check' if region else ''}", project, context)


@require_POST
def platform_check(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    project = project_for(request, slug, PLAN)
    found = get_object_or_404(project.platforms, pk=pk)
    pressed(
        request,
        lambda: checks.request_platform_check(found, user=person(request), wanted=verbs.planned_on(found, project)),
        f"The check of {found} is requested.",
    )
    return redirect("platform", slug, pk)


@require_GET
def name_servers(request: HttpRequest, slug: str) -> HttpResponse:
    project = project_for(request, slug, READ_ALL)
    found = project.name_servers.select_related("credential").order_by("zone", "name")
    return list_page(request, "setup/name_servers.html", project, name_servers=found)


def name_server_new(request: HttpRequest, slug: str) -> HttpResponse:
    return _name_server(request, slug, None)


def name_server_edit(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    return _name_server(request, slug, pk)


def _name_server(request: HttpRequest, slug: str, pk: int | None) -> HttpResponse:
    project = project_for(request, slug, PLAN)
    row = get_object_or_404(project.name_servers, pk=pk) if pk else None
    form = NameServerForm(posted(request), project=project, row=row)

    def save() -> None:
        verbs.save_name_server(project=project, name_server=row, values=form.values(), user=person(request))

    if request.method == "POST" and form.is_valid() and carried_out(form, save):
        messages.success(request, f"Name server {form.cleaned_data['name']} is saved.")
        return redirect("name-servers", slug)
    return form_page(
        request,
        form,
        title="Change name server" if row else "New name server",
        trail=trail_to(project, "Name servers", "name-servers"),
        project=project,
        note="" if form.keys.exists() else "It needs a TSIG key: enter a credential of that kind first.",
    )
