"""What the set-up pages do the same way: draw a form, carry out a verb, follow a check while it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo

from django.contrib import messages
from django.contrib.auth.models import User
from django.db import IntegrityError
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone

from migrationhub.lib.findings import Problem
from projects import calendar
from projects.access import PLAN, role_in
from projects.forms.base import SetupForm
from projects.models import Project
from servers.models import Run

Trail = list[tuple[str, str]]


def person(request: HttpRequest) -> User:
    """Who is logged in; every page here is behind the login."""
    assert isinstance(request.user, User)
    return request.user


def posted(request: HttpRequest) -> QueryDict | None:
    """What was sent; an empty form is sent too."""
    return request.POST if request.method == "POST" else None


def carried_out(form: SetupForm, verb: Callable[[], Any]) -> bool:
    """Do it; what the verb refuses stands on the form, and nothing that was typed is lost."""
    try:
        verb()
    except Problem as problem:
        form.refuse(problem)
    except IntegrityError:
        form.refuse(Problem("Somebody saved the same name or number in this moment.", "Change it and save again."))
    else:
        return True
    return False


def pressed(request: HttpRequest, verb: Callable[[], Any], done: str) -> bool:
    """A button: what came of it is a message on the page that follows. Whether it was done."""
    try:
        verb()
    except Problem as problem:
        messages.error(request, f"{problem.text} {problem.act}".strip())
        return False
    messages.success(request, done)
    return True


def trail_of(project: Project, *more: tuple[str, str]) -> Trail:
    return [(project.name, reverse("project-setup", args=[project.slug])), *more]


def may_plan(request: HttpRequest, project: Project) -> bool:
    return role_in(project, request.user) in PLAN


def form_page(
    request: HttpRequest,
    form: SetupForm,
    *,
    title: str,
    trail: Trail,
    project: Project | None = None,
    template: str = "setup/form.html",
    **more: Any,
) -> HttpResponse:
    """`more`: subtitle, submit, note, cancel (an address), and what a template of its own needs."""
    context = {
        "form": form,
        "title": title,
        "trail": trail,
        "project": project,
        "zones": calendar.zone_names() if "time_zone" in form.fields else (),
        "submit": "Save",
        "cancel": trail[-1][1] if trail else "",
        **more,
    }
    return zoned(request, template, project, context)


def list_page(request: HttpRequest, template: str, project: Project, **more: Any) -> HttpResponse:
    context = {"project": project, "trail": trail_of(project), "may_plan": may_plan(request, project), **more}
    return zoned(request, template, project, context)


def zoned(request: HttpRequest, template: str, project: Project | None, context: dict[str, Any]) -> HttpResponse:
    """Drawn with times in the project's zone."""
    zone = project.time_zone if project else "UTC"
    with timezone.override(ZoneInfo(zone)):
        return render(request, template, {**context, "zone": zone})


def check_run(work_key: str) -> Run | None:
    """The last try of a check, open or ended."""
    return Run.objects.filter(work_key=work_key).order_by("-number").select_related("requested_by").first()


def check_tag(run: Run | None) -> str:
    """Changes whenever something of the run does."""
    return f"{run.pk}.{run.version}.{run.state}" if run else "none"
