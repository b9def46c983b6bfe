"""An instance is made although somebody stops, and is switched on where the platform leaves it off."""

from __future__ import annotations

from typing import Any

import pytest

from servers import lease, runs
from servers.models import Placement, Run
from servers.operations import operation
from servers.operations.base import Job
from servers.progress import Progress, State
from servers.targets import new_target
from tests import factories
from tests.lab.vme.conftest import make_standin, standin
from tests.lab.vme.standin import StandIn

pytestmark = pytest.mark.django_db

__all__ = ["make_standin", "standin"]


@pytest.fixture
def making(standin: StandIn) -> Run:
    access = standin.access()
    credential = factories.make_credential(kind="api", username=access.username, secret=access.password)
    platform = factories.make_platform(name="Basel", url=access.url, ca_bundle=access.ca_bundle, credential=credential)
    target = new_target(factories.make_server("shop-db"), platform)
    spec = standin.spec()
    fields = {name: getattr(spec, name) for name in spec.__dataclass_fields__ if name not in ("user_data", "label")}
    parameters = {"target": target.pk, "spec": {**fields, "disks": list(spec.disks), "production": ""}}
    return factories.make_run("provision", parameters=parameters)


def job(run: Run, **more: Any) -> Job:
    return Job(run, lambda endpoint: pytest.fail("no SSH yet"), dict(run.memo), **more)


def act(run: Run) -> Progress:
    run.memo, progress = operation("provision").advance(job(run))
    return progress


def stop(run: Run) -> Run:
    """As a worker does once a person asked for it."""
    epoch = lease.hold("test", None)
    assert epoch is not None
    run.save(update_fields=["memo"])
    assert runs.begin_act(run, epoch, "stop") and runs.cancel(run.pk)
    claimed = runs.claim_act(run.pk, epoch)
    assert claimed is not None
    memo, progress = operation("provision").confirm_cancel(job(claimed, cancel=True))
    assert runs.after_act(claimed, memo, progress)
    return Run.objects.get(pk=run.pk)


def idle(standin: StandIn) -> None:
    while standin.appliance.store.state["pending"]:
        pass


def test_an_instance_that_is_being_made_is_kept_in_mind_when_its_run_is_stopped(standin: StandIn, making: Run) -> None:
    act(making)
    ended = stop(making)
    external_id = making.memo["create"]["external_id"]
    assert ended.state == "cancelled" and f"Basel keeps instance {external_id} “shop-db”" in ended.reason
    assert "next try takes on what is there" in ended.reason
    placed = Placement.objects.get()
    assert (placed.external_id, placed.external_uuid) == (external_id, making.memo["create"]["uuid"])
    again = factories.make_run("provision", parameters=making.parameters)
    idle(standin)
    while "instance" not in again.memo:
        assert not act(again).ended
    assert again.memo["instance"]["external_id"] == external_id and len(standin.effective("create")) == 1


def test_a_request_whose_answer_was_lost_is_looked_up_when_its_run_is_stopped(standin: StandIn, making: Run) -> None:
    standin.order({"kind": "cut_after", "method": "POST", "path": "/api/instances$"})
    act(making)
    assert "external_id" not in making.memo["create"]
    assert stop(making).reason.startswith("Stopped. Basel keeps instance ") and Placement.objects.get().external_id


def test_what_cannot_be_looked_up_is_told_as_not_known(standin: StandIn, making: Run) -> None:
    making.memo = {"interrupted_at": 1.0}
    standin.server.stop()
    ended = stop(making)
    assert ended.state == "cancelled" and "what became of it is not known. Basel cannot be reached" in ended.reason
    assert Placement.objects.get().external_id == ""


def test_an_instance_that_was_deleted_is_not_said_to_be_kept(standin: StandIn, making: Run) -> None:
    act(making)
    idle(standin)
    standin.appliance.store.state["instances"].clear()
    assert "knows no instance" in stop(making).reason and Placement.objects.get().external_id == ""


def test_before_anything_is_asked_a_stop_leaves_nothing(making: Run) -> None:
    assert stop(making).reason == "Stopped before the next act."


def test_an_instance_that_settles_switched_off_is_switched_on(standin: StandIn, making: Run) -> None:
    act(making)
    external_id = making.memo["create"]["external_id"]
    record = standin.appliance.store.state["instances"][external_id]
    idle(standin)
    standin.backend.hosts["shop-db"].power = "off"
    record |= {"power": "off", "status": "stopped"}
    progress = act(making)
    assert progress.next_act == "on" and "is_on" not in making.memo
    while "is_on" not in making.memo:
        look = operation("provision").observe(job(making))
        assert look.state == State.RUNNING
        if look.next_act:
            assert not act(making).ended
    assert standin.backend.power("shop-db") == "on" and making.memo["instance"]["address"] == "127.101.2.100"
    assert operation("provision").observe(job(making)).next_act == "show" and len(standin.effective("start")) == 1


def test_a_run_that_was_open_before_goes_on(standin: StandIn, making: Run) -> None:
    """Its memo says nothing of being on."""
    act(making)
    idle(standin)
    while "instance" not in making.memo:
        act(making)
    del making.memo["is_on"]
    while "is_on" not in making.memo:
        assert operation("provision").observe(job(making)).next_act == "on"
        assert not act(making).ended
    assert not standin.effective("start")
