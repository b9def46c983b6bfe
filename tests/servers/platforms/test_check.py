"""The page of findings: each thing that would stop a migration later is named before it begins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from migrationhub.lib.findings import Finding, Level
from servers.platforms.vme.rights import NEEDS
from tests.lab.vme.standin import StandIn, made, run


def blocking(findings: list[Finding]) -> dict[str, Finding]:
    return {one.code: one for one in findings if one.level == Level.BLOCKING}


def check(standin: StandIn, **spec: Any) -> list[Finding]:
    return standin.platform().check(standin.spec(**spec), standin.network("production"))


def test_a_good_account_and_choice_are_ready_throughout(standin: StandIn) -> None:
    findings = check(standin)
    assert {one.level for one in findings} == {Level.READY}
    assert {one.code for one in findings} == {
        "platform.reached",
        "version",
        "permissions",
        "license",
        "place",
        "network.migration",
        "network.production",
        "plan",
        "image",
        "datastore",
        "name",
    }


def test_without_a_choice_only_account_and_appliance_are_looked_at(standin: StandIn) -> None:
    codes = [one.code for one in standin.platform().check(None)]
    assert codes == ["platform.reached", "version", "permissions", "license"]


def test_an_appliance_out_of_reach_is_one_finding(standin: StandIn) -> None:
    platform = standin.platform()
    standin.server.stop()
    (finding,) = platform.check(standin.spec())
    assert finding.level == Level.BLOCKING and finding.code == "platform.unreachable" and finding.act


def test_one_that_goes_away_in_the_middle_ends_the_list(standin: StandIn) -> None:
    standin.order({"kind": "500", "path": "/api/license", "times": 99})
    findings = standin.platform(sleep=lambda seconds: None).check(standin.spec())
    assert findings[-1].code == "platform.error" and findings[-1].level == Level.BLOCKING


def test_another_ca_and_a_wrong_password_are_findings(standin: StandIn, make_standin: Callable[..., StandIn]) -> None:
    from servers.platforms.vme.platform import VmePlatform

    other = make_standin(name="other")
    (finding,) = VmePlatform(standin.access(ca_bundle=other.ca.read_text())).check(None)
    assert finding.code == "platform.tls"
    (finding,) = VmePlatform(standin.access(password="no")).check(None)
    assert finding.code == "platform.login" and "svc-migrationhub" in finding.text


def test_unverified_tls_is_said_every_time(standin: StandIn) -> None:
    from servers.platforms.vme.platform import VmePlatform

    findings = VmePlatform(standin.access(ca_bundle="", insecure=True)).check(None)
    assert [one.level for one in findings if one.code == "platform.insecure"] == [Level.WARNING]


def test_each_missing_permission_is_named_with_its_code(standin: StandIn) -> None:
    findings = standin.platform("svc-reader").check(None)
    missing = {one.subject: one for one in findings if one.code.startswith("permission.")}
    assert set(missing) == {need.code for need in NEEDS if need.access == "full"}
    add = missing["provisioning-add"]
    assert add.level == Level.BLOCKING and "Instances: Add" in add.act and "Full" in add.act
    assert missing["snapshots"].level == Level.WARNING


def test_a_release_that_tells_one_right_for_all_is_warned_about_and_not_refused() -> None:
    from servers.platforms.vme.checks import rights

    others = [need.code for need in NEEDS if not need.code.startswith("provisioning-")]
    whoami = {"permissions": [{"code": code, "access": "full"} for code in others]}
    findings = rights("VME", whoami)
    assert {one.level for one in findings} == {Level.WARNING} and len(findings) == len(NEEDS) - len(others)
    (finding,) = rights("VME", {"permissions": []})
    assert finding.level == Level.BLOCKING


@pytest.mark.parametrize(("version", "level"), [("8.1.2.1-3", "ready"), ("8.1.1.9", "blocking"), ("8.0.2", "blocking")])
def test_the_version_decides(make_standin: Callable[..., StandIn], version: str, level: str) -> None:
    findings = make_standin(version=version).platform().check(None)
    assert [one.level for one in findings if one.code.startswith("version")] == [level]


def test_a_licence_that_is_used_up_blocks(make_standin: Callable[..., StandIn]) -> None:
    standin = make_standin(machines=1)
    made(standin, "first")
    found = blocking(check(standin))
    assert set(found) == {"license.used_up"} and "1 of 1" in found["license.used_up"].text


def test_a_licence_that_may_not_be_read_is_a_warning(standin: StandIn) -> None:
    standin.order({"kind": "refused", "status": 403, "path": "/api/license", "msg": "Forbidden"})
    findings = standin.platform().check(None)
    assert [one.level for one in findings if one.code == "license.unseen"] == [Level.WARNING]


@pytest.mark.parametrize(
    ("network", "code"),
    [
        ("Storage VLAN 90", "network.migration.pool"),
        ("Retired VLAN 7", "network.migration.inactive"),
        ("Production VLAN 20", "network.same"),
    ],
)
def test_networks_that_cannot_be_attached_are_told(standin: StandIn, network: str, code: str) -> None:
    found = blocking(check(standin, network_id=standin.network_named(network)))
    assert set(found) == {code} and found[code].act


def test_a_production_network_of_another_pool_is_told_before_the_cutover(standin: StandIn) -> None:
    findings = standin.platform().check(standin.spec(), standin.network_named("Storage VLAN 90"))
    assert set(blocking(findings)) == {"network.production.pool"}


@pytest.mark.parametrize(
    ("field", "value", "codes"),
    [
        ("group_id", "99999", {"group.missing"}),
        (
            "zone_id",
            "99999",
            {
                "zone.missing",
                "network.migration.missing",
                "network.production.missing",
                "plan.missing",
                "datastore.missing",
            },
        ),
        ("layout_id", "99999", {"layout.missing", "plan.missing"}),
        ("pool_id", "pool-99999", {"pool.missing", "network.migration.pool", "network.production.pool"}),
        ("plan_id", "99999", {"plan.missing"}),
        ("image_id", "99999", {"image.missing"}),
        ("network_id", "network-99999", {"network.migration.missing"}),
        ("datastore_id", "99999", {"datastore.missing"}),
        ("disks", (4000,), {"datastore.space"}),
        ("disks", (1,), {"image.disk"}),
    ],
)
def test_a_choice_that_is_not_there_is_named(standin: StandIn, field: str, value: Any, codes: set[str]) -> None:
    assert set(blocking(check(standin, **{field: value}))) == codes


def test_an_image_that_is_still_imported_and_a_store_that_is_offline(standin: StandIn) -> None:
    importing = next(str(one) for one, name in standin.catalog.images.items() if "importing" in name)
    offline = str(standin.catalog.offline_datastore["id"])
    assert set(blocking(check(standin, image_id=importing, datastore_id=offline))) == {
        "image.status",
        "datastore.offline",
    }


def test_a_cloud_that_switches_machines_on_again_is_warned_about(standin: StandIn) -> None:
    standin.appliance.auto_recover_power = True
    (finding,) = [one for one in check(standin) if one.level != Level.READY]
    assert (finding.code, finding.level) == ("zone.auto_recover", Level.WARNING)
    assert "Lab cloud" in finding.text and "Automatically Power On VMs" in finding.act


def test_a_powered_off_machine_that_vme_only_found_takes_the_name(standin: StandIn) -> None:
    standin.appliance.discovered = [{"id": 7, "name": "shop-db-vme", "powerState": "off", "status": "provisioned"}]
    found = blocking(check(standin))
    assert set(found) == {"name.taken"} and "off" in found["name.taken"].text


def test_our_own_instance_is_taken_on_and_a_foreign_one_is_not(standin: StandIn) -> None:
    external_id = made(standin)
    assert [one.code for one in check(standin) if one.code.startswith("name")] == ["name.ours"]
    platform = standin.platform()
    run(lambda memo: platform.advance_power("off", external_id, "off", memo))
    standin.appliance.store.state["instances"][external_id]["labels"] = []
    assert "name.taken" in blocking(check(standin))
