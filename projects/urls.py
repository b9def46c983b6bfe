"""Addresses of the pages: run it here, set it up in `urls_setup`."""

from __future__ import annotations

from django.urls import include, path

from projects.views import acts, approvals, attachments, defects
from projects.views.acceptance import acceptance
from projects.views.break_glass import break_glass_list
from projects.views.list_version import step_checklist
from projects.views.migration import migration
from projects.views.overview import overview
from projects.views.progress import progress, progress_csv
from projects.views.run_log import run, run_give_up
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
    path("waves/<int:wave_pk>/applications/<int:application_pk>/uat/again/", acts.uat_again, name="uat-again"),
    path("waves/<int:wave_pk>/applications/<int:application_pk>/uat/extend/", acts.uat_extend, name="uat-extend"),
    path("waves/<int:wave_pk>/applications/<int:application_pk>/uat/break/", acts.uat_break, name="uat-break"),
    path("migrations/<int:pk>/", migration, name="migration"),
    path("migrations/<int:pk>/abort/", acts.migration_abort, name="migration-abort"),
    path("migrations/<int:pk>/take-back/", acts.migration_take_back, name="migration-take-back"),
    path("migrations/<int:pk>/complete/", acts.migration_complete, name="migration-complete"),
    path("migrations/<int:pk>/deltas/", acts.delta_schedule, name="delta-schedule"),
    path("migrations/<int:pk>/hold/", acts.hold_add, name="hold-add"),
    path("holds/<int:pk>/release/", acts.hold_release, name="hold-release"),
    path("steps/<int:pk>/start/", acts.step_start, name="step-start"),
    path("steps/<int:pk>/retry/", acts.step_retry, name="step-retry"),
    path("steps/<int:pk>/cancel/", acts.step_cancel, name="step-cancel"),
    path("steps/<int:pk>/checklist/", step_checklist, name="step-checklist"),
    path("steps/<int:pk>/pass/", approvals.step_pass, name="step-pass"),
    path("projects/<slug:slug>/approvals/", approvals.approvals, name="approvals"),
    path("approvals/<int:pk>/", approvals.approval, name="approval"),
    path("approvals/<int:pk>/ask/", approvals.approval_ask, name="approval-ask"),
    path("approvals/<int:pk>/delegate/", approvals.approval_delegate, name="approval-delegate"),
    path("approvals/<int:pk>/pass/", approvals.approval_pass, name="approval-pass"),
    path("projects/<slug:slug>/break-glass/", break_glass_list, name="break-glass-list"),
    path("break-glass/<int:pk>/", approvals.break_glass, name="break-glass"),
    path("break-glass/<int:pk>/confirm/", approvals.break_glass_confirm, name="break-glass-confirm"),
    path("projects/<slug:slug>/defects/", defects.defects, name="defects"),
    path("waves/<int:wave_pk>/applications/<int:application_pk>/defects/new/", defects.defect_new, name="defect-new"),
    path("defects/<int:pk>/", defects.defect, name="defect"),
    path("defects/<int:pk>/move/", defects.defect_move, name="defect-move"),
    path("defects/<int:pk>/change/", defects.defect_change, name="defect-change"),
    path("approvals/<int:pk>/decide/", acts.approval_decide, name="approval-decide"),
    path("checklist/<int:pk>/", acts.checklist_tick, name="checklist-tick"),
    path("checklist/<int:pk>/attach/", attachments.item_attach, name="item-attach"),
    path("defects/<int:pk>/attach/", attachments.defect_attach, name="defect-attach"),
    path("attachments/<int:pk>/", attachments.attachment, name="attachment"),
    path("attachments/<int:pk>/withdraw/", attachments.attachment_withdraw, name="attachment-withdraw"),
    path("runs/<int:pk>/", run, name="run"),
    path("runs/<int:pk>/give-up/", run_give_up, name="run-give-up"),
]
