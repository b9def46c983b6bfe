"""The checklist templates of a project, edited by its leads."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from migrationhub.lib.findings import Problem
from projects import checklists as verbs
from projects.access import PLAN, READ_ALL, project_for
from projects.forms.checklists import ItemForm
from projects.models import ChecklistTemplate, Project, Step, TemplateItem

from .setup_common import Trail, carried_out, form_page, list_page, person, posted, pressed, trail_of


@require_safe
def checklists(request: HttpRequest, slug: str) -> HttpResponse:
    project = project_for(request, slug, READ_ALL)
    rows = [
        {
            "template": template,
            "items": template.items.all(),
            "required": sum(item.required for item in template.items.all()),
            "automatic": sum(item.automatic for item in template.items.all()),
        }
        for template in verbs.newest(project).values()
    ]
    return list_page(request, "setup/checklists.html", project, rows=rows)


def _template(project: Project, kind: str) -> ChecklistTemplate:
    if kind not in Step.Kind.values:
        raise Http404
    return verbs.newest(project)[kind]


def _trail(project: Project) -> Trail:
    return trail_of(project, ("Checklists", reverse("checklists", args=[project.slug])))


@require_safe
def checklist(request: HttpRequest, slug: str, kind: str) -> HttpResponse:
    """The editor: each line with its buttons. After a move the button that was pressed has the focus again."""
    project = project_for(request, slug, READ_ALL)
    template = _template(project, kind)
    lines = list(template.items.all())
    moved, way = request.GET.get("moved", ""), request.GET.get("way", "")
    if lines and moved == lines[0].key:
        way = "down"
    elif lines and moved == lines[-1].key:
        way = "up"
    steps = template.steps.count() if template.used else 0
    return list_page(
        request,
        "setup/checklist.html",
        project,
        trail=_trail(project),
        checklist=template,
        lines=lines,
        seen=verbs.mark(template),
        steps=steps,
        focus=(moved, way),
    )


def item_new(request: HttpRequest, slug: str, kind: str) -> HttpResponse:
    project = project_for(request, slug, PLAN)
    return _item(request, project, _template(project, kind), None)


def item_edit(request: HttpRequest, slug: str, kind: str, key: str) -> HttpResponse:
    project = project_for(request, slug, PLAN)
    template = _template(project, kind)
    line = next((line for line in template.items.all() if line.key == key), None)
    if line is None:
        raise Http404
    return _item(request, project, template, line)


def _item(
    request: HttpRequest, project: Project, template: ChecklistTemplate, line: TemplateItem | None
) -> HttpResponse:
    form = ItemForm(posted(request), kind=template.kind, row=line)
    editor = reverse("checklist", args=[project.slug, template.kind])
    seen = request.POST.get("revision", verbs.mark(template))

    def save() -> None:
        key = line.key if line else ""
        verbs.save_item(template=template, key=key, values=form.values(), seen=seen, user=person(request))

    if request.method == "POST" and form.is_valid() and carried_out(form, save):
        messages.success(request, f"“{form.cleaned_data['title']}” is saved.{_version_words(template)}")
        return redirect(editor)
    name = template.get_kind_display()
    return form_page(
        request,
        form,
        title=f"Change “{line.title}”" if line else f"New item for {name.lower()}",
        trail=[*_trail(project), (name, editor)],
        project=project,
        template="setup/checklist_item.html",
        revision=verbs.mark(template),
        note=_used_note(template),
    )


def _used_note(template: ChecklistTemplate) -> str:
    if not template.used:
        return ""
    return (
        f"Version {template.version} is in use: saving makes version {template.version + 1}. "
        "Checklists that exist already stay as they are."
    )


def _version_words(template: ChecklistTemplate) -> str:
    return f" This is version {template.version + 1} now; checklists that exist stay." if template.used else ""


@require_POST
def item_move(request: HttpRequest, slug: str, kind: str, key: str) -> HttpResponse:
    project = project_for(request, slug, PLAN)
    template = _template(project, kind)
    way = "up" if request.POST.get("way") == "up" else "down"
    title = next((line.title for line in template.items.all() if line.key == key), key)
    try:
        place, size = verbs.move_item(
            template=template, key=key, up=way == "up", seen=request.POST.get("revision", ""), user=person(request)
        )
    except Problem as problem:
        messages.error(request, f"{problem.text} {problem.act}".strip())
    else:
        messages.success(request, f"“{title}” is number {place} of {size} now.{_version_words(template)}")
    return redirect(f"{reverse('checklist', args=[slug, kind])}?moved={key}&way={way}")


@require_POST
def item_remove(request: HttpRequest, slug: str, kind: str, key: str) -> HttpResponse:
    project = project_for(request, slug, PLAN)
    template = _template(project, kind)
    title = next((line.title for line in template.items.all() if line.key == key), key)

    def act() -> Any:
        verbs.remove_item(template=template, key=key, seen=request.POST.get("revision", ""), user=person(request))

    pressed(request, act, f"“{title}” is removed.{_version_words(template)}")
    return redirect("checklist", slug, kind)
