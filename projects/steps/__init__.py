"""The workflow's seven steps, one module each."""

from __future__ import annotations

from .acceptance_testing import AcceptanceTesting
from .base import StepModule
from .cutover_events import CutoverEvents
from .delta_migrations import DeltaMigrations
from .final_delta import FinalDelta
from .final_validation import FinalValidation
from .initial_migration import InitialMigration
from .stop_services import StopServices

MODULES: dict[str, StepModule] = {
    module.kind: module
    for module in (
        InitialMigration(),
        DeltaMigrations(),
        AcceptanceTesting(),
        StopServices(),
        FinalDelta(),
        CutoverEvents(),
        FinalValidation(),
    )
}
