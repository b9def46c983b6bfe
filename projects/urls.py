"""Addresses of the pages: run it here, set it up in `urls_setup`."""

from __future__ import annotations

from django.urls import include, path

from projects.views import acts
from projects.views.acceptance import acceptance
from projects.views.migration import migration
from projects.views.overview import overview
from projects.views.progress import progress, progress_csv
from projects.views.run_log import run
from projects.views.wave_board import wave_board

urlpatterns = [
    path("", include("projects.urls_setup")),  # first: /projects/new/ is no project
    path("", overview, name="overview"),
    path("projects/<slug:slug>/", progress, name="progress"),
    path("projects/<slug:slug>/progress.csv", progress_csv, name="progress-csv"),
    path("waves/<int:pk>/", wave_board, name="wave-board"),
    path("waves/<int:pk>/start/", acts.wave_start, name="wave-start"),
    path("waves/<int:wave_pk>/applications/<int:application_pk>/", acceptance, name="acceptance"),
    path("waves/<int:wave_pk>/applications/<int:application_pk>/uat/open/", acts.uat_open, name="uat-open"),
    path("waves/<int:wave_pk>/applications/<int:application_pk>/uat/end/", acts.uat_end, name="uat-end"),
    path("migrations/<int:pk>/", migration, name="migration"),
    path("migrations/<int:pk>/abort/", acts.migration_abort, name="migration-abort"),
    path("migrations/<int:pk>/complete/", acts.migration_complete, name="migration-complete"),
    path("migrations/<int:pk>/deltas/", acts.delta_schedule, name="delta-schedule"),
    path("migrations/<int:pk>/hold/", acts.hold_add, name="hold-add"),
    path("holds/<int:pk>/release/", acts.hold_release, name="hold-release"),
    path("steps/<int:pk>/start/", acts.step_start, name="step-start"),
    path("steps/<int:pk>/retry/", acts.step_retry, name="step-retry"),
    path("steps/<int:pk>/cancel/", acts.step_cancel, name="step-cancel"),
    path("approvals/<int:pk>/decide/", acts.approval_decide, name="approval-decide"),
    path("checklist/<int:pk>/", acts.checklist_tick, name="checklist-tick"),
    path("runs/<int:pk>/", run, name="run"),
]
