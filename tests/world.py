"""What tests of whole migrations share: a planned migration of a process host, its platform, a hub in one process."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.utils import timezone

from projects import workflow
from projects.models import Migration, Step
from servers import lease, runs, work
from servers.models import Credential, Platform, Run, Server
from servers.remote.ssh import Pool
from tests import factories
from tests.fixtures_lab import ProcessHost, ProcessLab
from tests.lab.vme.test_real_hosts import Served, choose

SPEC_FIELDS = ("group_id", "zone_id", "pool_id", "instance_type", "layout_id", "plan_id", "image_id", "datastore_id")


class Hub:
    """Controller and worker in one, pass by pass."""

    def __init__(self) -> None:
        self.pool = Pool()
        self.epoch = lease.hold("test", None) or 0

    def step(self) -> None:
        runs.recover(self.epoch)
        workflow.advance(timezone.now())
        runs.promote(self.epoch)
        for run in list(runs.due(timezone.now())):
            act = work.look(run, self.pool)
            if act and runs.begin_act(run, self.epoch, act):
                claimed = runs.claim_act(run.pk, self.epoch)
                if claimed is not None:
                    work.act(claimed, self.pool)

    def until(self, ready: Callable[[], Any], seconds: float = 120) -> None:
        wait_for(ready, seconds, self.step)


def wait_for(ready: Callable[[], Any], seconds: float, step: Callable[[], None] = lambda: None) -> None:
    """Until `ready`; a step that needs attention fails the test with its reason."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        step()
        if ready():
            return
        failed = Step.objects.filter(state=Step.State.ATTENTION).first()
        if failed is not None:
            pytest.fail(f"{failed}: {failed.reason} {list(Run.objects.values_list('operation', 'state'))}")
        time.sleep(0.05)
    open_runs = [(run.title, run.state, run.phase, run.reason) for run in Run.objects.filter(finished_at=None)]
    pytest.fail(f"not within {seconds} s; open: {open_runs}; {list(Step.objects.values_list('kind', 'state'))}")


def make_platform(lab: ProcessLab, served: Served) -> Platform:
    account = json.loads((served.directory / "account.json").read_text())
    return factories.make_platform(
        url=f"https://127.0.0.1:{lab.lab.vme_port}",
        credential=factories.make_credential(
            kind=Credential.Kind.API, username=account["username"], secret=account["password"]
        ),
        ca_bundle=(served.directory / "ca.pem").read_text(),
        checked_at=None,
    )


def make_source(lab: ProcessLab, host: ProcessHost) -> Server:
    """The row of a process host; nobody has accepted its key yet."""
    return factories.make_server(
        host.name,
        accepted=False,
        address=host.endpoint.address,
        port=host.endpoint.port,
        manager="supervisord",
        directory=host.endpoint.directory,
        credential=factories.make_credential(
            kind=Credential.Kind.KEY, username=host.endpoint.username, secret=lab.private_key
        ),
    )


def plan_migration(
    lab: ProcessLab, host: ProcessHost, served: Served, *, profile: dict[str, Any], **over: Any
) -> Migration:
    """A migration of `host`, planned with choices from what the stand-in really has."""
    project = factories.make_project()
    spec, production = choose(served.platform(), host.name, "")
    made = factories.make_profile(
        project,
        platform=make_platform(lab, served),
        scope="paths",
        migration_network_id=spec.network_id,
        production_network_id=production,
        **{name: getattr(spec, name) for name in SPEC_FIELDS},
        **profile,
    )
    source = make_source(lab, host)
    migration = factories.make_migration(project=project, profile=made, source=source, steps=False, **over)
    workflow.plan_steps(migration)
    return migration


def start(migration: Migration, kind: str) -> None:
    """The lead presses the button of what the page shows now."""
    step = migration.steps.get(kind=kind)
    last = step.attempts.order_by("-number").first()
    lead = migration.project.memberships.get(role="lead").user
    workflow.start_step(step.pk, user=lead, seen_state=step.state, seen_attempt=last.number if last else 0)


@pytest.fixture
def served(process_lab: ProcessLab) -> Iterator[Served]:
    yield from serve(process_lab)


def serve(process_lab: ProcessLab) -> Iterator[Served]:
    """The stand-in as a process of its own."""
    served = Served(process_lab)
    served.start()
    yield served
    if served.process and served.process.poll() is None:
        served.end()
