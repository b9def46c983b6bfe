"""Make the target's instance, open our access in it, and learn its host key: create, on, show, reach."""

from __future__ import annotations

from dataclasses import replace

from django.db.models import F
from django.utils import timezone

from migrationhub.lib.findings import Problem
from servers.models import Credential, HostKey, Placement, Run, Server
from servers.platforms.base import InstanceSpec
from servers.progress import Memo, Progress, State
from servers.remote import access, hostkeys
from servers.remote.base import Unreachable

from .base import Job, Operation, failed, settled
from .platforming import client_of, placement_of

# The guest has to boot and run its user data before it can show a key; seconds.
GUEST_PATIENCE = 600
LOGIN = "migrationhub-access-login"


class Provision(Operation):
    """Memo: create (the platform's own memo), instance (its result), on (memo), is_on, keys (host keys read back),
    show (memo)."""

    name = "provision"
    patience = 300

    def observe(self, job: Job) -> Progress:
        target = job.server("target")
        memo = job.memo
        if "instance" not in memo:
            progress = client_of(target).observe_create(
                job.key, self.spec(job, target), job.resumed(memo.get("create", {}))
            )
            if progress.state == State.SUCCEEDED:
                return Progress(next_act="take", phase="instance is up", raw=progress.raw)
            return replace(progress, next_act=progress.next_act and "create")
        if "keys" not in memo and "is_on" not in memo:
            progress = client_of(target).observe_power(
                f"{job.key}.on", memo["instance"]["external_id"], "on", job.resumed(memo.get("on", {}))
            )
            due = "on" if progress.ended or progress.next_act else None
            return replace(progress, state=State.RUNNING, phase="switching it on", next_act=due)
        if "keys" not in memo:
            progress = client_of(target).observe_execute(
                job.key, memo["instance"]["external_id"], self.read_back(target), job.resumed(memo.get("show", {}))
            )
            if progress.state == State.RUNNING and not progress.next_act:
                return replace(progress, phase="waiting for the guest's host key")
            return Progress(next_act="show", phase="waiting for the guest's host key")
        return Progress(next_act="reach", phase="reaching the clone")

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        target = job.server("target")
        if "instance" not in job.memo:
            return self.create(job, target)
        if "keys" not in job.memo and "is_on" not in job.memo:
            return self.switch_on(job, target)
        if "keys" not in job.memo:
            return self.show(job, target)
        return self.reach(job, target)

    def create(self, job: Job, target: Server) -> tuple[Memo, Progress]:
        client, spec = client_of(target), self.spec(job, target)
        made, progress = client.advance_create(job.key, spec, job.resumed(job.memo.get("create", {})))
        memo = {**settled(job.memo), "create": made}
        if progress.state == State.SUCCEEDED:
            memo["instance"] = dict(progress.result)
            if progress.target_power == "on":
                return self.up(memo, progress)
            return memo, Progress(next_act="on", phase="switching it on", raw=progress.raw, log=progress.log)
        return memo, progress

    def up(self, memo: Memo, progress: Progress) -> tuple[Memo, Progress]:
        memo = {**memo, "instance": dict(progress.result), "is_on": True, "since": timezone.now().timestamp()}
        return memo, Progress(next_act="show", phase="instance is up", raw=progress.raw, log=progress.log)

    def switch_on(self, job: Job, target: Server) -> tuple[Memo, Progress]:
        """Some platforms leave a new instance off. Its address is known only once it runs."""
        client, external_id = client_of(target), job.memo["instance"]["external_id"]
        switched, progress = client.advance_power(
            f"{job.key}.on", external_id, "on", job.resumed(job.memo.get("on", {}))
        )
        memo = {**settled(job.memo), "on": switched}
        if progress.state != State.SUCCEEDED:
            return memo, replace(progress, phase="switching it on")
        # The time for an address counts from here.
        created = {**memo.get("create", {}), **{name: at for name, at in switched.items() if name == "asked_at"}}
        seen = client.observe_create(job.key, self.spec(job, target), created)
        if seen.state == State.SUCCEEDED and seen.target_power == "on":
            return self.up(memo, seen)
        if seen.state == State.SUCCEEDED:
            return memo, Progress(phase="switching it on", raw=seen.raw)
        return memo, replace(seen, next_act=None)

    def show(self, job: Job, target: Server) -> tuple[Memo, Progress]:
        """Read our access's host key back through the platform: known beforehand, never learnt from the network."""
        external_id = job.memo["instance"]["external_id"]
        shown, progress = client_of(target).advance_execute(
            f"{job.key}.show{job.memo.get('shows', 0)}",
            external_id,
            self.read_back(target),
            job.resumed(job.memo.get("show", {})),
        )
        memo = {**settled(job.memo), "show": shown}
        if not progress.ended:
            return memo, replace(progress, phase="waiting for the guest's host key")
        if progress.state == State.SUCCEEDED:
            try:
                keys = access.parse_read_back(str(progress.result.get("out", "")))
            except Problem as problem:
                return self.again(memo, problem.text, problem.act)
            memo["keys"] = list(keys)
            memo["login"] = login_of(str(progress.result["out"]), target)
            return memo, Progress(next_act="reach", phase="reaching the clone", result=self.found(memo))
        return self.again(memo, progress.reason, "")

    def again(self, memo: Memo, text: str, act: str) -> tuple[Memo, Progress]:
        """The guest is not so far yet: ask again, for a while."""
        waited = timezone.now().timestamp() - memo.get("since", 0)
        if waited > GUEST_PATIENCE:
            return memo, failed(f"{text} {act}".strip() + f" Tried for {int(waited)} s.", "provision.no_key")
        memo = {**memo, "show": {}, "shows": memo.get("shows", 0) + 1}
        return memo, Progress(phase="waiting for the guest's host key", reason=text, check_after=3)

    def reach(self, job: Job, target: Server) -> tuple[Memo, Progress]:
        memo = job.memo
        endpoint = replace(
            target.endpoint(), address=memo["instance"]["address"], host_keys=tuple(memo["keys"]), **memo["login"]
        )
        try:
            job.connect(endpoint).run(["true"], check=True, timeout=20)
        except Unreachable as problem:
            return self.again_reach(memo, problem)
        return memo, Progress(
            state=State.SUCCEEDED,
            reason=f"Instance {memo['instance']['external_id']} runs at {endpoint.address}, reached by our own access.",
            result=self.found(memo),
            target_power="on",
        )

    def again_reach(self, memo: Memo, problem: Unreachable) -> tuple[Memo, Progress]:
        waited = timezone.now().timestamp() - memo.get("since", 0)
        if waited > GUEST_PATIENCE:
            return memo, failed(f"{problem.text} {problem.act}".strip(), problem.code)
        return memo, Progress(phase="reaching the clone", reason=problem.text, check_after=3)

    def confirm_cancel(self, job: Job) -> tuple[Memo, Progress]:
        """The platform makes what it was asked for, whoever stops: it is kept in mind, and told."""
        asked = job.resumed(job.memo.get("create", {}))
        if not {"asked_at", "unsure_since"} & set(asked):
            return super().confirm_cancel(job)
        target = job.server("target")
        placement, memo, known = placement_of(target), job.memo, str(asked.get("external_id", ""))
        platform, label, silent = placement.platform, placement.label, ""
        try:
            there = client_of(target).get(known) if known else client_of(target).find(label)
        except Problem as problem:
            there, silent = None, f" {problem.text}"
        if there is not None:
            memo = {**memo, "create": {**asked, "external_id": there.external_id, "uuid": there.uuid}}
            words = f"{platform} keeps instance {there.external_id} “{label}” ({there.status}), or goes on making it."
        elif known and not silent:
            memo = {name: value for name, value in memo.items() if name not in ("create", "instance")}
            words = f"{platform} knows no instance {known} any more."
        else:
            words = f"{platform} was asked for an instance “{label}”; what became of it is not known.{silent}"
        reason = f"Stopped. {words} The next try takes on what is there; delete it there if it is not wanted."
        return memo, Progress(state=State.CANCELLED, reason=reason)

    def found(self, memo: Memo) -> dict[str, object]:
        return {"instance": memo["instance"], "keys": memo.get("keys", []), "login": memo.get("login", {})}

    def read_back(self, target: Server) -> str:
        script = access.read_back_script(manager=target.manager)
        if target.manager == "supervisord":
            script += f'\necho "{LOGIN}: $(id -un) $HOME"\n'
        return script

    def spec(self, job: Job, target: Server) -> InstanceSpec:
        wanted = {key: value for key, value in job.parameters["spec"].items() if key != "production"}
        wanted["disks"] = tuple(wanted["disks"])
        public = target.credential.public if target.credential else ""
        return InstanceSpec(
            label=placement_of(target).label,
            user_data=access.user_data(public, manager=target.manager),
            **wanted,
        )

    def finish(self, run: Run, progress: Progress) -> None:
        instance = progress.result.get("instance") or run.memo.get("instance") or run.memo.get("create", {})
        if not instance.get("external_id"):
            return
        now = timezone.now()
        target = Server.objects.select_related("placement").get(pk=run.parameters["target"])
        Placement.objects.filter(server=target).update(
            external_id=instance["external_id"],
            external_uuid=instance.get("uuid", ""),
            spec=run.parameters["spec"],
            raw_state=progress.raw[:40],
            observed_at=now,
        )
        if target.placement.external_id not in ("", instance["external_id"]):
            # Another machine than the one of before: what was known of that one's content holds no more.
            Server.objects.filter(pk=target.pk).update(generation=F("generation") + 1)
            HostKey.objects.filter(server=target, port=None).update(state=HostKey.State.RETIRED, decided_at=now)
        if progress.state != State.SUCCEEDED:
            return
        login = progress.result["login"]
        Server.objects.filter(pk=target.pk).update(
            address=instance["address"],
            directory=login.get("directory", target.directory),
            findings=[],
            power=Server.Power.ON,
            power_at=now,
        )
        if login:
            Credential.objects.filter(server=target).update(username=login["username"])
        for line in progress.result["keys"]:
            key_type, public = line.split()[:2]
            HostKey.objects.update_or_create(
                server=target,
                fingerprint=hostkeys.fingerprint(public),
                defaults={
                    "key_type": key_type,
                    "public": public,
                    "state": HostKey.State.ACCEPTED,
                    "origin": "creation",
                    "decided_at": now,
                },
            )


def login_of(text: str, target: Server) -> dict[str, str]:
    """On a process host, whose account and directory are its own: who logs in, and below which directory."""
    if target.manager != "supervisord":
        return {}
    line = next((line for line in text.splitlines() if line.startswith(f"{LOGIN}: ")), "")
    _, username, directory = line.split(None, 2)
    return {"username": username, "directory": directory}
