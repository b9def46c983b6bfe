"""Record, compare, stop, prove, block and start services on the source."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.utils import timezone

from servers.models import Run, Server, SyncPoint
from servers.models import ServiceRecord as Row
from servers.progress import Memo, Progress
from servers.remote import power, services
from servers.remote.services import ServiceRecord, fingerprint

from .base import Job, Operation, done, failed, words_of

STOP_SECONDS = 90.0  # for one service; systemd's own default


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
        words = f"{len(taken['record']['units'])} units recorded. {beside_units(taken['record'])}"
        return job.memo, done(words.strip(), **taken)

    def finish(self, run: Run, progress: Progress) -> None:
        if progress.state == "succeeded":
            store(run, progress.result)


def unknown_services(names: list[str], record: dict[str, Any]) -> list[str]:
    known = {unit["name"] for unit in record["units"]}
    return [name for name in names if name not in known and f"{name}.service" not in known]


def beside_units(record: dict[str, Any]) -> str:
    """What may write and stands in no list of services, with what to do about it; "" where there is none."""
    words, containers, jobs = [], record.get("containers", []), len(record.get("at_jobs", []))
    if containers:
        more = f" and {len(containers) - 5} more" if len(containers) > 5 else ""
        words.append(
            f"Containers run on the source: {', '.join(containers[:5])}{more}. The stop fails while one still runs:"
            " list the service that ends it, or stop it by hand before."
        )
    if jobs:
        wait = "1 job waits" if jobs == 1 else f"{jobs} jobs wait"
        words.append(f"{wait} in at: list atd, or what is due runs after the stop.")
    return " ".join(words)


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
    """And keep it so: the block of the stop does not outlive a restart of the machine."""

    name = "prove_stopped"

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        names, record = list(job.parameters["services"]), baseline(job.parameters["server"])
        connection = job.connection("server")
        boot, manager = power.boot_id(connection), services.manager_for(connection)
        findings = manager.prove(record, names)
        if not findings:
            manager.block(record, names)
            findings = manager.prove(record, names)
        if findings:
            return job.memo, failed(words_of(findings), findings[0].code)
        reason = f"{len(names)} services are stopped: no process, no port."
        return job.memo, done(reason, at=timezone.now().isoformat(), boot_id=boot)


class BlockServices(Operation):
    """Before the block and once nothing can start any more: nothing runs, and nothing ran since the final sync by a
    restart of the machine, which a look at its services does not show once they have ended."""

    name = "block_services"

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        names, server = list(job.parameters["services"]), job.server("server")
        manager, record = services.manager_for(job.connection("server")), baseline(server)
        # A unit that is blocked while it runs loses its stop commands: so it is looked at before, too.
        moved = self.moved(job, server, record)
        if moved is None:
            manager.block_persistently(record, names)
            moved = self.moved(job, server, record)
        if moved is not None:
            return job.memo, moved
        return job.memo, done("A source that is switched on by mistake starts no second writer.")

    def moved(self, job: Job, server: Server, record: ServiceRecord) -> Progress | None:
        """Why the source may not be any more what the final sync read; None where it is."""
        connection = job.connection("server")
        findings = services.manager_for(connection).prove(record, list(job.parameters["services"]))
        if findings:
            return failed(words_of(findings), findings[0].code)
        proven = boot_before_final_sync(server)
        if proven is None or power.boot_id(connection) == proven:
            return None
        why = f"{server.name} was restarted since its services were proven stopped for the final sync"
        if not proven:
            why = f"No proof tells whether {server.name} was restarted since the final sync began"
        words = "its services may have run and written since. Find out what restarted it (last -x), then retry."
        return failed(f"{why}: {words}", "services.restarted")


def boot_before_final_sync(server: Server) -> str | None:
    """In which start of the machine its services were proven stopped before the newest final sync; "" where no proof
    says so, None where there was no such sync."""
    synced = SyncPoint.objects.filter(source=server, kind="final").order_by("-run_id").first()
    if synced is None:
        return None
    proofs = Run.objects.filter(operation=ProveStopped.name, parameters__server=server.pk)
    proof = proofs.filter(state=Run.State.SUCCEEDED, pk__lt=synced.run_id).order_by("-pk").first()
    return str(proof.result.get("boot_id", "")) if proof else ""


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
