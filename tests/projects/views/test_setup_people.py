"""Projects, members and applications through their pages."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from migrationhub.audit.models import AuditEvent
from projects.models import Application, Membership, Migration, Project
from tests import factories as make
from tests.scenes import make_scene

from .setup_helpers import page, post

pytestmark = pytest.mark.django_db


def test_a_new_project_is_led_by_who_made_it(client: Client) -> None:
    staff = make.make_user("root", is_staff=True)
    client.force_login(staff)
    said = post(client, "project-new", name="Basel exit", slug="", time_zone="Europe/Zurich", description="All of it")
    project = Project.objects.get(slug="basel-exit")
    assert project.memberships.get().user == staff
    assert project.memberships.get().role == "lead"
    assert "Basel exit is made, and you lead it" in said
    assert "The way to the first migration" in said
    assert AuditEvent.objects.filter(verb="project.create", project_id=project.pk, actor=staff).count() == 1


def test_errors_of_a_project_name_field_value_and_what_was_expected(client: Client, project: Project) -> None:
    client.force_login(make.make_user(is_staff=True))
    said = post(
        client, "project-new", name="shop TO vme", slug="x y", time_zone="Europe/Atlantis", description="keep me"
    )
    assert "Name “shop TO vme” is another project's." in said
    assert "Time zone “Europe/Atlantis” is not known. Give an IANA name such as Europe/Zurich or UTC." in said
    assert "Short name “x y”:" in said
    assert "keep me" in said, "nothing that was typed is lost"
    assert "Name is empty." in post(client, "project-new", time_zone="UTC")
    assert Project.objects.count() == 1


def test_an_account_that_leads_nothing_makes_no_project(client: Client) -> None:
    client.force_login(make.make_user())
    assert client.get(reverse("project-new")).status_code == 403


def test_the_setup_path_shows_what_is_missing_and_then_less(lead: Client, project: Project) -> None:
    said = page(lead, "project-setup", "shop")
    assert "Enter an API account for the platform and a password or SSH key for the servers." in said
    assert "Enter the platform that the servers move to." in said
    assert "Add an application owner" in said
    project.credentials.add(make.make_credential(kind="api"), make.make_credential(kind="password"))
    make.make_platform(project)
    make.make_member(project, "owner")
    said = page(lead, "project-setup", "shop")
    assert "an API account" not in said
    assert "Enter the platform that" not in said
    assert "Add an application owner" not in said


def test_a_project_is_changed_and_the_change_is_told(lead: Client, project: Project) -> None:
    said = post(lead, "project-edit", "shop", name="Shop 2", slug="shop", time_zone="UTC", description="")
    assert "Set up Shop 2" in said
    event = AuditEvent.objects.get(verb="project.change")
    assert (event.before, event.after) == ({"name": "Shop to VME"}, {"name": "Shop 2"})


def test_who_saves_an_old_page_is_told_that_it_changed(lead: Client, project: Project) -> None:
    drawn = lead.get(reverse("project-edit", args=["shop"])).context["form"]["seen"].value()
    Project.objects.update(description="by somebody else")
    data = {"name": "Mine", "slug": "shop", "time_zone": "UTC", "description": "", "seen": drawn}
    response = lead.post(reverse("project-edit", args=["shop"]), data)
    assert "Somebody changed this while you were typing" in response.content.decode()
    assert Project.objects.get().name == "Shop to VME"
    data["seen"] = response.context["form"]["seen"].value()
    assert lead.post(reverse("project-edit", args=["shop"]), data).status_code == 302
    assert Project.objects.get().name == "Mine"


def test_members_are_added_changed_and_removed(lead: Client, project: Project) -> None:
    make.make_user("otto")
    assert "otto is a member" in post(lead, "members", "shop", username="OTTO", role="operator")
    member = Membership.objects.get(user__username="otto")
    assert member.role == "operator"
    post(lead, "member-role", "shop", member.pk, role="owner")
    member.refresh_from_db()
    assert member.role == "owner"
    post(lead, "member-remove", "shop", member.pk)
    assert not Membership.objects.filter(pk=member.pk).exists()
    verbs = AuditEvent.objects.filter(verb__startswith="member.").values_list("verb", flat=True)
    assert sorted(verbs) == ["member.add", "member.change", "member.remove"]


def test_a_user_name_without_account_and_a_second_membership_are_refused(lead: Client) -> None:
    assert "User name “nobody” has no account here." in post(lead, "members", "shop", username="nobody", role="lead")
    assert "is a member of Shop to VME already" in post(lead, "members", "shop", username="lena", role="manager")
    assert "Role “king”:" in post(lead, "members", "shop", username="lena", role="king")


def test_the_last_lead_stays(lead: Client, project: Project) -> None:
    member = project.memberships.get()
    assert "is the only lead" in post(lead, "member-remove", "shop", member.pk)
    assert "is the only lead" in post(lead, "member-role", "shop", member.pk, role="operator")
    member.refresh_from_db()
    assert member.role == "lead"
    make.make_member(project, "lead")
    post(lead, "member-role", "shop", member.pk, role="operator")
    member.refresh_from_db()
    assert member.role == "operator"


def test_an_owner_of_an_application_cannot_lose_the_role(lead: Client, project: Project) -> None:
    application = make.make_application(project, "Files")
    member = project.memberships.get(user=application.owner)
    assert "owns Files" in post(lead, "member-remove", "shop", member.pk)
    assert "owns Files" in post(lead, "member-role", "shop", member.pk, role="manager")
    assert Membership.objects.filter(pk=member.pk, role="owner").exists()


def test_an_application_is_entered_with_owner_and_waits(lead: Client, project: Project) -> None:
    owner = make.make_member(project, "owner", make.make_user("olga"))
    database = make.make_application(project, "Shop database", owner=owner)
    said = post(
        lead,
        "application-new",
        "shop",
        name="Shop web",
        owner=owner.pk,
        access_note="Open http://10.0.0.9 and log in as test",
        waits_for=[database.pk],
    )
    assert "Application Shop web is entered." in said
    application = Application.objects.get(name="Shop web")
    assert application.slug == "shop-web"
    assert application.owner == owner
    assert list(application.waits_for.all()) == [database]


def test_only_an_owner_of_this_project_can_own_an_application(lead: Client, project: Project) -> None:
    operator = make.make_member(project, "operator")
    said = post(lead, "application-new", "shop", name="Shop web", owner=operator.pk)
    assert f"Owner “{operator.pk}”:" in said
    assert "Make the person a member with the role application owner first." in said
    assert "Shop web" in said


def test_applications_cannot_wait_in_a_circle(lead: Client, project: Project) -> None:
    one, two, three = (make.make_application(project, name) for name in ("One", "Two", "Three"))
    two.waits_for.set([one])
    three.waits_for.set([two])
    said = post(lead, "application-edit", "shop", one.pk, name="One", slug=one.slug, waits_for=[three.pk])
    assert "One would wait for itself through Three" in said
    assert not one.waits_for.exists()


def test_a_changed_application_moves_the_version_of_what_it_decides(lead: Client, project: Project) -> None:
    application = make.make_application(project, "One")
    migration = make.make_migration(project=project, application=application)
    before = migration.version
    post(lead, "application-edit", "shop", application.pk, name="One", slug=application.slug, owner="")
    migration.refresh_from_db()
    application.refresh_from_db()
    assert application.owner is None
    assert migration.version == before + 1


def test_the_path_counts_what_is_complete_too_and_marks_what_comes_next(db: None) -> None:
    scene = make_scene(3)
    now = timezone.now()
    Migration.objects.update(state=Migration.State.COMPLETE, completed_at=now, declared_at=now)
    client = Client()
    client.force_login(scene.lead, "django.contrib.auth.backends.ModelBackend")
    text = page(client, "project-setup", scene.project.slug)
    assert "3 servers, 3 complete" in text
    assert "3 of 3 servers in a wave" in text
    assert text.count('aria-current="step"') == 1
    assert "Times are in Europe/Zurich (CET)." in text
