"""Who may see and press what: one row for each address, as the roles say it. The walk is in `test_personas`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

# `other` owns another application of the project; `stand_in` stands in for the owner now, `late` did until yesterday.
LEAD = frozenset({"lead"})
RUNNERS = LEAD | {"operator"}
READERS = RUNNERS | {"manager"}
SIGNERS = frozenset({"owner", "stand_in"})
CONCERNED = READERS | SIGNERS  # with the owner's application
MEMBERS = CONCERNED | {"other", "late"}
EVERYBODY = MEMBERS | {"outsider"}
PEOPLE = sorted(EVERYBODY)
NOBODY: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Row:
    """`see`: who gets the page. `press`: whose POST reaches what it is for. Everybody else gets 403 or 404; an outsider
    404, unless `known`."""

    see: frozenset[str] = NOBODY
    press: frozenset[str] = NOBODY
    data: dict[str, Any] = field(default_factory=dict)  # what would change something, sent by those who may not
    sent: dict[str, Any] = field(default_factory=dict)  # by those who may
    query: str = ""
    pages: tuple[int, ...] = (200,)  # status of the page: some lead on
    known: bool = False  # that it exists is no secret: 403 for an outsider


def page(see: frozenset[str], press: frozenset[str] = NOBODY, **more: Any) -> Row:
    return Row(see=see, press=press, **more)


def button(press: frozenset[str], **data: Any) -> Row:
    return Row(press=press, data=data)


READ = page(READERS)
FORM = page(LEAD, LEAD)
LIST = page(READERS, LEAD)  # a list with a form beside it
ACT = button(LEAD)
RUN = button(RUNNERS)
OWN = page(EVERYBODY, EVERYBODY)  # of a person's own account
YES = {"verdict": "approve", "digest": "x"}

ROWS: dict[str, Row] = {
    # run it
    "overview": page(EVERYBODY),
    "progress": page(MEMBERS),
    "progress-csv": page(MEMBERS),
    "wave-board": page(CONCERNED | {"other"}),
    "wave-start": RUN,
    "acceptance": page(CONCERNED),
    "uat-open": button(RUNNERS | SIGNERS),
    "uat-end": button(RUNNERS | SIGNERS),
    "uat-extend": button(RUNNERS | SIGNERS),
    "uat-break": ACT,
    "uat-again": button(RUNNERS | SIGNERS),
    "migration": page(CONCERNED),
    "migration-abort": RUN,
    "migration-take-back": RUN,
    "migration-complete": ACT,
    "delta-schedule": RUN,
    "hold-add": RUN,
    "hold-release": RUN,
    "step-start": RUN,
    "step-retry": RUN,
    "step-cancel": RUN,
    "step-pass": ACT,
    "step-checklist": FORM,
    "run": page(CONCERNED),
    "run-give-up": RUN,
    "checklist-tick": button(RUNNERS, state="done"),
    # decide
    "approvals": page(MEMBERS),
    "approval": page(CONCERNED),
    "approval-decide": button(SIGNERS, **YES),
    "approval-ask": button(RUNNERS, comment="again"),
    "approval-delegate": button(SIGNERS, to="other"),
    "approval-pass": button(LEAD, understood="1", reason="now", digest="x"),
    "break-glass-list": page(MEMBERS),
    "break-glass": page(CONCERNED),
    "break-glass-confirm": button(LEAD | SIGNERS, answer="in_order", comment="seen"),
    "defects": page(MEMBERS),
    "defect-new": page(RUNNERS | SIGNERS, RUNNERS | SIGNERS),
    "defect": page(CONCERNED),
    "defect-move": button(RUNNERS | SIGNERS, to="in_work"),
    "defect-change": Row(press=RUNNERS | SIGNERS, data={"severity": "minor"}, sent={"severity": "blocking"}),
    "item-attach": button(RUNNERS),
    "defect-attach": button(RUNNERS | SIGNERS),
    "attachment": page(CONCERNED),
    "attachment-withdraw": button(LEAD),
    # set it up
    "project-new": page(LEAD, LEAD, known=True),
    "project-setup": READ,
    "project-edit": FORM,
    "members": LIST,
    "member-role": ACT,
    "member-remove": ACT,
    "invitations": LIST,
    "invitation-renew": ACT,
    "invitation-withdraw": ACT,
    "stand-ins": LIST,
    "stand-in-end": ACT,
    "applications": READ,
    "application-new": FORM,
    "application-edit": FORM,
    "credentials": READ,
    "credential-new": page(LEAD, LEAD, query="?kind=password"),
    "credential-edit": FORM,
    "platforms": READ,
    "platform-new": FORM,
    "platform": READ,
    "platform-edit": FORM,
    "platform-check": ACT,
    "name-servers": READ,
    "name-server-new": FORM,
    "name-server-edit": FORM,
    "servers": READ,
    "servers-check": ACT,
    "server-new": FORM,
    "server-many": FORM,
    "server": READ,
    "server-edit": FORM,
    "server-check": ACT,
    "server-withdraw": ACT,
    "host-keys": LIST,
    "known-hosts": FORM,
    "host-key-accept": ACT,
    "host-key-refuse": ACT,
    "profiles": READ,
    "profile-new": FORM,
    "profile-edit": FORM,
    "waves": READ,
    "wave-new": FORM,
    "wave-edit": FORM,
    "freeze-new": FORM,
    "freeze-edit": FORM,
    "freeze-remove": ACT,
    "checklists": READ,
    "checklist": READ,
    "checklist-item-new": FORM,
    "checklist-item": FORM,
    "checklist-item-move": ACT,
    "checklist-item-remove": ACT,
    "approval-policies": READ,
    "approval-policy": FORM,
    "notifications": LIST,
    "notification-log": page(LEAD),
    "message-again": ACT,
    "webhook-new": FORM,
    "webhook-edit": FORM,
    "webhook-remove": ACT,
    "planning": READ,
    "plan": LIST,
    "plan-remove": ACT,
    "probe-new": page(LEAD, LEAD, query="?kind=http"),
    "probe-edit": FORM,
    "probe-remove": ACT,
    # what happened
    "audit": READ,
    "audit-csv": READ,
    "audit-all": page(NOBODY, known=True),  # staff alone; none of these is
    "audit-all-csv": page(NOBODY, known=True),
    # one's own account
    "account": page(EVERYBODY),
    "notices-mine": page(EVERYBODY),
    "notices": page(MEMBERS, MEMBERS),
    "address": page(EVERYBODY, EVERYBODY, pages=(302,)),  # to “Is it you?”
    "address-confirm": page(EVERYBODY, EVERYBODY, pages=(302,)),  # a forged link: back to the account
    "sessions": page(EVERYBODY),
    "sessions-end": button(EVERYBODY),
    "session-end": button(NOBODY),  # of somebody else
    "account_change_password": OWN,
    "account_reauthenticate": OWN,
    "account_logout": page(EVERYBODY, EVERYBODY, pages=(200, 302)),
    "mfa_index": page(EVERYBODY),
    "mfa_reauthenticate": page(EVERYBODY, EVERYBODY, pages=(302,)),  # nobody here has a second factor
    "mfa_activate_totp": page(EVERYBODY, EVERYBODY, pages=(302,)),  # to “Is it you?”
    "mfa_deactivate_totp": page(NOBODY),
    "mfa_view_recovery_codes": page(NOBODY),
    "mfa_download_recovery_codes": page(NOBODY),
    "mfa_generate_recovery_codes": page(EVERYBODY, EVERYBODY, pages=(302,)),
}
# What anybody may open: the way in, and the link of an invitation.
OPEN = {
    "account_login",
    "account_signup",
    "account_inactive",
    "account_reset_password",  # 404 where no mail is sent
    "account_reset_password_done",
    "account_reset_password_from_key",
    "account_reset_password_from_key_done",
    "mfa_authenticate",
    "invitation",
}
# allauth's, for which there is no use here: shut, see `projects.urls_people`.
SHUT = {
    "account_email",
    "account_email_verification_sent",
    "account_confirm_email",
    "account_confirm_login_code",
    "account_set_password",
}
