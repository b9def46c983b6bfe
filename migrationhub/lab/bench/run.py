"""The bench from beginning to end."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from migrationhub.lab.bench.hosts import OUR_TARGET, SOURCE, THEIR_TARGET, TREE, Hosts
from migrationhub.lab.bench.report import Case
from migrationhub.lab.bench.sides import Ours, Side, Theirs
from migrationhub.lab.process_account import interpreter
from migrationhub.lab.state import Lab, LabProblem
from migrationhub.lab.verify import compare_trees

CHANGED, DELETED = 1_000, 100  # files between two syncs, less in a small tree
SETTLE_SECONDS = 3.1  # what changed up to two seconds before a list counts as changed at the next one too
Say = Callable[[str], None]


def bench(lab: Lab, files: int, rounds: int, say: Say) -> list[Case]:
    """Measure the cases `rounds` times, each side in turn first. Both targets equal the source at the end.

    Raises `LabProblem` for numbers that cannot be measured, for a copy that fails and for trees that differ.
    """
    if files < 100 or rounds < 1:
        raise LabProblem(
            f"A bench of {files} files in {rounds} rounds shows nothing.",
            "Take at least 100 files and one round.",
            code="bench.numbers",
        )
    with Hosts.up(lab, files, say) as hosts:
        ours = Ours(hosts)
        try:
            run = _Run(hosts, ours, Theirs(hosts), files, say)
            for number in range(1, rounds + 1):
                say(f"round {number} of {rounds}")
                run.round(number)
        finally:
            ours.close()
        say("comparing both targets with the source")
        prove_equal(hosts)
        return [run.unchanged, run.changed, run.initial, run.proven]


class _Run:
    def __init__(self, hosts: Hosts, ours: Side, theirs: Side, files: int, say: Say) -> None:
        self.hosts, self.ours, self.theirs, self.say = hosts, ours, theirs, say
        self.numbers = min(CHANGED, files // 3), min(DELETED, files // 30)
        self.unchanged = Case(f"{files:,} files, nothing changed")
        changed, deleted = self.numbers
        self.changed = Case(f"{files:,} files, {changed:,} changed, one directory renamed, {deleted:,} deleted")
        self.initial = Case(f"{files:,} files, initial copy")
        # What a careful admin runs before the switch: rsync, then rsync -n --checksum. Ours: a final sync.
        self.proven = Case(f"{files:,} files, nothing changed, equal content proven")

    def round(self, number: int) -> None:
        self.hosts.empty()
        time.sleep(SETTLE_SECONDS)
        self._measure(self.initial, "initial", ours_first=number % 2 == 1)
        self._measure(self.unchanged, "delta", ours_first=number % 2 == 0)
        self._change(number)
        # Files change at any time between two syncs, not all of them in the seconds before one.
        time.sleep(SETTLE_SECONDS)
        self._measure(self.changed, "delta", ours_first=number % 2 == 1)
        self._measure(self.proven, "final", ours_first=number % 2 == 0)

    def _measure(self, case: Case, kind: str, *, ours_first: bool) -> None:
        order = [(case.ours, self.ours, "ours"), (case.theirs, self.theirs, "theirs")]
        for found, side, word in order if ours_first else reversed(order):
            # Ours writes dirty pages back before it lists: it must not pay for those of the other side.
            os.sync()
            found.append(side.copy(kind))
            self.say(f"  {case.name}: {word} {found[-1].seconds:.2f} s")

    def _change(self, number: int) -> None:
        python = interpreter(self.hosts.backend.account)
        program = Path(__file__).with_name("changes.py").read_text()
        words = [python, "-c", program, TREE, str(number), *(str(count) for count in self.numbers)]
        moved = self.hosts.run(SOURCE, shlex.join(words)).strip()
        self.say(f"  the renamed directory holds {moved} files")


def prove_equal(hosts: Hosts) -> None:
    """Switch the hosts off and compare: a copy that left something out would be quick. Raises `LabProblem`."""
    for name in (SOURCE, OUR_TARGET, THEIR_TARGET):
        hosts.backend.stop(name, hard=True)  # nothing runs there that could lose anything
    targets = (OUR_TARGET, THEIR_TARGET)
    source = hosts.backend.root(SOURCE)
    with ThreadPoolExecutor(len(targets)) as pool:
        verdicts = list(pool.map(lambda name: compare_trees(source, hosts.backend.root(name), [TREE]), targets))
    for name, verdict in zip(targets, verdicts, strict=True):
        if not verdict.ok:
            raise LabProblem(
                f"{name} does not equal the source after the bench: {verdict}",
                "Its figures are worth nothing: find out what that side left out.",
                code="bench.unequal",
            )
