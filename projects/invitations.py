"""Invite somebody into a project by e-mail; the link in it is signed, ends, can be taken back and is used once."""

from __future__ import annotations

from datetime import timedelta
from smtplib import SMTPException

from django.contrib.auth.models import User
from django.contrib.auth.password_validation import validate_password
from django.core import signing
from django.core.exceptions import ValidationError
from django.core.mail import EmailMultiAlternatives
from django.db import IntegrityError, transaction
from django.db.models import Exists, F, OuterRef
from django.template.loader import render_to_string
from django.utils import timezone

from migrationhub.audit.record import record
from migrationhub.lib.findings import Problem
from projects import own_address
from projects.models import Application, Invitation, Membership, Project
from projects.planning_people import add_member, save_application
from servers.models import Change

LASTS = timedelta(days=7)
SALT = "projects.invitation"
Role = Membership.Role
# Only a lead invites: what somebody sent counts as long as they are one.
BY_A_LEAD = Exists(Membership.objects.filter(project=OuterRef("project"), user=OuterRef("by"), role=Role.LEAD))


def token_of(invitation: Invitation) -> str:
    """What stands in the link. Sending it again gives a new one and ends this."""
    return signing.dumps([invitation.pk, invitation.serial], salt=SALT)


def read(token: str) -> Invitation:
    """The invitation of a link. Raises Problem in words: cut or forged, replaced, taken back, used, expired, or sent by
    somebody who does not lead the project any more."""
    try:
        pk, serial = signing.loads(token, salt=SALT)
    except (signing.BadSignature, ValueError, TypeError):
        raise Problem(
            "This is no link of an invitation that we sent: part of it may be missing.",
            "Open the link in the e-mail again, or copy it whole.",
            code="invitation.forged",
        ) from None
    found = Invitation.objects.select_related("project", "application", "by").filter(pk=pk).first()
    if found is None:
        raise Problem("This invitation does not exist any more.", "Ask for a new one.", code="invitation.gone")
    inviter = found.by.get_full_name() or str(found.by)
    counts = Invitation.objects.filter(BY_A_LEAD, pk=pk).exists()
    ask = f"Ask {inviter if counts else f'a lead of {found.project}'} for a new one."
    left = f"{inviter}, who sent it, does not lead {found.project} any more."
    if found.accepted_at:
        raise Problem(
            f"This invitation was used on {found.accepted_at:%-d %B %Y}; it counts once.",
            "If that was you, log in. If not, tell the lead of the project.",
            code="invitation.used",
        )
    if found.withdrawn_at:
        words = "This invitation was taken back." if counts else f"This invitation was taken back; {left}"
        raise Problem(words, ask, code="invitation.withdrawn")
    if serial != found.serial:
        raise Problem(
            "A newer e-mail with another link was sent to you: this one does not count any more.",
            "Open the link in the newest e-mail.",
            code="invitation.replaced",
        )
    if found.expires_at <= timezone.now():
        raise Problem(f"This invitation ended on {found.expires_at:%-d %B %Y}.", ask, code="invitation.expired")
    if not counts:
        raise Problem(f"This invitation does not count any more: {left}", ask, code="invitation.inviter")
    return found


def invite(*, project: Project, email: str, role: str, application: Application | None, user: User) -> Invitation:
    """A new invitation. Its mail is sent by `send`, after this is committed."""
    if Membership.objects.filter(project=project, user__email__iexact=email).exists():
        raise Problem(
            f"{email} belongs to a member of {project} already.",
            "Change the role in the list of members.",
            code="invitation.member",
        )
    values = {"email": email.lower(), "role": role, "application": application}
    try:
        with transaction.atomic():
            made = Invitation.objects.create(project=project, by=user, expires_at=timezone.now() + LASTS, **values)
            told = {**values, "application": str(application) if application else ""}
            record("invitation.create", made, actor=user, project_id=project.pk, after=told)
    except IntegrityError:
        raise Problem(
            f"{email} is invited into {project} already.",
            "Send that invitation again, or take it back first.",
            code="invitation.open",
        ) from None
    return made


def renew(invitation: Invitation, *, user: User) -> Invitation:
    """A new link for another week; the one before ends. Whoever sends it again is who invites now."""
    with transaction.atomic():
        changed = Invitation.objects.filter(pk=invitation.pk, accepted_at=None, withdrawn_at=None).update(
            serial=F("serial") + 1, expires_at=timezone.now() + LASTS, sent_at=None, send_error="", by=user
        )
        if not changed:
            raise _closed(invitation)
        record("invitation.renew", invitation, actor=user, project_id=invitation.project_id)
    invitation.refresh_from_db()
    return invitation


def withdraw(invitation: Invitation, *, user: User) -> None:
    with transaction.atomic():
        changed = Invitation.objects.filter(pk=invitation.pk, accepted_at=None, withdrawn_at=None).update(
            withdrawn_at=timezone.now()
        )
        if not changed:
            raise _closed(invitation)
        record("invitation.withdraw", invitation, actor=user, project_id=invitation.project_id)


def _closed(invitation: Invitation) -> Problem:
    return Problem(
        f"The invitation of {invitation.email} was used or taken back already.",
        "Look at the list.",
        code="invitation.closed",
    )


def send(invitation: Invitation, link: str) -> bool:
    """Send the mail; whether the SMTP server took it. Network: never inside a transaction."""
    context = {"invitation": invitation, "link": link, "role": invitation.get_role_display()}
    message = EmailMultiAlternatives(
        subject=" ".join(f"[migrationhub] {invitation.project}: you are invited".split()),  # no line break, ever
        body=render_to_string("people/invitation.txt", context),
        to=[invitation.email],
    )
    message.attach_alternative(render_to_string("people/invitation_mail.html", context), "text/html")
    try:
        taken, why = message.send() > 0, ""
    except (SMTPException, OSError) as error:
        taken, why = False, f"{type(error).__name__}: {error}"[:300]
    Invitation.objects.filter(pk=invitation.pk, serial=invitation.serial).update(
        sent_at=timezone.now() if taken else None, send_error=why
    )
    return taken


def belongs(invitation: Invitation, user: User) -> bool:
    """Whether an account may take it: its address is the invited one, or it has none yet and nobody else has that."""
    if user.email:
        return user.email.lower() == invitation.email.lower()
    return not User.objects.filter(email__iexact=invitation.email).exclude(pk=user.pk).exists()


def accept(invitation: Invitation, *, user: User) -> Membership | None:
    """Join with an account; the membership, or None where the person is a member already. Used once: of two at the
    same time one wins."""
    if not belongs(invitation, user):
        who = f"{user} with {user.email}" if user.email else f"{user}, and another account has that address"
        raise Problem(
            f"The invitation was sent to {invitation.email}; you are logged in as {who}.",
            "Log out and open the link again, or ask for an invitation to your address.",
            code="invitation.address",
        )
    with transaction.atomic():
        taken = Invitation.objects.filter(
            BY_A_LEAD,
            pk=invitation.pk,
            serial=invitation.serial,
            accepted_at=None,
            withdrawn_at=None,
            expires_at__gt=timezone.now(),
        ).update(accepted_at=timezone.now(), accepted_by=user)
        if not taken:
            raise Problem(
                "This invitation was used, taken back or ended a moment ago.", "Open the link again.", code="conflict"
            )
        if not user.email:
            own_address.change(user, invitation.email)  # whoever opens the link has the mailbox
        record("invitation.accept", invitation, actor=user, project_id=invitation.project_id)
        return _join(invitation, user)


def _join(invitation: Invitation, user: User) -> Membership | None:
    project = invitation.project
    # As it is now: a lead, or another who was invited, may have named an owner since the invitation was read.
    application = Application.objects.select_for_update().filter(pk=invitation.application_id or 0).first()
    there = Membership.objects.filter(project=project, user=user).first()
    member = None
    if there is None:
        member = add_member(project=project, person=user, role=invitation.role, user=user)
    role = there.role if there else invitation.role
    if application is not None and application.owner_id is None and role == Role.OWNER:
        save_application(
            project=project,
            application=application,
            name=application.name,
            slug=application.slug,
            owner=user,
            description=application.description,
            access_note=application.access_note,
            waits_for=list(application.waits_for.all()),
            user=user,
        )
    Change.bump()
    return member


def make_account(invitation: Invitation, *, username: str, full_name: str, password: str) -> User:
    """A new account for whoever has the mailbox, and its membership. Raises Problem where it cannot be."""
    if User.objects.filter(email__iexact=invitation.email).exists():
        raise Problem(
            f"There is an account with {invitation.email} already.", "Log in with it.", code="invitation.account"
        )
    if User.objects.filter(username__iexact=username).exists():
        raise Problem(f"User name “{username}” is taken.", "Choose another one.", code="account.taken")
    first, _, last = full_name.partition(" ")
    made = User(username=username, first_name=first[:150], last_name=last[:150], email=invitation.email)
    try:
        validate_password(password, made)
    except ValidationError as error:
        raise Problem(" ".join(error.messages), "Choose another password.", code="account.password") from error
    made.set_password(password)  # outside of the transaction: it takes a while, on purpose
    try:
        with transaction.atomic():
            made.save()
            record("account.create", made, actor=made, project_id=invitation.project_id, after={"email": made.email})
            accept(invitation, user=made)
    except IntegrityError:
        raise Problem(f"User name “{username}” is taken.", "Choose another one.", code="account.taken") from None
    return made
