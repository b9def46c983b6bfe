"""Who hears of what, in how many messages, and never before it is true."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from migrationhub.audit.record import record
from projects import approvals, planning_people
from projects import planning_notices as verbs
from projects.models import (
    Approval,
    Decision,
    Defect,
    Hold,
    Membership,
    Message,
    Migration,
    Notice,
    NoticeKind,
    NoticeSettings,
    Part,
    StandIn,
    Step,
)
from projects.notify import clock, dealing, passes, people
from tests import factories as make

from .conftest import Team, moment
from .receivers import Mailbox

pytestmark = pytest.mark.django_db
Deliver = Callable[..., list[Message]]


def attention(team: Team, migration: Migration | None = None, why: str = "The disk is full.") -> None:
    migration = migration or team.migration
    step = migration.steps.get(kind=Step.Kind.INITIAL)
    record("step.attention", step, project_id=team.project.pk, why=why)


def told() -> set[str]:
    return set(Part.objects.filter(user__isnull=False).values_list("user__username", flat=True))


def test_what_is_rolled_back_is_told_to_nobody(team: Team) -> None:
    with transaction.atomic():
        attention(team)
        transaction.set_rollback(True)
    assert not Notice.objects.exists()
    attention(team)
    assert Notice.objects.count() == 1


def test_a_step_that_needs_attention_reaches_those_who_run_it(team: Team, box: Mailbox) -> None:
    attention(team)
    dealing.deal(timezone.now())
    assert told() == {"lea", "omar"}
    assert set(Message.objects.values_list("to", flat=True)) == {"lea@example.com", "omar@example.com"}
    notice = Notice.objects.get()
    assert notice.kind == NoticeKind.ATTENTION
    assert notice.title == "Initial migration of shop-db needs attention"
    assert notice.text == "The disk is full."
    assert notice.path == f"/migrations/{team.migration.pk}/"


def test_dealt_twice_is_told_once(team: Team, box: Mailbox) -> None:
    attention(team)
    dealing.deal(timezone.now())
    Notice.objects.update(dealt_at=None)  # as if a pass had been lost in the middle
    dealing.deal(timezone.now())
    assert Part.objects.count() == 2
    assert Message.objects.count() == 2


def test_several_servers_of_a_wave_come_in_one_mail(team: Team, box: Mailbox, deliver: Deliver) -> None:
    others = [make.make_migration(project=team.project, application=team.application, wave=team.wave) for _ in range(4)]
    elsewhere = make.make_migration(
        project=team.project, application=team.application, wave=make.make_wave(team.project)
    )
    for migration in (team.migration, *others, elsewhere):
        attention(team, migration)
    messages = deliver()
    assert [message.state for message in messages] == ["sent"] * 4
    of_lead = [mail for mail in box.mails if mail["To"] == "lea@example.com"]
    subjects = sorted(str(mail["Subject"]) for mail in of_lead)
    assert len(subjects) == 2  # one for each wave
    assert any(subject.endswith("Wave 1: first: 5 changes") for subject in subjects)


def test_a_message_that_was_begun_takes_nothing_more(team: Team, box: Mailbox) -> None:
    attention(team)
    dealing.deal(timezone.now())
    Message.objects.filter(user=team.lead).update(state=Message.State.QUEUED)
    attention(team)
    dealing.deal(timezone.now())
    assert Message.objects.filter(user=team.lead).count() == 2
    assert Message.objects.filter(user=team.operator).count() == 1


def test_whoever_did_it_is_not_told(team: Team, box: Mailbox) -> None:
    approval = make.make_approval(team.wave, team.application)
    record("approval.reject", approval, actor=team.owner, project_id=team.project.pk, why="The till is shut.")
    dealing.deal(timezone.now())
    assert told() == {"lea", "omar"}
    assert Notice.objects.get().title == f"{approval}: rejected by Olga"


def test_the_owner_and_their_stand_in_are_asked(team: Team, box: Mailbox) -> None:
    place = make.make_member(team.project, Membership.Role.OWNER, make.make_user("sam", email="sam@example.com"))
    make.make_member(team.project, Membership.Role.OWNER, make.make_user("else", email="else@example.com"))
    StandIn.objects.create(
        application=team.application,
        owner=team.owner,
        person=place,
        by=team.lead,
        starts_at=moment(-60),
        ends_at=moment(3600),
        why="away",
    )
    record("approval.request", make.make_approval(team.wave, team.application), project_id=team.project.pk)
    dealing.deal(timezone.now())
    assert told() == {"olga", "sam"}


def test_only_what_somebody_wants_to_hear(team: Team, box: Mailbox) -> None:
    chosen = NoticeSettings(user=team.operator, project=team.project)
    verbs.choose(chosen, kinds=["wave"], quiet_from=None, quiet_until=None)
    attention(team)
    dealing.deal(timezone.now())
    assert told() == {"lea"}


def test_somebody_who_left_is_not_told(team: Team, box: Mailbox, deliver: Deliver) -> None:
    attention(team)
    dealing.deal(timezone.now())
    Membership.objects.filter(user=team.operator).delete()
    messages = {message.user_id: message for message in deliver()}
    assert messages[team.operator.pk].state == Message.State.DROPPED
    assert "no member any more" in messages[team.operator.pk].reason
    assert box.to == ["lea@example.com"]


def test_a_defect_is_told_to_nobody_who_may_not_see_its_application(team: Team) -> None:
    other = make.make_application(team.project, "Ledger", owner=make.make_user("fred", email="fred@example.com"))
    step = team.migration.steps.get(kind=Step.Kind.UAT)
    defect = make.make_defect(step, assignee=other.owner, raised_by=make.make_member(team.project, "operator"))
    record("defect.raise", defect, actor=team.operator, project_id=team.project.pk, why="Salaries can be read.")
    dealing.deal(timezone.now())
    assert told() == {"lea", "olga", defect.raised_by.username}
    Membership.objects.filter(user=defect.raised_by).update(role=Membership.Role.OWNER)
    Part.objects.all().delete()
    record("defect.mended", defect, actor=team.operator, project_id=team.project.pk, after={"state": "mended"})
    dealing.deal(timezone.now())
    assert told() == {"lea", "olga"}


def test_a_mail_that_waited_holds_nothing_that_its_reader_may_not_see_any_more(
    team: Team, box: Mailbox, deliver: Deliver
) -> None:
    """An owner is replaced in their quiet hours, once of one application and once of all they had."""
    make.make_application(team.project, "Ledger", owner=team.owner)
    ledger = make.make_migration(
        project=team.project, application=team.project.applications.get(name="Ledger"), wave=team.wave
    )
    for step in (each.steps.get(kind=Step.Kind.UAT) for each in (team.migration, ledger)):
        defect = make.make_defect(step)
        record("defect.raise", defect, actor=team.lead, project_id=team.project.pk, why=f"of {step.migration}")
    dealing.deal(timezone.now())
    team.project.applications.filter(name="Shop").update(owner=None)
    deliver()
    (mail,) = [mail for mail in box.mails if mail["To"] == "olga@example.com"]
    text = mail.get_body(("plain",)).get_content()  # type: ignore[union-attr]
    assert f"of {ledger}" in text and "of shop-db" not in text and "2 changes" not in str(mail["Subject"])
    record("defect.mended", Defect.objects.get(step__migration=ledger), project_id=team.project.pk)
    dealing.deal(timezone.now())
    team.project.applications.update(owner=None)
    kept = [message for message in deliver() if message.user == team.owner][-1]
    assert kept.state == Message.State.DROPPED and "could not see any more" in kept.reason


def test_without_an_address_or_a_server_the_log_says_so(team: Team, box: Mailbox, settings: object) -> None:
    User.objects.filter(pk=team.lead.pk).update(email="")
    attention(team)
    dealing.deal(timezone.now())
    assert Message.objects.get(user=team.lead).reason == dealing.NO_ADDRESS
    settings.MAIL_SENT = False  # type: ignore[attr-defined]
    attention(team)
    dealing.deal(moment(1))
    assert Message.objects.filter(reason=dealing.NO_SERVER, state=Message.State.DROPPED).exists()


def test_off_tells_nobody_neither_now_nor_later(team: Team, box: Mailbox, deliver: Deliver) -> None:
    attention(team)
    dealing.deal(timezone.now())  # it waits already
    verbs.set_mode(project=team.project, mode="off", user=team.lead)
    attention(team)
    assert {message.state for message in deliver()} == {"dropped"}
    verbs.set_mode(project=team.project, mode="live", user=team.lead)
    deliver()
    assert box.mails == []


def test_a_rehearsal_goes_to_one_person_alone(team: Team, box: Mailbox, deliver: Deliver) -> None:
    verbs.set_mode(project=team.project, mode="test", user=team.lead)
    record("approval.request", make.make_approval(team.wave, team.application), project_id=team.project.pk)
    deliver()
    (mail,) = box.mails
    assert mail["To"] == "lea@example.com"
    assert str(mail["Subject"]).strip().startswith("[migrationhub] [test] Basel exit: Your answer is asked for")
    assert "Meant for: Olga" in mail.get_body(("plain",)).get_content()  # type: ignore[union-attr]


def test_a_wave_starts_and_ends_once(team: Team, box: Mailbox) -> None:
    other = make.make_migration(project=team.project, application=team.application, wave=team.wave)
    for migration in (team.migration, other):
        step = migration.steps.get(kind=Step.Kind.INITIAL)
        record("step.start", step, actor=team.operator, project_id=team.project.pk)
    dealing.deal(timezone.now())
    titles = list(Notice.objects.filter(kind=NoticeKind.WAVE).values_list("title", flat=True))
    assert titles == [f"{team.wave} started"]
    assert told() == {"lea", "mia"}
    for migration in (team.migration, other):
        Migration.objects.filter(pk=migration.pk).update(state=Migration.State.COMPLETE)
        record("step.done", migration.steps.get(kind=Step.Kind.VALIDATION), project_id=team.project.pk)
        dealing.deal(timezone.now())
    titles = list(Notice.objects.filter(kind=NoticeKind.WAVE).values_list("title", flat=True))
    assert titles == [f"{team.wave} started", f"{team.wave} is finished"]


def test_the_owner_is_next_once_all_servers_are_copied(team: Team, box: Mailbox) -> None:
    other = make.make_migration(project=team.project, application=team.application, wave=team.wave)
    for migration in (team.migration, other):
        assert not Notice.objects.filter(kind=NoticeKind.NEXT).exists()
        step = migration.steps.get(kind=Step.Kind.INITIAL)
        Step.objects.filter(pk=step.pk).update(state=Step.State.DONE)
        record("step.done", step, project_id=team.project.pk)
        dealing.deal(timezone.now())
    assert Notice.objects.get(kind=NoticeKind.NEXT).title == "Shop can be tested: you are next"
    assert told() == {"olga"}
    for _ in range(2):  # one that is added later; copied anew it is told no more
        later = make.make_migration(project=team.project, application=team.application, wave=team.wave)
        Step.objects.filter(migration=later).update(state=Step.State.DONE)
        for _ in range(2):
            record("step.done", later.steps.get(kind=Step.Kind.INITIAL), project_id=team.project.pk)
        dealing.deal(timezone.now())
        Migration.objects.filter(wave=team.wave).update(state=Migration.State.COMPLETE)
    assert Notice.objects.filter(kind=NoticeKind.NEXT).count() == 3


def test_a_reminder_comes_once(team: Team, box: Mailbox) -> None:
    approval = make.make_approval(team.wave, team.application, remind_at=moment(-1))
    for _ in range(3):
        clock.look(timezone.now())
    dealing.deal(timezone.now())
    assert Notice.objects.filter(kind=NoticeKind.ASKED).count() == 1
    assert "Reminder" in Notice.objects.get().title
    approval.refresh_from_db()
    assert approval.remind_at is None


def test_what_was_answered_or_expired_is_not_reminded(team: Team) -> None:
    make.make_approval(team.wave, team.application, state=Approval.State.APPROVED, remind_at=moment(-1))
    late = make.make_approval(team.wave, make.make_application(team.project), remind_at=moment(-9))
    Approval.objects.filter(pk=late.pk).update(expires_at=moment(-5))
    clock.look(timezone.now())
    assert not Notice.objects.exists()
    late.refresh_from_db()
    approvals.expire(late, timezone.now(), team.project.pk)
    dealing.deal(timezone.now())
    assert "expired without an answer: not approved" in Notice.objects.get().title


def asked_titles() -> list[tuple[str, str]]:
    rows = Part.objects.filter(notice__kind__in=("asked", "answered")).order_by("notice", "user__username")
    return list(rows.values_list("user__username", "notice__title"))


def test_nobody_who_has_said_yes_is_reminded(team: Team, box: Mailbox) -> None:
    second = make.make_member(team.project, Membership.Role.LEAD, make.make_user("ben", email="ben@example.com"))
    over = {"needed": 2, "roles": ["lead", "operator"], "runner_may": True, "remind_at": moment(-1)}
    go = make.make_approval(team.wave, team.application, Approval.Gate.GO, **over)
    approvals.delegate(go.pk, user=second, to=team.operator)
    for user, for_whom in ((team.lead, None), (team.operator, second)):
        Decision.objects.create(approval=go, user=user, on_behalf_of=for_whom, verdict="approve", digest=go.digest)
    sign_off = make.make_approval(
        team.wave, team.application, needed=2, roles=["owner", "manager"], remind_at=moment(-1)
    )
    Decision.objects.create(approval=sign_off, user=team.owner, verdict="approve", digest=sign_off.digest)
    Notice.objects.all().delete()
    clock.look(timezone.now())
    dealing.deal(timezone.now())
    reminded = [(who, title[:8]) for who, title in asked_titles()]
    assert reminded == [("mia", "Reminder")]


def test_nobody_is_reminded_of_a_wave_that_the_application_has_left(team: Team) -> None:
    approval = make.make_approval(team.wave, team.application, remind_at=moment(-1))
    Migration.objects.filter(pk=team.migration.pk).update(wave=None)
    clock.look(timezone.now())
    assert not Notice.objects.exists()
    Migration.objects.filter(pk=team.migration.pk).update(wave=team.wave)
    clock.look(timezone.now())
    assert Notice.objects.get().event.object_id == str(approval.pk)


def test_a_yes_that_is_not_enough_is_not_told_as_approved(team: Team, box: Mailbox) -> None:
    go = make.make_approval(team.wave, team.application, Approval.Gate.GO)
    for state in ("requested", "approved"):
        shared = {"actor": team.lead, "project_id": team.project.pk, "before": {"state": "requested"}}
        record("approval.approve", go, **shared, after={"state": state})
    dealing.deal(timezone.now())
    assert list(Notice.objects.order_by("pk").values_list("title", flat=True)) == [
        "Go for stopping services, Shop: yes by Lea, not approved yet (waits for an answer)",
        "Go for stopping services, Shop: approved by Lea",
    ]


def test_a_new_owner_is_asked_for_what_was_asked_of_the_one_before(team: Team, box: Mailbox) -> None:
    application, other = team.application, make.make_wave(team.project)
    for wave in (team.wave, other):  # nothing of it is in the other wave any more
        make.make_approval(wave, application)
    nora = make.make_member(team.project, Membership.Role.OWNER, make.make_user("nora", email="nora@example.com"))
    values = {"name": application.name, "slug": application.slug, "description": "", "access_note": ""}
    shared = {"project": team.project, "application": application, "waits_for": [], "user": team.lead}
    for owner in (team.owner, nora):
        planning_people.save_application(**shared, **values, owner=owner)
    dealing.deal(timezone.now())
    title = "Your answer is asked for, as you own the application now: Sign-off of acceptance testing, Shop"
    assert asked_titles() == [("nora", title)]


def test_a_test_that_is_overdue_is_told_once_for_each_promise(team: Team, box: Mailbox) -> None:
    hold = Hold.objects.create(
        kind=Hold.Kind.UAT,
        project=team.project,
        wave=team.wave,
        application=team.application,
        by=team.owner,
        until=moment(-60),
    )
    for _ in range(2):
        clock.look(timezone.now())
    assert dealing.deal(timezone.now()) == 1
    assert told() == {"lea", "omar", "olga"}
    Hold.objects.filter(pk=hold.pk).update(until=moment(-1))
    clock.look(timezone.now())
    assert dealing.deal(timezone.now()) == 1


@pytest.mark.parametrize(
    ("day", "hour", "ends"),
    [(1, 22, datetime(2026, 12, 2, 6, tzinfo=UTC)), (2, 2, datetime(2026, 12, 2, 6, tzinfo=UTC)), (2, 7, None)],
)
def test_quiet_hours_over_midnight(day: int, hour: int, ends: datetime | None) -> None:
    """From 22 to 7 in Zurich, which is an hour ahead of UTC in winter."""
    assert people.quiet_end(datetime(2026, 12, day, hour, 30, tzinfo=UTC), (22, 7), "Europe/Zurich") == ends


def test_in_quiet_hours_it_comes_at_their_end(team: Team, box: Mailbox) -> None:
    hour = timezone.localtime(moment()).astimezone(people.ZoneInfo("Europe/Zurich")).hour
    chosen = NoticeSettings(user=team.lead, project=team.project)
    verbs.choose(chosen, kinds=["attention"], quiet_from=hour, quiet_until=(hour + 3) % 24)
    attention(team)
    dealing.deal(timezone.now())
    assert Message.objects.get(user=team.lead).due_at > moment(3600)
    assert Message.objects.get(user=team.operator).due_at < moment(60)


def test_one_that_cannot_be_dealt_keeps_no_other(team: Team, box: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    attention(team)
    attention(team, why="Second.")
    real = dealing.words.of
    first = Notice.objects.order_by("pk").first()
    assert first is not None

    def broken(event: object) -> list[object]:
        if event == first.event:
            raise ValueError("broken")
        return list(real(event))  # type: ignore[arg-type]

    monkeypatch.setattr(dealing.words, "of", broken)
    passes.advance(timezone.now())
    assert list(Notice.objects.filter(dealt_at=None)) == []
    assert Notice.objects.exclude(title="").get().text == "Second."
