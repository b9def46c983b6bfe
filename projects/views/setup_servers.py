"""Sources: enter one or many, check them, accept host keys, see their facts."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.contrib import messages
from django.db.models import Prefetch
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from projects import planning_servers as verbs
from projects.access import PLAN, READ_ALL, project_for
from projects.destinations import AGAIN
from projects.forms.plan import services_seen
from projects.forms.server import KnownHostsForm, ManyServersForm, ServerForm
from projects.models import Migration, Project
from servers import checks
from servers.models import HostKey, Server

from .setup_common import (
    carried_out,
    check_run,
    check_tag,
    form_page,
    list_page,
    may_plan,
    person,
    posted,
    pressed,
    trail_of,
    zoned,
)

KEYS = Prefetch("source__host_keys", queryset=HostKey.objects.order_by("key_type", "pk"))


def open_migrations(project: Project) -> Any:
    return project.migrations.filter(state=Migration.State.OPEN).select_related("source__credential", "wave")


def sources(project: Project) -> Any:
    return Server.objects.filter(migrations__project=project, migrations__state=Migration.State.OPEN).order_by("name")


def migration_of(project: Project, server_pk: int) -> Migration:
    """The newest migration of this source in the project; 404 for a server that is none of its sources."""
    found = (
        project.migrations.filter(source__in=Server.objects.filter(pk=server_pk))  # any number: too large is none
        .select_related("source__credential", "wave", "application", "profile", "project")
        .order_by("-pk")
        .first()
    )
    if found is None:
        raise Http404
    return found


@require_GET
def servers(request: HttpRequest, slug: str) -> HttpResponse:
    project = project_for(request, slug, READ_ALL)
    rows = open_migrations(project).prefetch_related(KEYS).order_by("source__name")
    return list_page(request, "setup/servers.html", project, rows=[row_of(row) for row in rows])


def row_of(migration: Migration) -> dict[str, Any]:
    """A line of the list: what is known, and what is to do next."""
    server = migration.source
    states = {key.state for key in server.host_keys.all()}
    blocking = [finding for finding in server.findings if finding["level"] == "blocking"]
    detail = ""
    if not server.credential_id:
        state, word = "waiting", "No credential yet"
    elif blocking:
        state, word, detail = "failed", "Cannot be used yet", blocking[0]["text"]
    elif HostKey.State.ACCEPTED not in states:
        offered = HostKey.State.OFFERED in states
        state, word = ("held", "Host key waits for you") if offered else ("waiting", "Not checked yet")
    elif server.facts_at is None:
        state, word = "waiting", "Not checked yet"
    else:
        state, word = "done", "Log-in works"
    return {"migration": migration, "server": server, "state": state, "word": word, "detail": detail}


def server_new(request: HttpRequest, slug: str) -> HttpResponse:
    project = project_for(request, slug, PLAN)
    form = ServerForm(posted(request), project=project, user=person(request))
    made: list[Migration] = []

    def save() -> None:
        made.append(verbs.add_server(project=project, values=form.values(*AGAIN.values()), user=person(request)))

    if request.method == "POST" and form.is_valid() and carried_out(form, save):
        messages.success(request, f"{made[0]} is entered. Check it now: its host key is shown to you.")
        return redirect("server", slug, made[0].source_id)
    trail = trail_of(project, ("Servers", reverse("servers", args=[slug])))
    return form_page(request, form, title="New server", trail=trail, project=project)


def server_many(request: HttpRequest, slug: str) -> HttpResponse:
    project = project_for(request, slug, PLAN)
    form = ManyServersForm(posted(request), project=project, user=person(request))

    def save() -> None:
        data = form.cleaned_data
        common = {"credential": data["credential"], "manager": data["manager"], "directory": "/"}
        verbs.add_servers(project=project, servers=data["servers"], common=common, user=person(request))

    if request.method == "POST" and form.is_valid() and carried_out(form, save):
        messages.success(request, f"{len(form.cleaned_data['servers'])} servers are entered. Check them now.")
        return redirect("servers", slug)
    trail = trail_of(project, ("Servers", reverse("servers", args=[slug])))
    return form_page(request, form, title="Many servers at once", trail=trail, project=project)


def server_edit(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    project = project_for(request, slug, PLAN)
    found = migration_of(project, pk).source
    form = ServerForm(posted(request), project=project, user=person(request), row=found)

    def save() -> None:
        verbs.change_server(project=project, server=found, values=form.values(*AGAIN.values()), user=person(request))

    if request.method == "POST" and form.is_valid() and carried_out(form, save):
        messages.success(request, f"{found} is changed. Check it again.")
        return redirect("server", slug, pk)
    trail = trail_of(
        project, ("Servers", reverse("servers", args=[slug])), (found.name, reverse("server", args=[slug, pk]))
    )
    return form_page(request, form, title="Change server", trail=trail, project=project)


@require_GET
def server(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    project = project_for(request, slug, READ_ALL)
    # First: of a check that ends in between, the server's row has what it found, and the page does not look again.
    run = check_run(f"check.server.{pk}")
    migration = migration_of(project, pk)
    tag = check_tag(run)
    region = request.GET.get("region") == "check"
    if region and request.GET.get("v") == tag:
        return HttpResponse(status=204)
    keys = list(migration.source.host_keys.order_by("state", "key_type", "pk"))
    accepted = {key.key_type: key for key in keys if key.state == HostKey.State.ACCEPTED}
    offered = [(key, accepted.get(key.key_type)) for key in keys if key.state == HostKey.State.OFFERED]
    context = {
        "project": project,
        "migration": migration,
        "server": migration.source,
        "run": run,
        "tag": tag,
        "offered": offered,
        "decided": [key for key in keys if key.state != HostKey.State.OFFERED],
        "services": services_seen(migration.source),
        "may_plan": may_plan(request, project),
        "trail": trail_of(project, ("Servers", reverse("servers", args=[slug]))),
        "here": reverse("server", args=[slug, pk]),
    }
    return zoned(request, f"setup/server.html{'#check' if region else ''}", project, context)


@require_POST
def server_check(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    project = project_for(request, slug, PLAN)
    found = migration_of(project, pk).source
    pressed(
        request,
        lambda: checks.request_server_check(found, user=person(request)),
        f"The check of {found} is requested.",
    )
    return redirect("server", slug, pk)


@require_POST
def servers_check(request: HttpRequest, slug: str) -> HttpResponse:
    """The ticked ones, or all where none is ticked."""
    project = project_for(request, slug, PLAN)
    ticked = request.POST.getlist("server")
    found = [each for each in sources(project) if not ticked or str(each.pk) in ticked]
    wrong = sorted(set(ticked) - {str(each.pk) for each in found})
    if wrong:
        words = ", ".join(f"“{each[:40]}”" for each in wrong[:5])
        messages.error(request, f"No source of this project is {words}: nothing is checked. Tick the servers again.")
        return redirect("servers", slug)
    for each in found:
        checks.request_server_check(each, user=person(request))
    if found:
        messages.success(request, f"The check of {len(found)} servers is requested.")
    else:
        messages.error(request, "There is no server to check. Enter one first.")
    return redirect("servers", slug)


@require_POST
def server_withdraw(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    project = project_for(request, slug, PLAN)
    migration = migration_of(project, pk)
    pressed(
        request,
        lambda: verbs.withdraw_server(migration=migration, user=person(request)),
        f"{migration} is out of the project.",
    )
    return redirect("servers", slug)


def host_keys(request: HttpRequest, slug: str) -> HttpResponse:
    """All keys that wait, with fingerprints; accept or refuse the ticked ones."""
    project = project_for(request, slug, PLAN if request.method == "POST" else READ_ALL)
    if request.method == "POST":
        decide_ticked(request, project)
        return redirect("host-keys", slug)
    return list_page(request, "setup/host_keys.html", project, offered=verbs.offered_keys(project))


def decide_ticked(request: HttpRequest, project: Project) -> None:
    """All keys of the project's sources that were ticked, also those that somebody decided since: that is told."""
    wanted = set(request.POST.getlist("key"))
    known = HostKey.objects.filter(server__in=sources(project)).select_related("server").order_by("server__name", "pk")
    chosen = [key for key in known if str(key.pk) in wanted]
    verdict = request.POST.get("verdict", "")
    kinds = Counter((key.server.name, key.key_type) for key in chosen)
    twice = [f"{name} ({kind})" for (name, kind), count in kinds.items() if count > 1]
    if verdict not in ("accept", "refuse"):
        messages.error(request, f"Verdict “{verdict}” is neither accept nor refuse. Press one of the buttons.")
    elif not chosen:
        messages.error(request, "No key was ticked. Tick those whose fingerprint you compared.")
    elif verdict == "accept" and twice:
        words = f"Two keys of one type are ticked for {', '.join(twice)}: a machine has one of each. None is accepted."
        messages.error(request, f"{words} Tick the one that its console confirms.")
    else:
        for key in chosen:
            decide_key(request, project, key, verdict)


def decide_key(request: HttpRequest, project: Project, key: HostKey, verdict: str) -> None:
    verb = checks.accept_host_key if verdict == "accept" else checks.refuse_host_key
    said = "accepted" if verdict == "accept" else "refused"
    done = f"{key.server}: {key.fingerprint} is {said}."
    pressed(request, lambda: verb(key.pk, user=person(request), project_id=project.pk), done)


def _one_key(request: HttpRequest, slug: str, pk: int, verdict: str) -> HttpResponse:
    project = project_for(request, slug, PLAN)
    key = get_object_or_404(HostKey.objects.select_related("server"), pk=pk)
    migration_of(project, key.server_id)
    decide_key(request, project, key, verdict)
    return redirect("server", slug, key.server_id)


@require_POST
def host_key_accept(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    return _one_key(request, slug, pk, "accept")


@require_POST
def host_key_refuse(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    return _one_key(request, slug, pk, "refuse")


def known_hosts(request: HttpRequest, slug: str) -> HttpResponse:
    """Keys from a known_hosts text, for one or many; the page says what came of it for each server."""
    project = project_for(request, slug, PLAN)
    form = KnownHostsForm(posted(request), servers=sources(project))
    told: list[tuple[Server, str]] = []

    def save() -> None:
        chosen = form.cleaned_data["server"] or sources(project)
        text = form.cleaned_data["text"]
        told.extend(checks.accept_known_hosts(list(chosen), text, user=person(request), project_id=project.pk))

    if request.method == "POST" and form.is_valid():
        carried_out(form, save)
    return form_page(
        request,
        form,
        title="Accept host keys from known_hosts",
        trail=trail_of(project, ("Host keys", reverse("host-keys", args=[slug]))),
        project=project,
        template="setup/known_hosts.html",
        submit="Accept what it names",
        told=told,
    )
