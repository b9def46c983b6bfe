"""Approvals of a project: the list, one of them with everything it is about, the policies, and break-glass."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from migrationhub.lib.reading import whole
from projects import approvals as verbs
from projects import break_glass as emergency
from projects import policies
from projects.access import PLAN, READ_ALL, application_for, migration_for, project_for, role_in
from projects.errors import NotReady
from projects.forms.approvals import PolicyForm
from projects.forms.defects import members_of
from projects.models import Approval, BreakGlass, Step

from .acts import perform, person
from .contexts.approvals import approval_list, approval_page
from .contexts.live import page
from .setup_common import carried_out, form_page, list_page, posted, trail_of


@require_safe
def approvals(request: HttpRequest, slug: str) -> HttpResponse:
    """`?show=mine` (what waits for me), `open` (the default: not answered with yes) or `all`."""
    project = project_for(request, slug)
    show = request.GET.get("show", "open")
    return page(request, "approvals.html", lambda: approval_list(project, person(request), show), project=project)


def _approval(request: HttpRequest, pk: int) -> Approval:
    """The approval, for whoever may see its application; everybody else finds nothing."""
    found = get_object_or_404(
        Approval.objects.select_related(
            "wave__project", "application__owner", "requested_by", "delegated_to", "delegated_by"
        ),
        pk=pk,
    )
    found.application = application_for(request, found.application_id, wave=found.wave_id)
    return found


@require_safe
def approval(request: HttpRequest, pk: int) -> HttpResponse:
    found = _approval(request, pk)
    return page(
        request,
        "approval.html",
        lambda: approval_page(found, person(request)),
        project=found.wave.project,
        zone=found.wave.time_zone,
    )


@require_POST
def approval_ask(request: HttpRequest, pk: int) -> HttpResponse:
    found = _approval(request, pk)
    return perform(
        request,
        lambda: verbs.ask_again(pk, user=person(request), comment=request.POST.get("comment", "")),
        f"{found} is requested again. You do not answer it yourself.",
        reverse("approval", args=[pk]),
    )


@require_POST
def approval_delegate(request: HttpRequest, pk: int) -> HttpResponse:
    found = _approval(request, pk)

    def act() -> None:
        value = request.POST.get("to", "")
        to = User.objects.filter(pk__in=members_of(found.wave.project_id), pk=whole(value) or 0).first()
        if to is None:
            raise NotReady([f"to={value[:40]}: choose a member of {found.wave.project}."])
        verbs.delegate(pk, user=person(request), to=to, comment=request.POST.get("comment", ""))

    return perform(
        request, act, "It is handed over; you see it here, and your name stays on it.", reverse("approval", args=[pk])
    )


@require_POST
def approval_pass(request: HttpRequest, pk: int) -> HttpResponse:
    found = _approval(request, pk)

    def act() -> None:
        _understood(request)
        emergency.pass_gate(
            pk,
            user=person(request),
            reason=request.POST.get("reason", ""),
            digest=request.POST.get("digest", ""),
        )

    return perform(request, act, f"{found} was passed. {SECOND}", reverse("approval", args=[pk]))


SECOND = "A second person is asked to look at it; it stands in every report."


def _understood(request: HttpRequest) -> None:
    if request.POST.get("understood") != "1":
        raise NotReady(["understood: tick that you pass this alone and answer for it."])


@require_POST
def step_pass(request: HttpRequest, pk: int) -> HttpResponse:
    step = get_object_or_404(Step, pk=pk)
    migration = migration_for(request, step.migration_id, PLAN)

    def act() -> None:
        _understood(request)
        emergency.pass_step(pk, user=person(request), reason=request.POST.get("reason", ""))

    said = f"{step.get_kind_display()} of {migration}: what was open was passed. {SECOND}"
    return perform(request, act, said, reverse("migration", args=[migration.pk]))


def _passed(request: HttpRequest, pk: int) -> BreakGlass:
    made = get_object_or_404(
        BreakGlass.objects.select_related(
            "project", "wave", "application__owner", "by", "confirmed_by", "approval", "step__migration__source"
        ),
        pk=pk,
    )
    made.application = application_for(request, made.application_id, wave=made.wave_id)
    return made


@require_safe
def break_glass(request: HttpRequest, pk: int) -> HttpResponse:
    made = _passed(request, pk)
    user = person(request)
    may = emergency.may_confirm(made, user, role_in(made.project, user))
    return page(
        request,
        "break_glass.html",
        lambda: {"each": made, "may_confirm": may},
        project=made.project,
        zone=made.wave.time_zone,
    )


@require_POST
def break_glass_confirm(request: HttpRequest, pk: int) -> HttpResponse:
    made = _passed(request, pk)
    in_order = request.POST.get("answer") == "in_order"

    def act() -> None:
        if request.POST.get("answer") not in ("in_order", "not_in_order"):
            raise NotReady(["answer: expected in_order or not_in_order."])
        emergency.confirm(pk, user=person(request), in_order=in_order, comment=request.POST.get("comment", ""))

    said = "confirmed as in order" if in_order else "recorded as not in order; it lets nothing pass any more"
    return perform(request, act, f"{made} is {said}.", reverse("break-glass", args=[pk]))


@require_safe
def approval_policies(request: HttpRequest, slug: str) -> HttpResponse:
    project = project_for(request, slug, READ_ALL)
    return list_page(request, "setup/policies.html", project, policies=policies.policies_of(project))


def approval_policy(request: HttpRequest, slug: str, gate: str) -> HttpResponse:
    project = project_for(request, slug, PLAN)
    policy = next((each for each in policies.policies_of(project) if each.gate == gate), None)
    if policy is None:
        return redirect("approval-policies", slug)
    form = PolicyForm(posted(request), policy=policy)
    seen = request.POST.get("revision", policies.mark(policy))

    def save() -> None:
        policies.save(project=project, gate=gate, values=form.values(), seen=seen, user=person(request))

    if request.method == "POST" and form.is_valid() and carried_out(form, save):
        messages.success(request, f"{policy.get_gate_display()}: the policy is changed; open requests follow it.")
        return redirect("approval-policies", slug)
    return form_page(
        request,
        form,
        title=policy.get_gate_display(),
        trail=trail_of(project, ("Approvals", reverse("approval-policies", args=[slug]))),
        project=project,
        template="setup/checklist_item.html",
        revision=policies.mark(policy),
        note="What was answered already stands; requests that are open follow at once.",
    )
