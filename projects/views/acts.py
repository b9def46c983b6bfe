"""What buttons post to. Access first, then the verb decides; what it says becomes a message on the page."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from django.contrib import messages
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from migrationhub.lib.findings import Problem
from migrationhub.lib.reading import whole
from projects import abort, calendar, checklists, decisions, uat, workflow
from projects.access import PLAN, RUN, application_for, may_sign, migration_for, require, role_in, wave_for
from projects.errors import Forbidden, NotReady
from projects.forms.base import LONGEST
from projects.forms.defects import drafts
from projects.models import Application, Approval, ChecklistItem, Hold, Migration, Step, Wave

from . import kept


class SeeOther(HttpResponseRedirect):
    """Go there with GET: a reload presses nothing twice."""

    status_code = 303


def person(request: HttpRequest) -> User:
    """Whoever presses. The login middleware has seen to it that somebody is logged in."""
    if isinstance(request.user, AnonymousUser):
        raise Http404
    return request.user


def perform(request: HttpRequest, act: Callable[[], object], said: str, back: str) -> HttpResponse:
    """Call a verb, say what came of it, go back to the page. Who may not do it at all gets 403, with the reason.
    What they typed into a form that was refused stands in it again."""
    asked = request.POST.get("next", "")
    if url_has_allowed_host_and_scheme(asked, {request.get_host()}, require_https=request.is_secure()):
        back = asked
    try:
        refuse_endless(request)
        act()
    except Problem as problem:
        kept.keep(request, back)
        _refused(request, problem)
    else:
        kept.forget(request)
        messages.success(request, said)
    return SeeOther(back)


def _refused(request: HttpRequest, problem: Problem) -> None:
    if isinstance(problem, NotReady):
        messages.error(request, " ".join(["Nothing was done.", *problem.unmet, problem.act]).strip())
    elif isinstance(problem, Forbidden):
        raise PermissionDenied(f"{problem.text} {problem.act}".strip()) from problem
    else:  # Conflict among them
        messages.error(request, f"Nothing was done. {problem.text} {problem.act}".strip())


def refuse_endless(request: HttpRequest) -> None:
    """A reason or a comment is kept for good, in rows and in the audit trail. Raises NotReady with the field."""
    for name, values in request.POST.lists():
        for value in map(str, values):
            size = len(value.replace("\r\n", "\n"))  # as the browser's own limit counts it
            if size > LONGEST:
                raise NotReady([f"{name}: {size} characters; at most {LONGEST} are kept."], "Shorten it.")
            if "\0" in value:
                raise NotReady(
                    [f"{name}: it holds a NUL character, which no text has that can be kept."],
                    "Write it anew, or paste it as plain text.",
                )


def number(request: HttpRequest, name: str) -> int:
    """A whole number of a form. Raises NotReady with the field, its value and what was expected."""
    value = request.POST.get(name, "")
    found = whole(value.strip())
    if found is None:
        raise NotReady([f"{name}={value[:40]}: expected a whole number from 0 on."])
    return found


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
def migration_take_back(request: HttpRequest, pk: int) -> HttpResponse:
    migration_for(request, pk, RUN)
    return perform(
        request,
        lambda: abort.take_back(pk, user=person(request), why=request.POST.get("why", "")),
        "The cutover events are being taken back: name, files in the guest and network, in this order.",
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
    wave, application = wave_for(request, wave_pk), application_for(request, application_pk, wave=wave_pk)
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
        lambda: uat.open_uat(
            wave_pk,
            application_pk,
            user=person(request),
            until=until(request, wave),
            accept_live=request.POST.get("accept_live") == "1",
            snapshot=request.POST.get("snapshot") == "1",
        ),
        f"The test of {application} is open: no delta runs under the tester.",
        _acceptance(wave, application),
    )


def until(request: HttpRequest, wave: Wave) -> datetime | None:
    """The optional field `until`: a local time in the wave's zone. Of one that comes twice the later: a promise is
    not broken early."""
    value = request.POST.get("until", "").strip()
    if not value:
        return None
    try:
        parsed = parse_datetime(value)
    except ValueError:
        parsed = None
    if parsed is None:
        raise NotReady([f"until={value[:40]}: expected a date and time like 2026-11-28T22:00."])
    try:
        calendar.check_day(parsed.date(), timezone.localdate())
        return parsed if parsed.tzinfo else calendar.resolve(parsed, wave.time_zone, calendar.SECOND)
    except Problem as problem:
        raise NotReady([f"until: {problem.text}"], problem.act) from None


@require_POST
def uat_extend(request: HttpRequest, wave_pk: int, application_pk: int) -> HttpResponse:
    wave, application = _application(request, wave_pk, application_pk)
    return perform(
        request,
        lambda: uat.extend(wave_pk, application_pk, user=person(request), until=until(request, wave)),
        f"The test of {application} stays open: deltas go on waiting.",
        _acceptance(wave, application),
    )


@require_POST
def uat_break(request: HttpRequest, wave_pk: int, application_pk: int) -> HttpResponse:
    wave, application = _application(request, wave_pk, application_pk)
    require(wave.project, request.user, PLAN)
    why = request.POST.get("why", "")
    return perform(
        request,
        lambda: uat.break_off(wave_pk, application_pk, user=person(request), why=why),
        f"The test of {application} is broken off; its owner reads why.",
        _acceptance(wave, application),
    )


@require_POST
def uat_end(request: HttpRequest, wave_pk: int, application_pk: int) -> HttpResponse:
    wave, application = _application(request, wave_pk, application_pk)
    back = request.POST.get("back") == "1"
    said = (
        "is being ended: the copies go back to their snapshots, until then nothing syncs."
        if back
        else "has ended: the next delta takes the tester's changes away."
    )
    return perform(
        request,
        lambda: uat.end(wave_pk, application_pk, user=person(request), back=back),
        f"The test of {application} {said}",
        _acceptance(wave, application),
    )


@require_POST
def uat_again(request: HttpRequest, wave_pk: int, application_pk: int) -> HttpResponse:
    wave, application = _application(request, wave_pk, application_pk)
    return perform(
        request,
        lambda: uat.again(wave_pk, application_pk, user=person(request), operation=request.POST.get("what", "")),
        "What failed is being taken again.",
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
    application = application_for(request, approval.application_id, wave=approval.wave_id)
    there = application.migrations.filter(wave=approval.wave).exclude(state=Migration.State.CANCELLED)
    verdict = request.POST.get("verdict", "")
    return perform(
        request,
        lambda: decisions.decide(
            pk,
            user=person(request),
            verdict=verdict,
            comment=request.POST.get("comment", ""),
            digest=request.POST.get("digest", ""),
            found=drafts(request.POST) if verdict == "reject" else (),
        ),
        SAID.get(verdict, "Recorded."),
        # Whose last server was planned elsewhere has no page in this wave any more: why nothing was done is read here.
        _acceptance(approval.wave, application) if there.exists() else reverse("approval", args=[pk]),
    )


@require_POST
def checklist_tick(request: HttpRequest, pk: int) -> HttpResponse:
    item = get_object_or_404(ChecklistItem.objects.select_related("step"), pk=pk)
    migration_for(request, item.step.migration_id)
    return perform(
        request,
        lambda: checklists.tick(
            pk,
            user=person(request),
            state=request.POST.get("state", ""),
            note=request.POST.get("note", ""),
            link=request.POST.get("link", ""),
            seen=request.POST.get("seen", ""),
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
    if hold.kind == Hold.Kind.UAT and hold.application is not None and hold.wave_id is not None:
        return uat_end(request, hold.wave_id, hold.application.pk)  # the tester's: its own rules
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
