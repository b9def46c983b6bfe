"""Every page's address, from the resolver itself: a new page without words here fails the walks."""

from __future__ import annotations

from collections.abc import Iterator

from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.urls.exceptions import NoReverseMatch

from servers.models import Credential
from tests.scenes import Scene

# No pages: what answers POST alone, what leads elsewhere, what is not HTML.
NO_PAGE = {"progress-csv", "attachment", "account_logout"}
ASKS = {"credential-new": "?kind=password", "probe-new": "?kind=http"}  # a page that is about one kind of thing


def names() -> Iterator[str]:
    """Names of all addresses that are ours."""

    def walk(patterns: list[URLPattern | URLResolver]) -> Iterator[str]:
        for each in patterns:
            if isinstance(each, URLResolver):
                yield from walk(each.url_patterns)
            elif each.name and each.lookup_str.startswith(("projects.", "migrationhub.")):
                yield each.name

    yield from sorted(set(walk(get_resolver().url_patterns)))


def known(scene: Scene) -> dict[str, list[object]]:
    """Arguments by the names under which views take them."""
    project, migration = scene.project, scene.migration
    login = project.credentials.exclude(kind=Credential.Kind.TSIG).order_by("pk").first()
    return {
        "slug": project.slug,
        "wave_pk": scene.wave.pk,
        "application_pk": scene.applications[0].pk,
        "kind": "acceptance_testing",
        "key": "data",
        "gate": "go",
        "approval": scene.applications[0].approvals.first().pk,
        "defect": project.defects.first().pk,
        "break-glass": project.break_glass.first().pk,
        "wave-board": scene.wave.pk,
        "wave-edit": scene.wave.pk,
        "freeze-edit": project.change_freezes.first().pk,
        "migration": migration.pk,
        "step-checklist": migration.steps.get(kind="acceptance_testing").pk,
        "plan": migration.pk,
        "probe-new": migration.pk,
        "probe-edit": migration.source.probes.first().pk,
        "run": scene.run.pk,
        "server": migration.source_id,
        "server-edit": migration.source_id,
        "application-edit": scene.applications[0].pk,
        "credential-edit": login.pk,
        "platform": project.platforms.first().pk,
        "platform-edit": project.platforms.first().pk,
        "name-server-edit": project.name_servers.first().pk,
        "profile-edit": migration.profile_id,
    }


def pages(scene: Scene) -> dict[str, str]:
    """Address of each page by name; those that need more than `known` has are left out."""
    have, found = known(scene), {}
    for name in names():
        if name in NO_PAGE:
            continue
        for arguments in _arguments(name):
            values = {key: have.get(name) if key == "pk" else have.get(key) for key in arguments}
            if None in values.values():
                continue
            try:
                found[name] = reverse(name, kwargs=values) + ASKS.get(name, "")
            except NoReverseMatch:
                continue
    return found


def _arguments(name: str) -> list[list[str]]:
    patterns = get_resolver().reverse_dict.getlist(name)
    return [list(arguments) for possibilities, *_ in patterns for _, arguments in possibilities]
