"""Acts on instances through thick and thin: one effect each, whatever breaks in between."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from servers.platforms.base import Nic
from servers.platforms.vme.acts import UNSURE, interrupted
from servers.platforms.vme.platform import VmePlatform
from servers.progress import State
from tests.lab.vme.standin import StandIn, made, run
from tests.servers.platforms.test_client import Clock


def production(standin: StandIn, address: str = "127.101.1.55") -> tuple[Nic, ...]:
    return (Nic(network_id=standin.network("production"), address=address),)


def with_clock(standin: StandIn, **access: str) -> tuple[VmePlatform, Clock]:
    clock = Clock()
    return standin.platform(clock=clock, sleep=clock.sleep, **access), clock


# -- create ---------------------------------------------------------------------------------------------------


def test_an_instance_is_made_and_told_with_its_address(standin: StandIn) -> None:
    platform, spec = standin.platform(), standin.spec()
    assert platform.find(spec.label) is None
    assert platform.observe_create("k", spec, {}).next_act == "create"
    memo, progress = run(lambda memo: platform.advance_create("k", spec, memo))
    assert progress.state == State.SUCCEEDED and progress.target_power == "on"
    assert progress.result["address"] == "127.101.2.100" and standin.addresses == [(spec.label, "127.101.2.100")]
    instance = platform.find(spec.label)
    assert instance is not None and instance.external_id == progress.result["external_id"] == memo["external_id"]
    assert instance.uuid == progress.result["uuid"] and instance.server_id == progress.result["server_id"]
    assert platform.get(instance.external_id) == instance
    host = standin.backend.hosts["shop-db-vme"]
    assert host.spec.user_data == spec.user_data and host.nics[0].address == "127.101.2.100/24"
    assert platform.observe_create("k", spec, memo).state == State.SUCCEEDED


def test_each_advance_sends_one_changing_request_or_none(standin: StandIn) -> None:
    platform, spec = standin.platform(), standin.spec()
    memo, progress = platform.advance_create("k", spec, {})
    assert progress.state == State.RUNNING
    requests = [entry for entry in standin.journal if entry["kind"] == "request"]
    assert len(requests) == 1
    for _ in range(3):
        memo, progress = platform.advance_create("k", spec, memo)
    assert [entry for entry in standin.journal if entry["kind"] == "request"] == requests
    assert requests[0]["work_key"] == "k"


@pytest.mark.parametrize("kind", ["cut_after", "cut_before", "500", "html", "503"])
def test_an_ambiguous_answer_to_a_create_makes_one_instance(standin: StandIn, kind: str) -> None:
    platform, clock = with_clock(standin)
    spec = standin.spec()
    standin.order({"kind": kind, "method": "POST", "path": "/api/instances$", "times": 1})
    memo, progress = platform.advance_create("k", spec, {})
    assert progress.state == State.RUNNING and progress.observed_at is None and progress.reason
    assert memo["unsure_since"] == clock.now
    memo, progress = platform.advance_create("k", spec, memo)
    if kind == "cut_after":  # it was done: it is taken on at once
        assert memo["external_id"] and len(standin.effective("create")) == 1
    else:  # it was not: for two minutes it is only looked up
        assert progress.next_act is None and "not known" in progress.reason
        assert standin.effective("create") == []
        clock.now += UNSURE + 1
        assert platform.observe_create("k", spec, memo).next_act == "create"
    _, progress = run(lambda memo: platform.advance_create("k", spec, memo), memo)
    assert progress.state == State.SUCCEEDED
    assert len(standin.effective("create")) == 1 and standin.repeated_keys() == []


def test_a_killed_try_is_taken_on_and_not_made_twice(standin: StandIn) -> None:
    platform, spec = standin.platform(), standin.spec()
    platform.advance_create("k", spec, {})  # the memo of this one is lost
    _, progress = run(lambda memo: platform.advance_create("k", spec, memo), interrupted({}))
    assert progress.state == State.SUCCEEDED and progress.result["adopted"]
    assert len(standin.effective("create")) == 1


def test_an_interrupted_memo_waits_before_it_asks_again(standin: StandIn) -> None:
    platform, clock = with_clock(standin)
    memo, progress = platform.advance_create("k", standin.spec(), interrupted({}, clock.now))
    assert progress.state == State.RUNNING and standin.journal == []
    clock.now += UNSURE + 1
    platform.advance_create("k", standin.spec(), memo)
    assert len(standin.effective("create")) == 1


def test_a_restart_of_the_appliance_in_mid_provision_is_survived(make_standin: Callable[..., StandIn]) -> None:
    standin = make_standin(duration=0.6)
    platform, spec = standin.platform(), standin.spec()
    memo, _ = platform.advance_create("k", spec, {})
    standin.server.stop()
    down = platform.observe_create("k", spec, memo)
    assert down.state == State.RUNNING and down.observed_at is None and down.code == "platform.unreachable"
    standin.start(standin.server.port)
    _, progress = run(lambda memo: platform.advance_create("k", spec, memo), memo)
    assert progress.state == State.SUCCEEDED and len(standin.effective("create")) == 1


def test_a_token_that_ends_in_mid_poll_is_no_failure(standin: StandIn) -> None:
    platform, spec = standin.platform(), standin.spec()
    memo, _ = platform.advance_create("k", spec, {})
    standin.order({"kind": "expire", "path": "/api/instances/", "times": 2})
    _, progress = run(lambda memo: platform.advance_create("k", spec, memo), memo)
    assert progress.state == State.SUCCEEDED


def test_500s_for_a_minute_leave_the_work_open(standin: StandIn) -> None:
    platform, clock = with_clock(standin)
    spec = standin.spec()
    memo, _ = platform.advance_create("k", spec, {})
    standin.order({"kind": "500", "path": "/api/instances/", "times": 9999})
    end = clock.now + 60
    while clock.now < end:
        progress = platform.observe_create("k", spec, memo)
        assert progress.state == State.RUNNING and progress.observed_at is None and "HTTP 500" in progress.reason
        clock.now += progress.check_after
    standin.order()
    _, progress = run(lambda memo: platform.advance_create("k", spec, memo), memo)
    assert progress.state == State.SUCCEEDED and len(standin.effective("create")) == 1


def test_a_network_of_another_pool_is_refused_in_hpes_words(standin: StandIn) -> None:
    spec = standin.spec(network_id=standin.network_named("Storage VLAN 90"))
    _, progress = run(lambda memo: standin.platform().advance_create("k", spec, memo))
    assert progress.state == State.FAILED and progress.code == "platform.refused"
    assert "networkInterfaces: Invalid network" in progress.reason and "bound to the resource pool" in progress.reason


def test_a_name_of_a_powered_off_instance_is_taken(standin: StandIn) -> None:
    platform = standin.platform()
    external_id = made(standin)
    run(lambda memo: platform.advance_power("off", external_id, "off", memo))
    standin.appliance.store.state["instances"][external_id]["labels"] = ["somebody else's"]
    _, progress = run(lambda memo: platform.advance_create("k", standin.spec(), memo))
    assert progress.state == State.FAILED and progress.code == "name.taken"
    assert external_id in progress.reason and "Choose another name" in progress.reason


def test_a_failed_create_says_why_in_the_appliances_words(standin: StandIn) -> None:
    standin.order({"kind": "act", "act": "create", "message": "No space left on cluster-gfs2."})
    _, progress = run(lambda memo: standin.platform().advance_create("k", standin.spec(), memo))
    assert progress.state == State.FAILED and progress.code == "create.failed"
    assert "No space left on cluster-gfs2" in progress.reason and "retry" in progress.reason


def test_an_account_without_the_right_is_told_which_one(standin: StandIn) -> None:
    platform = standin.platform("svc-reader")
    _, progress = run(lambda memo: platform.advance_create("k", standin.spec(), memo))
    assert progress.state == State.FAILED and progress.code == "platform.permission"
    assert "provisioning-add" in progress.reason and standin.effective("create") == []


def test_429_to_a_create_is_put_off_and_made_once(standin: StandIn) -> None:
    platform, clock = with_clock(standin)
    spec = standin.spec()
    standin.order({"kind": "429", "method": "POST", "path": "/api/instances$", "retry_after": 30})
    memo, progress = platform.advance_create("k", spec, {})
    assert progress.state == State.RUNNING and "unsure_since" not in memo and progress.check_after >= 30
    clock.now += 31
    _, progress = run(lambda memo: platform.advance_create("k", spec, memo), memo)
    assert progress.state == State.SUCCEEDED and len(standin.effective("create")) == 1


def test_a_running_instance_without_an_address_is_not_done(standin: StandIn) -> None:
    platform, clock = with_clock(standin)
    spec = standin.spec()
    external_id = made(standin)
    record = standin.appliance.store.state["instances"][external_id]
    record["address_known_at"] = 1e12
    memo = {"external_id": external_id, "asked_at": clock.now}
    progress = platform.observe_create("k", spec, memo)
    assert progress.state == State.RUNNING and progress.phase == "waiting for an address"
    clock.now += 1000
    progress = platform.observe_create("k", spec, memo)
    assert progress.state == State.FAILED and progress.code == "create.address" and "DHCP" in progress.reason


def test_an_instance_deleted_behind_our_back_is_missing(standin: StandIn) -> None:
    platform = standin.platform()
    external_id = made(standin)
    run(lambda memo: platform.advance_delete("d", external_id, memo))
    assert platform.get(external_id) is None
    progress = platform.observe_create("k", standin.spec(), {"external_id": external_id, "asked_at": 0.0})
    assert progress.state == State.FAILED and progress.code == "instance.missing"


# -- connect --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("power", ["on", "off"])
def test_a_machine_moves_to_production_by_one_resize(standin: StandIn, power: str) -> None:
    platform = standin.platform()
    external_id = made(standin)
    run(lambda memo: platform.advance_power("p", external_id, power, memo))
    before = platform.get(external_id)
    assert before is not None
    nics = (Nic(standin.network("production"), id=before.nics[0].id, address="127.101.1.55/24"),)
    _, progress = run(lambda memo: platform.advance_connect("k", external_id, nics, memo))
    assert progress.state == State.SUCCEEDED and progress.target_power == power
    after = platform.get(external_id)
    assert after is not None and len(after.nics) == 1
    assert after.nics[0].network_id == standin.network("production") and after.nics[0].address == "127.101.1.55"
    assert after.nics[0].id != before.nics[0].id and after.plan_id == before.plan_id
    assert standin.backend.hosts["shop-db-vme"].nics[0].network == "production"
    # Again, under another key and with an id that no longer is: nothing to do.
    _, progress = run(lambda memo: platform.advance_connect("k2", external_id, nics, memo))
    assert progress.state == State.SUCCEEDED and progress.result["adopted"]
    assert len(standin.effective("resize")) == 1


def test_an_interface_can_be_added_and_removed(standin: StandIn) -> None:
    platform = standin.platform()
    external_id = made(standin)
    both = (Nic(standin.network("migration")), *production(standin))
    _, progress = run(lambda memo: platform.advance_connect("k", external_id, both, memo))
    assert progress.state == State.SUCCEEDED and len(progress.result["nics"]) == 2
    _, progress = run(lambda memo: platform.advance_connect("k2", external_id, production(standin), memo))
    assert [nic["network_id"] for nic in progress.result["nics"]] == [standin.network("production")]


@pytest.mark.parametrize("kind", ["cut_after", "500"])
def test_an_ambiguous_answer_to_a_resize_has_one_effect(standin: StandIn, kind: str) -> None:
    platform, clock = with_clock(standin)
    external_id = made(standin)
    standin.order({"kind": kind, "method": "PUT", "path": "/resize$", "times": 1})
    memo, progress = platform.advance_connect("k", external_id, production(standin), {})
    assert progress.state == State.RUNNING and memo["unsure_since"]
    if kind == "500":
        assert platform.observe_connect("k", external_id, production(standin), memo).next_act is None
        clock.now += UNSURE + 1
    _, progress = run(lambda memo: platform.advance_connect("k", external_id, production(standin), memo), memo)
    assert progress.state == State.SUCCEEDED and len(standin.effective("resize")) == 1


def test_a_resize_that_ends_without_effect_is_a_failure_with_its_reason(standin: StandIn) -> None:
    platform, clock = with_clock(standin)
    external_id = made(standin)
    standin.order({"kind": "act", "act": "resize", "message": "VLAN 20 is not trunked"})
    memo, _ = platform.advance_connect("k", external_id, production(standin), {})
    while standin.appliance.store.state["pending"]:
        pass
    assert platform.observe_connect("k", external_id, production(standin), memo).state == State.RUNNING
    clock.now += 60
    progress = platform.observe_connect("k", external_id, production(standin), memo)
    assert progress.state == State.FAILED and "VLAN 20 is not trunked" in progress.reason
    assert standin.network("migration") in progress.reason


def test_an_old_appliance_is_not_asked_to_move_interfaces(make_standin: Callable[..., StandIn]) -> None:
    standin = make_standin(version="8.1.1.4-1")
    external_id = made(standin)
    _, progress = run(lambda memo: standin.platform().advance_connect("k", external_id, production(standin), memo))
    assert progress.state == State.FAILED and progress.code == "version.old" and "8.1.2" in progress.reason
    assert standin.effective("resize") == []


# -- power, delete ----------------------------------------------------------------------------------------------


def test_power_that_is_already_so_is_done_without_a_request(standin: StandIn) -> None:
    platform = standin.platform()
    external_id = made(standin)
    memo, progress = platform.advance_power("k", external_id, "on", {})
    assert progress.state == State.SUCCEEDED and progress.result["adopted"] and memo == {}
    assert not standin.effective("start") and not standin.effective("stop")


def test_off_and_on_again(standin: StandIn) -> None:
    platform = standin.platform()
    external_id = made(standin)
    _, progress = run(lambda memo: platform.advance_power("k", external_id, "off", memo))
    assert progress.state == State.SUCCEEDED and standin.backend.power("shop-db-vme") == "off"
    _, progress = run(lambda memo: platform.advance_power("k2", external_id, "on", memo))
    assert progress.state == State.SUCCEEDED and standin.backend.power("shop-db-vme") == "on"


def test_a_machine_that_its_guest_switched_off_is_seen_off(standin: StandIn) -> None:
    platform = standin.platform()
    external_id = made(standin)
    standin.backend.hosts["shop-db-vme"].power = "off"
    _, progress = run(lambda memo: platform.advance_power("k", external_id, "off", memo))
    assert progress.state == State.SUCCEEDED
    # VME may still have believed it on: then its stop did no harm.
    assert len(standin.effective("stop")) <= 1


def test_a_stop_of_what_is_stopped_may_conflict_and_is_done(standin: StandIn) -> None:
    platform = standin.platform()
    external_id = made(standin)
    standin.order({"kind": "refused", "status": 409, "path": "/stop$", "msg": "Server is already stopped"})
    memo, progress = platform.advance_power("k", external_id, "off", {})
    assert progress.state == State.RUNNING and memo["asked_at"]
    standin.backend.hosts["shop-db-vme"].power = "off"
    _, progress = run(lambda memo: platform.advance_power("k", external_id, "off", memo), memo)
    assert progress.state == State.SUCCEEDED


def test_power_that_does_not_come_is_a_failure_after_ten_minutes(standin: StandIn) -> None:
    platform, clock = with_clock(standin)
    external_id = made(standin)
    standin.order({"kind": "act", "act": "stop", "message": "The guest does not react"})
    memo, _ = platform.advance_power("k", external_id, "off", {})
    while standin.appliance.store.state["pending"]:
        pass
    assert platform.observe_power("k", external_id, "off", memo).state == State.RUNNING
    clock.now += 700
    progress = platform.observe_power("k", external_id, "off", memo)
    assert progress.state == State.FAILED and "The guest does not react" in progress.reason


def test_power_must_be_on_or_off(standin: StandIn) -> None:
    with pytest.raises(ValueError, match="on or off"):
        standin.platform().advance_power("k", "1", "suspended", {})


def test_delete_ends_when_the_instance_is_gone_and_twice_is_once(standin: StandIn) -> None:
    platform = standin.platform()
    external_id = made(standin)
    _, progress = run(lambda memo: platform.advance_delete("k", external_id, memo))
    assert progress.state == State.SUCCEEDED and standin.backend.names() == []
    _, progress = run(lambda memo: platform.advance_delete("k2", external_id, memo))
    assert progress.state == State.SUCCEEDED and progress.result["adopted"]
    assert len(standin.effective("delete")) == 1


# -- inside the guest and on its disk ---------------------------------------------------------------------------


def test_a_script_runs_in_the_guest_and_its_output_comes_back(standin: StandIn) -> None:
    platform = standin.platform()
    external_id = made(standin)
    memo, progress = run(lambda memo: platform.advance_execute("k", external_id, "uname", memo))
    assert progress.state == State.SUCCEEDED and progress.result == {"rc": 0, "out": "ran uname\n", "err": ""}
    assert platform.observe_execute("k", external_id, "uname", memo).state == State.SUCCEEDED
    assert len(standin.effective("execute")) == 1


def test_a_script_that_fails_is_a_failure_with_status_and_words(standin: StandIn) -> None:
    platform = standin.platform()
    external_id = made(standin)
    _, progress = run(lambda memo: platform.advance_execute("k", external_id, "exit 3", memo))
    assert progress.state == State.FAILED and progress.result["rc"] == 3
    assert "status 3: it said no" in progress.reason


def test_a_script_in_a_stopped_machine_says_so(standin: StandIn) -> None:
    platform = standin.platform()
    external_id = made(standin)
    run(lambda memo: platform.advance_power("off", external_id, "off", memo))
    _, progress = run(lambda memo: platform.advance_execute("k", external_id, "uname", memo))
    assert progress.state == State.FAILED and "not running" in progress.reason


def test_a_script_whose_answer_was_lost_is_not_sent_again_by_itself(standin: StandIn) -> None:
    platform, clock = with_clock(standin)
    external_id = made(standin)
    standin.order({"kind": "cut_after", "method": "POST", "path": "/execution-request/"})
    memo, progress = platform.advance_execute("k", external_id, "uname", {})
    assert progress.state == State.RUNNING
    memo, progress = platform.advance_execute("k", external_id, "uname", memo)
    assert progress.state == State.RUNNING and len(standin.effective("execute")) == 1
    clock.now += UNSURE + 1
    memo, progress = platform.advance_execute("k", external_id, "uname", memo)
    assert progress.state == State.FAILED and progress.code == "execute.unknown" and "retry" in progress.reason.lower()
    assert len(standin.effective("execute")) == 1


def test_snapshot_and_revert(standin: StandIn) -> None:
    platform = standin.platform()
    external_id = made(standin)
    host = standin.backend.hosts["shop-db-vme"]
    _, progress = run(lambda memo: platform.advance_snapshot("k", external_id, "before-k", memo))
    assert progress.state == State.SUCCEEDED
    snapshot_id = progress.result["snapshot_id"]
    _, again = run(lambda memo: platform.advance_snapshot("k", external_id, "before-k", memo))
    assert again.result["snapshot_id"] == snapshot_id and len(standin.effective("snapshot")) == 1
    host.content = "written by a tester"
    memo, progress = run(lambda memo: platform.advance_revert("k2", external_id, snapshot_id, memo))
    assert progress.state == State.SUCCEEDED and host.content == "fresh" and host.power == "on"
    assert platform.observe_revert("k2", external_id, snapshot_id, memo).state == State.SUCCEEDED
    assert len(standin.effective("revert")) == 1


def test_a_snapshot_and_a_revert_that_fail_say_why(standin: StandIn) -> None:
    platform = standin.platform()
    external_id = made(standin)
    standin.order({"kind": "act", "act": "snapshot", "message": "qcow2 is full"})
    _, progress = run(lambda memo: platform.advance_snapshot("k", external_id, "s1", memo))
    assert progress.state == State.FAILED and "qcow2 is full" in progress.reason
    _, progress = run(lambda memo: platform.advance_snapshot("k2", external_id, "s2", memo))
    standin.order({"kind": "act", "act": "revert", "message": "image is locked"})
    snapshot_id = progress.result["snapshot_id"]
    _, progress = run(lambda memo: platform.advance_revert("k3", external_id, snapshot_id, memo))
    assert progress.state == State.FAILED and "image is locked" in progress.reason


def test_a_whole_life_shows_no_work_key_twice(standin: StandIn) -> None:
    platform = standin.platform()
    external_id = made(standin)
    run(lambda memo: platform.advance_power("stop", external_id, "off", memo))
    run(lambda memo: platform.advance_connect("move", external_id, production(standin), memo))
    run(lambda memo: platform.advance_power("start", external_id, "on", memo))
    acts = [entry["act"] for entry in standin.journal if entry["kind"] == "request" and entry["effective"]]
    assert acts == ["create", "stop", "resize", "start"] and standin.repeated_keys() == []


def test_an_instance_that_vanishes_between_look_and_act_is_missing(standin: StandIn) -> None:
    platform = standin.platform()
    external_id = made(standin)
    run(lambda memo: platform.advance_delete("d", external_id, memo))
    for progress in (
        platform.advance_connect("k", external_id, production(standin), {})[1],
        platform.observe_power("k", external_id, "on", {}),
        platform.advance_revert("k", external_id, "1", {})[1],
    ):
        assert progress.state == State.FAILED and progress.code == "instance.missing"


def test_a_proxys_404_page_is_not_taken_for_a_deleted_instance(standin: StandIn) -> None:
    external_id = made(standin)
    platform = standin.platform(sleep=lambda seconds: None)
    standin.order({"kind": "html", "status": 404, "path": "/api/instances/", "times": 1})
    progress = platform.observe_delete("k", external_id, {"asked_at": 0.0})
    assert progress.state == State.RUNNING and progress.code == "platform.answer" and "page" in progress.reason


def test_a_script_that_the_appliance_forgot_is_lost(standin: StandIn) -> None:
    platform = standin.platform()
    external_id = made(standin)
    memo, _ = run(lambda memo: platform.advance_execute("k", external_id, "uname", memo))
    standin.appliance.store.state["requests"].clear()
    progress = platform.observe_execute("k", external_id, "uname", memo)
    assert progress.state == State.LOST and progress.code == "execute.unknown"


def test_a_create_that_takes_very_long_says_so_and_stays_open(standin: StandIn) -> None:
    platform, clock = with_clock(standin)
    external_id = made(standin)
    standin.appliance.store.state["instances"][external_id]["status"] = "provisioning"
    memo = {"external_id": external_id, "asked_at": clock.now}
    assert platform.observe_create("k", standin.spec(), memo).reason == ""
    clock.now += 3000
    progress = platform.observe_create("k", standin.spec(), memo)
    assert progress.state == State.RUNNING and "50 minutes" in progress.reason
