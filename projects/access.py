"""Who may see and do what. Every view's first line comes from here; an outsider gets 404.

Roles in a project: lead (plans and runs), operator (runs), application owner (sees and signs for their own
applications only), manager (reads everything, changes nothing).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404

from .models import Application, Membership, Migration, Project, Wave

Role = Membership.Role
PLAN = (Role.LEAD,)  # set up, plan, decide the go
RUN = (Role.LEAD, Role.OPERATOR)  # start, retry, cancel
READ = (Role.LEAD, Role.OPERATOR, Role.MANAGER, Role.OWNER)
READ_ALL = (Role.LEAD, Role.OPERATOR, Role.MANAGER)


def role_in(project: Project, user: User | AnonymousUser) -> str | None:
    """The user's role in the project; None for an outsider."""
    if not user.pk:
        return None
    return Membership.objects.filter(project=project, user_id=user.pk).values_list("role", flat=True).first()


def require(project: Project, user: User | AnonymousUser, roles: tuple[str, ...]) -> str:
    """The user's role, if it is one of `roles`. Raises Http404 for outsiders, PermissionDenied otherwise."""
    role = role_in(project, user)
    if role is None:
        raise Http404
    if role not in roles:
        raise PermissionDenied(f"Your role in this project is {role}; this needs {' or '.join(roles)}.")
    return role


def project_for(request: HttpRequest, slug: str, roles: tuple[str, ...] = READ) -> Project:
    project = get_object_or_404(Project.objects.visible_to(request.user), slug=slug)
    require(project, request.user, roles)
    return project


def wave_for(request: HttpRequest, pk: int, roles: tuple[str, ...] = READ) -> Wave:
    wave = get_object_or_404(Wave.objects.visible_to(request.user).select_related("project"), pk=pk)
    require(wave.project, request.user, roles)
    return wave


def migration_for(request: HttpRequest, pk: int, roles: tuple[str, ...] = READ) -> Migration:
    migration = get_object_or_404(
        Migration.objects.visible_to(request.user).select_related(
            "project", "application", "wave", "profile", "source", "target"
        ),
        pk=pk,
    )
    require(migration.project, request.user, roles)
    return migration


def application_for(request: HttpRequest, pk: int, roles: tuple[str, ...] = READ) -> Application:
    application = get_object_or_404(
        Application.objects.visible_to(request.user).select_related("project", "owner"), pk=pk
    )
    require(application.project, request.user, roles)
    return application


def may_sign(application: Application, user: User | AnonymousUser) -> bool:
    """The sign-off is the owner's alone."""
    return user.pk is not None and application.owner_id == user.pk


def lead_anywhere(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """For pages that are about no project yet (a new project): staff, or a lead of some project."""

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        user = request.user
        if not (
            user.is_authenticated
            and (user.is_staff or Membership.objects.filter(user_id=user.pk, role=Role.LEAD).exists())
        ):
            raise PermissionDenied("A new project is made by staff or by somebody who leads one already.")
        return view(request, *args, **kwargs)

    return wrapped
