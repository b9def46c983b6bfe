"""An id is an appliance's own: behind another address it is another machine's, and nothing is done to that one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from servers.models import Placement, Platform, Server
from servers.operations.base import Job
from servers.operations.snapshots import Revert, Snapshot
from servers.operations.whereabouts import instance_of
from servers.platforms.base import Nic, Placed, PlatformProblem
from servers.platforms.vme.platform import VmePlatform
from servers.progress import Memo, Progress, State
from tests import factories
from tests.lab.vme.standin import StandIn, made, run

OTHER_UUID = "11111111-2222-3333-4444-555555555555"
Step = Callable[[VmePlatform, str, Memo], tuple[Memo, Progress]]

ACTS: dict[str, Step] = {
    "stop": lambda vme, pk, memo: vme.advance_power("k", pk, "off", memo),
    "resize": lambda vme, pk, memo: vme.advance_connect("k", pk, (Nic("network-1"),), memo),
    "snapshot": lambda vme, pk, memo: vme.advance_snapshot("k", pk, "one", memo),
    "revert": lambda vme, pk, memo: vme.advance_revert("k", pk, "1", memo),
    "execute": lambda vme, pk, memo: vme.advance_execute("k", pk, "true", memo),
    "delete": lambda vme, pk, memo: vme.advance_delete("k", pk, memo),
}


def changes(standin: StandIn) -> list[Any]:
    return [standin.effective(act) for act in ("stop", "start", "resize", "snapshot", "revert", "execute", "delete")]


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("uuid", ["", OTHER_UUID], ids=["by name", "by uuid"])
@pytest.mark.parametrize("memo", [{}, {"asked_at": 1.0}, {"unsure_since": 1.0}], ids=["first", "asked", "unsure"])
def test_nothing_is_done_to_a_machine_that_we_did_not_place(standin: StandIn, act: str, uuid: str, memo: Memo) -> None:
    if act == "execute" and memo:
        return  # after a lost answer it is never sent again
    name = "payroll" if not uuid else "shop-db"
    external_id = made(standin, name)
    before = changes(standin)
    ours = standin.platform().holding(Placed(external_id, "shop-db", uuid))
    _, progress = ACTS[act](ours, external_id, memo)
    assert (progress.state, progress.code) == (State.FAILED, "instance.foreign")
    assert f"“{name}”" in progress.reason and "we placed “shop-db”" in progress.reason and uuid in progress.reason
    assert changes(standin) == before and standin.backend.hosts[name].power == "on"


@pytest.mark.parametrize("renamed", [False, True])
def test_our_own_is_known_by_its_uuid_whatever_it_is_called(standin: StandIn, renamed: bool) -> None:
    external_id = made(standin, "shop-db")
    found = standin.platform().get(external_id)
    assert found is not None and found.uuid
    ours = standin.platform().holding(Placed(external_id, "old-name" if renamed else "shop-db", found.uuid))
    for act in ("stop", "snapshot", "delete"):
        _, progress = run(lambda memo, act=act: ACTS[act](ours, external_id, memo))
        assert progress.state == State.SUCCEEDED


def test_an_instance_that_is_just_made_is_not_measured_by_the_one_before(standin: StandIn) -> None:
    external_id = made(standin, "shop-db")
    ours = standin.platform().holding(Placed("999", "shop-db", OTHER_UUID))
    _, progress = run(lambda memo: ACTS["execute"](ours, external_id, memo))
    assert progress.state == State.SUCCEEDED


@pytest.fixture
def moved(standin: StandIn, db: None) -> Server:
    """A target whose platform's row leads to an appliance that has another machine under its id."""
    access = standin.access()
    credential = factories.make_credential(kind="api", username=access.username, secret=access.password)
    platform: Platform = factories.make_platform(
        name="Basel", url=access.url, ca_bundle=access.ca_bundle, credential=credential
    )
    target = factories.make_server("shop-db", role=Server.Role.TARGET)
    Placement.objects.create(
        server=target, platform=platform, label="shop-db", external_id=made(standin, "payroll"), external_uuid=""
    )
    return target


def test_no_operation_touches_it_and_no_power_of_it_is_believed(standin: StandIn, moved: Server) -> None:
    before = changes(standin)
    for operation in (Snapshot(), Revert()):
        job = Job(
            factories.make_run(operation.name, parameters={"target": moved.pk, "snapshot_id": "1"}),
            lambda endpoint: pytest.fail("no machine is asked"),
        )
        assert operation.observe(job).next_act, "what is found is told by the act"
        _, progress = operation.advance(job)
        assert progress.state == State.FAILED
        assert "of Basel is “payroll”" in progress.reason and "we placed “shop-db”" in progress.reason
    with pytest.raises(PlatformProblem, match="is not ours"):
        instance_of(job)
    assert changes(standin) == before
