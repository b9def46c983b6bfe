"""What came of work on some servers: runs, syncs, services, probes, places. One query for all of it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import User
from django.db.models import Max, Q

from migrationhub.lib import together
from projects.lanes import NAMES
from projects.models import Action, Attachment, Hold, Membership, StepAttempt
from projects.steps.base import Lane
from servers.models import Placement, Platform, Probe, ProbeResult, Run, ServiceRecord, SyncPoint

ROWS = 20  # of a long list; the rest is on pages of their own


@dataclass(frozen=True)
class Records:
    runs: dict[str, Run]  # the newest of each action that runs or failed, by work key
    history: list[Run]  # newest first
    syncs: dict[int, list[SyncPoint]]  # by target, newest first
    services: dict[int, ServiceRecord]  # the newest, by source
    probes: dict[int, list[Probe]]  # by source, in order
    results: dict[tuple[int, str], ProbeResult]  # the newest, by probe and place
    placements: dict[int, Placement]  # by target
    files: dict[int, list[Attachment]]  # by item of a checklist
    tests: list[Hold]  # reservations of clones for a test, open and over, in order
    tests_runs: dict[str, Run]  # what ran at their openings and ends, the newest try of each, by work key
    leads: list[User]  # of the lanes' projects: whom to ask


def open_keys(lanes: list[Lane]) -> list[str]:
    """Work keys of what runs or failed."""
    return [
        action.work_key
        for lane in lanes
        for attempts in lane.attempts.values()
        for attempt in attempts
        if attempt.state in StepAttempt.OPEN
        for action in attempt.actions.all()
        if action.state in (Action.State.RUNNING, Action.State.FAILED)
    ]


def records_of(lanes: list[Lane]) -> Records:
    """Everything that was recorded about the servers of these lanes, the newest `ROWS` of long lists."""
    sources = [lane.migration.source_id for lane in lanes]
    targets = [lane.migration.target_id for lane in lanes if lane.migration.target_id]
    keys, most = open_keys(lanes), ROWS * len(lanes)
    migrations = [lane.migration.pk for lane in lanes]
    actions = Action.objects.filter(attempt__step__migration__in=migrations)
    of_tests = Q(work_key__startswith="uat", server__in=targets)
    history = Run.objects.filter(Q(work_key__in=actions.values("work_key")) | of_tests).order_by("-pk")
    tests_runs = Run.objects.filter(of_tests).order_by("-pk").values("pk")[:most]
    newest = ProbeResult.objects.filter(probe__server__in=sources).order_by().values("probe", "place")
    records = ServiceRecord.objects.filter(server__in=sources).order_by().values("server")
    syncs = SyncPoint.objects.filter(target__in=targets)
    tests = Hold.objects.filter(
        kind=Hold.Kind.UAT,
        wave__in={lane.migration.wave_id for lane in lanes if lane.migration.wave_id},
        application__in={lane.migration.application_id for lane in lanes if lane.migration.application_id},
    )
    places = Placement.objects.filter(server__in=targets)
    projects = {lane.migration.project_id for lane in lanes}
    leads = Membership.objects.filter(project__in=projects, role=Membership.Role.LEAD).order_by()
    found = together.fetch(
        runs=Run.objects.filter(work_key__in=keys),
        history=Run.objects.filter(pk__in=history.values("pk")[:most]),
        tests_runs=Run.objects.filter(pk__in=tests_runs),
        syncs=syncs.filter(pk__in=syncs.order_by("-pk").values("pk")[:most]),
        services=ServiceRecord.objects.filter(pk__in=records.annotate(last=Max("pk")).values("last")),
        probes=Probe.objects.filter(server__in=sources),
        results=ProbeResult.objects.filter(pk__in=newest.annotate(last=Max("pk")).values("last")),
        placements=places,
        platforms=Platform.objects.filter(pk__in=places.values("platform")),
        files=Attachment.objects.standing().filter(item__step__migration__in=migrations).defer("file"),
        tests=tests,
        people=User.objects.filter(pk__in=tests.order_by().values("released_by")),
        leads=User.objects.filter(pk__in=leads.values("user")).only(*NAMES),
    )
    return _records(lanes, found)


def _records(lanes: list[Lane], found: dict[str, list[Any]]) -> Records:
    servers = {lane.migration.source_id: lane.migration.source for lane in lanes}
    for run in found["runs"] + found["history"]:
        if run.server_id in servers:
            run.server = servers[run.server_id]
    syncs: dict[int, list[SyncPoint]] = defaultdict(list)
    for sync in sorted(found["syncs"], key=lambda sync: -sync.number):
        syncs[sync.target_id].append(sync)
    probes: dict[int, list[Probe]] = defaultdict(list)
    for probe in sorted(found["probes"], key=lambda probe: (probe.position, probe.pk)):
        probes[probe.server_id].append(probe)
    platforms = {platform.pk: platform for platform in found["platforms"]}
    for place in found["placements"]:
        place.platform = platforms[place.platform_id]
    files: dict[int, list[Attachment]] = defaultdict(list)
    for file in sorted(found["files"], key=lambda file: file.pk):
        files[file.item_id].append(file)
    people = {person.pk: person for person in found["people"]}
    tests = sorted(found["tests"], key=lambda hold: hold.pk)
    for hold in tests:
        hold.released_by = people.get(hold.released_by_id)
    return Records(
        runs={run.work_key: run for run in sorted(found["runs"], key=lambda run: run.number)},
        history=sorted(found["history"], key=lambda run: -run.pk),
        syncs=syncs,
        services={record.server_id: record for record in found["services"]},
        probes=probes,
        results={(result.probe_id, result.place): result for result in found["results"]},
        placements={place.server_id: place for place in found["placements"]},
        files=files,
        tests=tests,
        tests_runs={run.work_key: run for run in sorted(found["tests_runs"], key=lambda run: run.number)},
        leads=sorted(found["leads"], key=lambda lead: lead.username),
    )
