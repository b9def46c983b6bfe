"""One migration driven on a hub of real processes, and what of it can be seen at any moment: rows, hands, hosts."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from migrationhub.lab.hosts import HostBackend
from migrationhub.lab.state import LabProblem
from migrationhub.lab.vme.store import hosts_by_instance
from projects import checklists, decisions, uat, workflow
from projects.lanes import lane_of
from projects.models import Approval, ChecklistItem, Migration, Step
from servers.models import Lease, Run
from tests.hub_processes import HubProcesses, group_of, until

K, S = Step.Kind, Step.State


class Journey:
    """A migration, the hub that carries it out, and the hosts of the lab that it moves."""

    def __init__(self, hub: HubProcesses, migration: Migration, backend: HostBackend, appliance: Path) -> None:
        self.hub, self.migration, self.backend, self.appliance = hub, migration, backend, appliance
        self.jobs: set[str] = set()  # job directories that were seen on the source

    # -- rows ----------------------------------------------------------------------------------------------

    @property
    def lead(self) -> User:
        user: User = self.migration.project.memberships.get(role="lead").user
        return user

    @property
    def owner(self) -> User:
        assert self.migration.application is not None
        return self.migration.application.owner

    @property
    def runs(self) -> Any:
        return Run.objects.filter(work_key__startswith=f"m{self.migration.pk}.").order_by("pk")

    def run_of(self, operation: str) -> Run | None:
        """The newest run of the operation."""
        found: Run | None = self.runs.filter(operation=operation).last()
        return found

    def state(self, kind: str) -> str:
        return self.migration.steps.get(kind=kind).state

    def in_hand(self, operation: str, act: str = "") -> int:
        """The process of the worker that is in the middle of an act that begins so; 0 if none is."""
        found = self.runs.filter(operation=operation, act__startswith=act).exclude(act_started_at=None).first()
        return int(found.act_worker.split(":")[1]) if found else 0

    def words(self) -> str:
        columns = ("operation", "state", "phase", "act", "acts", "act_worker", "reason")
        steps = list(self.migration.steps.values_list("kind", "state", "reason"))
        return f"{steps}\n{list(self.runs.values_list(*columns))}\n{self.hub.words()[-3000:]}"

    def wait(self, ready: Callable[[], Any], seconds: float, what: str) -> None:
        """Until `ready`; a step that needs attention fails the test at once, with its reason."""

        def looked() -> bool:
            if self.migration.steps.filter(state=S.ATTENTION).exists():
                pytest.fail(f"{what}: {self.words()}")
            return bool(ready())

        until(looked, seconds, lambda: f"{what}: {self.words()}")

    def wait_for_step(self, kind: str, state: str = S.DONE, seconds: float = 600) -> None:
        self.wait(lambda: self.state(kind) == state, seconds, f"{kind} is {state}")

    # -- hosts ---------------------------------------------------------------------------------------------

    @property
    def source(self) -> str:
        return self.migration.source.name

    @property
    def clone(self) -> str:
        """The lab's name of the target's host."""
        return hosts_by_instance(self.appliance)[self.migration.source.name]

    def says(self, host: str, script: str) -> str:
        """What a script answers there, without SSH; "" where the host is off."""
        with suppress(LabProblem):
            return self.backend.execute(host, script, 30).out.strip()
        return ""

    def pending(self, act: str) -> bool:
        """The platform is at this act right now."""
        state = json.loads((self.appliance / "state.json").read_text())
        return any(one["act"] == act for one in state["pending"].values())

    def note_jobs(self) -> None:
        place = f"{self.migration.source.directory or ''}/run/migrationhub".replace("//", "/")
        self.jobs |= {*self.says(self.source, f"ls {place} 2>/dev/null").split()}

    # -- people --------------------------------------------------------------------------------------------

    def press(self, name: str, *arguments: Any, user: User | None = None, **fields: Any) -> list[str]:
        """Post what a button of the page posts; the words that the page answers."""
        client = Client()
        client.force_login(user or self.lead)
        answer = client.post(reverse(name, args=arguments), fields, follow=True)
        assert answer.status_code == 200, answer.status_code
        return [str(message) for message in answer.context["messages"]]

    def step(self, kind: str) -> Step:
        step: Step = self.migration.steps.get(kind=kind)
        return step

    def seen_attempt(self, kind: str) -> int:
        last = self.step(kind).attempts.order_by("-number").first()
        return last.number if last else 0

    def start(self, kind: str) -> None:
        step = self.step(kind)
        said = self.press("step-start", step.pk, seen_state=step.state, seen_attempt=self.seen_attempt(kind))
        assert "was started" in " ".join(said), said

    def cancel(self, kind: str) -> None:
        said = self.press("step-cancel", self.step(kind).pk, seen_attempt=self.seen_attempt(kind))
        assert "was asked to stop" in " ".join(said), said

    def open_test(self) -> None:
        uat.open_uat(self.migration.wave_id, self.migration.application_id, user=self.lead, accept_live=True)

    def sign(self) -> None:
        """The owner answers the questions, signs what is there now and ends the test."""
        self.wait(lambda: self.approval(Approval.Gate.SIGN_OFF), 240, "the sign-off is asked for")
        self.tick(K.UAT, self.owner)

        def signed() -> bool:
            approval = self.approval(Approval.Gate.SIGN_OFF)
            assert approval is not None
            with suppress(workflow.NotReady, workflow.Conflict):  # what is there now is being looked at anew
                decisions.decide(approval.pk, user=self.owner, verdict="approve", comment="", digest=approval.digest)
                return True
            return False

        self.wait(signed, 120, "the owner signs")
        uat.end(self.migration.wave_id, self.migration.application_id, user=self.owner)
        self.wait_for_step(K.UAT, seconds=120)

    def give_the_go(self) -> None:
        self.wait(lambda: self.approval(Approval.Gate.GO), 240, "the go is asked for")
        go = self.approval(Approval.Gate.GO)
        assert go is not None
        decisions.decide(go.pk, user=self.lead, verdict="approve", comment="", digest=go.digest)

    def approval(self, gate: str) -> Approval | None:
        return Approval.objects.filter(wave=self.migration.wave_id, gate=gate, state=Approval.State.REQUESTED).first()

    def tick(self, kind: str, user: User) -> None:
        """Answer every question of the step that is left to a person."""
        items = ChecklistItem.objects.filter(step=self.step(kind), operation="", required=True)
        for item in items.exclude(state=ChecklistItem.State.DONE):
            checklists.tick(item.pk, user=user, state="done")

    def may_declare(self) -> bool:
        return not workflow.completion_unmet(lane_of(Migration.objects.get(pk=self.migration.pk)))

    def declare(self) -> None:
        self.wait(self.may_declare, 240, "it can be declared complete")
        workflow.declare_complete(self.migration.pk, user=self.lead)

    # -- afterwards ----------------------------------------------------------------------------------------

    def nothing_stuck(self) -> None:
        assert not self.runs.filter(finished_at=None).exists(), self.words()
        assert not self.runs.exclude(act_enqueued_at=None).exists(), "no act is in anybody's hand"
        log = self.hub.log.read_text(errors="replace")
        wrong = [line for line in log.splitlines() if "database is locked" in line or "Traceback" in line]
        assert wrong == [], log[-8000:]


def kill_worker(journey: Journey, operation: str, act: str, seen: Callable[[Journey], Any]) -> bool:
    """SIGKILL the process that is in the middle of this act, and still is once it was stopped; False: it is not."""
    pid, run = journey.in_hand(operation, act), journey.run_of(operation)
    if run is None or pid not in group_of(journey.hub.pid("qcluster")) or not seen(journey):
        return False
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
        if journey.in_hand(operation, act) != pid or not seen(journey):
            os.kill(pid, signal.SIGCONT)
            return False
        os.kill(pid, signal.SIGKILL)
        until(lambda: f":{pid}:" not in Run.objects.get(pk=run.pk).act_worker, 60, "the act is taken back")
        return True
    return False


def kill_controller(journey: Journey) -> None:
    """SIGKILL the controller; another one takes over."""
    epoch = Lease.objects.get().epoch
    assert journey.hub.kill_group("controller") == 1
    until(lambda: Lease.objects.get().epoch == epoch + 1, 60, lambda: f"another takes over: {journey.words()}")


def kill_both(journey: Journey) -> None:
    """SIGKILL the controller, then the workers with their parent; both are started again."""
    hub, epoch = journey.hub, Lease.objects.get().epoch
    workers = hub.pid("qcluster")
    hub.kill_group("controller")
    assert hub.kill_group("qcluster") >= 4
    until(lambda: hub.pid("qcluster") != workers, 60, lambda: f"new workers: {journey.words()}")
    until(lambda: Lease.objects.get().epoch == epoch + 1, 60, lambda: f"another takes over: {journey.words()}")


@contextmanager
def first_in_line() -> Iterator[None]:
    """Whoever waits for the middle of a short act goes before all who share a crowded processor, where root may."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -15)
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, before)


class Strike:
    """One kill in the middle of one piece of work.

    `act`: a worker has it in hand ("" for a kill between acts, in work that goes on without a worker).
    `seen`: what shows on the hosts that the work is really under way.
    """

    def __init__(
        self, victim: str, operation: str, act: str | None, seen: Callable[[Journey], Any] = lambda journey: True
    ) -> None:
        self.victim, self.operation, self.act, self.seen = victim, operation, act, seen

    def __str__(self) -> str:
        return f"{self.victim} at “{self.operation} {self.act or ''}”"

    def ready(self, journey: Journey) -> bool:
        if self.act is None:
            run = journey.run_of(self.operation)
            return run is not None and run.state == "running" and bool(self.seen(journey))
        return bool(journey.in_hand(self.operation, self.act)) and bool(self.seen(journey))

    def __call__(self, journey: Journey, seconds: float = 600) -> None:
        began = time.monotonic()
        with first_in_line():
            self.strike(journey, seconds)
        journey.note_jobs()
        print(f"{self}: after {time.monotonic() - began:.1f} s")  # shown where the test fails

    def strike(self, journey: Journey, seconds: float) -> None:
        if self.victim == "worker":
            journey.wait(lambda: kill_worker(journey, self.operation, self.act or "", self.seen), seconds, str(self))
        else:
            journey.wait(lambda: self.ready(journey), seconds, str(self))
            (kill_controller if self.victim == "controller" else kill_both)(journey)
