"""Platforms, name servers and credentials do not change under what is in the middle of using them."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from migrationhub.lib.findings import Problem
from projects import digest, planning_access
from projects.errors import Conflict
from projects.lanes import lane_of
from projects.models import Migration, Project, Step, Wave
from servers.models import Credential, NameServer, Placement, Platform, Run
from tests import factories as make

from .views.setup_helpers import page, post

pytestmark = pytest.mark.django_db
K, S = Step.Kind, Step.State


@pytest.fixture
def user() -> User:
    return make.make_user("lena")


@pytest.fixture
def migration(user: User) -> Migration:
    project = make.make_project("Shop", slug="shop", lead=user)
    return make.make_migration(project=project, source=make.make_server("shop-db"))


@pytest.fixture
def lead(client: Client, user: User, migration: Migration) -> Client:
    client.force_login(user)
    return client


# -- platform ---------------------------------------------------------------------------------------------------


def platform_of(migration: Migration) -> Platform:
    assert migration.profile is not None
    return migration.profile.platform


def move(migration: Migration, user: User, **values: Any) -> Platform:
    platform = platform_of(migration)
    planning_access.save_platform(project=migration.project, platform=platform, values=values, user=user)
    return Platform.objects.get(pk=platform.pk)


def placed(migration: Migration, external_id: str = "17") -> None:
    make.make_target(migration)
    Placement.objects.update(external_id=external_id)


def test_a_platform_is_not_pointed_at_another_appliance_under_its_targets(migration: Migration, user: User) -> None:
    placed(migration)
    with pytest.raises(Problem, match=r"The targets of shop-db are on .*: its URL cannot change") as refused:
        move(migration, user, url="https://other.invalid", name="New")
    assert "Make a second platform" in refused.value.act
    platform = Platform.objects.get()
    assert platform.url == "https://vme.invalid" and platform.name != "New" and platform.checked_at is not None


def test_the_page_says_so(lead: Client, migration: Migration) -> None:
    placed(migration)
    platform = platform_of(migration)
    migration.project.credentials.add(platform.credential)
    data = {"name": platform.name, "kind": "vme", "credential": platform.credential_id, "secret_again": "x"}
    said = post(lead, "platform-edit", "shop", platform.pk, **data, url="https://other.invalid")
    assert "its URL cannot change under them" in said and "Make a second platform" in said
    assert Platform.objects.get().url == "https://vme.invalid"


def test_its_account_and_certificate_may_change(migration: Migration, user: User) -> None:
    """A password that is rotated tonight must not end the cutover; whose instance it is, is looked at by each act."""
    placed(migration)
    account = make.make_credential(kind="api")
    found = move(migration, user, url="https://vme.invalid", credential=account, ca_bundle="pem")
    assert (found.credential, found.ca_bundle) == (account, "pem")


@pytest.mark.parametrize("state", ["complete", "cancelled"])
def test_a_migration_that_is_over_holds_nothing(migration: Migration, user: User, state: str) -> None:
    placed(migration)
    Migration.objects.update(state=state)
    assert move(migration, user, url="https://other.invalid").url == "https://other.invalid"


def test_a_wrong_url_is_corrected_as_long_as_nothing_was_made_there(migration: Migration, user: User) -> None:
    placed(migration, external_id="")
    attempt = make.make_attempt(migration.steps.get(kind=K.INITIAL))
    action = make.make_action(attempt, "provision", state="running")
    with pytest.raises(Problem, match="its URL cannot change"):
        move(migration, user, url="https://other.invalid")
    type(action).objects.update(state="failed")
    assert move(migration, user, url="https://other.invalid").url == "https://other.invalid"


def test_a_step_that_begins_meanwhile_sees_the_change(migration: Migration, user: User) -> None:
    move(migration, user, url="https://other.invalid")
    assert Migration.objects.get().version == migration.version + 1


# -- name server ------------------------------------------------------------------------------------------------


@pytest.fixture
def name_server(migration: Migration) -> NameServer:
    found = NameServer.objects.create(
        name="BIND", address="10.9.0.1", zone="shop.lab", credential=make.make_credential(kind="tsig")
    )
    Migration.objects.update(name_server=found, dns_name="db.shop.lab")
    return found


def readdress(name_server: NameServer, project: Project, user: User, **values: Any) -> NameServer:
    planning_access.save_name_server(project=project, name_server=name_server, values=values, user=user)
    return NameServer.objects.get()


WHERE: list[dict[str, Any]] = [{"address": "10.9.0.2"}, {"zone": "other.lab"}, {"port": 5353}]


@pytest.mark.parametrize("values", WHERE, ids=lambda values: next(iter(values)))
@pytest.mark.parametrize("state", [S.RUNNING, S.ATTENTION, S.DONE])
def test_where_a_name_is_changed_stays_once_the_cutover_events_have_begun(
    migration: Migration, name_server: NameServer, user: User, values: dict[str, Any], state: str
) -> None:
    migration.steps.filter(kind=K.CUTOVER).update(state=state)
    name = next(iter(values))
    with pytest.raises(Problem, match=f"The cutover events of shop-db have begun.*: {name} cannot change"):
        readdress(name_server, migration.project, user, **values)
    assert getattr(NameServer.objects.get(), name) != values[name]
    more = {"name": "BIND 2", "resolvers": ["10.9.0.3"], "credential": make.make_credential(kind="tsig")}
    name_server.refresh_from_db()
    assert readdress(name_server, migration.project, user, **more).resolvers == ["10.9.0.3"]


@pytest.mark.parametrize("state", [S.WAITING, S.READY, S.UNDONE, S.CANCELLED])
def test_before_and_after_a_try_it_can_be_corrected(
    migration: Migration, name_server: NameServer, user: User, state: str
) -> None:
    migration.steps.filter(kind=K.CUTOVER).update(state=state)
    assert readdress(name_server, migration.project, user, address="10.9.0.2").address == "10.9.0.2"
    assert Migration.objects.get().version == migration.version + 1
    assert migration.wave is not None
    assert Wave.objects.get().version == migration.wave.version + 1


def test_a_go_is_given_for_the_name_server_as_it_is(migration: Migration, name_server: NameServer, user: User) -> None:
    def subject() -> dict[str, Any]:
        return digest.plain(digest.go_subject([lane_of(migration)], None))

    given = subject()
    readdress(name_server, migration.project, user, name="BIND 2", resolvers=["10.9.0.3"])
    assert digest.digest(subject()) == digest.digest(given), "where the name is changed is the same"
    for values in WHERE:
        before = subject()
        readdress(NameServer.objects.get(), migration.project, user, **values)
        assert digest.difference(before, subject()) == [f"shop-db: {digest.WORDS['plan']} changed."]


# -- credential -------------------------------------------------------------------------------------------------


def save(credential: Credential, project: Project, user: User, **values: Any) -> Credential:
    planning_access.save_credential(project=project, credential=credential, values=values, user=user)
    return Credential.objects.get(pk=credential.pk)


def users_of(migration: Migration, place: str) -> Credential:
    if place == "source":
        assert migration.source.credential is not None
        return migration.source.credential
    if place == "platform":
        return platform_of(migration).credential
    credential = make.make_credential(kind="tsig")
    row = NameServer.objects.create(name="BIND", address="10.9.0.1", zone="a.b", credential=credential)
    Migration.objects.update(name_server=row)
    return credential


@pytest.mark.parametrize("place", ["source", "platform", "name server"])
def test_work_in_hand_goes_on_as_the_user_as_whom_it_began(migration: Migration, user: User, place: str) -> None:
    credential = users_of(migration, place)
    action = make.make_action(make.make_attempt(migration.steps.get(kind=K.STOP)), "stop_services", state="running")
    with pytest.raises(Conflict, match=r"Work that logs in with .* is under way: shop-db\.") as refused:
        save(credential, migration.project, user, username="other")
    assert "A new password is taken at any time" in refused.value.act
    found = save(Credential.objects.get(pk=credential.pk), migration.project, user, username="root", secret="new")
    assert (found.username, found.secret) == ("root", "new")
    type(action).objects.update(state="succeeded")
    assert save(found, migration.project, user, username="other").username == "other"


def test_so_does_a_check_of_the_server(migration: Migration, user: User) -> None:
    make.make_run("host_check", server=migration.source)
    credential = migration.source.credential
    assert credential is not None
    with pytest.raises(Conflict, match="is under way: shop-db"):
        save(credential, migration.project, user, username="other")
    Run.objects.update(state="succeeded", finished_at=make.hours(0))
    save(Credential.objects.get(pk=credential.pk), migration.project, user, username="other")


def test_work_elsewhere_does_not_keep_a_credential(migration: Migration, user: User) -> None:
    make.make_action(make.make_attempt(migration.steps.get(kind=K.STOP)), "stop_services", state="running")
    assert save(make.make_credential(), migration.project, user, username="other").username == "other"


# -- what was found of another machine --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "facts"), [({"address": "10.0.0.2"}, {}), ({"port": "2222"}, {"cpus": 4})], ids=["address", "port"]
)
def test_a_server_that_is_reached_in_another_way_was_not_looked_at_yet(
    lead: Client, migration: Migration, change: dict[str, str], facts: dict[str, Any]
) -> None:
    server = migration.source
    type(server).objects.update(facts={"cpus": 4}, facts_at=make.hours(-1), address="10.0.0.1")
    make.make_run("host_check", state="succeeded", work_key=f"check.server.{server.pk}", reason="Log-in works.")
    assert "nothing was found that is in the way" in page(lead, "server", "shop", server.pk)
    migration.project.credentials.add(server.credential)
    data = {"name": server.name, "address": "10.0.0.1", "port": "22", "credential": server.credential_id}
    said = post(
        lead, "server-edit", "shop", server.pk, **{**data, **change}, manager="systemd", directory="/", secret_again="x"
    )
    assert "Not looked at yet" in said and "nothing was found that is in the way" not in said
    assert "Not checked yet" in page(lead, "servers", "shop")
    server.refresh_from_db()
    assert (server.facts_at, server.facts, server.findings) == (None, facts, [])
