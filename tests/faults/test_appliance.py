"""Faults of the platform, by the table: VME's stand-in over real process hosts, and runs of the real operations."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import pytest

from migrationhub.lab.vme.auth import SERVICE
from servers.models import Credential, Placement, Platform, Run, Server
from servers.remote import access
from tests import factories
from tests.faults.matrix import Fault, Line, Once, is_named_and_retried, nothing, table
from tests.fixtures_lab import ProcessLab
from tests.lab.vme.standin import StandIn, made, run

pytestmark = [pytest.mark.lab, pytest.mark.django_db, pytest.mark.usefixtures("trap_commands")]

PRIVATE, PUBLIC = access.new_key_pair("faults")
PORT = 2222
_numbers = itertools.count(1)


@dataclass
class Site:
    """An appliance, its row, and the target that a migration wants on it."""

    standin: StandIn
    platform: Platform
    target: Server
    key: str
    network: str = "Migration VLAN 66"

    def words(self) -> dict[str, str]:
        pool = self.standin.catalog
        return {
            "label": self.key,
            "url": self.standin.url,
            "id": str(self.record().get("id", "")),
            "account": SERVICE,
            "pool": f"pool-{pool.pool['id']}",
            "other_pool": f"pool-{pool.other_pool['id']}",
        }

    def choices(self, operation: str) -> dict[str, Any]:
        if operation == "platform_check":
            return {"platform": self.platform.pk, "wanted": []}
        return {"target": self.target.pk, "spec": self.spec(self.standin.network_named(self.network))}

    def record(self) -> dict[str, Any]:
        """The appliance's own record of the newest instance of that name."""
        records = self.standin.appliance.store.state["instances"].values()
        return next((record for record in records if record["name"] == self.key), {})

    def spec(self, network: str) -> dict[str, Any]:
        spec = asdict(self.standin.spec(self.key, network_id=network))
        del spec["label"], spec["user_data"]
        return {**spec, "disks": list(spec["disks"]), "production": self.standin.network("production")}

    def credential(self, **changes: str) -> None:
        Credential.objects.filter(pk=self.platform.credential_id).update(**changes)


@pytest.fixture(scope="module")
def standin(process_lab: ProcessLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    lab = process_lab.lab
    standin = StandIn(
        tmp_path_factory.mktemp("vme"),
        process_lab.backend,
        name=lab.name,
        duration=0.6,
        production=str(lab.subnet("production", "process")),
        migration=str(lab.subnet("migration", "process")),
    )
    yield standin
    standin.stop()


@pytest.fixture
def site(db: None, standin: StandIn, process_lab: ProcessLab) -> Iterator[Site]:
    account, label = standin.access(), f"fault-vm-{next(_numbers)}"
    credential = factories.make_credential(kind=Credential.Kind.API, username=account.username, secret=account.password)
    platform = factories.make_platform(name="VME", url=account.url, ca_bundle=account.ca_bundle, credential=credential)
    target = factories.make_server(
        label,
        accepted=False,
        role=Server.Role.TARGET,
        manager="supervisord",
        port=PORT,
        credential=factories.make_credential(kind=Credential.Kind.KEY, secret=PRIVATE, public=PUBLIC, internal=True),
    )
    Placement.objects.create(server=target, platform=platform, label=label)
    accounts = dict(standin.appliance.accounts.by_name)
    yield Site(standin, platform, target, label)
    standin.order()
    standin.appliance.accounts.by_name.update(accounts)
    standin.appliance.discovered = []
    records = standin.appliance.store.state["instances"]
    for host in {record["host"] for record in records.values()} & {*process_lab.backend.names()}:
        process_lab.delete(host)
    records.clear()


def order(**fault: Any) -> Callable[[Site], None]:
    return lambda site: site.standin.order(fault)


def no_order(site: Site) -> None:
    site.standin.order()


def discovered(site: Site) -> None:
    """VME only found it on a host: nobody made it there, and it is off."""
    site.standin.appliance.discovered = [{"id": 7, "name": site.key, "powerState": "off", "status": "provisioned"}]


def renamed(site: Site) -> None:
    site.standin.appliance.discovered = []


def somebody_elses(site: Site) -> None:
    """An instance of that name, switched off, which does not carry our label."""
    external_id = made(site.standin, site.key)
    platform = site.standin.platform()
    run(lambda memo: platform.advance_power("off", external_id, "off", memo), timeout=60)
    site.record()["labels"] = ["somebody else's"]


def moved_aside(site: Site) -> None:
    site.record()["name"] = f"{site.key}-of-old"


def other_pool(site: Site) -> None:
    site.network = "Storage VLAN 90"


def right_pool(site: Site) -> None:
    site.network = "Migration VLAN 66"


def deleted(site: Site) -> None:
    """What VME could not make is deleted there, and the disk has room again."""
    platform, external_id = site.standin.platform(), str(site.record()["id"])
    run(lambda memo: platform.advance_delete("delete", external_id, memo), timeout=60)


def other_password(site: Site) -> None:
    """Somebody changes the account's password, which ends its tokens."""
    accounts = site.standin.appliance.accounts.by_name
    accounts[SERVICE] = replace(accounts[SERVICE], password="another")
    site.standin.appliance.store.state["tokens"].clear()


def entered(site: Site) -> None:
    site.credential(secret="another")


def down(site: Site) -> None:
    site.standin.server.stop()


def up(site: Site) -> None:
    site.standin.start(site.standin.server.port)


FAULTS = [
    Fault(
        "name taken by a machine that is off",
        "platform_fit",
        discovered,
        renamed,
        "A machine named “{label}” already exists in VME (id 7, off).",
        "Choose another name for the target, or rename or delete that machine.",
    ),
    Fault(
        "name taken by an instance that is off",
        "provision",
        nothing,
        moved_aside,
        "VME already has an instance named “{label}” (id {id}) that is not ours: it lacks the label “{label}”.",
        "Choose another name for the target, or rename or delete that instance in VME.",
        before=somebody_elses,
    ),
    Fault(
        "wrong network pool, found before",
        "platform_fit",
        nothing,
        right_pool,
        "The migration network “Storage VLAN 90, 192.0.2.0/25” is bound to {other_pool}, not to {pool}: VME would"
        " refuse it.",
        "Choose a network of the cluster, or add its VLAN to the cluster's compute VLANs.",
        before=other_pool,
    ),
    Fault(
        "wrong network pool, refused by VME",
        "provision",
        nothing,
        right_pool,
        "VME answered HTTP 400: networkInterfaces: Invalid network; Failed to create instance.",
        "Choose networks that are active, in the same cloud and bound to the resource pool, and visible to the"
        " account's group.",
        before=other_pool,
    ),
    Fault(
        "wrong password of the account",
        "platform_fit",
        lambda site: site.credential(secret="wrong"),
        lambda site: site.credential(secret=site.standin.access().password),
        "VME refuses the log-in of “{account}”. VME answered HTTP 400: Bad credentials.",
        "Correct the account's name or password in the platform's settings, then retry.",
    ),
    Fault(
        "wrong password of the account, found by the check",
        "platform_check",
        lambda site: site.credential(secret="wrong"),
        lambda site: site.credential(secret=site.standin.access().password),
        "This account cannot do the job yet: VME refuses the log-in of “{account}”. VME answered HTTP 400: Bad"
        " credentials.",
        "Correct the account's name or password in the platform's settings, then retry.",
        ends=Run.State.SUCCEEDED,
    ),
    Fault(
        "500s for a minute, before",
        "platform_fit",
        order(kind="500", times=9999),
        no_order,
        "VME answered HTTP 500: Internal Server Error - Try again later.",
        "It is asked again for a while; if that does not help, look at the appliance's log, then retry.",
        passes=True,
    ),
    Fault(
        "500s for longer than its patience",
        "platform_fit",
        order(kind="500", times=9999),
        no_order,
        "VME answered HTTP 500: Internal Server Error - Try again later.",
        "It is asked again for a while; if that does not help, look at the appliance's log, then retry.",
        patience=1,
    ),
    Fault(
        "an appliance that is down",
        "platform_fit",
        down,
        up,
        "VME cannot be reached at {url}: Connection refused.",
        "It is asked again for a while; if that does not help, check the address, the network and whether the appliance"
        " is up, then retry.",
        patience=1,
    ),
    Fault(
        "500s for a minute",
        "provision",
        order(kind="500", path="/api/instances/", times=9999),
        no_order,
        "VME answered HTTP 500: Internal Server Error - Try again later.",
        "It is asked again for a while; if that does not help, look at the appliance's log, then retry.",
        during="making the instance",
        passes=True,
    ),
    Fault(
        "password changed in mid-poll",
        "provision",
        other_password,
        entered,
        "VME refuses the log-in of “{account}”. VME answered HTTP 400: Bad credentials.",
        "Correct the account's name or password in the platform's settings, then retry.",
        during="making the instance",
        passes=True,
    ),
    Fault(
        "an instance that VME cannot make",
        "provision",
        order(kind="act", act="create", message="No space left on cluster-gfs2."),
        deleted,
        "VME could not make “{label}” (status failed): No space left on cluster-gfs2.",
        "Mend the cause, delete the instance in VME, then retry.",
        marks=(pytest.mark.full,),
    ),
]


@table(FAULTS)
def test_it_is_named_and_retried(fault: Fault, site: Site, line: Line) -> None:
    is_named_and_retried(fault, site, line)


def test_a_token_that_ends_in_mid_poll_is_renewed(site: Site, line: Line) -> None:
    """Twice, without a word to anybody and without a second instance."""
    ends = Once(
        lambda: site.standin.order(
            {"kind": "expire", "path": "/api/instances/"}, {"kind": "expire", "path": "/api/execution-request"}
        ),
        lambda run: run.phase == "making the instance",
    )
    done = line.take(site.key, "provision", site.choices("provision"), ends)
    assert ends.struck and (done.run.state, done.run.number) == (Run.State.SUCCEEDED, 1), done.run.reason
    assert not [reason for reason in done.said if "HTTP" in reason or "log-in" in reason], done.said
    assert [fault["times"] for fault in site.standin.appliance.faults._read()] == [0, 0]
    assert [entry["name"] for entry in site.standin.effective("create")].count(site.key) == 1
