"""Who looks at the pages: four people of one project and an outsider."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from django.contrib.auth.models import User
from django.test import Client

from projects.models import Application, Membership, Migration, Project, Wave
from tests import factories


@dataclass
class House:
    """A project with its people, one application of the owner, and one of somebody else."""

    project: Project
    lead: User
    operator: User
    owner: User
    manager: User
    outsider: User
    application: Application
    other: Application
    wave: Wave
    migration: Migration  # of the owner's application
    foreign: Migration  # of the other application

    def client(self, who: str) -> Client:
        client = Client()
        if who != "anonymous":
            client.force_login(getattr(self, who), "django.contrib.auth.backends.ModelBackend")
        return client


@pytest.fixture
def project(db: None) -> Project:
    """One that is just set up, led by lena."""
    return factories.make_project("Shop to VME", slug="shop", lead=factories.make_user("lena"))


@pytest.fixture
def lead(client: Client, project: Project) -> Client:
    client.force_login(User.objects.get(username="lena"))
    return client


@pytest.fixture
def house(db: None) -> House:
    factories.make_controller()
    lead = factories.make_user("lea", first_name="Lea", last_name="Adler")
    project = factories.make_project("Basel exit", lead=lead)
    roles = Membership.Role
    operator = factories.make_member(project, roles.OPERATOR, factories.make_user("omar"))
    manager = factories.make_member(project, roles.MANAGER, factories.make_user("mia"))
    application = factories.make_application(project, "Shop", owner=factories.make_user("olga"))
    other = factories.make_application(project, "Ledger")
    wave = factories.make_wave(project, name="first")
    shop = {"application": application, "wave": wave, "source": factories.make_server("shop-db")}
    ledger = {"application": other, "wave": wave, "source": factories.make_server("ledger-01")}
    profile = factories.make_profile(project)
    migration = factories.make_migration(project=project, profile=profile, target=True, **shop)
    foreign = factories.make_migration(project=project, profile=profile, target=True, **ledger)
    assert application.owner is not None
    return House(
        project=project,
        lead=lead,
        operator=operator,
        owner=application.owner,
        manager=manager,
        outsider=factories.make_user("zoe"),
        application=application,
        other=other,
        wave=wave,
        migration=migration,
        foreign=foreign,
    )
