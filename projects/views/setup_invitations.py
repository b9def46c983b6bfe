"""Who is invited into a project: invite, send again, take back."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.views.decorators.http import require_POST

from projects import invitations as verbs
from projects.access import PLAN, READ_ALL, project_for
from projects.forms.people import InviteForm
from projects.models import Invitation

from .setup_common import carried_out, list_page, person, posted, pressed

SIGNS = {"open": "waiting", "accepted": "done", "withdrawn": "cancelled", "expired": "failed"}
WORDS = {"open": "Waits for an answer", "accepted": "Used", "withdrawn": "Taken back", "expired": "Expired"}


def link_of(request: HttpRequest, invitation: Invitation) -> str:
    """Where the invitation is taken, as an absolute address."""
    path = reverse("invitation", args=[verbs.token_of(invitation)])
    return f"{settings.SITE_URL}{path}" if settings.SITE_URL else request.build_absolute_uri(path)


def deliver(request: HttpRequest, invitation: Invitation) -> None:
    """Send the mail and say what came of it. Where none can be sent, the lead hands the link over."""
    link = link_of(request, invitation)
    if settings.MAIL_SENT and verbs.send(invitation, link):
        messages.success(request, f"The invitation was sent to {invitation.email}.")
        return
    invitation.refresh_from_db()
    why = f"could not be sent ({invitation.send_error})" if settings.MAIL_SENT else "was not sent: no mail leaves here"
    messages.warning(
        request, f"The invitation of {invitation.email} {why}. Give them this link yourself, and nobody else: {link}"
    )


def invitations(request: HttpRequest, slug: str) -> HttpResponse:
    project = project_for(request, slug, PLAN if request.method == "POST" else READ_ALL)
    form = InviteForm(posted(request), project=project)
    made: list[Invitation] = []

    def save() -> None:
        made.append(verbs.invite(project=project, **form.values(), user=person(request)))

    if request.method == "POST" and form.is_valid() and carried_out(form, save):
        deliver(request, made[0])
        return redirect("invitations", slug)
    found = project.invitations.select_related("by", "accepted_by", "application")
    rows = [(row, SIGNS[row.state], WORDS[row.state]) for row in found]
    return list_page(request, "people/invitations.html", project, form=form, rows=rows, mail_sent=settings.MAIL_SENT)


def _invitation(request: HttpRequest, slug: str, pk: int) -> Invitation:
    project = project_for(request, slug, PLAN)
    return get_object_or_404(Invitation.objects.select_related("project", "application", "by"), project=project, pk=pk)


@require_POST
def invitation_renew(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    found = _invitation(request, slug, pk)
    done = pressed(
        request, lambda: verbs.renew(found, user=person(request)), f"{found.email} gets a new link; the old one ended."
    )
    if done:
        deliver(request, found)
    return redirect("invitations", slug)


@require_POST
def invitation_withdraw(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    found = _invitation(request, slug, pk)
    pressed(
        request, lambda: verbs.withdraw(found, user=person(request)), f"The invitation of {found.email} is taken back."
    )
    return redirect("invitations", slug)
