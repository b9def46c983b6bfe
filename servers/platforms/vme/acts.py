"""What every act on the appliance has in common: look first, then at most one changing request.

The memo of an act (JSON; times are seconds on the client's clock):
- `asked_at`: the appliance took the request;
- `unsure_since`: the request went out and it is not known whether it was done (`interrupted` says so, too, for a
  caller that was killed in mid-request). The outside is asked for `UNSURE` seconds before it is sent again.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from servers.platforms.base import Instance, Placed, PlatformProblem
from servers.platforms.vme import answers, shapes
from servers.platforms.vme.answers import Ambiguous, Json, Refused, Unavailable
from servers.platforms.vme.client import Client
from servers.progress import Memo, Progress, State

UNSURE = 120.0  # seconds in which a request whose answer was lost may still take effect
POLL = 3.0  # seconds between two looks
SETTLE = 30.0  # seconds that an accepted request may take to show


def interrupted(memo: Memo, at: float | None = None) -> Memo:
    """The memo for a try after one that was killed between “about to act” and its end: it may have acted."""
    return {**memo, "unsure_since": time.time() if at is None else at}


class Gone(Exception):
    """The instance is not there (404)."""

    def __init__(self, external_id: str) -> None:
        super().__init__(external_id)
        self.external_id = external_id


class Foreign(PlatformProblem):
    """What answers under the id is not what we placed: nothing is done to it, and nothing it says is about ours."""


class Act:
    """One act on one instance. `look` reads only and names the next act; `do` performs it."""

    ending = State.SUCCEEDED
    placed: Placed | None = None  # what must be found under the id that we act on

    def __init__(self, client: Client, work_key: str) -> None:
        self.client = client
        self.work_key = work_key

    # -- what each act defines --------------------------------------------------------------------------------

    def look(self, memo: Memo) -> Progress:
        raise NotImplementedError

    def do(self, act: str, memo: Memo) -> tuple[Memo, Progress]:
        raise NotImplementedError

    # -- what VmePlatform calls -----------------------------------------------------------------------------

    def observe(self, memo: Memo) -> Progress:
        """Read only. What cannot be seen right now is no failure of the work: it stays open and says why."""
        try:
            return self.look(memo)
        except Gone as gone:
            return self.missing(gone.external_id)
        except PlatformProblem as problem:
            if isinstance(problem, Foreign) or (problem.lasting and not self.begun(memo)):
                return self.running("failed", reason=str(problem), code=problem.code, next_act="tell")
            return self.unseen(problem)

    def advance(self, memo: Memo) -> tuple[Memo, Progress]:
        """At most one changing request."""
        try:
            progress = self.look(memo)
        except Gone as gone:
            return memo, self.missing(gone.external_id)
        except Unavailable as problem:
            return memo, self.unseen(problem)
        except PlatformProblem as problem:
            if self.begun(memo) and not isinstance(problem, Foreign):
                return memo, self.unseen(problem)
            return memo, self.failed(problem)
        if not progress.next_act:
            return memo, progress
        try:
            return self.do(progress.next_act, memo)
        except Gone as gone:
            return memo, self.missing(gone.external_id)
        except Ambiguous as problem:
            return {**memo, "unsure_since": self.client.clock()}, self.unseen(problem)
        except Unavailable as problem:
            return memo, self.unseen(problem)
        except PlatformProblem as problem:
            return memo, self.failed(problem)

    @staticmethod
    def begun(memo: Memo) -> bool:
        """Whether the appliance may be at work for us: then no refusal of a look ends the act."""
        return "asked_at" in memo or "unsure_since" in memo

    # -- shapes of progress -----------------------------------------------------------------------------------

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.client.clock(), UTC)

    def running(self, phase: str, **more: Any) -> Progress:
        return Progress(**{"phase": phase, "observed_at": self.now(), "check_after": POLL, **more})

    def succeeded(self, **more: Any) -> Progress:
        return Progress(**{"state": State.SUCCEEDED, "phase": "done", "observed_at": self.now(), **more})

    def failed(self, problem: PlatformProblem, **more: Any) -> Progress:
        return Progress(
            **{
                "state": State.FAILED,
                "phase": "failed",
                "reason": str(problem),
                "code": problem.code,
                "observed_at": self.now(),
                **more,
            }
        )

    def unseen(self, problem: PlatformProblem) -> Progress:
        """Nothing was observed (`observed_at` is None): the work is open, the reason says what is in the way."""
        wait = problem.wait if isinstance(problem, Unavailable) else 30.0
        return Progress(
            phase=f"waiting for {self.client.access.name}",
            reason=str(problem),
            code=problem.code,
            check_after=max(POLL, wait),
        )

    def waiting_for_effect(self, memo: Memo, act: str, phase: str, **more: Any) -> Progress:
        """Not done yet: due now, or, while a lost request may still take effect, not yet."""
        unsure = memo.get("unsure_since")
        left = UNSURE - (self.client.clock() - float(unsure)) if unsure is not None else 0.0
        if left > 0:
            reason = f"It is not known whether the last request was done; it is looked up for {left:.0f} s more."
            return self.running(f"looking whether it was done: {phase}", reason=reason, **more)
        return self.running(phase, next_act=act, **more)

    # -- requests -------------------------------------------------------------------------------------------

    def send(
        self, method: str, path: str, *, memo: Memo, params: Json | None = None, body: Json | None = None
    ) -> tuple[Memo, Json]:
        answer = self.client.change(method, path, work_key=self.work_key, params=params, body=body)
        taken = {name: value for name, value in memo.items() if name != "unsure_since"}
        return {**taken, "asked_at": self.client.clock()}, answer

    def read(self, external_id: str) -> tuple[Instance, Json]:
        """The instance as it is now; `Gone` where there is none."""
        try:
            answer = self.client.get(f"/api/instances/{external_id}", {"details": "true"})
        except Refused as problem:
            if problem.code == "platform.missing":
                raise Gone(external_id) from None
            raise
        body = answers.obj(answer.get("instance"))
        if not body:
            raise PlatformProblem(
                f"{self.client.access.name} answered without the instance {external_id}.",
                "Check that the address is that of VME.",
                code="platform.answer",
            )
        instance = shapes.instance_from(body)
        if self.placed and not self.placed.is_it(instance):
            raise self.foreign(self.placed, instance)
        return instance, body

    def foreign(self, placed: Placed, instance: Instance) -> Foreign:
        ours, theirs = (f"“{one.name}”" + (f" (uuid {one.uuid})" if one.uuid else "") for one in (placed, instance))
        return Foreign(
            f"Instance {placed.external_id} of {self.client.access.name} is {theirs}, but we placed {ours}: it is not"
            " ours, and nothing is done to it.",
            f"Check that {self.client.access.url} is the appliance on which “{placed.name}” was made, and that nobody"
            " renamed it there, then retry.",
            code="instance.foreign",
        )

    def missing(self, external_id: str) -> Progress:
        return self.failed(
            PlatformProblem(
                f"{self.client.access.name} knows no instance {external_id}.",
                "Look in VME whether it was deleted; the initial migration makes a new one.",
                code="instance.missing",
            )
        )

    def since(self, memo: Memo) -> float:
        """Seconds since the appliance took the request."""
        return self.client.clock() - float(memo.get("asked_at", self.client.clock()))

    def why(self, external_id: str, instance: Instance) -> str:
        """Why something failed, in the appliance's own words: its newest process, else the instance's message."""
        return failure_reason(self.client, external_id) or self.client.scrub(instance.message)


def failure_reason(client: Client, external_id: str) -> str:
    """What the newest failed event of an instance's processes says; "" where nothing does."""
    try:
        body = client.get("/api/processes", {"instanceId": external_id, "max": 10})
    except PlatformProblem:
        return ""
    processes = sorted(answers.items(body.get("processes")), key=_newest, reverse=True)
    for process in processes:
        for event in [*reversed(answers.items(process.get("events"))), process]:
            if event.get("status") in ("failed", "error", "expired") or event.get("error"):
                words = next(
                    (str(event[key]) for key in ("error", "message", "output", "reason") if event.get(key)), ""
                )
                if words:
                    return client.scrub(words.strip())[: answers.LIMIT]
    return ""


def _newest(process: Json) -> tuple[str, int]:
    return str(process.get("startDate") or process.get("dateCreated") or ""), answers.number(process.get("id"))
