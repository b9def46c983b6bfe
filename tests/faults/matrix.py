"""The shape of a fault, and the driver that takes a run of a real operation through it and through its retry."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import pytest

from servers import lease, runs, work
from servers.models import Run
from servers.operations import operation
from servers.remote.ssh import Pool, connect

# Short, so that a test need not wait; seconds.
CONNECT = partial(connect, connect_timeout=2, banner_timeout=4, auth_timeout=30)


class Place(Protocol):
    """Where faults strike: machines or an appliance, with the rows that stand for them."""

    key: str  # of the work that is done here, in this test

    def words(self) -> dict[str, str]:
        """What sentences name: machines, addresses, directories."""

    def choices(self, operation: str) -> dict[str, Any]:
        """Parameters of a run, as planned now."""


@dataclass(frozen=True)
class Fault:
    """One way in which the world does not play along, and what a person reads and does about it.

    `cause` brings it about before the run or, with `during`, once the run is in that phase and bytes move; `remove`
    is what a person does; `before` makes the ground for it. The run ends in exactly `sentence` and `act`, where {words}
    are the place's and ⟨⟩ stands for a program's own words, or for none. `passes`: it says so while it is open, and
    goes on by itself once the cause is gone. `ends` is the run's state. `choices` are parameters of both tries,
    `sound` what the retry has instead, `patience` the operation's own, shortened (seconds).
    """

    name: str
    operation: str
    cause: Callable[[Any], None]
    remove: Callable[[Any], None]
    sentence: str
    act: str
    before: Callable[[Any], None] = field(default=lambda place: None)
    during: str = ""
    passes: bool = False
    ends: str = Run.State.FAILED
    choices: dict[str, Any] = field(default_factory=dict)
    sound: dict[str, Any] = field(default_factory=dict)
    patience: float | None = None
    marks: tuple[pytest.MarkDecorator, ...] = ()

    def words(self, place: Place) -> str:
        return " ".join(part.format(**place.words()) for part in (self.sentence, self.act) if part)

    def told_by(self, reason: str, words: str) -> bool:
        pattern = ".*".join(re.escape(part) for part in words.split("⟨⟩"))
        return re.fullmatch(pattern, reason, re.DOTALL) is not None


def nothing(place: Any) -> None:
    """No hand is needed."""


def table(faults: list[Fault]) -> pytest.MarkDecorator:
    rows = [pytest.param(fault, marks=fault.marks, id=fault.name.replace(" ", "-")) for fault in faults]
    return pytest.mark.parametrize("fault", rows)


@dataclass
class Try:
    """One run to its end, and every sentence that it showed on the way."""

    run: Run
    said: list[str]


class Once:
    """Does something the first time that a run is so far."""

    def __init__(self, strike: Callable[[], None], when: Callable[[Run], bool]) -> None:
        self.strike, self.when, self.struck = strike, when, False

    def __call__(self, run: Run) -> None:
        if not self.struck and self.when(run):
            self.struck = True
            self.strike()


class Line:
    """Controller and worker in one, for one run at a time: look, act, settle as the product does, without waits."""

    def __init__(self) -> None:
        self.epoch = lease.hold("test", None) or 0

    def take(
        self, key: str, name: str, parameters: dict[str, Any], *hooks: Callable[[Run], None], seconds: float = 180
    ) -> Try:
        """The next try of the work `key`. `hooks` are told of the run after each pass."""
        run = runs.request(key, name, title=name.replace("_", " ").capitalize(), parameters=parameters)
        pool, said = Pool(CONNECT), []
        deadline = time.monotonic() + seconds
        try:
            while run.finished_at is None:
                assert time.monotonic() < deadline, f"open after {seconds} s: {run.phase}; {run.reason}"
                self.one_pass(run, pool)
                run = Run.objects.get(pk=run.pk)
                if run.reason and run.reason not in said:
                    said.append(run.reason)
                for hook in hooks:
                    hook(run)
                time.sleep(0.05)
        finally:
            pool.close()
        return Try(run, said)

    def one_pass(self, run: Run, pool: Pool) -> None:
        self.epoch = lease.hold("test", self.epoch) or 0
        runs.promote(self.epoch)
        run = Run.objects.get(pk=run.pk)
        act = work.look(run, pool)
        if act and runs.begin_act(run, self.epoch, act):
            claimed = runs.claim_act(run.pk, self.epoch)
            assert claimed is not None
            work.act(claimed, pool)


@contextmanager
def impatient(name: str, patience: float | None) -> Iterator[None]:
    """The operation gives up sooner."""
    with pytest.MonkeyPatch.context() as patch:
        if patience is not None:
            patch.setattr(type(operation(name)), "patience", patience)
        yield


def is_named_and_retried(fault: Fault, place: Place, line: Line) -> Try:
    """The whole of what is asked: the sentence, the next act, and a retry of the same work that succeeds."""
    fault.before(place)
    key, expected = place.key, fault.words(place)
    strikes = Once(
        lambda: fault.cause(place),
        lambda run: not fault.during or (run.phase == fault.during and (run.bytes_done > 0 or not run.bytes_total)),
    )
    helps = Once(lambda: fault.remove(place), lambda run: fault.passes and fault.told_by(run.reason, expected))
    try:
        if not fault.during:
            strikes(Run())
        with impatient(fault.operation, fault.patience):
            choices = {**place.choices(fault.operation), **fault.choices}
            first = line.take(key, fault.operation, choices, strikes, helps)
    finally:
        if not helps.struck:
            fault.remove(place)
    assert strikes.struck, f"the run was never {fault.during}: {first.run.reason}"
    if fault.passes:
        assert any(fault.told_by(reason, expected) for reason in first.said), first.said
        assert (first.run.state, first.run.number) == (Run.State.SUCCEEDED, 1), first.run.reason
        return first
    assert fault.told_by(first.run.reason, expected), f"\n{first.run.reason}\nand not\n{expected}"
    assert first.run.state == fault.ends
    choices = {**place.choices(fault.operation), **fault.choices, **fault.sound}
    again = line.take(key, fault.operation, choices)
    assert (again.run.state, again.run.number) == (Run.State.SUCCEEDED, 2), again.run.reason
    assert again.run.reason != first.run.reason
    return again
