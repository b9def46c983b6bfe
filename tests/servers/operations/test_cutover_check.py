"""What step 6 would fail on is found before services are stopped, on the guest and at the name server."""

from __future__ import annotations

from typing import Any

import pytest

from servers.models import Credential, NameServer
from servers.operations.base import Job
from servers.operations.cutover_check import CheckCutover
from servers.progress import Progress, State
from servers.remote import dns
from servers.remote.base import Endpoint
from servers.remote.dns import DnsProblem, RecordSet
from tests import factories
from tests.servers.operations.test_preflight import MANAGER, NOTHING, PLAN_D, SERVICE, WICKED, Machine

pytestmark = pytest.mark.django_db
KNOWN = Machine("systemd-networkd", networkd="2 /etc/systemd/network/lan.network")
OLD = RecordSet("db.shop.lab", "A", ("10.0.0.5",), 300)
ALIAS = DnsProblem("db.shop.lab is an alias (CNAME) of a.lab.", "Plan the change for a.lab.", code="dns.alias")
SILENT = DnsProblem("192.0.2.53 does not answer.", "Look whether it runs.", code="dns.timeout", lasting=False)
NOT_ITS_ZONE = DnsProblem("192.0.2.53 is not authoritative.", "Enter another.", code="dns.not_authoritative")


def checked(machine: Machine, *, found: RecordSet | DnsProblem | None = None, **more: Any) -> Progress:
    """The end of one check of a server whose clone is `machine`; `found`: what the name server has."""
    key = factories.make_credential(kind=Credential.Kind.TSIG, username="key", secret="c2VjcmV0")
    server = NameServer.objects.create(name="ns", address="192.0.2.53", zone="shop.lab", credential=key)
    source, target = factories.make_server("shop-db"), factories.make_server("shop-db-vme")
    parameters = {
        "source": source.pk,
        "target": target.pk,
        "address": "10.0.0.9/24",
        "gateway": "10.0.0.1",
        "resolvers": ["10.0.0.53"],
        "take_over": False,
        "by_hand": False,
        "name_server": server.pk,
        "name": "db.shop.lab" if found else "",
        "ttl": 60,
        **more,
    }
    run = factories.make_run("check_cutover", parameters=parameters)
    _, progress = CheckCutover().advance(Job(run, lambda endpoint: machine))  # type: ignore[arg-type,return-value]
    return progress


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Any:
    def hold(found: RecordSet | DnsProblem) -> None:
        def look_up(*args: Any, **named: Any) -> RecordSet:
            if isinstance(found, DnsProblem):
                raise found
            return found if args[3] == found.rtype else RecordSet(args[2], args[3])

        monkeypatch.setattr(dns, "look_up", look_up)

    return hold


@pytest.mark.parametrize("machine", [MANAGER, WICKED, SERVICE, NOTHING, PLAN_D])
def test_a_network_that_the_address_cannot_be_set_in_holds_the_stop_and_names_both_ways_out(machine: Machine) -> None:
    progress = checked(machine)
    assert (progress.state, progress.code) == (State.FAILED, "guest_address.kind")
    assert progress.reason.startswith("With the source off, step 6 would fail.")
    assert "Let ifupdown or systemd-networkd configure it" in progress.reason
    assert "choose “Set by hand” as guest address in the server's profile" in progress.reason


def test_one_that_it_can_be_set_in_holds_nothing() -> None:
    progress = checked(KNOWN)
    assert (progress.state, progress.reason) == (State.SUCCEEDED, "")


def test_by_hand_holds_nothing_and_says_what_is_to_be_set_where_and_when() -> None:
    progress = checked(MANAGER, by_hand=True)
    assert progress.state == State.SUCCEEDED
    for words in ("10.0.0.9/24, gateway 10.0.0.1, resolvers 10.0.0.53", "nmcli", "once the final delta is done"):
        assert words in progress.reason


def test_missing_resolvers_are_found_while_they_can_be_entered() -> None:
    machine = Machine("systemd-networkd", networkd="2 /etc/systemd/network/lan.network", resolvlink="../run/x.conf")
    progress = checked(machine, resolvers=[])
    assert progress.code == "guest_address.resolvers" and "in the plan" in progress.reason
    assert checked(machine, resolvers=[], by_hand=True).state == State.SUCCEEDED


@pytest.mark.parametrize("found", [ALIAS, NOT_ITS_ZONE])
def test_a_record_that_cannot_be_changed_holds_the_stop(zone: Any, found: DnsProblem) -> None:
    zone(found)
    progress = checked(KNOWN, found=found)
    assert (progress.state, progress.code) == (State.FAILED, found.code)
    assert found.text in progress.reason and found.act in progress.reason


def test_a_long_ttl_is_told_and_holds_nothing(zone: Any) -> None:
    old = RecordSet("db.shop.lab", "A", ("10.0.0.5",), 86400)
    zone(old)
    progress = checked(KNOWN, found=old)
    assert progress.state == State.SUCCEEDED
    assert "a TTL of 86400 s: clients may keep the old address for that long." in progress.reason
    zone(OLD)
    assert checked(KNOWN, found=OLD).reason == ""


def test_other_servers_behind_the_name_are_told_before_the_stop(zone: Any) -> None:
    both = RecordSet("db.shop.lab", "A", ("10.0.0.5", "10.0.0.6"), 60)
    zone(both)
    progress = checked(KNOWN, found=both)
    assert progress.state == State.SUCCEEDED and "2 A records: 10.0.0.5, 10.0.0.6. All are replaced." in progress.reason


def test_a_name_server_that_is_silent_for_a_moment_is_asked_again(zone: Any) -> None:
    zone(SILENT)
    with pytest.raises(DnsProblem) as caught:
        checked(KNOWN, found=SILENT)
    assert not caught.value.lasting and CheckCutover.patience >= 60


def test_a_process_host_has_no_network_to_look_at(zone: Any) -> None:
    zone(OLD)
    machine = Machine("")
    machine.endpoint = Endpoint("m", "10.0.0.5", manager="supervisord")
    assert checked(machine, found=OLD).state == State.SUCCEEDED
