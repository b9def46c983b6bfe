"""Change one's own e-mail address. It counts once a mail sent to it was answered; where no mail is sent, at once.

The address stands with the account alone: what resets passwords, invitations and notifications read the same field.
"""

from __future__ import annotations

from datetime import timedelta
from smtplib import SMTPException

from django.conf import settings
from django.contrib.auth.models import User
from django.core import signing
from django.core.cache import cache
from django.core.mail import EmailMessage
from django.db import transaction
from django.template.loader import render_to_string

from migrationhub.audit.record import record
from migrationhub.lib.findings import Problem
from projects.errors import Conflict

SALT = "projects.own_address"
LASTS = timedelta(hours=24)
AGAIN_AFTER = 60  # seconds between two mails that one person has sent


def token_of(user: User, address: str) -> str:
    """What stands in the link: who, from which address, to which. Used once: then the first address is another."""
    return signing.dumps([user.pk, user.email, address], salt=SALT)


def read(token: str, user: User) -> str:
    """The new address of a link. Raises Problem in words: cut or forged, ended, somebody else's, used."""
    try:
        pk, old, new = signing.loads(token, salt=SALT, max_age=LASTS)
    except signing.SignatureExpired:
        raise Problem("This link has ended: it counted for a day.", "Enter the address once more.") from None
    except (signing.BadSignature, ValueError, TypeError):
        raise Problem("This is no link that we sent: part of it may be missing.", "Copy it whole.") from None
    if pk != user.pk:
        raise Problem("This link is for another account.", "Log out, log in as who you are, and open it again.")
    if old != user.email:
        raise Problem("Your address was changed since this link was sent.", "Look at your account.")
    return str(new)


def check(user: User, address: str) -> None:
    """Raises Problem where the address cannot be this person's."""
    if address == user.email:
        raise Problem(f"{address} is your address already.", "Enter another one.", code="address.same")
    if User.objects.filter(email__iexact=address).exclude(pk=user.pk).exists():
        raise Problem(f"{address} belongs to another account.", "Enter another one.", code="address.taken")


def ask(user: User, address: str, link: str) -> None:
    """Send the mail with the link to the new address. Network: never inside a transaction."""
    check(user, address)
    if not cache.add(f"address:{user.pk}", 1, AGAIN_AFTER):
        raise Problem("A mail was sent to you a moment ago.", "Wait a minute, then try again.", code="address.again")
    problem = _send("people/address.txt", "Is this your address?", address, {"person": user, "link": link})
    if problem:
        cache.delete(f"address:{user.pk}")
        raise Problem(
            f"No mail could be sent to {address}: {problem}.", "Try again later, or tell whoever runs migrationhub."
        )


def change(user: User, address: str) -> None:
    """The address is theirs from now on; the one before is told, where mail is sent."""
    check(user, address)
    old = user.email
    with transaction.atomic():
        if not User.objects.filter(pk=user.pk, email=old).update(email=address):
            raise Conflict("Your address was changed a moment ago.", "Look at your account.")
        record("account.email_change", user, actor=user, before={"email": old}, after={"email": address})
    user.email = address
    if old and settings.MAIL_SENT:
        _send("people/address_changed.txt", "Your address was changed", old, {"person": user, "address": address})


def _send(template: str, subject: str, to: str, context: dict[str, object]) -> str:
    """Why the SMTP server did not take it; empty where it did."""
    message = EmailMessage(subject=f"[migrationhub] {subject}", body=render_to_string(template, context), to=[to])
    try:
        return "" if message.send() else "no server took it"
    except (SMTPException, OSError) as error:
        return f"{type(error).__name__}: {error}"[:300]
