"""Making an instance through thick and thin: one, whatever breaks in between."""

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


def test_a_refusal_before_anything_was_asked_is_an_end_and_no_wait(standin: StandIn) -> None:
    """A look that only reads names an act, which then fails; once VME is at work a refused look ends nothing."""
    platform, spec = standin.platform(), standin.spec()
    external_id = made(standin)
    standin.appliance.store.state["instances"][external_id]["labels"] = ["somebody else's"]
    seen = platform.observe_create("k", spec, {})
    assert seen.next_act and "that is not ours" in seen.reason
    assert platform.observe_create("k", spec, {"asked_at": 0.0}).next_act is None


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


def test_a_create_that_takes_very_long_says_so_and_stays_open(standin: StandIn) -> None:
    platform, clock = with_clock(standin)
    external_id = made(standin)
    standin.appliance.store.state["instances"][external_id]["status"] = "provisioning"
    memo = {"external_id": external_id, "asked_at": clock.now}
    assert platform.observe_create("k", standin.spec(), memo).reason == ""
    clock.now += 3000
    progress = platform.observe_create("k", standin.spec(), memo)
    assert progress.state == State.RUNNING and "50 minutes" in progress.reason
