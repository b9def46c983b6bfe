"""Rows for tests, as plain functions. Each makes what it needs; `over` names fields of the row itself."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import count
from typing import Any

from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone

from projects import digest
from projects.lanes import application_lanes
from projects.models import (
    Action,
    Application,
    Approval,
    BreakGlass,
    ChecklistItem,
    Defect,
    Membership,
    Migration,
    Profile,
    Project,
    Step,
    StepAttempt,
    Wave,
)
from servers.models import (
    Credential,
    HostKey,
    Lease,
    Placement,
    Platform,
    Probe,
    ProbeResult,
    Run,
    Server,
    ServiceRecord,
    SyncPoint,
)
from servers.models.run import ENDED

PASSWORD = "open-sesame-42"
_numbers = count(1)

Over = Any


def number() -> int:
    """A number not given out before in this process."""
    return next(_numbers)


def make_user(username: str = "", **over: Over) -> User:
    """An account; its password is `PASSWORD` (hashed only when asked for by `log_in=True`, hashing is slow)."""
    log_in = over.pop("log_in", False)
    user = User(username=username or f"user{number()}", **over)
    if log_in:
        user.set_password(PASSWORD)
    else:
        user.set_unusable_password()
    user.save()
    return user


def make_project(name: str = "", *, lead: User | None = None, **over: Over) -> Project:
    """A project with a lead."""
    n = number()
    project = Project.objects.create(**{"name": name or f"Project {n}", "slug": f"project-{n}", **over})
    make_member(project, Membership.Role.LEAD, lead)
    return project


def make_member(project: Project, role: str, user: User | None = None) -> User:
    user = user or make_user(f"{role}{number()}")
    Membership.objects.get_or_create(project=project, user=user, defaults={"role": role})
    return user


def make_application(
    project: Project | None = None, name: str = "", *, owner: User | None = None, **over: Over
) -> Application:
    """An application with an owner who is a member of the project."""
    project = project or make_project()
    n = number()
    owner = make_member(project, Membership.Role.OWNER, owner)
    values = {"name": name or f"Application {n}", "slug": f"application-{n}", "owner": owner, **over}
    return Application.objects.create(project=project, **values)


def make_wave(project: Project | None = None, **over: Over) -> Wave:
    """A wave without a window."""
    project = project or make_project()
    n = Wave.objects.filter(project=project).count() + 1
    return Wave.objects.create(**{"project": project, "number": n, "name": f"Wave of {n}", **over})


def make_credential(**over: Over) -> Credential:
    values = {"name": f"credential {number()}", "kind": Credential.Kind.PASSWORD, "username": "root", "secret": "x"}
    return Credential.objects.create(**{**values, **over})


def make_platform(project: Project | None = None, **over: Over) -> Platform:
    values = {"name": f"Platform {number()}", "url": "https://vme.invalid", "checked_at": timezone.now()}
    if "credential" not in over:
        over["credential"] = make_credential(kind=Credential.Kind.API)
    platform = Platform.objects.create(**{**values, **over})
    if project:
        project.platforms.add(platform)
    return platform


def make_profile(project: Project | None = None, **over: Over) -> Profile:
    project = project or make_project()
    if "platform" not in over:
        over["platform"] = make_platform(project)
    ids = {
        f"{name}_id": "1"
        for name in ("group", "zone", "pool", "layout", "plan", "image", "datastore", "migration_network")
    }
    values = {"name": f"Profile {number()}", **ids, "production_network_id": "2"}
    return Profile.objects.create(**{"project": project, **values, **over})


def make_server(name: str = "", *, accepted: bool = True, **over: Over) -> Server:
    """A source with a credential and, unless `accepted` is False, an accepted host key."""
    n = number()
    if "credential" not in over:
        over["credential"] = make_credential()
    server = Server.objects.create(**{"name": name or f"server-{n}", "address": f"192.0.2.{n % 250 + 1}", **over})
    if accepted:
        HostKey.objects.create(
            server=server,
            key_type="ssh-ed25519",
            public="AAAA",
            fingerprint=f"SHA256:key{n}",
            state=HostKey.State.ACCEPTED,
        )
    return server


def make_target(migration: Migration, **over: Over) -> Server:
    """The target of a migration, placed on its profile's platform."""
    target = make_server(f"{migration.source.name}-vme", **{"role": Server.Role.TARGET, "port": 2299, **over})
    if migration.profile:
        Placement.objects.create(server=target, platform=migration.profile.platform, label=target.name)
    Migration.objects.filter(pk=migration.pk).update(target=target)
    migration.target = target
    return target


def make_steps(migration: Migration, states: dict[str, str] | None = None) -> dict[str, Step]:
    """The seven steps, *waiting* but for those named in `states` (kind: state); started and finished to match."""
    now = timezone.now()
    made = {}
    for position, kind in enumerate(Step.Kind, 1):
        state = (states or {}).get(kind, Step.State.WAITING)
        begun = state in ("running", "attention", "done", "cancelled", "scheduled", "undone")
        made[str(kind)] = Step.objects.create(
            migration=migration,
            kind=kind,
            position=position,
            state=state,
            started_at=now - timedelta(minutes=60 - position) if begun else None,
            finished_at=now - timedelta(minutes=59 - position) if state in ("done", "cancelled", "undone") else None,
        )
    return made


def make_migration(
    *, states: dict[str, str] | None = None, steps: bool = True, target: bool = False, **over: Over
) -> Migration:
    """A source in a wave, with application, profile and seven steps (`states`: kind to state)."""
    project = over.pop("project", None)
    for name in ("application", "wave", "profile"):
        if project is None and over.get(name) is not None:
            project = over[name].project
    project = project or make_project()
    if "application" not in over:
        over["application"] = make_application(project)
    if "wave" not in over:
        over["wave"] = make_wave(project)
    if "profile" not in over:
        over["profile"] = make_profile(project)
    if "source" not in over:
        over["source"] = make_server()
    migration = Migration.objects.create(project=project, **{"new_address": f"10.0.1.{number() % 250 + 1}/24", **over})
    if target:
        make_target(migration)
    if steps:
        make_steps(migration, states)
    return migration


def make_attempt(step: Step, **over: Over) -> StepAttempt:
    """The next attempt of a step; running, unless said otherwise."""
    n = step.attempts.count() + 1
    return StepAttempt.objects.create(**{"step": step, "number": n, "started_at": timezone.now(), **over})


def make_action(attempt: StepAttempt, operation: str = "sync", **over: Over) -> Action:
    position = attempt.actions.count() + 1
    values = {"title": operation.replace("_", " ").capitalize(), "work_key": f"t{number()}-{operation}"}
    return Action.objects.create(**{"attempt": attempt, "position": position, "operation": operation, **values, **over})


def make_run(operation: str = "sync", *, action: Action | None = None, **over: Over) -> Run:
    """A running run of an action (or of a work key of its own), observed just now."""
    now = timezone.now()
    if action is not None:
        migration = action.attempt.step.migration
        over = {"work_key": action.work_key, "title": action.title, "server": migration.source, **over}
    values = {
        "work_key": f"t{number()}-{operation}",
        "title": operation.replace("_", " ").capitalize(),
        "state": Run.State.RUNNING,
        "started_at": now - timedelta(seconds=30),
        "observed_at": now,
    }
    values |= over
    if values["state"] in ENDED:
        values.setdefault("finished_at", now)
    if "number" not in values:
        values["number"] = Run.objects.filter(work_key=values["work_key"]).count() + 1
    return Run.objects.create(operation=operation, **values)


def make_sync(migration: Migration, *, run: Run | None = None, **over: Over) -> SyncPoint:
    """What a sync left behind; frozen, of a finished run of its own."""
    target = migration.target or make_target(migration)
    n = SyncPoint.objects.filter(source=migration.source, target=target).count() + 1
    run = run or make_run(state=Run.State.SUCCEEDED, server=migration.source, title=f"Sync {n}")
    values: dict[str, Any] = {
        "kind": "initial" if n == 1 else "delta",
        "method": "rsync",
        "bytes_sent": 4_200_000,
        "files_sent": 120,
        "seconds": 12.5,
        "as_of": timezone.now(),
        "consistency": SyncPoint.Consistency.FROZEN,
    }
    return SyncPoint.objects.create(
        **{"run": run, "source": migration.source, "target": target, "number": n, **values, **over}
    )


def make_probe(server: Server, name: str = "", **over: Over) -> Probe:
    values = {"kind": Probe.Kind.TCP, "parameters": {"port": 80}, "places": ["source", "clone", "target"]}
    return Probe.objects.create(**{"server": server, "name": name or f"probe {number()}", **values, **over})


def make_probe_result(probe: Probe, place: str, passed: bool | None = True, **over: Over) -> ProbeResult:
    run = over.pop("run", None) or make_run("probe", state=Run.State.SUCCEEDED, server=probe.server)
    values = {"observed": "open", "expected": "open", "at": timezone.now()}
    return ProbeResult.objects.create(
        **{"probe": probe, "place": place, "passed": passed, "run": run, **values, **over}
    )


def make_service_record(server: Server, units: list[dict[str, Any]] | None = None, **over: Over) -> ServiceRecord:
    """What `servers.remote.services` recorded; one running nginx, unless `units` says otherwise."""
    run = make_run("record_services", state=Run.State.SUCCEEDED, server=server)
    nginx = {"name": "nginx.service", "kind": "service", "active": True, "state": "active/running", "ports": [80]}
    now = timezone.now()
    record = {"taken_at": now.isoformat(), "boot_id": "b", "units": units if units is not None else [nginx]}
    values = {"taken_at": now, "record": record, "fingerprint": f"f{number()}"}
    return ServiceRecord.objects.create(**{"server": server, "run": run, **values, **over})


def make_item(step: Step, title: str = "", **over: Over) -> ChecklistItem:
    n = step.checklist.count() + 1
    values = {"position": n, "key": f"item-{n}", "title": title or f"Item {n}"}
    return ChecklistItem.objects.create(**{"step": step, **values, **over})


def make_upload(name: str = "seen.txt", content: bytes = b"what was seen") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content)


def make_approval(wave: Wave, application: Application, gate: str = Approval.Gate.SIGN_OFF, **over: Over) -> Approval:
    values = {"digest": f"{number():064x}", "subject": {}}
    return Approval.objects.create(**{"wave": wave, "application": application, "gate": gate, **values, **over})


def make_defect(step: Step, title: str = "", **over: Over) -> Defect:
    """A blocking defect of a server, raised by the owner of its application."""
    migration = step.migration
    n = Defect.objects.filter(project=migration.project).count() + 1
    values = {"number": n, "title": title or f"Fault {n}", "project": migration.project, "wave": migration.wave}
    values |= {"application": migration.application, "raised_by": migration.application.owner}
    return Defect.objects.create(**{"step": step, **values, **over})


def make_break_glass(step: Step, by: User, **over: Over) -> BreakGlass:
    """A step's checklist that a lead passed; nobody has looked at it yet."""
    migration = step.migration
    values = {"project": migration.project, "wave": migration.wave, "application": migration.application}
    values |= {"gate": BreakGlass.Gate.STEP, "reason": "The contract ends tonight.", "passed": ["“Tell the bank”"]}
    return BreakGlass.objects.create(**{"step": step, "by": by, **values, **over})


def make_asked(wave: Wave, application: Application) -> Approval:
    """A sign-off that is asked for, about exactly what is there now."""
    return make_approval(wave, application, digest=digest.now(application_lanes(wave.pk, application)))


def make_controller(**over: Over) -> Lease:
    """A controller that lives until tomorrow."""
    until = timezone.now() + timedelta(days=1)
    values = {"epoch": 1, "holder": "a test", "until": until, "beat_at": until, **over}
    return Lease.objects.update_or_create(name="controller", defaults=values)[0]


def hours(n: float) -> datetime:
    """So many hours from now."""
    return timezone.now() + timedelta(hours=n)
