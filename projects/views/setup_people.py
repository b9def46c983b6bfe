"""Project, members, applications."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from projects import planning_people as verbs
from projects.access import PLAN, READ_ALL, application_for, lead_anywhere, project_for
from projects.forms.people import ApplicationForm, MemberForm, ProjectForm, RoleForm
from projects.models import Membership, Project

from .setup_common import carried_out, form_page, list_page, may_plan, person, posted, pressed, trail_of
from .setup_path import path_of


@lead_anywhere
def project_new(request: HttpRequest) -> HttpResponse:
    form = ProjectForm(posted(request))

    def save() -> None:
        verbs.create_project(**form.values(), user=person(request))

    if request.method == "POST" and form.is_valid() and carried_out(form, save):
        messages.success(request, f"Project {form.cleaned_data['name']} is made, and you lead it.")
        return redirect("project-setup", form.cleaned_data["slug"])
    return form_page(
        request, form, title="New project", trail=[("Overview", reverse("overview"))], submit="Make the project"
    )


@require_GET
def project_setup(request: HttpRequest, slug: str) -> HttpResponse:
    project = project_for(request, slug, READ_ALL)
    path = path_of(project)
    done = sum(not stage.missing for stage in path)
    return list_page(request, "setup/project.html", project, path=path, done=done, trail=[])


def project_edit(request: HttpRequest, slug: str) -> HttpResponse:
    project = project_for(request, slug, PLAN)
    form = ProjectForm(posted(request), row=project)

    def save() -> None:
        verbs.change_project(project=project, **form.values(), user=person(request))

    if request.method == "POST" and form.is_valid() and carried_out(form, save):
        messages.success(request, f"Project {project} is changed.")
        return redirect("project-setup", project.slug)
    shown = Project.objects.get(pk=project.pk)
    return form_page(request, form, title=f"Change {shown}", trail=trail_of(shown), project=shown)


def members(request: HttpRequest, slug: str) -> HttpResponse:
    project = project_for(request, slug, PLAN if request.method == "POST" else READ_ALL)
    form = MemberForm(posted(request))

    def save() -> None:
        data = form.cleaned_data
        verbs.add_member(project=project, person=data["person"], role=data["role"], user=person(request))

    if request.method == "POST" and form.is_valid() and carried_out(form, save):
        messages.success(request, f"{form.cleaned_data['person']} is a member of {project}.")
        return redirect("members", slug)
    found = project.memberships.select_related("user")
    return list_page(request, "setup/members.html", project, form=form, members=found, roles=Membership.Role.choices)


def member_of(request: HttpRequest, slug: str, pk: int) -> Membership:
    project = project_for(request, slug, PLAN)
    return get_object_or_404(Membership.objects.select_related("user", "project"), project=project, pk=pk)


@require_POST
def member_role(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    member = member_of(request, slug, pk)
    form = RoleForm(request.POST)
    if form.is_valid():
        role = form.cleaned_data["role"]
        _with_ends(
            request,
            lambda: verbs.change_member(member=member, role=role, user=person(request)),
            f"{member.user} is {role} now.",
        )
    else:
        messages.error(request, " ".join(map(str, form.errors["role"])))
    return redirect("members", slug)


@require_POST
def member_remove(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    member = member_of(request, slug, pk)
    _with_ends(
        request,
        lambda: verbs.remove_member(member=member, user=person(request)),
        f"{member.user} is no member of {member.project} any more.",
    )
    return redirect("members", slug)


def _with_ends(request: HttpRequest, verb: Callable[[], list[str]], done: str) -> None:
    """A button after which something else ended too: each is told."""
    ended: list[str] = []
    if pressed(request, lambda: ended.extend(verb()), done):
        for words in ended:
            messages.warning(request, words)


@require_GET
def applications(request: HttpRequest, slug: str) -> HttpResponse:
    project = project_for(request, slug, READ_ALL)
    found = project.applications.select_related("owner").prefetch_related("waits_for", "migrations__source")
    return list_page(request, "setup/applications.html", project, applications=found)


def application_new(request: HttpRequest, slug: str) -> HttpResponse:
    project = project_for(request, slug, PLAN)
    form = ApplicationForm(posted(request), project=project)

    def save() -> None:
        verbs.save_application(project=project, **form.values(), user=person(request))

    if request.method == "POST" and form.is_valid() and carried_out(form, save):
        messages.success(request, f"Application {form.cleaned_data['name']} is entered.")
        return redirect("applications", slug)
    return form_page(
        request,
        form,
        title="New application",
        trail=trail_of(project, ("Applications", reverse("applications", args=[slug]))),
        project=project,
        note="" if form.owners.exists() else "Only an application owner can own it: add such a member first.",
    )


def application_edit(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    project = project_for(request, slug, PLAN)
    application = application_for(request, pk, PLAN)
    get_object_or_404(project.applications, pk=pk)
    form = ApplicationForm(posted(request), project=project, row=application)

    def save() -> None:
        verbs.save_application(project=project, application=application, **form.values(), user=person(request))

    if request.method == "POST" and form.is_valid() and carried_out(form, save):
        messages.success(request, f"Application {application} is changed.")
        return redirect("applications", slug)
    return form_page(
        request,
        form,
        title="Change application",
        trail=trail_of(project, ("Applications", reverse("applications", args=[slug]))),
        project=project,
        may_plan=may_plan(request, project),
    )
