"""A project's progress: servers by state, waves, what blocks."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.db.models import Prefetch, Q, QuerySet

from projects.models import Action, Application, BreakGlass, Hold, Migration, Project, Step, Wave
from projects.models.project import seen_in_wave
from servers.models import Run
from servers.models.run import OPEN

from .break_glass import passes_seen, words
from .lanes import OVER, SHORT
from .overview import Counts

ORDER = ("attention", "running", "undoing", "ready", "scheduled", "waiting", "cancelled", "undone")


@dataclass(frozen=True)
class Stand:
    """Where one server stands. `step` is the one that counts now."""

    migration: Migration
    step: Step | None
    state: str  # of a sign
    word: str
    why: str


def servers(migrations: QuerySet[Migration]) -> list[Stand]:
    """Each server with the step that counts now, in three queries."""
    steps = Prefetch("steps", Step.objects.order_by("position"))
    rows = migrations.select_related("source", "application", "wave").prefetch_related(steps)
    lost = out_of_contact(migrations)
    return [stand(migration, migration.pk in lost) for migration in rows]


def out_of_contact(migrations: QuerySet[Migration]) -> set[int]:
    """Migrations on whose machines something may run that nobody can see: their state is not known."""
    unseen = Run.objects.filter(state__in=OPEN, contact_lost_since__isnull=False).values("work_key")
    ids = migrations.order_by().values("pk")
    actions = Action.objects.filter(attempt__step__migration__in=ids, state="running", work_key__in=unseen)
    return set(actions.values_list("attempt__step__migration_id", flat=True))


def stand(migration: Migration, is_lost: bool = False) -> Stand:
    steps = list(migration.steps.all())
    if migration.state == Migration.State.COMPLETE:
        return Stand(migration, steps[-1] if steps else None, "done", "Complete", "")
    if migration.state == Migration.State.CANCELLED:
        return Stand(migration, None, "cancelled", "Cancelled", "")
    if not steps:
        return Stand(migration, None, "waiting", "Not planned", "Plan it: application, profile and wave.")
    step = _counts(steps)
    if step.state == Step.State.ATTENTION:
        return Stand(migration, step, "failed", "Needs attention", step.reason)
    if is_lost:
        return Stand(migration, step, "unknown", "Unknown", "A machine does not answer; what was begun may still run.")
    if step.state == Step.State.READY and step.reason:
        return Stand(migration, step, "held", "Held", step.reason)
    return Stand(migration, step, step.state, step.get_state_display(), step.reason)


def _counts(steps: list[Step]) -> Step:
    for states in ((Step.State.ATTENTION,), (Step.State.UNDOING,), (Step.State.RUNNING,)):
        found = [step for step in steps if step.state in states]
        if found:
            return found[-1]
    left = [step for step in steps if step.state not in OVER and step.kind != Step.Kind.DELTA]
    return left[0] if left else steps[-1]


def progress(user: User | AnonymousUser, project: Project, migrations: QuerySet[Migration]) -> dict[str, Any]:
    stands = servers(migrations)
    waves = Wave.objects.visible_to(user).filter(project=project).order_by("number")
    passes = list(passes_seen(user, project))
    return {
        "counts": counts(stands),
        "tally": sorted(Counter((each.state, each.word) for each in stands).items(), key=lambda pair: -pair[1]),
        "steps": _by_step(stands),
        "waves": [(wave, counts([each for each in stands if each.migration.wave_id == wave.pk])) for wave in waves],
        "without_wave": [each for each in stands if each.migration.wave_id is None],
        "blocks": [each for each in stands if each.state in ("failed", "unknown", "held")]
        + [each for each in stands if each.state in ("waiting", "ready", "undone") and each.why],
        "holds": _holds(user, project),
        "passes": passes,
        "passes_words": words(passes),
        "stands": stands,
    }


def _holds(user: User | AnonymousUser, project: Project) -> list[Hold]:
    """Open holds of more than one server; of applications only those that this person may see."""
    mine = Application.objects.visible_to(user).order_by().values("pk")
    holds = Hold.objects.filter(project=project, released_at=None, migration=None)
    seen = Q(application=None) | Q(wave=None, application__in=mine) | seen_in_wave(user)
    return list(holds.filter(seen).select_related("by", "application"))


def counts(stands: list[Stand]) -> Counts:
    made = Counts()
    for each in stands:
        if each.state == "done" and each.migration.state == Migration.State.COMPLETE:
            made.complete += 1
        elif each.state == "cancelled" and each.migration.state == Migration.State.CANCELLED:
            made.cancelled += 1
        elif each.state == "failed":
            made.attention += 1
        elif any(step.started_at for step in each.migration.steps.all()):
            made.under_way += 1
        else:
            made.not_begun += 1
    return made


def _by_step(stands: list[Stand]) -> list[dict[str, Any]]:
    """Per step how many servers are done with it, and how many were let off: skipped is not done."""
    rows: dict[str, Counter[str]] = {kind: Counter() for kind in Step.ORDER}
    for each in stands:
        if each.migration.state != Migration.State.CANCELLED:
            for step in each.migration.steps.all():
                rows[step.kind][step.state] += 1
    return [
        {
            "position": position,
            "name": SHORT[Step.Kind(kind)],
            "done": row[Step.State.DONE],
            "all": sum(row.values()),
            "failed": row[Step.State.ATTENTION],
            "running": row[Step.State.RUNNING] + row[Step.State.UNDOING],
            "skipped": row[Step.State.SKIPPED],
            "not_applicable": row[Step.State.NOT_APPLICABLE],
        }
        for position, (kind, row) in enumerate(rows.items(), 1)
    ]


HEADER = [
    "server",
    "application",
    "wave",
    "state",
    "step",
    "step state",
    "why",
    *SHORT.values(),
    "began",
    "completed",
    "break-glass",
    "break-glass passes",
]


def csv_rows(migrations: QuerySet[Migration], passes: Iterable[BreakGlass] = ()) -> list[list[str]]:
    """One row for each server; times in UTC, ISO 8601. `passes`: break-glass, which stands in every report."""
    rows, glass = [], defaultdict(list)
    for made in passes:
        words = f"{made.get_gate_display()} by {made.by}: {made.reason} ({made.get_state_display().lower()})"
        glass[made.wave_id, made.application_id].append(words)
    for each in servers(migrations):
        migration, steps = each.migration, {step.kind: step for step in each.migration.steps.all()}
        began = min((step.started_at for step in steps.values() if step.started_at), default=None)
        cells = [
            migration.source.name,
            str(migration.application or ""),
            str(migration.wave or ""),
            migration.state,
            each.step.kind if each.step else "",
            each.word,
            each.why,
            *(steps[kind].state if kind in steps else "" for kind in SHORT),
            _iso(began),
            _iso(migration.completed_at),
            "; ".join(glass[migration.wave_id or 0, migration.application_id or 0]),
            str(len(glass[migration.wave_id or 0, migration.application_id or 0])),
        ]
        rows.append([harmless(cell) for cell in cells])
    return rows


def _iso(moment: datetime | None) -> str:
    return moment.isoformat(timespec="seconds") if moment else ""


def harmless(cell: str) -> str:
    """A cell that a spreadsheet would take for a formula is written as text."""
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell
