"""Record, compare, stop, prove, block and start services on the source."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.utils import timezone

from migrationhub.lib.findings import Finding
from servers.models import Run, Server
from servers.models import ServiceRecord as Row
from servers.progress import Memo, Progress
from servers.remote import services
from servers.remote.services import ServiceRecord, fingerprint

from .base import Job, Operation, done, failed

STOP_SECONDS = 90.0  # for one service; systemd's own default


def words_of(findings: list[Finding]) -> str:
    return " ".join(f"{finding.text} {finding.act}".strip() for finding in findings)


def take(job: Job) -> dict[str, Any]:
    """What runs now, and the fingerprints of services and machine."""
    connection = job.connection("server")
    record = services.manager_for(connection).record()
    return {
        "record": record.as_dict(),
        "fingerprint": record.fingerprint(),
        "machine": fingerprint.machine(connection),
    }


def store(run: Run, result: dict[str, Any]) -> None:
    Row.objects.create(
        server_id=run.parameters["server"],
        run=run,
        taken_at=datetime.fromisoformat(result["record"]["taken_at"]),
        record=result["record"],
        fingerprint=result["fingerprint"],
        machine=result["machine"],
    )


def baseline(server: Server | int) -> ServiceRecord:
    """The newest record of the server. Raises DoesNotExist where none was ever taken."""
    row = Row.objects.filter(server=server).order_by("-pk").first()
    if row is None:
        raise Row.DoesNotExist
    return ServiceRecord.from_dict(row.record)


class RecordServices(Operation):
    name = "record_services"

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        taken = take(job)
        missing = unknown_services(job.parameters["services"], taken["record"])
        if missing:
            return job.memo, failed(
                f"The source has no service {', '.join(missing)}."
                " Correct the list of services in the plan, then retry.",
                "services.unknown",
            )
        return job.memo, done(f"{len(taken['record']['units'])} units recorded.", **taken)

    def finish(self, run: Run, progress: Progress) -> None:
        if progress.state == "succeeded":
            store(run, progress.result)


def unknown_services(names: list[str], record: dict[str, Any]) -> list[str]:
    known = {unit["name"] for unit in record["units"]}
    return [name for name in names if name not in known and f"{name}.service" not in known]


class CompareServices(Operation):
    """Record again, just before the stop; a record that differs from the signed one voids the sign-off."""

    name = "compare_services"

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        taken, signed = take(job), job.parameters["signed"]
        if taken["fingerprint"] == signed["services"] and taken["machine"] == signed["machine"]:
            return job.memo, done("As signed.", **taken)
        before = baseline(job.parameters["server"])
        changed = services.difference(before, ServiceRecord.from_dict(taken["record"]))
        changed += fingerprint.machine_difference(signed["machine"], taken["machine"])
        return job.memo, failed(
            "The source is not as it was when the owner signed:"
            f" {'; '.join(changed[:10]) or 'its fingerprint differs'}."
            " The owner must look again; then retry.",
            "services.differ",
            **taken,
        )

    def finish(self, run: Run, progress: Progress) -> None:
        if progress.result.get("record"):
            store(run, progress.result)


class StopServices(Operation):
    """One service an act, in the given order, each proven; then restarts are blocked and everything proven again."""

    name = "stop_services"

    def observe(self, job: Job) -> Progress:
        names, stopped = job.parameters["services"], job.memo.get("stopped", [])
        left = [name for name in names if name not in stopped]
        return Progress(
            next_act=f"stop {left[0]}" if left else "prove",
            phase=f"{len(stopped)} of {len(names)} stopped",
            files_done=len(stopped),
            files_total=len(names),
        )

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        names, stopped = list(job.parameters["services"]), list(job.memo.get("stopped", []))
        record = baseline(job.parameters["server"])
        manager = services.manager_for(job.connection("server"))
        left = [name for name in names if name not in stopped]
        if not left:
            manager.block(record, names)
            findings = manager.prove(record, names)
            if findings:
                return job.memo, failed(words_of(findings), findings[0].code)
            return job.memo, done(f"{len(names)} services are stopped, proven and blocked.", stopped=names)
        findings = manager.stop_one(record, left[0], STOP_SECONDS)
        if findings:
            return job.memo, failed(words_of(findings), findings[0].code, stopped=stopped)
        memo = {**job.memo, "stopped": [*stopped, left[0]]}
        return memo, Progress(
            next_act="next", phase=f"{len(stopped) + 1} of {len(names)} stopped", log=(f"{left[0]} stopped.",)
        )


class ProveStopped(Operation):
    name = "prove_stopped"

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        names = list(job.parameters["services"])
        findings = services.manager_for(job.connection("server")).prove(baseline(job.parameters["server"]), names)
        if findings:
            return job.memo, failed(words_of(findings), findings[0].code)
        return job.memo, done(f"{len(names)} services are stopped: no process, no port.", at=timezone.now().isoformat())


class BlockServices(Operation):
    name = "block_services"

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        names = list(job.parameters["services"])
        manager = services.manager_for(job.connection("server"))
        manager.block_persistently(baseline(job.parameters["server"]), names)
        return job.memo, done("A source that is switched on by mistake starts no second writer.")


class UnblockServices(Operation):
    name = "unblock_services"

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        manager = services.manager_for(job.connection("server"))
        manager.unblock_persistently(baseline(job.parameters["server"]), list(job.parameters["services"]))
        return job.memo, done("The lasting block is lifted.")


class StartServices(Operation):
    """Restore exactly the record, in reverse order, and prove it."""

    name = "start_services"

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        names = list(job.parameters["services"])
        findings = services.manager_for(job.connection("server")).restore(baseline(job.parameters["server"]), names)
        if findings:
            return job.memo, failed(words_of(findings), findings[0].code)
        return job.memo, done(f"{len(names)} services run as recorded.")
