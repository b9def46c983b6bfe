"""Drive the real ledger, controller passes and workflow without processes, with operations that a test scripts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import pytest
from django.utils import timezone

from migrationhub.lib.findings import Problem
from projects import workflow
from servers import lease, runs, work
from servers.models import Change, Run
from servers.operations.base import Job, Operation, done
from servers.progress import Memo, Progress
from servers.remote.ssh import Pool

Answer = Progress | Problem | Callable[[Job], Progress]


class Scripted(Operation):
    """Answers from the test's script, else succeeds at its first act."""

    name = "scripted"
    patience = 0

    def __init__(self, operation: str, script: dict[str, list[Answer]], done_work: list[str]) -> None:
        self.operation = operation
        self.script = script
        self.done_work = done_work

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        self.done_work.append(job.key)
        answers = self.script[self.operation]
        answer = answers.pop(0) if answers else done("As scripted.")
        if isinstance(answer, Problem):
            raise answer
        return job.memo, answer if isinstance(answer, Progress) else answer(job)


class Engine:
    """`script[operation]` is a list of answers, used up one by one."""

    def __init__(self) -> None:
        self.script: dict[str, list[Answer]] = defaultdict(list)
        self.done_work: list[str] = []
        self.pool = Pool()
        self.epoch = lease.hold("test", None) or 0
        self.seen_change = -1

    def operation(self, name: str) -> Operation:
        return Scripted(name, self.script, self.done_work)

    def step(self, *, only_changes: bool = False) -> None:
        """One pass of the controller, and the acts that it enqueues. It walks the workflow as if the clock said so,
        or only if something says that it changed."""
        self.epoch = lease.hold("test", self.epoch) or 0
        runs.recover(self.epoch)
        change = Change.current()
        if change != self.seen_change or not only_changes:
            self.seen_change = change
            workflow.advance(timezone.now())
        runs.promote(self.epoch)
        for run in list(runs.due(timezone.now())):
            act = work.look(run, self.pool)
            if act and runs.begin_act(run, self.epoch, act):
                claimed = runs.claim_act(run.pk, self.epoch)
                assert claimed is not None
                work.act(claimed, self.pool)

    def settle(self, passes: int = 60) -> None:
        """Until nothing runs any more."""
        quiet = 0
        for number in range(passes):
            before = Change.current()
            self.step(only_changes=number > 0)
            moved = Change.current() != before or Run.objects.filter(finished_at=None).exists()
            quiet = 0 if moved else quiet + 1
            if quiet == 3:
                return
        pytest.fail(f"still at work after {passes} passes: {list(Run.objects.filter(finished_at=None))}")


@pytest.fixture
def engine(db: None, monkeypatch: pytest.MonkeyPatch) -> Engine:
    made = Engine()
    for module in ("servers.work", "servers.operations"):
        monkeypatch.setattr(f"{module}.operation", made.operation)
    return made
