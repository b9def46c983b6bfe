"""What people hear of: everybody's own choice, a project's mode and webhooks, and the log of what was sent."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from projects import planning_notices as verbs
from projects.access import PLAN, READ_ALL, project_for, role_in
from projects.forms.notify import ModeForm, NoticesForm, WebhookForm
from projects.models import Membership, Message, NoticeKind, NoticeSettings, ProjectNotices, Webhook
from projects.notify import people, sending

from .setup_common import carried_out, form_page, list_page, person, posted, pressed, trail_of

PAGE = 50  # messages on one page of the log
SIGNS = {
    Message.State.WAITING: "scheduled",
    Message.State.QUEUED: "running",
    Message.State.SENDING: "running",
    Message.State.SENT: "done",
    Message.State.FAILED: "failed",
    Message.State.UNKNOWN: "unknown",
    Message.State.DROPPED: "skipped",
}


@require_GET
def notices_mine(request: HttpRequest) -> HttpResponse:
    """All projects of a person, and what they hear of each."""
    user = person(request)
    chosen = {row.project_id: row for row in NoticeSettings.objects.filter(user=user)}
    members = Membership.objects.filter(user=user).select_related("project__notices_mode").order_by("project__name")
    rows = []
    for member in members:
        receiver = people.receiver(member, chosen.get(member.project_id))
        mode: ProjectNotices | None = getattr(member.project, "notices_mode", None)
        silent = mode is not None and mode.mode != ProjectNotices.Mode.LIVE and people.tester_of(mode) is None
        rows.append((member.project, len(receiver.kinds), receiver.quiet, mode, silent))
    context = {"rows": rows, "all": len(NoticeKind), "mail_sent": settings.MAIL_SENT}
    return render(request, "notify/mine.html", context)


def notices(request: HttpRequest, slug: str) -> HttpResponse:
    """What a member wants to hear of one project."""
    project = project_for(request, slug)
    user = person(request)
    chosen = verbs.settings_of(user, project, role_in(project, user) or "")
    form = NoticesForm(posted(request), chosen=chosen)

    def save() -> None:
        verbs.choose(chosen, **form.values())

    if request.method == "POST" and form.is_valid() and carried_out(form, save):
        messages.success(request, f"That is what you hear of {project} from now on.")
        return redirect("notices-mine")
    context = {"form": form, "project": project, "zone": project.time_zone}
    return render(request, "notify/notices.html", context)


def notifications(request: HttpRequest, slug: str) -> HttpResponse:
    """A project's mode and webhooks."""
    project = project_for(request, slug, PLAN if request.method == "POST" else READ_ALL)
    mode = verbs.mode_of(project)
    form = ModeForm(posted(request), initial={"mode": mode.mode})

    def save() -> None:
        verbs.set_mode(project=project, mode=form.cleaned_data["mode"], user=person(request))

    if request.method == "POST" and form.is_valid() and carried_out(form, save):
        messages.success(request, f"Notifications of {project}: {form.cleaned_data['mode']}.")
        return redirect("notifications", slug)
    labels = dict(NoticeKind.choices)
    hooks = [
        (hook, [labels[kind] for kind in hook.kinds if kind in labels])
        for hook in Webhook.objects.filter(project=project).defer("url", "secret")
    ]
    more: dict[str, Any] = {"mode": mode, "tester": people.tester_of(mode), "form": form, "hooks": hooks}
    more |= {"mail_sent": settings.MAIL_SENT, "site_url": settings.SITE_URL}
    return list_page(request, "notify/notifications.html", project, **more)


def webhook_new(request: HttpRequest, slug: str) -> HttpResponse:
    return _webhook(request, slug, None)


def webhook_edit(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    return _webhook(request, slug, pk)


def _webhook(request: HttpRequest, slug: str, pk: int | None) -> HttpResponse:
    project = project_for(request, slug, PLAN)
    row = get_object_or_404(Webhook, project=project, pk=pk) if pk is not None else None
    form = WebhookForm(posted(request), row=row)
    made: list[str] = []

    def save() -> None:
        values = form.values()
        made.append(verbs.save_webhook(project=project, webhook=row, values=values, user=person(request)))

    if request.method == "POST" and form.is_valid() and carried_out(form, save):
        if made[0]:
            return _secret(request, slug, made[0])
        messages.success(request, "The webhook is saved.")
        return redirect("notifications", slug)
    place = ("Notifications", reverse("notifications", args=[slug]))
    title = f"Webhook {row.name}" if row else "New webhook"
    return form_page(request, form, title=title, trail=trail_of(project, place), project=project)


def _secret(request: HttpRequest, slug: str, secret: str) -> HttpResponse:
    """The one time that the secret is seen: in the answer to the press, in nobody's store of messages."""
    project = project_for(request, slug, PLAN)
    answer = list_page(request, "notify/secret.html", project, secret=secret)
    answer["Cache-Control"] = "no-store"
    return answer


@require_POST
def webhook_remove(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    project = project_for(request, slug, PLAN)
    found = get_object_or_404(Webhook.objects.defer("url", "secret"), project=project, pk=pk)
    pressed(request, lambda: verbs.remove_webhook(found, user=person(request)), f"{found}: removed.")
    return redirect("notifications", slug)


@require_GET
def notification_log(request: HttpRequest, slug: str) -> HttpResponse:
    """What was sent to whom, when, and what was not, with the reason. For leads: it names addresses."""
    project = project_for(request, slug, PLAN)
    state = request.GET.get("state", "")
    page = Paginator(verbs.log_of(project, state), PAGE).get_page(request.GET.get("page"))
    rows = [(message, SIGNS[Message.State(message.state)]) for message in page]
    again = (Message.State.FAILED, Message.State.UNKNOWN)
    with timezone.override(ZoneInfo(project.time_zone)):
        more = {"rows": rows, "page": page, "state": state, "states": Message.State.choices, "again": again}
        return list_page(request, "notify/log.html", project, zone=project.time_zone, **more)


@require_POST
def message_again(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    project = project_for(request, slug, PLAN)
    found = get_object_or_404(Message, project=project, pk=pk)
    pressed(request, lambda: sending.send_again(found, user=person(request)), "It is sent once more.")
    return redirect("notification-log", slug)
