"""The rsync mover: the acts of one sync, one at a time, each safe to repeat."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from migrationhub.lib.findings import Finding, Problem
from servers.movers.base import Capabilities, MoveJob
from servers.movers.rsync import config, receive
from servers.movers.rsync.job import RemoteJob
from servers.movers.rsync.layout import Layout, layout
from servers.movers.rsync.outcome import failure_words, sync_facts
from servers.movers.rsync.preflight import preflight
from servers.movers.rsync.state import Look
from servers.movers.rsync.views import without_second_views
from servers.progress import Memo, Progress, State, SyncFacts
from servers.remote import access
from servers.remote.base import RemoteProblem

ACTS = ("prepare", "receive", "start")  # then `finish` or `cancel`, and `leave` where the target is to restart


class RsyncMover:
    """Implements `servers.movers.base.Mover` over OpenSSH and rsync; nothing is installed on the source."""

    def capabilities(self, job: MoveJob) -> Capabilities:
        return Capabilities(interrupts_target=True, deltas=True)

    def preflight(self, job: MoveJob) -> list[Finding]:
        return preflight(job)

    def observe(self, job: MoveJob, memo: Memo) -> Progress:
        """Read only: what the job directory on the source says, and the act that is due."""
        look = None
        if "outcome" not in memo and "start" in memo.get("done", []):
            look = self._source(job).look()
        return self._progress(job, memo, look)

    def advance(self, job: MoveJob, memo: Memo) -> tuple[Memo, Progress]:
        """Exactly the act that is due; nothing when none is."""
        progress = self.observe(job, memo)
        if progress.next_act is None:
            return memo, progress
        act: Callable[[MoveJob, Memo], Memo] = getattr(self, f"_{progress.next_act}")
        try:
            memo = act(job, dict(memo))
        except Problem as problem:
            # What may pass by itself is tried again; at the end there is nothing left to clean up after.
            if not problem.lasting or progress.next_act not in ACTS:
                raise
            failure = {"reason": str(problem), "code": problem.code}
            memo = {**memo, "failure": failure}
        return memo, self.observe(job, memo)

    # -- what is due ---------------------------------------------------------------------------------------

    def _progress(self, job: MoveJob, memo: Memo, look: Look | None) -> Progress:
        now = datetime.now(UTC)
        if "outcome" in memo:
            return _from_outcome(memo["outcome"], now)
        if "verdict" in memo:
            judged = replace(_from_outcome(memo["verdict"], now), reason="", code="", sync=None, result={}, log=())
            return replace(judged, state=State.RUNNING, phase="finishing", next_act="leave")
        done = memo.get("done", [])
        base = Progress(phase=_phase(done, look), observed_at=now, raw=_raw(look), check_after=1.0)
        if look is not None:
            base = _with_passes(base, look)
        if job.cancel and not (look is not None and look.rc == 0):  # else it was done before it was asked to stop
            return replace(base, next_act="cancel", reason="Stops before the next act.")
        if "failure" in memo:
            return replace(base, next_act="finish", reason=str(memo["failure"]["reason"]))
        for act in ACTS:
            if act not in done:
                return replace(base, next_act=act)
        if look is None or look.running:
            return base
        return replace(base, next_act="finish")

    # -- acts ----------------------------------------------------------------------------------------------

    def _prepare(self, job: MoveJob, memo: Memo) -> Memo:
        source, target = self._source(job), self._target(job)
        token = str(memo.get("token") or secrets.token_hex(8))
        look = source.look()
        if look.exists and (look.running or look.rc == 0):
            # The same work was started before and its try was forgotten: go on with that one.
            entered = json.loads(target.read("entered") or b"{}")
            return {**memo, "token": look.token, "adopted": True, "done": [*ACTS], "entered": entered}
        if look.exists:
            source.end(5)
            _revoke(target, source.public_key())
            source.discard()
        target.discard()
        mounts, theirs = source.mounts(), target.mounts()
        job = without_second_views(job, mounts, theirs)
        files = config.source_files(job, source.layout, mounts, token)
        target.unpack(config.target_files(job, target.layout, theirs, mounts, token))
        source.unpack(files)
        public = source.make_key()
        command = f"/bin/sh {target.layout.job}/serve.sh {target.layout.job}"
        try:
            access.authorize_transfer(target.connection, public, command)
        except Problem:
            source.drop_key()
            raise
        return {**memo, "token": token, "public_key": public, "done": ["prepare"]}

    def _receive(self, job: MoveJob, memo: Memo) -> Memo:
        target = self._target(job)
        entered = receive.enter(job, target.connection)
        target.write("entered", json.dumps(entered).encode())  # for a try that adopts this one
        return {**memo, "entered": entered, "done": ["prepare", "receive"]}

    def _start(self, job: MoveJob, memo: Memo) -> Memo:
        found = receive.prove(job, job.connect(job.target), memo["entered"])
        if found:
            raise Problem(
                "The target is still in use, so nothing is copied to it: " + " ".join(f.text for f in found),
                found[0].act or "Stop it on the target, then try again.",
                code="receive.active",
            )
        self._source(job).launch()
        return {**memo, "done": [*ACTS]}

    def _finish(self, job: MoveJob, memo: Memo) -> Memo:
        failure: dict[str, str] | None = memo.get("failure")
        state, sync, look = State.FAILED, None, None
        if "prepare" in memo.get("done", []):
            look = self._source(job).look()
        if failure is None and look is not None:
            if look.token != memo["token"]:
                state, failure = State.LOST, _lost(job, look)
            elif look.rc != 0:
                failure = failure_words(look)
            else:
                failure = self._came_up(job, memo)
            if failure is None:
                state, sync = State.SUCCEEDED, sync_facts(job, look)
        if look is not None:
            if look.rc is None:  # what its leader left behind must not go on writing
                self._source(job).end(5)
            self._revoke(job, memo)
        return self._judged(job, memo, state, failure, look, sync)

    def _cancel(self, job: MoveJob, memo: Memo) -> Memo:
        look = None
        if "prepare" in memo.get("done", []):
            source = self._source(job)
            source.end()
            look = source.look()
            self._revoke(job, memo)
        words = {"reason": "Stopped on request.", "code": "cancelled"}
        return self._judged(job, memo, State.CANCELLED, words, look, None)

    def _judged(
        self,
        job: MoveJob,
        memo: Memo,
        state: State,
        failure: dict[str, str] | None,
        look: Look | None,
        sync: SyncFacts | None,
    ) -> Memo:
        """The verdict, written down before the target leaves receive mode: after that nobody can judge any more."""
        if "entered" not in memo:
            return {**memo, "outcome": _outcome(state, failure, look, sync, stays=False)}
        stays, held = self._stays(job, look, succeeded=state == State.SUCCEEDED)
        outcome = _outcome(state, _and_held(failure, held), look, sync, stays=stays)
        return {**memo, "verdict" if receive.holds(job) and not stays else "outcome": outcome}

    def _leave(self, job: MoveJob, memo: Memo) -> Memo:
        receive.leave(job, job.connect(job.target), memo["entered"])
        outcome = memo.pop("verdict")
        return {**memo, "outcome": outcome}

    def abandon(self, job: MoveJob) -> str:
        """End what the source still does, without the target, which cannot be asked. What came of it, in words."""
        source = self._source(job)
        source.end(5)
        source.drop_key()
        if source.look().running:
            raise RemoteProblem(
                f"The copy on {job.source.name} does not end.", "End its processes there by hand.", code="mover.stuck"
            )
        return f"Nothing of this sync runs on {job.source.name} any more, and its key is gone."

    def _revoke(self, job: MoveJob, memo: Memo) -> None:
        """The key pair of this sync is worth nothing from here on."""
        source = self._source(job)
        _revoke(self._target(job), str(memo.get("public_key") or source.public_key()))
        source.drop_key()

    def _came_up(self, job: MoveJob, memo: Memo) -> dict[str, str] | None:
        """Something that started on the target during the copy wrote beside it: the copy is worth nothing."""
        found = receive.prove(job, job.connect(job.target), memo["entered"])
        if not found:
            return None
        text = "Something started on the target while it received: " + " ".join(f.text for f in found)
        return {"reason": f"{text} Keep it from starting there, then try again.", "code": "receive.came_up"}

    def _stays(self, job: MoveJob, look: Look | None, *, succeeded: bool) -> tuple[bool, str]:
        """Whether the target stays in receive mode, and what is to be said of it.

        It stays after the final sync, where what starts would change what was proven equal, and with half a copy:
        half a system might not come back, and what starts on half its data may destroy it or serve it as whole.
        """
        if succeeded and job.kind == "final":
            return True, ""
        if not succeeded and receive.holds(job) and self._is_half(job, look):
            return True, (
                f"The copy on {job.target.name} is incomplete, so its services stay stopped: run a sync to its end"
                " before anybody uses it."
            )
        return False, ""

    def _is_half(self, job: MoveJob, look: Look | None) -> bool:
        """By this try, or by one before it: then it is half even where this one touched nothing or was lost."""
        return (look is not None and look.touched_target) or self._source(job).left_unfinished()

    # -- the two sides -------------------------------------------------------------------------------------

    def _source(self, job: MoveJob) -> RemoteJob:
        return RemoteJob(job.connect(job.source), self._layout(job, "source"))

    def _target(self, job: MoveJob) -> RemoteJob:
        return RemoteJob(job.connect(job.target), self._layout(job, "target"))

    def _layout(self, job: MoveJob, side: str) -> Layout:
        return layout(job, job.source if side == "source" else job.target)


def _revoke(target: RemoteJob, public_key: str) -> None:
    if public_key:
        access.revoke_transfer(target.connection, public_key)


def _and_held(words: dict[str, str] | None, held: str) -> dict[str, str] | None:
    return {**words, "reason": f"{words['reason']} {held}"} if words and held else words


def _lost(job: MoveJob, look: Look) -> dict[str, str]:
    why = "its directory is gone" if not look.exists else "its directory belongs to another try"
    return {
        "reason": f"The copy on {job.source.name} is lost: {why}. Was the machine restarted? Start the sync again.",
        "code": "mover.lost",
    }


def _phase(done: list[str], look: Look | None) -> str:
    if look is not None and look.phase:
        return look.phase
    return {"": "preparing", "prepare": "entering receive mode", "receive": "starting"}.get(
        done[-1] if done else "", "starting"
    )


def _raw(look: Look | None) -> str:
    if look is None:
        return ""
    return f"rc {look.rc}" if look.rc is not None else look.life or "not started"


def _with_passes(progress: Progress, look: Look) -> Progress:
    if not look.passes:
        return progress
    return replace(
        progress,
        bytes_done=sum(one.size for one in look.passes),
        bytes_total=sum(one.size_total for one in look.passes),
        files_done=sum(one.entries for one in look.passes),
        files_total=sum(one.entries_total for one in look.passes),
        rate=look.passes[-1].rate,
    )


def _outcome(
    state: State, failure: dict[str, str] | None, look: Look | None, sync: SyncFacts | None, *, stays: bool
) -> dict[str, Any]:
    shown = _with_passes(Progress(), look) if look is not None else Progress()
    return {
        "state": state.value,
        "reason": failure["reason"] if failure else "",
        "code": failure["code"] if failure else "",
        "sync": sync.as_dict() if sync else None,
        "phase": "done" if state == State.SUCCEEDED else (look.phase if look else ""),
        "numbers": {
            name: getattr(shown, name) for name in ("bytes_done", "bytes_total", "files_done", "files_total", "rate")
        },
        "result": {
            "target_in_receive_mode": stays,
            "source_boot": look.boot if look else "",
            "passes": [asdict(one) for one in look.passes] if look else [],
        },
        "log": look.log.splitlines()[-30:] if look and state != State.SUCCEEDED else [],
    }


def _from_outcome(outcome: dict[str, Any], now: datetime) -> Progress:
    sync = outcome["sync"]
    return Progress(
        state=State(outcome["state"]),
        phase=outcome["phase"],
        reason=outcome["reason"],
        code=outcome["code"],
        observed_at=now,
        sync=SyncFacts.from_dict(sync) if sync else None,
        result=outcome["result"],
        log=tuple(outcome["log"]),
        **outcome["numbers"],
    )
