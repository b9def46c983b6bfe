"""What every form of the set-up does: nothing is overwritten unseen, and a field of one line takes one line."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from projects.models import Application, NoticeKind, Profile, Project, Wave, Webhook
from servers import checks
from servers.models import Server
from tests import factories as make

from .setup_helpers import TablePlatform, post

pytestmark = pytest.mark.django_db
CHANGED = "Somebody changed this while you were typing; nothing was saved."


def mark_of(response: Any) -> str:
    """What a drawn page sends back of what it showed."""
    return str(response.context["form"]["seen"].value())


# -- what somebody else saved ---------------------------------------------------------------------------------


def test_a_load_of_choices_overwrites_nothing_that_somebody_else_saved(
    lead: Client, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "platform_client", lambda _row: TablePlatform())
    profile = make.make_profile(project)
    project.platforms.add(profile.platform)
    address = reverse("profile-edit", args=["shop", profile.pk])
    drawn = lead.get(address)
    typed = {name: drawn.context["form"][name].value() for name in drawn.context["form"].fields}
    typed = {name: value for name, value in typed.items() if value not in (None, "", [])}
    Profile.objects.filter(pk=profile.pk).update(bandwidth=500)
    loaded = lead.post(address, {**typed, "bandwidth": "9", "load": "1"})
    assert mark_of(loaded) == mark_of(drawn), "what was typed was typed into the first page"
    assert CHANGED in lead.post(address, {**typed, "bandwidth": "9", "seen": mark_of(loaded)}).content.decode()
    assert Profile.objects.get(pk=profile.pk).bandwidth == 500


def test_what_an_application_waits_for_is_not_overwritten_unseen(lead: Client, project: Project) -> None:
    database = make.make_application(project, "Shop database")
    web = make.make_application(project, "Shop web")
    address = reverse("application-edit", args=["shop", web.pk])
    data = {"name": "Shop web", "slug": web.slug, "owner": web.owner_id or "", "seen": mark_of(lead.get(address))}
    web.waits_for.add(database)
    refused = lead.post(address, data)
    assert CHANGED in refused.content.decode()
    assert list(web.waits_for.all()) == [database]
    Application.objects.filter(pk=database.pk).update(name="Database of the shop")
    assert lead.post(address, {**data, "seen": mark_of(refused)}).status_code == 302, "another name is no other row"
    assert not web.waits_for.exists()


def test_nor_is_a_webhooks_address(lead: Client, project: Project) -> None:
    hook = Webhook.objects.create(
        project=project, name="#move", format="slack", url="https://hooks.example/a", host="hooks.example",
        kinds=[NoticeKind.WAVE], made_by=User.objects.get(username="lena"),
    )  # fmt: skip
    address = reverse("webhook-edit", args=["shop", hook.pk])
    data = {"name": "#move", "format": "slack", "kinds": ["wave"], "is_on": "on", "seen": mark_of(lead.get(address))}
    hook.url = "https://hooks.example/b"
    hook.save()
    assert CHANGED in lead.post(address, {**data, "url": "https://hooks.example/c"}).content.decode()
    assert Webhook.objects.get().url == "https://hooks.example/b"


# -- one line -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("between", ["\n", "\r\n", "\r", "\u2028"])
def test_a_name_has_one_line(lead: Client, project: Project, between: str) -> None:
    torn = f"Shop{between}Bcc: x@example.com"
    data = {"slug": "shop", "time_zone": "UTC"}
    said = post(lead, "project-edit", "shop", **data, name=torn)
    assert "It has more than one line." in said and "What people call it" in said
    assert "It has more than one line." in post(lead, "application-new", "shop", name=torn, slug="x")
    assert "It has more than one line." in post(lead, "wave-new", "shop", name=torn, number="1", time_zone="UTC")
    server = {"name": torn, "address": "10.0.0.4", "port": "22", "manager": "systemd", "directory": "/"}
    assert "It has more than one line." in post(lead, "server-new", "shop", **server)
    assert Project.objects.get().name == "Shop to VME"
    assert not (Application.objects.exists() or Wave.objects.exists() or Server.objects.exists())


def test_a_description_may_have_many(lead: Client, project: Project) -> None:
    post(lead, "project-edit", "shop", name="Shop", slug="shop", time_zone="UTC", description="One.\nTwo.")
    assert Project.objects.get().description.splitlines() == ["One.", "Two."]
