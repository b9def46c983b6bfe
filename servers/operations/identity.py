"""The source's identity on the target: kept there before the stop, put in place once the source is off, proven."""

from __future__ import annotations

from django.utils import timezone

from migrationhub.lib.findings import Finding, Level
from servers.models import HostKey, Run, Server
from servers.progress import Memo, Progress, State
from servers.remote import hostkeys, identity
from servers.remote.base import Connection, Unreachable
from servers.remote.identity import Choice, Identity

from .base import Job, Operation, done, failed
from .guest_address import switched_off
from .shutdown import absence
from .whereabouts import connect_target, instance_of

ORIGIN = "identity"
WORDS = {"host_keys": "host keys", "machine_id": "machine id", "host_name": "host name"}
# How long its SSH server may take to show the keys after the start, in seconds.
SHOW_PATIENCE = 120


def _words(findings: list[Finding]) -> str:
    return " ".join(f"{finding.text} {finding.act}".strip() for finding in findings)


def choice_of(parts: list[str]) -> Choice:
    return Choice(**{name: name in parts for name in WORDS})


def told(parts: list[str]) -> str:
    """ "host keys, machine id and host name"."""
    words = [WORDS[name] for name in WORDS if name in parts]
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else "nothing"


class StageIdentity(Operation):
    """Bring the chosen parts to the target while the source can still be asked: nothing is lost if it fails here."""

    name = "stage_identity"
    patience = 180  # the clone may be restarting after a delta

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        parts = job.parameters["parts"]
        found = identity.capture(job.connection("source"), choice_of(parts))
        target = job.connection("target")
        identity.stage(target, found)
        if identity.staged(target) != found:
            return job.memo, failed(
                f"{target.endpoint.name} does not give back what was kept there. Check its disk, then retry.",
                "identity.staged_differs",
            )
        return job.memo, done(
            f"Kept on the target for the time when the source is off: {told(parts)}.",
            parts=parts,
            public_keys=list(found.public_keys),
        )


class DropIdentity(Operation):
    """Forget what was kept on the target: the source lives on."""

    name = "drop_identity"

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        try:
            identity.discard(connect_target(job))
        except Unreachable:
            instance = instance_of(job)
            if instance is None:
                return job.memo, done("The target is gone, and what was kept there with it.")
            if instance.power != "off":
                raise
            return job.memo, done(
                "The target is switched off: what was kept there stays, readable by its root alone, until it is"
                " overwritten by the next try or our access is removed."
            )
        return job.memo, done("What was kept on the target is removed.")


class TakeIdentity(Operation):
    """Put it in place for the next start. Two running machines must never have it: the source is proven off first."""

    name = "take_identity"

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        try:
            target = connect_target(job)
        except Unreachable:
            ended = switched_off(job, "The source's identity was put in place", "undo_identity", ("parts",))
            if ended is None:
                raise
            return job.memo, ended
        found = identity.staged(target)
        if not _is_there(target, found):
            source = job.server("source")
            proof = absence(source)
            if not proof.absent:
                return job.memo, failed(
                    f"{proof.text} Two machines would have one identity: switch the source off, then retry.",
                    "identity.source_on",
                )
        record = identity.apply(target, found)
        if not _is_there(target, found):
            return job.memo, failed(_words(identity.verify(target, found)), "identity.differs")
        parts = job.parameters["parts"]
        return job.memo, done(
            f"The source is off; the target has its {told(parts)} from its next start on.",
            parts=parts,
            public_keys=list(found.public_keys),
            record=record.as_dict(),
        )


def _is_there(target: Connection, found: Identity) -> bool:
    return all(finding.level is Level.READY for finding in identity.verify(target, found))


class ProveIdentity(Operation):
    """After the start: the target is and shows what was taken over. From here the keys are known as its own."""

    name = "prove_identity"
    patience = 120

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        target, source = job.server("target"), job.server("source")
        since = job.memo.get("since") or timezone.now().timestamp()
        memo = {**job.memo, "since": since}
        connection = job.connection("target")
        found = identity.staged(connection)
        findings = identity.prove(connection, found, port=source.port, address=target.address)
        if all(finding.level is Level.READY for finding in findings):
            return memo, done(
                f"It has the source's {told(job.parameters['parts'])} and shows it.",
                parts=job.parameters["parts"],
                public_keys=list(found.public_keys),
            )
        if timezone.now().timestamp() - since < SHOW_PATIENCE:
            return memo, Progress(phase="looking at its identity", reason=findings[0].text, check_after=3)
        return memo, failed(_words(findings), findings[0].code)

    def finish(self, run: Run, progress: Progress) -> None:
        if progress.state == State.SUCCEEDED and progress.result["public_keys"]:
            source, target = (Server.objects.get(pk=run.parameters[name]) for name in ("source", "target"))
            keys_move(source, target, progress.result["public_keys"])


def keys_move(source: Server, target: Server, public_keys: list[str]) -> None:
    """The keys belong to the target now, shown by its own sshd: nobody takes it for an attack, or for the source."""
    now = timezone.now()
    for line in public_keys:
        key_type, public = line.split()[:2]
        if key_type not in hostkeys.TYPES:
            continue
        HostKey.objects.update_or_create(
            server=target,
            fingerprint=hostkeys.fingerprint(public),
            defaults={
                "key_type": key_type,
                "public": public,
                "port": source.port,
                "state": HostKey.State.ACCEPTED,
                "origin": ORIGIN,
                "decided_at": now,
            },
        )
    gone = (HostKey.State.ACCEPTED, HostKey.State.RETIRED)
    marks = [hostkeys.fingerprint(line.split()[1]) for line in public_keys]
    HostKey.objects.filter(server=source, fingerprint__in=marks, state__in=gone).update(
        state=HostKey.State.MOVED, decided_at=now
    )


def keys_come_back(source_id: int, target_id: int) -> None:
    """The target has its own identity again; the keys are the source's, as a person once accepted them."""
    now = timezone.now()
    HostKey.objects.filter(server=target_id, origin=ORIGIN).update(state=HostKey.State.RETIRED, decided_at=now)
    HostKey.objects.filter(server=source_id, state=HostKey.State.MOVED).update(
        state=HostKey.State.ACCEPTED, decided_at=now
    )
