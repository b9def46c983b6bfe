"""What a run can do. One module per operation; each act is short, safe to repeat, and asked for before it is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from migrationhub.lib.findings import Finding
from servers.models import Run, Server
from servers.progress import Memo, Progress, State
from servers.remote.base import Connection, Endpoint

# How long one act goes on along a list, in seconds: the rest is the next act's. With the longest that one entry may
# take it stays well below the time that a worker is given for an act.
ACT_SECONDS = 60.0


@dataclass
class Job:
    """One look or one act of a run: its row, and connections that somebody else opens and closes."""

    run: Run
    connect: Callable[[Endpoint], Connection]
    memo: Memo = field(default_factory=dict)
    cancel: bool = False

    @property
    def parameters(self) -> dict[str, Any]:
        return dict(self.run.parameters)

    @property
    def key(self) -> str:
        """Names this try on the outside."""
        return self.run.key

    def server(self, name: str) -> Server:
        """The server that the parameter names."""
        return (
            Server.objects.select_related("credential", "placement__platform__credential")
            .prefetch_related("host_keys")
            .get(pk=self.run.parameters[name])
        )

    def resumed(self, memo: Memo) -> Memo:
        """The part of the memo that a platform keeps, told where its last request may have been cut off."""
        cut = self.memo.get("interrupted_at")
        return {**memo, "unsure_since": cut} if cut and "asked_at" not in memo else memo

    def connection(self, name: str) -> Connection:
        return self.connect(self.server(name).endpoint())


class Operation:
    """Base: one act and done. Override `observe` and `advance` where work goes on between acts."""

    name: ClassVar[str]
    # Seconds for which a passing fault (no answer, a 500) is tried again before the run fails.
    patience: ClassVar[float] = 60

    def observe(self, job: Job) -> Progress:
        """Read only. Names the act that is due."""
        return Progress(next_act=self.name)

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        """Exactly the one act that is due."""
        raise NotImplementedError

    def confirm_cancel(self, job: Job) -> tuple[Memo, Progress]:
        """A person asked to stop and no act is in hand. Movers override: they have something to end."""
        return job.memo, Progress(state=State.CANCELLED, reason="Stopped before the next act.")

    # Whether it may wait for ever for a machine that is gone, so that a person must be able to give it up.
    waits_for_ever: ClassVar[bool] = False

    def give_up(self, job: Job) -> tuple[Memo, Progress]:
        """A person gave it up while it was out of contact. Ask everybody; *lost* only when they were asked."""
        return self.confirm_cancel(job)

    def gives_up(self, job: Job, seconds: float) -> bool:
        """Whether to fail after `seconds` without contact. Work that goes on without us is never given up."""
        return seconds > self.patience

    def goes_on(self, job: Job) -> bool:
        """Whether something that was begun on the machines may be at work there now, whatever happens to us."""
        return False

    def finish(self, run: Run, progress: Progress) -> None:
        """Write what the run found, in the transaction that ends it."""


def done(reason: str = "", **result: Any) -> Progress:
    return Progress(state=State.SUCCEEDED, reason=reason, result=result)


def failed(reason: str, code: str = "", **result: Any) -> Progress:
    return Progress(state=State.FAILED, reason=reason, code=code, result=result)


def words_of(findings: list[Finding]) -> str:
    """What was found, each with its next act."""
    return " ".join(f"{finding.text} {finding.act}".strip() for finding in findings)


def settled(memo: Memo) -> Memo:
    """The memo once an act came to its end: what was cut off before it is known now."""
    return {key: value for key, value in memo.items() if key != "interrupted_at"}
