"""What buttons post to. Access first, then the verb decides; what it says becomes a message on the page."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from zoneinfo import ZoneInfo

from django.contrib import messages
from django.contrib.auth.models import AnonymousUser, User
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.dateparse import parse_datetime
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from migrationhub.lib.findings import Problem
from projects import decisions, workflow
from projects.access import PLAN, RUN, application_for, may_sign, migration_for, require, role_in, wave_for
from projects.errors import NotReady
from projects.models import Application, Approval, ChecklistItem, Hold, Step, Wave


class SeeOther(HttpResponseRedirect):
    """Go there with GET: a reload presses nothing twice."""

    status_code = 303


def person(request: HttpRequest) -> User:
    """Whoever presses. The login middleware has seen to it that somebody is logged in."""
    if isinstance(request.user, AnonymousUser):
        raise Http404
    return request.user


def perform(request: HttpRequest, act: Callable[[], object], said: str, back: str) -> HttpResponse:
    """Call a verb, say what came of it, go back to the page."""
    try:
        act()
    except NotReady as problem:
        messages.error(request, " ".join(["Nothing was done.", *problem.unmet, problem.act]).strip())
    except Problem as problem:  # Conflict and Forbidden among them
        messages.error(request, f"Nothing was done. {problem.text} {problem.act}".strip())
    else:
        messages.success(request, said)
    asked = request.POST.get("next", "")
    safe = url_has_allowed_host_and_scheme(asked, {request.get_host()}, require_https=request.is_secure())
    return SeeOther(asked if safe else back)


def number(request: HttpRequest, name: str) -> int:
    """A whole number of a form. Raises NotReady with the field, its value and what was expected."""
    value = request.POST.get(name, "")
    try:
        return int(value)
    except ValueError:
        raise NotReady([f"{name}={value[:40]}: expected a whole number."]) from None


def _step(request: HttpRequest, pk: int) -> Step:
    step = get_object_or_404(Step, pk=pk)
    migration_for(request, step.migration_id, RUN)
    return step


def _page(step: Step) -> str:
    return reverse("migration", args=[step.migration_id])


@require_POST
def step_start(request: HttpRequest, pk: int) -> HttpResponse:
    step = _step(request, pk)

    def act() -> None:
        seen = number(request, "seen_attempt")
        workflow.start_step(pk, user=person(request), seen_state=request.POST.get("seen_state", ""), seen_attempt=seen)

    return perform(request, act, f"{step.get_kind_display()} was started.", _page(step))


@require_POST
def step_retry(request: HttpRequest, pk: int) -> HttpResponse:
    step = _step(request, pk)
    return perform(
        request,
        lambda: workflow.retry_step(pk, user=person(request), seen_attempt=number(request, "seen_attempt")),
        f"{step.get_kind_display()}: what failed is tried again; what is done is kept.",
        _page(step),
    )


@require_POST
def step_cancel(request: HttpRequest, pk: int) -> HttpResponse:
    step = _step(request, pk)
    return perform(
        request,
        lambda: workflow.cancel_step(pk, user=person(request), seen_attempt=number(request, "seen_attempt")),
        f"{step.get_kind_display()} was asked to stop. An act that cannot be cut is finished first.",
        _page(step),
    )


@require_POST
def migration_abort(request: HttpRequest, pk: int) -> HttpResponse:
    migration_for(request, pk, RUN)
    return perform(
        request,
        lambda: workflow.abort_cutover(pk, user=person(request), why=request.POST.get("why", "")),
        "The cutover is being taken back: what runs is stopped, then the services are started as recorded.",
        reverse("migration", args=[pk]),
    )


@require_POST
def migration_complete(request: HttpRequest, pk: int) -> HttpResponse:
    migration = migration_for(request, pk, PLAN)
    return perform(
        request,
        lambda: workflow.declare_complete(pk, user=person(request)),
        f"{migration} was declared complete. Our access to the target is being removed.",
        reverse("migration", args=[pk]),
    )


@require_POST
def delta_schedule(request: HttpRequest, pk: int) -> HttpResponse:
    migration_for(request, pk, RUN)
    minutes = request.POST.get("minutes", "")
    return perform(
        request,
        lambda: workflow.set_delta_schedule(pk, user=person(request), minutes=number(request, "minutes")),
        "Deltas are started by hand." if minutes == "0" else f"A delta is due every {minutes} minutes.",
        reverse("migration", args=[pk]),
    )


def _application(request: HttpRequest, wave_pk: int, application_pk: int) -> tuple[Wave, Application]:
    """Wave and application for whoever runs the migration or owns the application."""
    wave, application = wave_for(request, wave_pk), application_for(request, application_pk)
    if application.project_id != wave.project_id:
        raise Http404
    if not (may_sign(application, request.user) or role_in(wave.project, request.user) in RUN):
        require(wave.project, request.user, RUN)
    return wave, application


def _acceptance(wave: Wave, application: Application) -> str:
    return reverse("acceptance", args=[wave.pk, application.pk])


@require_POST
def uat_open(request: HttpRequest, wave_pk: int, application_pk: int) -> HttpResponse:
    wave, application = _application(request, wave_pk, application_pk)
    return perform(
        request,
        lambda: decisions.open_uat(
            wave_pk,
            application_pk,
            user=person(request),
            until=until(request, wave),
            accept_live=request.POST.get("accept_live") == "1",
        ),
        f"The test of {application} is open: no delta runs under the tester.",
        _acceptance(wave, application),
    )


def until(request: HttpRequest, wave: Wave) -> datetime | None:
    """The optional field `until`: a local time in the wave's zone."""
    value = request.POST.get("until", "").strip()
    if not value:
        return None
    try:
        parsed = parse_datetime(value)
    except ValueError:
        parsed = None
    if parsed is None:
        raise NotReady([f"until={value[:40]}: expected a date and time like 2026-11-28T22:00."])
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=ZoneInfo(wave.time_zone))


@require_POST
def uat_end(request: HttpRequest, wave_pk: int, application_pk: int) -> HttpResponse:
    wave, application = _application(request, wave_pk, application_pk)
    return perform(
        request,
        lambda: decisions.end_uat(wave_pk, application_pk, user=person(request)),
        f"The test of {application} has ended: the next delta takes the tester's changes away.",
        _acceptance(wave, application),
    )


SAID = {
    "approve": "Your yes was recorded.",
    "reject": "Your no was recorded. Nothing goes on until it is settled.",
    "more_time": "Recorded: you need more time.",
}


@require_POST
def approval_decide(request: HttpRequest, pk: int) -> HttpResponse:
    approval = get_object_or_404(Approval.objects.select_related("wave"), pk=pk)
    application = application_for(request, approval.application_id)
    verdict = request.POST.get("verdict", "")
    return perform(
        request,
        lambda: decisions.decide(
            pk,
            user=person(request),
            verdict=verdict,
            comment=request.POST.get("comment", ""),
            digest=request.POST.get("digest", ""),
        ),
        SAID.get(verdict, "Recorded."),
        _acceptance(approval.wave, application),
    )


@require_POST
def checklist_tick(request: HttpRequest, pk: int) -> HttpResponse:
    item = get_object_or_404(ChecklistItem.objects.select_related("step"), pk=pk)
    migration_for(request, item.step.migration_id)
    return perform(
        request,
        lambda: decisions.tick(
            pk, user=person(request), state=request.POST.get("state", ""), note=request.POST.get("note", "")
        ),
        f"“{item.title}” was answered.",
        _page(item.step),
    )


@require_POST
def hold_add(request: HttpRequest, pk: int) -> HttpResponse:
    migration = migration_for(request, pk, RUN)
    return perform(
        request,
        lambda: decisions.hold(
            project=migration.project,
            kind=Hold.Kind.PERSON,
            why=request.POST.get("why", ""),
            user=person(request),
            migration=migration,
        ),
        f"{migration} is held: nothing new starts.",
        reverse("migration", args=[pk]),
    )


@require_POST
def hold_release(request: HttpRequest, pk: int) -> HttpResponse:
    hold = get_object_or_404(Hold.objects.select_related("project", "application"), pk=pk)
    owns = hold.kind == Hold.Kind.UAT and hold.application is not None and may_sign(hold.application, request.user)
    if not owns:
        require(hold.project, request.user, RUN)
    if hold.migration_id:
        back = reverse("migration", args=[hold.migration_id])
    elif hold.wave_id:
        back = reverse("wave-board", args=[hold.wave_id])
    else:
        back = reverse("progress", args=[hold.project.slug])
    return perform(request, lambda: decisions.release(pk, user=person(request)), "The hold was released.", back)


@require_POST
def wave_start(request: HttpRequest, pk: int) -> HttpResponse:
    wave = wave_for(request, pk, RUN)

    def act() -> None:
        for migration, why in decisions.start_wave(pk, user=person(request)):
            if why:
                messages.warning(request, f"{migration} was not started. {why}")

    return perform(request, act, f"{wave}: what may start was started.", reverse("wave-board", args=[pk]))
