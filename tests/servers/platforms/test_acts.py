"""Acts on an instance that exists, through thick and thin: one effect each, whatever breaks in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from servers.platforms.base import Nic, PlatformProblem
from servers.platforms.vme.acts import UNSURE
from servers.platforms.vme.platform import VmePlatform
from servers.progress import State
from tests.lab.vme.standin import StandIn, made, run
from tests.servers.platforms.test_client import Clock


def production(standin: StandIn, address: str = "127.101.1.55") -> tuple[Nic, ...]:
    return (Nic(network_id=standin.network("production"), address=address),)


def with_clock(standin: StandIn, **access: str) -> tuple[VmePlatform, Clock]:
    clock = Clock()
    return standin.platform(clock=clock, sleep=clock.sleep, **access), clock


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


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"kind": "html", "status": 404, "path": "/api/instances/"}, "platform.answer"),
        ({"kind": "bare", "status": 404, "path": "/api/instances/"}, "platform.answer"),
        ({"kind": "refused", "status": 404, "path": "/oauth/token", "msg": "User not found"}, "platform.login"),
        ({"kind": "refused", "path": "/oauth/token", "msg": "User not found"}, "platform.login"),
        ({"kind": "html", "status": 404, "path": "/oauth/token"}, "platform.answer"),
        ({"kind": "refused", "path": "/api/instances/", "msg": "User not found"}, "platform.refused"),
    ],
    ids=["proxy's page", "no body", "log-in 404", "log-in 200", "log-in page", "user"],
)
def test_only_the_appliances_own_word_makes_an_instance_deleted(
    standin: StandIn, fault: dict[str, Any], code: str
) -> None:
    external_id = made(standin)
    standin.order({**fault, "times": 99})
    platform = standin.platform(sleep=lambda seconds: None)
    with pytest.raises(PlatformProblem) as caught:
        platform.get(external_id)
    assert caught.value.code == code
    _, progress = platform.advance_delete("k", external_id, {})
    assert (progress.state, progress.code) == (State.FAILED, code)
    progress = platform.observe_delete("k", external_id, {"asked_at": 0.0})
    assert (progress.state, progress.code) == (State.RUNNING, code)


@pytest.mark.parametrize("status", [404, 200])
def test_an_instance_that_the_appliance_does_not_find_is_gone(standin: StandIn, status: int) -> None:
    """Both forms are HPE's: a 404, and a 200 with `success` false."""
    external_id = made(standin)
    platform = standin.platform()
    standin.order({"kind": "refused", "status": status, "path": "/api/instances/", "msg": "Instance not found"})
    assert platform.get(external_id) is None


def test_a_script_that_the_appliance_forgot_is_lost(standin: StandIn) -> None:
    platform = standin.platform()
    external_id = made(standin)
    memo, _ = run(lambda memo: platform.advance_execute("k", external_id, "uname", memo))
    standin.appliance.store.state["requests"].clear()
    progress = platform.observe_execute("k", external_id, "uname", memo)
    assert progress.state == State.LOST and progress.code == "execute.unknown"
