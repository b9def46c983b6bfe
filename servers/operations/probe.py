"""Ask the probes of a server at one place: once, or every 2 s until all have passed."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from django.utils import timezone

from migrationhub.lib.findings import Problem
from servers.models import Probe, ProbeResult, Run
from servers.progress import Memo, Progress, State
from servers.remote import probes
from servers.remote.base import Connection

from .base import ACT_SECONDS, Job, Operation

EVERY = 2.0  # seconds between two rounds


class AskProbes(Operation):
    """Memo: since, round (the outcomes of the round that is going on), outcomes (of the last one that is over), first
    (when each first passed)."""

    name = "probe"

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        now = timezone.now()
        since = job.memo.get("since") or now.isoformat()
        asked = wanted(job.parameters)
        found, first = dict(job.memo.get("round", {})), dict(job.memo.get("first", {}))
        began = time.monotonic()
        for probe in asked:
            if str(probe.pk) in found:
                continue
            if time.monotonic() - began > ACT_SECONDS:
                memo = {**job.memo, "since": since, "round": found, "first": first}
                words = f"{len(found)} of {len(asked)} asked so far."
                return memo, Progress(phase="asking the probes", reason=words, next_act=self.name)
            outcome = ask(probe, job).as_dict()
            found[str(probe.pk)] = outcome
            if outcome["passed"]:
                first.setdefault(str(probe.pk), outcome["at"])
        outcomes = {str(probe.pk): found[str(probe.pk)] for probe in asked}
        memo = {"since": since, "outcomes": outcomes, "first": first}
        bad = [outcome for outcome in outcomes.values() if not outcome["passed"]]
        waited = (timezone.now() - datetime.fromisoformat(since)).total_seconds()
        if bad and waited < job.parameters["until_seconds"]:
            words = f"{len(outcomes) - len(bad)} of {len(outcomes)} passed. {bad[0]['reason']}"
            return memo, Progress(phase="asking the probes", reason=words, check_after=EVERY)
        return memo, verdict(job.parameters, outcomes, first)

    def finish(self, run: Run, progress: Progress) -> None:
        for pk, outcome in run.memo.get("outcomes", {}).items():
            ProbeResult.objects.create(
                probe_id=int(pk),
                run=run,
                place=run.parameters["place"],
                passed=outcome["passed"],
                observed=outcome["observed"],
                expected=outcome["expected"],
                reason=outcome["reason"],
                seconds=outcome["seconds"],
                at=outcome["at"],
            )


def wanted(parameters: dict[str, Any]) -> list[Probe]:
    rows = Probe.objects.filter(server=parameters["owner"])
    return [probe for probe in rows if parameters["place"] in probe.places]


def ask(probe: Probe, job: Job) -> probes.ProbeOutcome:
    machine = job.server("machine")
    connection: Connection | None = None
    if probe.kind in (Probe.Kind.UNIT, Probe.Kind.COMMAND) or probe.parameters.get("from") == "inside":
        try:
            connection = job.connection("machine")
        except Problem as problem:
            words = f"{problem.text} {problem.act}".strip()
            return probes.ProbeOutcome(None, "", "", words, timezone.now(), 0.0)
    question = probes.Probe(probe.kind, probe.parameters, tuple(probe.places), probe.name)
    return probes.run(question, endpoint=machine.endpoint(), connection=connection, address=machine.address)


def verdict(parameters: dict[str, Any], outcomes: dict[str, dict[str, Any]], first: dict[str, str]) -> Progress:
    """Succeeded unless all must pass and one did not; what could not be determined is not passed."""
    if not outcomes:
        words = f"No probe is set for the place “{parameters['place']}” any more: nothing was asked."
        result: dict[str, Any] = {"passed": 0, "failed": 0, "all": 0, "first_passed_at": ""}
        if parameters["must_pass"]:
            words += " Set one on the page of its plan, then retry."
            return Progress(state=State.FAILED, reason=words, code="probe.none", result=result)
        return Progress(state=State.SUCCEEDED, reason=words, result=result)
    bad = [outcome for outcome in outcomes.values() if not outcome["passed"]]
    result = {
        "passed": len(outcomes) - len(bad),
        "failed": len(bad),
        "all": len(outcomes),
        "first_passed_at": min(first.values(), default=""),
    }
    words = f"{result['passed']} of {len(outcomes)} probes passed."
    if bad:
        words += f" {bad[0]['reason']}"
    if bad and parameters["must_pass"]:
        words += " Mend the cause, or correct the probe on the page of its plan, then retry."
        return Progress(state=State.FAILED, reason=words, code="probe.failed", result=result)
    return Progress(state=State.SUCCEEDED, reason=words, result=result)
