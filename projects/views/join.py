"""The page behind the link of an invitation: for somebody without an account, and for somebody who has one."""

from __future__ import annotations

from allauth.account.utils import perform_login
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters

from migrationhub.lib.findings import Problem
from projects import invitations as verbs
from projects.forms.people import JoinForm
from projects.models import Invitation, Membership

from .setup_common import carried_out, person, posted, pressed


def home(invitation: Invitation, user: User) -> str:
    """Where whoever joined begins."""
    return (
        reverse("overview")
        if invitation.role == Membership.Role.OWNER
        else reverse("progress", args=[invitation.project.slug])
    )


@login_not_required
@never_cache
@sensitive_post_parameters("password", "again")
def invitation(request: HttpRequest, token: str) -> HttpResponse:
    try:
        found = verbs.read(token)
    except Problem as problem:
        return render(request, "people/join_closed.html", {"problem": problem}, status=410)
    if request.user.is_authenticated:
        return _with_account(request, found)
    return _without_account(request, found)


def _with_account(request: HttpRequest, found: Invitation) -> HttpResponse:
    user = person(request)
    if request.method == "POST" and pressed(
        request, lambda: verbs.accept(found, user=user), f"You are a member of {found.project} now."
    ):
        return redirect(home(found, user))
    there = Membership.objects.filter(project=found.project, user=user).first()
    context = {"invitation": found, "fits": verbs.belongs(found, user), "there": there}
    return render(request, "people/join.html", context)


def _without_account(request: HttpRequest, found: Invitation) -> HttpResponse:
    accounts = User.objects.filter(email__iexact=found.email)
    known = accounts.exists()
    form = JoinForm(None if known else posted(request))
    made: list[User] = []

    def save() -> None:
        data = form.cleaned_data
        names = {"username": data["username"], "full_name": data["full_name"]}
        made.append(verbs.make_account(found, **names, password=data["password"]))

    if request.method == "POST" and not known and form.is_valid() and carried_out(form, save):
        messages.success(request, f"Welcome. You are a member of {found.project} now.")
        response: HttpResponse = perform_login(request, made[0], redirect_url=home(found, made[0]))
        return response
    shut = known and not accounts.filter(is_active=True).exists()
    return render(request, "people/join.html", {"invitation": found, "form": form, "known": known, "shut": shut})
