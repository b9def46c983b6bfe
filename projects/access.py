"""Who may see and do what. Every view's first line comes from here; an outsider gets 404.

Roles in a project: lead (plans and runs), operator (runs), application owner (sees and signs for their own
applications only), manager (reads everything, changes nothing). A stand-in is an application owner who sees and signs
for an absent one's application, within dates.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404

from . import policies
from .models import Application, Approval, Membership, Migration, Project, StandIn, Wave

Role = Membership.Role
PLAN = (Role.LEAD,)  # set up, plan, decide the go
RUN = (Role.LEAD, Role.OPERATOR)  # start, retry, cancel
READ = (Role.LEAD, Role.OPERATOR, Role.MANAGER, Role.OWNER)
READ_ALL = (Role.LEAD, Role.OPERATOR, Role.MANAGER)


# What was asked within one page or press, by question and person: see `projects.middleware.StandingMiddleware`.
standing: ContextVar[dict[tuple[str, int], dict[int, Any]] | None] = ContextVar("standing", default=None)


def _once(question: str, user: User | AnonymousUser, ask: Callable[[], dict[int, Any]]) -> dict[int, Any]:
    """The answer, asked once in a request; outside of requests asked each time."""
    known = standing.get()
    if known is None:
        return ask()
    key = (question, user.pk or 0)
    if key not in known:
        known[key] = ask()
    return known[key]


def role_in(project: Project, user: User | AnonymousUser) -> str | None:
    """The user's role in the project; None for an outsider."""
    return _roles(user).get(project.pk) if user.pk else None


def _roles(user: User | AnonymousUser) -> dict[int, str]:
    """The user's role by project."""
    return _once(
        "roles", user, lambda: dict(Membership.objects.filter(user_id=user.pk or 0).values_list("project_id", "role"))
    )


def note_roles(user: User | AnonymousUser, roles: dict[int, str]) -> None:
    """The user's role by project, as a page has read it: not asked for again within it."""
    known = standing.get()
    if known is not None:
        known["roles", user.pk or 0] = roles


def leads_anything(user: User) -> bool:
    """Whether the user leads some project. Shares its query with `role_in`."""
    return Role.LEAD in _roles(user).values()


def require(project: Project, user: User | AnonymousUser, roles: tuple[str, ...]) -> str:
    """The user's role, if it is one of `roles`. Raises Http404 for outsiders, PermissionDenied otherwise."""
    role = role_in(project, user)
    if role is None:
        raise Http404
    if role not in roles:
        raise PermissionDenied(f"Your role in this project is {role}; this needs {' or '.join(roles)}. Ask a lead.")
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


def application_for(
    request: HttpRequest, pk: int, roles: tuple[str, ...] = READ, *, wave: int | None = None
) -> Application:
    """`wave`: what is asked for is about the application in that wave alone."""
    visible = Application.objects.visible_to(request.user, wave)
    application = get_object_or_404(visible.select_related("project", "owner"), pk=pk)
    require(application.project, request.user, roles)
    return application


def signs_for(application: Application, user: User | AnonymousUser) -> User | None:
    """Whose right the user has over the application: the owner's own, or that of the absent owner in whose place they
    stand now. None for everybody else, and for whoever is no application owner of the project any more."""
    if not user.pk or application.owner_id is None or _roles(user).get(application.project_id) != Role.OWNER:
        return None
    if application.owner_id == user.pk:
        return application.owner
    places = _once("places", user, lambda: {place.application_id: place for place in valid_places(user)})
    place = places.get(application.pk)
    return application.owner if place is not None and place.owner_id == application.owner_id else None


def valid_places(user: User | AnonymousUser) -> list[StandIn]:
    """Where the user stands in for an owner now."""
    return list(StandIn.objects.valid().filter(person_id=user.pk))


def handed_over(approval: Approval, user: User | AnonymousUser) -> User | None:
    """Who handed this approval over to the user; None where nobody did whose answer it still is."""
    return approval.delegated_by if is_handed_to(approval, user) else None


def is_handed_to(approval: Approval, user: User | AnonymousUser) -> bool:
    return bool(user.pk) and approval.delegated_to_id == user.pk and is_handed_over(approval)


def is_handed_over(approval: Approval) -> bool:
    """Whether a handing over counts: nobody hands over more than they have, nor to a role that may not answer. The
    sign-off is the owner's, and the go that of whoever has a role that gives it."""
    if approval.roles_now.get(approval.delegated_to_id or 0) not in receivers(approval.gate):
        return False
    if approval.gate == Approval.Gate.SIGN_OFF:
        return approval.delegated_by_id == approval.application.owner_id
    return approval.roles_now.get(approval.delegated_by_id or 0) in policies.roles_of(approval)


def receivers(gate: str) -> tuple[str, ...]:
    """The roles to which an answer may be handed over."""
    return (Role.OWNER,) if gate == Approval.Gate.SIGN_OFF else RUN


def answers_for(migration: Migration, user: User | AnonymousUser) -> bool:
    """Whether the user answers for the migration's application in its wave: who may sign, and to whom the owner
    handed the sign-off of this wave."""
    application = migration.application
    if application is None or not user.pk:
        return False
    if may_sign(application, user):
        return True
    asked = Approval.objects.filter(gate=Approval.Gate.SIGN_OFF, wave=migration.wave_id, application=application)
    return any(is_handed_to(approval, user) for approval in asked.select_related("application", "wave__project"))


def may_sign(application: Application, user: User | AnonymousUser) -> bool:
    """The sign-off is the owner's alone, or, while an owner is absent, their stand-in's."""
    return signs_for(application, user) is not None


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
