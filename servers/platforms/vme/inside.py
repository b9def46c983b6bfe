"""Acts inside the guest and on its disk: scripts by execution request, snapshots, reverts."""

from __future__ import annotations

from servers.platforms.base import PlatformProblem
from servers.platforms.vme import answers, shapes
from servers.platforms.vme.acts import UNSURE, failure_reason
from servers.platforms.vme.answers import Json, Refused
from servers.platforms.vme.change import OnInstance
from servers.platforms.vme.client import Client
from servers.progress import Memo, Progress, State

REVERT_SETTLE = 10.0  # seconds after which an instance that does nothing has reverted
LOST = ("failed", "errored", "error", "expired", "cancelled")


class Execute(OnInstance):
    """Run a script inside the guest through the platform.

    An execution request cannot be looked up by what it was for: after a lost answer the run fails with a
    sentence, and a person repeats a script that bears repetition.
    """

    def __init__(self, client: Client, work_key: str, external_id: str, script: str) -> None:
        super().__init__(client, work_key, external_id)
        self.script = script

    def look(self, memo: Memo) -> Progress:
        if unique_id := memo.get("unique_id"):
            try:
                answer = self.client.get(f"/api/execution-request/{unique_id}")
            except Refused as problem:
                if problem.code != "platform.missing":
                    raise
                return self.lost()
            return self.state_of(answers.obj(answer.get("executionRequest")))
        if unsure := memo.get("unsure_since"):
            if self.client.clock() - float(unsure) < UNSURE:
                return self.running("waiting for what a script of unknown fate may still do")
            return self.failed(
                PlatformProblem(
                    f"The answer of {self.client.access.name} to the script was lost: it may have run or not.",
                    "Retry; the script bears repetition.",
                    code="execute.unknown",
                )
            )
        self.confirm()
        return self.running("running the script", next_act="execute")

    def lost(self) -> Progress:
        return self.failed(
            PlatformProblem(
                f"{self.client.access.name} no longer knows the script's execution request: how it ended is not known.",
                "Retry; the script bears repetition.",
                code="execute.unknown",
            ),
            state=State.LOST,
        )

    def do(self, act: str, memo: Memo) -> tuple[Memo, Progress]:
        memo, answer = self.send(
            "POST",
            "/api/execution-request/execute",
            memo=memo,
            params={"instanceId": self.external_id},
            body={"script": self.script, "sendKeys": False},
        )
        request = answers.obj(answer.get("executionRequest"))
        unique_id = answers.text_id(request.get("uniqueId"))
        if not unique_id:
            raise PlatformProblem(
                f"{self.client.access.name} took the script without telling an id to follow it by.",
                "Retry; the script bears repetition.",
                code="platform.answer",
            )
        return {**memo, "unique_id": unique_id}, self.state_of(request)

    def state_of(self, request: Json) -> Progress:
        status = str(request.get("status") or "unknown")
        code = request.get("exitCode")
        rc = None if code is None or isinstance(code, bool) else answers.number(code, default=-1)
        result = {"rc": rc, "out": str(request.get("stdOut") or ""), "err": str(request.get("stdErr") or "")}
        if status == "complete" and rc == 0:
            return self.succeeded(raw=status, result=result)
        if status == "complete" or status in LOST:
            said = str(request.get("errorMessage") or request.get("statusMessage") or result["err"]).strip()
            tail = f": {self.client.scrub(said)[-answers.LIMIT :].rstrip('.')}." if said else "."
            ended = f"with status {rc}" if rc is not None else f"as “{status}” without an exit status"
            problem = PlatformProblem(
                f"The script inside the guest ended {ended}{tail}",
                "Check that the guest runs and that VME reaches it (agent or console), then retry.",
                code="execute.failed",
            )
            return self.failed(problem, raw=status, result=result)
        return self.running("running the script", raw=status)


class Snapshot(OnInstance):
    """Take a snapshot. It is found again by its name, which must be the work's own."""

    def __init__(self, client: Client, work_key: str, external_id: str, name: str) -> None:
        super().__init__(client, work_key, external_id)
        self.name = name

    def look(self, memo: Memo) -> Progress:
        self.confirm()
        found = [snap for snap in snapshots(self.client, self.external_id) if snap.get("name") == self.name]
        if found:
            newest = max(found, key=lambda snap: answers.number(snap.get("id")))
            status = str(newest.get("status") or "")
            if status == "complete":
                return self.succeeded(raw=status, result={"snapshot_id": answers.text_id(newest.get("id"))})
            if status in LOST:
                why = failure(self, self.external_id)
                problem = PlatformProblem(
                    f"{self.client.access.name} could not take the snapshot “{self.name}”{why}",
                    "Check the datastore's free space in VME, then retry.",
                    code="snapshot.failed",
                )
                return self.failed(problem, raw=status)
            return self.running("taking the snapshot", raw=status)
        if "asked_at" not in memo:
            return self.waiting_for_effect(memo, "snapshot", "taking the snapshot")
        if self.since(memo) < 1800:
            return self.running("taking the snapshot")
        problem = PlatformProblem(
            f"{self.client.access.name} lists no snapshot “{self.name}” after {self.since(memo):.0f} s"
            f"{failure(self, self.external_id)}",
            "Look at the instance's snapshots in VME, then retry.",
            code="snapshot.failed",
        )
        return self.failed(problem)

    def do(self, act: str, memo: Memo) -> tuple[Memo, Progress]:
        body = {"snapshot": {"name": self.name, "description": f"migrationhub {self.work_key}"}}
        memo, _ = self.send("PUT", f"{self.path}/snapshot", memo=memo, body=body)
        return memo, self.running("taking the snapshot")


class Revert(OnInstance):
    """Put the instance back to a snapshot. Doing it twice leaves the same, so a lost answer is only waited out."""

    def __init__(self, client: Client, work_key: str, external_id: str, snapshot_id: str) -> None:
        super().__init__(client, work_key, external_id)
        self.snapshot_id = snapshot_id

    def look(self, memo: Memo) -> Progress:
        instance, _ = self.read(self.external_id)
        raw = {"raw": instance.status, "target_power": instance.power}
        if instance.status in shapes.BUSY:
            return self.running("reverting" if "asked_at" in memo else "waiting until VME is done", **raw)
        if "asked_at" not in memo:
            return self.waiting_for_effect(memo, "revert", "reverting", **raw)
        newest = newest_process(self.client, self.external_id)
        is_ours = answers.number(newest.get("id")) > answers.number(memo.get("process_before"))
        if instance.status in shapes.BROKEN or (is_ours and newest.get("status") in LOST):
            problem = PlatformProblem(
                f"{self.client.access.name} could not revert {instance.name}{failure(self, self.external_id)}",
                "Look at the instance in VME, then retry.",
                code="revert.failed",
            )
            return self.failed(problem, **raw)
        # An account that may not see processes only has the time: a status that did not change proves nothing yet.
        if not (is_ours and newest.get("status") == "complete") and (is_ours or self.since(memo) < REVERT_SETTLE):
            return self.running("reverting", **raw)
        return self.succeeded(result={"snapshot_id": self.snapshot_id}, **raw)

    def do(self, act: str, memo: Memo) -> tuple[Memo, Progress]:
        before = newest_process(self.client, self.external_id)
        memo, _ = self.send("PUT", f"{self.path}/revert-snapshot/{self.snapshot_id}", memo=memo)
        return {**memo, "process_before": answers.number(before.get("id"))}, self.running("reverting")


def snapshots(client: Client, external_id: str) -> list[Json]:
    return answers.items(client.get(f"/api/instances/{external_id}/snapshots").get("snapshots"))


def newest_process(client: Client, external_id: str) -> Json:
    """The instance's newest process, {} where there is none or the account may not see them."""
    try:
        body = client.get("/api/processes", {"instanceId": external_id, "max": 25})
    except PlatformProblem as problem:
        if not problem.lasting:
            raise
        return {}
    return max(answers.items(body.get("processes")), key=lambda one: answers.number(one.get("id")), default={})


def failure(act: OnInstance, external_id: str) -> str:
    """ ": <the appliance's words>." or "." — the end of a sentence."""
    why = failure_reason(act.client, external_id)
    return f": {why.rstrip('.')}." if why else "."
