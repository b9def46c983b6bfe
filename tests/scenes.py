"""A project in mid-migration, as pages meet it: every state, long names, old numbers. To look at, not to act on."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.utils import timezone

from projects import workflow
from projects.models import (
    Application,
    Approval,
    ChangeFreeze,
    ChecklistItem,
    Decision,
    Hold,
    Membership,
    Migration,
    Project,
    Step,
    Wave,
)
from servers.models import HostKey, NameServer, Probe, Run, RunEvent
from tests import factories

K, S = Step.Kind, Step.State
UNTIL_STOP = {K.INITIAL: S.DONE, K.DELTA: S.DONE, K.UAT: S.DONE}
# Name, states of its steps, what runs or failed: one of each that a board can show.
SERVERS: tuple[tuple[str, dict[str, str], str], ...] = (
    ("shop-db", {**UNTIL_STOP, K.STOP: S.DONE, K.FINAL: S.RUNNING}, "running"),
    ("shop-web", {**UNTIL_STOP, K.STOP: S.ATTENTION}, "failed"),
    ("ledger-01", {**UNTIL_STOP, K.STOP: S.RUNNING}, "lost"),
    ("ledger-report", {K.INITIAL: S.DONE, K.DELTA: S.SCHEDULED, K.UAT: S.RUNNING}, "people"),
    ("files-basel", {K.INITIAL: S.DONE, K.DELTA: S.SCHEDULED, K.UAT: S.READY}, ""),
    ("mail-relay", {K.INITIAL: S.RUNNING}, "stale"),
    ("intranet", {**dict.fromkeys(K, S.DONE)}, "complete"),
    ("print-01", {K.INITIAL: S.WAITING}, ""),
    ("build-runner-long-name-17", {K.INITIAL: S.CANCELLED}, ""),
    ("wiki", {K.INITIAL: S.RUNNING}, "queued"),
    ("licence", {**UNTIL_STOP, K.STOP: S.UNDONE}, ""),
    ("crm", {**dict.fromkeys(K, S.DONE), K.VALIDATION: S.RUNNING}, "people"),
)
APPLICATIONS = ("Shop", "Ledger", "Files and print", "Collaboration")


@dataclass
class Scene:
    """What was made, and who looks at it."""

    project: Project
    wave: Wave
    applications: list[Application]
    lead: User
    operator: User
    owner: User
    manager: User
    migrations: list[Migration] = field(default_factory=list)
    run: Run | None = None

    @property
    def migration(self) -> Migration:
        return self.migrations[0]


def make_scene(count: int = 12, name: str = "Basel exit") -> Scene:
    """A project with `count` servers in one wave, and one of every other thing for each server."""
    factories.make_controller()
    lead = factories.make_user(f"lena{factories.number()}", first_name="Lena", last_name="Lead", email="lena@a.example")
    project = factories.make_project(name, lead=lead, time_zone="Europe/Zurich", description="Everything out of Basel.")
    people = {
        role: factories.make_member(
            project, role, factories.make_user(f"{first}{factories.number()}", first_name=first)
        )
        for role, first in ((Membership.Role.OPERATOR, "Omar"), (Membership.Role.MANAGER, "Mia"))
    }
    owner = factories.make_user(f"olga{factories.number()}", first_name="Olga", last_name="Owner")
    applications = [factories.make_application(project, each, owner=owner) for each in APPLICATIONS]
    applications[0].waits_for.add(applications[1])
    wave = factories.make_wave(
        project, name="Shop, first night", starts_at=factories.hours(-1), ends_at=factories.hours(5)
    )
    Wave.objects.filter(pk=wave.pk).update(time_zone="Europe/Zurich")
    wave.refresh_from_db()
    scene = Scene(
        project, wave, applications, lead, people[Membership.Role.OPERATOR], owner, people[Membership.Role.MANAGER]
    )
    profile = factories.make_profile(project, name="Debian, frozen", labels={"plan_id": "2 CPU, 4 GB"})
    for n in range(count):
        scene.migrations.append(_server(scene, profile, n))
        _things(scene, n)
        _found(scene, n)
    _gates(scene)
    return scene


def _server(scene: Scene, profile: Any, n: int) -> Migration:
    name, states, what = SERVERS[n % len(SERVERS)]
    name = name if n < len(SERVERS) else f"{name}-{n}"
    source = factories.make_server(name, facts_at=timezone.now(), facts={"os": {"name": "Debian 12"}, "kernel": "6.1"})
    migration = factories.make_migration(
        application=scene.applications[n % len(APPLICATIONS)],
        wave=scene.wave,
        profile=profile,
        source=source,
        target=states.get(K.INITIAL) != S.WAITING,
        services=["nginx.service", "postgresql@15-main.service"],
        steps=False,
    )
    workflow.plan_steps(migration)
    now = timezone.now()
    for position, kind in enumerate(K, 1):
        state = states.get(kind, S.WAITING)
        Step.objects.filter(migration=migration, kind=kind).update(
            state=state,
            started_at=None if state in ("waiting", "ready") else now - timedelta(minutes=80 - 10 * position),
            finished_at=now - timedelta(minutes=75 - 10 * position)
            if state in ("done", "cancelled", "undone")
            else None,
        )
        if state == S.DONE:
            attempt = factories.make_attempt(migration.steps.get(kind=kind), state="done", finished_at=now)
            factories.make_run(action=factories.make_action(attempt, state="done"), state=Run.State.SUCCEEDED)
    _course(scene, migration, what)
    if migration.target:
        for _ in range(3):
            factories.make_sync(migration)
    for place in ("Shop front page", "Port 5432"):
        probe = factories.make_probe(source, place)
        factories.make_probe_result(probe, "source")
        factories.make_probe_result(probe, "clone", n % 5 != 1, reason="Connection refused." if n % 5 == 1 else "")
    factories.make_service_record(source)
    return migration


def _course(scene: Scene, migration: Migration, what: str) -> None:
    """What runs, failed or waits for people on this server."""
    now = timezone.now()
    if what == "complete":
        Migration.objects.filter(pk=migration.pk).update(
            state=Migration.State.COMPLETE, completed_at=now, declared_at=now, declared_by=scene.lead
        )
    if what in ("", "complete"):
        return
    step = migration.steps.filter(state__in=("running", "attention")).get()
    reason = (
        "cron.service came back 3 times in 60 s after it was stopped: timer certbot.timer starts it. Stop it, retry."
    )
    attempt = factories.make_attempt(
        step,
        started_by=scene.lead,
        state="attention" if what == "failed" else "running",
        reason=reason if what == "failed" else "",
    )
    if what == "people":
        factories.make_action(attempt, "probe", state="done")
        return
    factories.make_action(attempt, "record_services", state="done", title="Record the services")
    state = "failed" if what == "failed" else "running"
    action = factories.make_action(
        attempt, "sync", state=state, title="Copy the data", reason=reason if state == "failed" else ""
    )
    factories.make_action(attempt, "shutdown", title="Shut the source down", reversible="no")
    values: dict[str, Any] = {
        "failed": {"state": Run.State.FAILED, "reason": reason, "code": "services.restarted"},
        "running": {"bytes_done": 18_200_000_000, "bytes_total": 41_300_000_000, "rate": 84e6, "phase": "copying"},
        "stale": {"bytes_done": 2_200_000, "bytes_total": 9_000_000, "observed_at": now - timedelta(minutes=4)},
        "lost": {"contact_lost_since": now - timedelta(minutes=2), "reason": "ledger-01 does not answer on port 22."},
        "queued": {"state": Run.State.QUEUED, "started_at": None, "observed_at": None},
    }[what]
    run = factories.make_run(action=action, **values)
    if what == "failed":
        Step.objects.filter(pk=step.pk).update(reason=reason)
    for n in range(12):
        RunEvent.objects.create(run=run, level="warning" if n % 5 == 4 else "info", text=f"Line {n} of what was done.")
    scene.run = scene.run or run


def _things(scene: Scene, n: int) -> None:
    """One more of what the set-up pages list."""
    project = scene.project
    login = factories.make_credential(name=f"root with key {n}")
    project.credentials.add(login)
    key = factories.make_credential(name=f"tsig {n}", kind="tsig")
    project.credentials.add(key)
    zone = NameServer.objects.create(name=f"ns{n}", zone=f"z{n}.example", address="192.0.2.53", credential=key)
    project.name_servers.add(zone)
    factories.make_platform(project)
    factories.make_member(project, Membership.Role.OPERATOR)
    if n:
        factories.make_wave(project, starts_at=factories.hours(24 * n), ends_at=factories.hours(24 * n + 6))
        factories.make_application(project, f"Application {n} of many", owner=scene.owner)
    ChangeFreeze.objects.create(
        project=project,
        name=f"Year end {n}",
        starts_at=factories.hours(24 * n + 1),
        ends_at=factories.hours(24 * n + 3),
    )
    server = scene.migrations[-1].source
    HostKey.objects.create(
        server=server,
        key_type="ssh-rsa",
        public="AAAA",
        fingerprint=f"SHA256:{'x' * 30}{n}",
        state=HostKey.State.OFFERED,
    )
    Probe.objects.create(
        server=server, name=f"another {n}", kind="unit", parameters={"unit": "nginx"}, places=["source"]
    )
    if n % 4 == 2:
        Hold.objects.create(
            kind=Hold.Kind.PERSON,
            project=project,
            migration=scene.migrations[-1],
            why="Backup first, ticket 4711.",
            by=scene.operator,
        )


def _found(scene: Scene, n: int) -> None:
    """What people found on the server that was made last, and what a lead passed."""
    if n % 3:
        return
    migration = scene.migrations[-1]
    assignee = scene.operator if n % 2 else None
    factories.make_defect(
        migration.steps.get(kind=Step.Kind.UAT),
        f"Orders of January are missing ({n})",
        severity="blocking" if n % 5 == 0 else "minor",
        assignee=assignee,
    )
    if n % 9 == 0:
        factories.make_break_glass(migration.steps.get(kind=Step.Kind.STOP), scene.lead)


def _gates(scene: Scene) -> None:
    shop, ledger = scene.applications[0], scene.applications[1]
    Hold.objects.create(
        kind=Hold.Kind.UAT,
        project=scene.project,
        wave=scene.wave,
        application=ledger,
        by=scene.owner,
        why="being tested",
    )
    factories.make_asked(scene.wave, ledger)
    for gate in Approval.Gate.values[:2]:
        approval = factories.make_approval(scene.wave, shop, gate, state=Approval.State.APPROVED)
        Decision.objects.create(
            approval=approval,
            user=scene.owner if gate == Approval.Gate.SIGN_OFF else scene.lead,
            verdict=Decision.Verdict.APPROVE,
            comment="Works as it should.",
            digest=approval.digest,
        )
    ChecklistItem.objects.filter(step__migration__in=scene.migrations, step__state=S.DONE).update(
        state=ChecklistItem.State.DONE, by=scene.operator, at=timezone.now()
    )
